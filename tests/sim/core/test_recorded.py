"""Recorded activity: with all that a program has seen to end, the engine's actions; with less seen, less."""

from collections import Counter

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.isa import CLASSES
from mixflight.sim.core.activity import program_counts
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.recorded import Seen, recorded_counts
from mixflight.sim.core_values.decode import from_file, machine_from_file


@pytest.fixture(scope="module", params=["mixpe-mini", "flightllm-mini"])
def program(request, smollm2_path):
    """A decode step with 20 tokens before it: the machine, its instructions, what ends, and the engine's counts."""
    machine = accelerator_named(request.param)
    made = from_file(machine, smollm2_path, 512, layers=1)
    step = made.step(504, 20)
    instructions = made.instructions(step)
    ended = dict.fromkeys(CLASSES, 0) | Counter(item.kind for item in instructions if not item.empty)
    pieces = step.text.sequencer.expand(step.numbered, repeat=False)
    counts = program_counts(machine, [pieces], [0], len(step.text.text.names))
    return machine, instructions, ended, {key: float(values.sum()) for key, values in counts.items()}


def seen_of(counts, ended, *, cycles=1000):
    read, written = ({name: int(counts[name, action]) // 8 for name in ("hbm", "ddr")} for action in ("read_bit", "write_bit"))
    return Seen(cycles=cycles, executed=int(counts["controller", "instruction"]), ended=ended, read_bytes=read,
                written_bytes=written, text_bytes=0)  # fmt: skip


def test_all_of_a_program_is_what_the_engine_counts(program):
    machine, instructions, ended, counts = program
    found = recorded_counts(machine, instructions, seen_of(counts, ended))
    expected = {key: value for key, value in (counts | counts_over_time(machine, 1000)).items() if value}
    assert {key: value for key, value in found.counts.items() if value} == pytest.approx(expected, rel=1e-12)
    assert found.elements > 0
    linears = 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 49152 * 576
    assert linears + 2 * 576 * 21 <= found.products <= linears + 2 * 576 * 32      # 21 tokens in blocks of 16


def test_what_did_not_end_is_not_counted(program):
    machine, instructions, ended, counts = program
    whole = recorded_counts(machine, instructions, seen_of(counts, ended))
    less = recorded_counts(machine, instructions, seen_of(counts, {**ended, "MV": ended["MV"] - 1, "MISC": 0}))
    assert less.elements == 0 and 0 < less.products < whole.products
    last = [item.fields for item in instructions if item.kind == "MV" and not item.empty][-1]
    assert whole.products - less.products == last["rows"] * last["columns"] * 16 * last["k_blocks"]
    assert ("sfu", "fp32_add") not in less.counts


def test_fetched_text_is_read_from_ddr_and_written(program):
    machine, instructions, ended, counts = program
    seen = seen_of(counts, ended)
    plain = recorded_counts(machine, instructions, seen).counts
    fetched = recorded_counts(machine, instructions, Seen(
        **{name: getattr(seen, name) for name in seen.__struct_fields__} | {"text_bytes": 640})).counts  # fmt: skip
    assert {key: fetched[key] - plain[key] for key in fetched if fetched[key] != plain[key]} == {
        ("ddr", "read_bit"): 5120.0, ("memory_path", "bit"): 5120.0, ("sram.instruction", "write_bit"): 5120.0}  # fmt: skip


def test_several_cores_also_have_what_they_are_sent(smollm2_path):
    made = machine_from_file(accelerator_named("mixpe-duo"), smollm2_path, 256, layers=1)
    steps, found = made.steps(504, 0), Counter()
    pieces = [step.text.sequencer.expand(step.numbered, repeat=False) for step in steps]
    names = max(len(step.text.text.names) for step in steps)
    whole = {key: float(values.sum()) for key, values in program_counts(made.machine, pieces, [0, 1], names).items()}
    for instructions in made.instructions(steps):
        ended = dict.fromkeys(CLASSES, 0) | Counter(item.kind for item in instructions if not item.empty)
        found.update(recorded_counts(made.machine, instructions, seen_of(whole, ended, cycles=0)).counts)
    on_chip = {key for key in whole if key[0] not in ("controller", "memory_path", "hbm", "ddr")}
    assert {key: found[key] for key in on_chip} == pytest.approx({key: whole[key] for key in on_chip}, rel=1e-12)
    # of each layer and core: half of the heads' results, of two residual vectors and of the FFN's
    assert whole["exchange", "bit"] > 8 * 4 * 2 * 576
