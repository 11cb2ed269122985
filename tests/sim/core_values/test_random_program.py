"""Random programs are what they say: valid, free of races, with tokens that are needed; the executor's bytes behind."""

import json

import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import read_program
from mixflight.arch.errors import InputError
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_primitives import Primitive, primitives
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.sim.core_values.execute import execute
from mixflight.sim.core_values.order import races
from mixflight.sim.core_values.random_maker import PLACES
from mixflight.sim.core_values.random_program import DECODE_FAMILIES, random_program
from mixflight.sim.core_values.state import new_state, shape_of
from mixflight.sim.core_values.vectors import OPERATIONS

MACHINE, PES = accelerator_named("flightllm-mini"), accelerator_named("mixpe-mini")


def queued(made, machine=MACHINE):
    """The instructions as the sequencer unrolls them from the text."""
    count = len(made.text)
    sequencer = Sequencer(
        made.text, np.zeros(count, np.int64), made.words, slot_bytes(machine), machine.hbm.channels_per_core
    )
    return primitives(sequencer, {Register(number).name: value for number, value in made.registers.items() if number})


def same(one, other):
    parts = ("vector", "act", "act_scales", "weight", "scale")
    return all(np.array_equal(getattr(one, name).view(np.uint8), getattr(other, name).view(np.uint8)) for name in parts) and all(
        np.array_equal(a, b) for a, b in zip(one.hbm, other.hbm, strict=True)
    )


@pytest.mark.parametrize("machine", ["flightllm-mini", "mixpe-mini"])
@pytest.mark.parametrize("seed", range(5))
def test_the_text_does_what_the_generator_recorded(machine, seed):
    machine = accelerator_named(machine)
    made = random_program(machine, seed)
    unrolled = queued(made, machine)
    assert [item._replace(number=0) for item in unrolled] == [item._replace(number=0) for item in made.instructions]
    state = new_state(shape_of(machine), made.constants, [part.copy() for part in made.hbm], made.ddr)
    execute(state, unrolled)
    assert same(state, made.after)
    assert races(unrolled, shape_of(machine)) == []


@pytest.mark.parametrize("family", DECODE_FAMILIES[:-1] + ("causal", "matrix", "tiles", "lengths", "moves", "successive"))
def test_each_family_alone(family):
    made = random_program(MACHINE, 5, count=30, families=[family])
    computing = [item for item in made.instructions if not item.empty]
    kinds = {item.kind for item in computing}
    assert {"linear": "MV", "keys": "MV", "values": "MV", "matrix": "MM", "transfer": "ST", "tiles": "MV", "moves": "ST"}.get(family, "MISC") in kinds
    assert races(made.instructions, shape_of(MACHINE)) == []


def test_together_they_are_everything_a_decode_step_uses():
    seen = set()
    for seed in range(12):
        for item in random_program(MACHINE, seed, count=80).instructions:
            fields = item.fields
            if item.empty:
                continue
            if item.kind == "MISC":
                seen.add(OPERATIONS[fields["operation"]])
            elif item.kind == "MV":
                seen |= {("accumulate", fields["accumulate"]), ("last", fields["last"]), ("zero", fields["zero"]),
                         ("transpose", fields["transpose"]), ("grouped", fields["group"] > 0)}  # fmt: skip
            elif item.kind in ("LD", "ST"):
                seen |= {(item.kind, "wide", fields["wide"]), (item.kind, "buffer", fields["buffer"])}
            else:
                seen.add(("SYS", fields["operation"]))
    assert seen >= {"embed", "norm", "rope", "quantise", "kv_append", "softmax", "residual", "bias",
                    "activation:silu:gated", "probability_quantise"}  # fmt: skip
    assert seen >= {(name, value) for name in ("accumulate", "last", "transpose", "grouped") for value in (0, 1)}
    assert seen >= {("zero", 0), ("zero", 2), ("LD", "wide", 0), ("LD", "wide", 1), ("ST", "wide", 0), ("ST", "wide", 1)}
    assert seen >= {("ST", "buffer", 3), ("ST", "buffer", 4), ("SYS", 0), ("SYS", 2)}


def test_products_of_both_queues_in_every_layout():
    seen, rows = set(), set()
    for seed in range(6):
        made = random_program(MACHINE, seed, count=50, families=["matrix", "linear", "values", "barrier"])
        for item in made.instructions:
            if item.kind in ("MM", "MV") and not item.empty:
                seen.add((item.kind, item.fields["transpose"], item.fields["group"] > 0, item.fields["accumulate"]))
                rows |= {item.fields["rows"]} if item.kind == "MM" else set()
        assert races(made.instructions, shape_of(MACHINE)) == []
        assert [item._replace(number=0) for item in queued(made)] == [
            item._replace(number=0) for item in made.instructions
        ]
    assert seen >= {("MM", 0, True, 0), ("MM", 0, True, 1), ("MM", 0, False, 0), ("MM", 1, False, 0), ("MV", 0, True, 0)}
    assert len(rows) > 6


def test_an_mm_does_what_the_mv_of_its_operands_does():
    made = random_program(MACHINE, 4, count=60, families=["matrix", "transfer"])
    state = new_state(shape_of(MACHINE), made.constants, [part.copy() for part in made.hbm], made.ddr)
    assert sum(item.kind == "MM" and not item.empty for item in made.instructions) > 5
    execute(state, [item._replace(kind="MV") if item.kind == "MM" else item for item in made.instructions])
    assert same(state, made.after)


def test_products_of_two_queues_are_ordered_by_tokens():
    """They share the engine's sums, whatever their lines and slots."""
    fields = {
        "rows": 1, "columns": 16, "k_blocks": 4, "weight_bits": 4, "keep": 16, "zero": 0, "accumulate": 0, "last": 0,
        "transpose": 0, "group": 5, "slot": 0, "in_line": 0, "out_line": 0,
    }  # fmt: skip
    pair = [Primitive("MM", 0, (), (), fields), Primitive("MV", 1, (), (), fields)]
    assert str(races(pair, shape_of(MACHINE))[0]).endswith("both touch the sums of the matrix engine")
    pair = [pair[0]._replace(release=("MV",)), pair[1]._replace(wait=("MM",))]
    assert races(pair, shape_of(MACHINE)) == []


def test_most_tokens_are_needed():
    made = random_program(MACHINE, 3, count=60)
    needed = total = 0
    for at, item in enumerate(made.instructions):
        for other in item.wait:
            if item.empty:
                continue
            damaged = list(made.instructions)
            number = sum(other in before.wait for before in damaged[:at] if before.kind == item.kind)
            givers = [place for place, giver in enumerate(damaged) if giver.kind == other and item.kind in giver.release]
            giver = givers[number]
            damaged[at] = item._replace(wait=tuple(name for name in item.wait if name != other))
            kept = tuple(name for name in damaged[giver].release if name != item.kind)
            damaged[giver] = damaged[giver]._replace(release=kept)
            total += 1
            needed += bool(races(damaged, shape_of(MACHINE), most=1))
    assert total > 20
    assert needed > 0.5 * total


def test_files_hold_what_a_host_needs(tmp_path):
    made = random_program(MACHINE, 1, count=20)
    made.save(tmp_path)
    assert len(read_program((tmp_path / "program.bin").read_bytes())) == len(made.instructions)
    host = json.loads((tmp_path / "host.json").read_text())
    assert host["constants"]["position"] == made.constants.position and len(host["registers"]) == 32
    after = np.load(tmp_path / "after.npz")
    for number, data in enumerate(made.hbm):
        assert np.array_equal(np.fromfile(tmp_path / f"channel{number}.bin", np.uint8), data)
        assert not np.array_equal(after[f"channel{number}"], data)


def test_what_is_refused():
    with pytest.raises(InputError, match="families must be among transfer, .*, not floats"):
        random_program(MACHINE, 0, families=["floats"])


@pytest.mark.parametrize("seed", range(4))
def test_corners_are_programs_too(seed):
    """At every edge, with loops and operands that the sequencer computes."""
    families = ["matrix", "tiles", "lengths", "moves", "successive", "meeting", "loops", "whole", "transfer"]
    made = random_program(PES, seed, 50, families, PLACES[seed])
    unrolled = queued(made, PES)
    assert [item._replace(number=0) for item in unrolled] == [item._replace(number=0) for item in made.instructions]
    state = new_state(shape_of(PES), made.constants, [part.copy() for part in made.hbm], made.ddr)
    execute(state, unrolled)
    assert same(state, made.after)
    assert races(unrolled, shape_of(PES)) == []
    assert len(made.text) > len(made.instructions)


def test_windows_are_refused_by_name():
    with pytest.raises(InputError, match="windows must be one of low; high; low, high; high, low, not middle"):
        random_program(MACHINE, 0, windows="middle")
