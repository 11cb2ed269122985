"""Random programs on a core: every byte of memory as the executor's, cycles as the engine's, whatever memories do."""

import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import codes, compact
from mixflight.arch.controller_pipeline import start_cycles
from mixflight.arch.core_errors import MEANINGS, CoreError
from mixflight.arch.core_memory_pipeline import load_cycles, store_cycles
from mixflight.arch.isa import CLASSES, encode
from mixflight.arch.sfu_pipeline import misc_cycles
from mixflight.mapping.core_assembler import Assembler
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import CoreProcess, build_core
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core_coverage.campaign import programs
from mixflight.sim.core_values.random_program import random_program
from mixflight.verify_core import PARTS, check_core, differences, parts_of, process_of, program_cycles, run_program

MACHINE = accelerator_named("mixpe-mini")
DDR_PORT, TEXT_PORT = MACHINE.hbm.channels_per_core, MACHINE.hbm.channels_per_core + 1
pytestmark = pytest.mark.timeout(2400)      # the first one compiles the core


@pytest.fixture(scope="module")
def model():
    return build_core(Core(MACHINE, generic=True))


def test_programs_of_everything(model):
    for seed in range(2):
        made = random_program(MACHINE, seed)
        run = run_program(model, MACHINE, made)
        assert run.wrong == ""
        assert run.error == pytest.approx(0, abs=0.005)
        assert run_program(model, MACHINE, made, stall=40).wrong == ""


def test_programs_with_matrices(model):
    """Both queues of the engine: MM of up to 12 rows, and of slabs that go on with the sums of an MV."""
    products = rows = 0
    for seed in range(2, 5):
        made = random_program(MACHINE, seed, families=PARTS["matrix"])
        run = run_program(model, MACHINE, made)
        assert run.wrong == ""
        assert run.error == pytest.approx(0, abs=0.005)
        assert run_program(model, MACHINE, made, stall=40).wrong == ""
        there = [item.fields["rows"] for item in made.instructions if item.kind == "MM" and not item.empty]
        products, rows = products + len(there), max(rows, *there)
    assert products > 25 and rows > 8


@pytest.mark.slow
@pytest.mark.parametrize("part", parts_of(core_shape(MACHINE).classes))
def test_each_unit_alone_and_all_together(model, part):
    found = check_core(model, MACHINE, part, seeds=range(4))
    assert found.messages == ()
    assert found.cycles_sim == pytest.approx(found.cycles_rtl, rel=0.005)


@pytest.mark.slow
def test_cycles_over_many_programs(model):
    """Mean and worst error of the engine over programs of everything: D15."""
    runs = [run_program(model, MACHINE, random_program(MACHINE, seed)) for seed in range(100, 140)]
    assert [run.wrong for run in runs] == [""] * len(runs)
    errors = np.abs([run.error for run in runs])
    assert errors.mean() < 0.001
    assert errors.max() < 0.01


@pytest.mark.slow
def test_corners_of_everything(model):
    """Tails, full slots, edges of buffers and memories, loops: bytes as the executor's; cycles but for D16."""
    by_channel, others = [], []
    for number, made in enumerate(programs(MACHINE, numbers=range(20))):
        single = any(item.kind == "LD" and item.fields["slotted"] and not item.fields["wide"]
                     for item in made.instructions if not item.empty)  # fmt: skip
        run = run_program(model, MACHINE, made, timed=not single)
        assert run.wrong == "", number
        if single:
            by_channel.append(program_cycles(MACHINE, made) / run.cycles - 1)
        else:
            others.append(abs(run.error))
    assert 0.05 < np.mean(by_channel) < 0.2
    assert max(by_channel) < 0.4
    assert np.mean(others) < 0.004
    assert max(others) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_stalls_on_every_channel_change_no_value(model, percent):
    for seed in range(3):
        assert run_program(model, MACHINE, random_program(MACHINE, seed), stall=percent, seed=seed).wrong == ""


def test_texts_by_turns(model):
    """One that only ends, between two runs of another: buffers and memories keep what they hold."""
    made = random_program(MACHINE, 0, count=10)
    asm = Assembler()
    asm.add("SYS", operation="done")
    text, end = (encode(item, compact()) for item in (made.text, asm.finish().stream))
    with CoreProcess(model, hbm=made.hbm, ddr=made.ddr[0], text=text, more=[(end, [])]) as core:
        core.set_constants(made.constants)
        core.run(made.registers)
        cycles = core.run(made.registers)["cycles"]
        core.select(1)
        assert core.run({})["executed"] == 1
        core.select(0)
        again = core.run(made.registers)
        assert again["cycles"] > cycles and again["executed"] > 1      # it loads the text again
        assert differences(core, made) == []


@pytest.mark.slow
def test_reset_in_mid_run(model):
    """At any time; the same program then runs from the beginning as if nothing had been."""
    made = random_program(MACHINE, 2)
    with process_of(model, MACHINE, made) as core:
        expected = core.run(made.registers)["cycles"]
        for cycles in (1, 90, 500, 1700, expected - 200):
            for mine, first in zip(core.hbm, made.hbm, strict=True):
                mine[: len(first)] = first
            core.reset()
            core.set_constants(made.constants)
            with pytest.raises(HarnessError, match="must end within"):
                core.run(made.registers, limit=cycles)
            for mine, first in zip(core.hbm, made.hbm, strict=True):
                mine[: len(first)] = first
            core.reset()
            core.set_constants(made.constants)
            assert core.run(made.registers)["cycles"] == expected
            assert differences(core, made) == []


FAULTS = [*[(port, read, burst) for port in range(DDR_PORT) for read in (True, False) for burst in (1, 3)],
          (DDR_PORT, True, 1), (TEXT_PORT, True, 1), (TEXT_PORT, True, 2)]


@pytest.mark.slow
def test_an_error_of_any_memory_ends_the_run_with_its_status(model):
    made = random_program(MACHINE, 0, families=("transfer", "vector"))
    with process_of(model, MACHINE, made) as core:
        for port, read, burst in FAULTS:
            for mine, first in zip(core.hbm, made.hbm, strict=True):
                mine[: len(first)] = first
            core.fail(port, read=read, burst=burst)
            with pytest.raises(HarnessError, match=MEANINGS[CoreError.MEMORY]):
                core.run(made.registers)
            core.reset()
            core.set_constants(made.constants)
        core.run(made.registers)
        assert differences(core, made) == []


def changed(made, kind, **fields):
    """The first instruction of a class that does something, with other fields."""
    table = made.text.tables[kind]
    size = {"LD": "bytes", "ST": "bytes", "MV": "columns", "MISC": "elements"}[kind]
    at = int(np.flatnonzero(table[size])[0])
    for name, value in fields.items():
        table[name][at] = value
    return made


ILLEGAL = {
    "causal sums of two vectors": ("MISC", {"operation": codes("MISC", "operation")["residual"], "causal": 1}),
    "scales known beforehand": ("MISC", {"static": 1}),
    "weights that are kept in part": ("MV", {"keep": 8}),
    "integer zero points": ("MV", {"zero": codes("MV", "zero")["integer"]}),
    "ST to DDR": ("ST", {"memory": 1}),
    "LD to act": ("LD", {"buffer": codes("LD", "buffer")["act"]}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ILLEGAL)
def test_what_no_unit_carries_out_ends_the_run(model, name):
    kind, fields = ILLEGAL[name]
    made = changed(random_program(MACHINE, 1), kind, **fields)
    with process_of(model, MACHINE, made) as core, pytest.raises(HarnessError, match=MEANINGS[CoreError.UNSUPPORTED]):
        core.run(made.registers, limit=100_000)


@pytest.mark.slow
def test_an_operation_that_is_none_ends_the_run(model):
    made = random_program(MACHINE, 1)
    assert compact().instructions["MISC"].fields["operation"].at == "0[17:13]"
    at = int(np.flatnonzero(np.asarray(made.text.kinds) == CLASSES.index("MISC"))[0])
    with process_of(model, MACHINE, made) as core:
        core.ddr[core.text_at :].view(np.uint32)[4 * at] |= 31 << 13
        with pytest.raises(HarnessError, match=f"{MEANINGS[CoreError.MALFORMED]}, at instruction {at}"):
            core.run(made.registers, limit=100_000)


@pytest.mark.slow
def test_what_the_sequencer_refuses(model):
    made = random_program(MACHINE, 1)
    middle = len(made.text) // 2
    with process_of(model, MACHINE, made) as core:
        core.ddr[core.text_at :].view(np.uint32)[4 * middle : 4 * middle + 4] = 0xFFFFFFFF
        with pytest.raises(HarnessError, match=f"{MEANINGS[CoreError.MALFORMED]}, at instruction {middle}"):
            core.run(made.registers, limit=100_000)
    with process_of(model, MACHINE, made) as core:
        core.write("TEXT_INSTRUCTIONS", len(made.text) - 1)
        with pytest.raises(HarnessError, match=MEANINGS[CoreError.PAST_END]):
            core.run(made.registers, limit=100_000)


def test_the_engine_takes_the_units_formulas():
    """An LD, a quantise and an ST of the whole windows: each begins when the one before has ended."""
    made = random_program(MACHINE, 0, count=0)
    kinds = [item.kind for item in made.instructions]
    assert kinds == ["LD", "MISC", "ST", "ST", "SYS"]
    first, misc, *stores, _ = (item.fields for item in made.instructions)
    ld = load_cycles(latency=32, buffer="global", address=0, size=first["bytes"], channels=4, lanes=4)
    quantise = misc_cycles("quantise", width=4, vectors=misc["vectors"], elements=misc["elements"], group=32)
    ends = store_cycles(latency=32, address=0, size=stores[-1]["bytes"], channels=4, wide=True)
    start = start_cycles(instructions=len(made.text), constants=0, latency=32)
    assert program_cycles(MACHINE, made) == start + 1 + ld + 1 + quantise + ends + 1 + 1
