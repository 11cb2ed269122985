# amaranth: UnusedElaboratable=no
"""Two cores on compiled Verilog execute the compiler's programs together: every byte as the executor's; what goes wrong."""

import msgspec
import numpy as np
import pytest
from small_duo import smallest
from tiny_llama import TinyLlama, bits

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.core_errors import CoreError
from mixflight.arch.errors import InputError
from mixflight.arch.isa import encode
from mixflight.mapping.core_assembler import Assembler
from mixflight.rtl.core_cluster import CoreCluster
from mixflight.rtl.core_cluster_harness import ClusterProcess
from mixflight.rtl.core_harness import build_core
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core_values.decode import machine_from_file, machine_model
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.verify_cluster import check_cluster
from mixflight.workloads.gguf import open_gguf

pytestmark = pytest.mark.timeout(3600)      # the first of each machine compiles its cores
CONTEXT = 128


@pytest.fixture(scope="module")
def model():
    return build_core(CoreCluster(smallest(), generic=True), quick=True)


def process_of(model, made, texts=None):
    """The cores with a made model in their memories; other ``texts`` without constants."""
    steps = [core.step(0, 0) for core in made.cores]
    own = [(encode(step.text.text.stream, compact()), step.text.text.constants.tolist()) for step in steps]
    return ClusterProcess(model, hbm=[channel for core in made.cores for channel in core.hbm],
                          ddr=made.cores[0].ddr[0], texts=texts or own)  # fmt: skip


def step_on_both(process, made, token, position):
    """A step on RTL and in the executor, every byte of memory compared; what was counted, and the engine's cycles."""
    steps = [core.step(token, position) for core in made.cores]
    process.set_constants(steps[0].constants)
    counted = process.run_all([step.numbered for step in steps], limit=2_000_000)
    made.decode(token, position)
    golden = [channel for core in made.cores for channel in core.hbm]
    for mine, channel in zip(process.hbm, golden, strict=True):
        assert np.array_equal(mine[: len(channel)], channel), position
    return counted, made.engine(steps, loads=position == 0).total


@pytest.mark.slow
def test_a_made_model_on_two_cores(model):
    """Cycles: lanes one at a time are what the engine has not to the cycle; meetings it has (test_core_exchange)."""
    made = TinyLlama().on(smallest(), CONTEXT, machine_model)
    with process_of(model, made) as process:
        for position, token in enumerate([3, 0, 41, 7, 99, 15, 2, 3]):
            process.stall(30 * (position % 2), position)
            counted, expected = step_on_both(process, made, token, position)
            assert [core["executed"] for core in counted["cores"]] == [counted["cores"][0]["executed"]] * 2
            if not position % 2:
                assert expected / counted["cycles"] == pytest.approx(1, abs=0.006)


@pytest.mark.slow
def test_a_core_without_heads(model):
    made = TinyLlama(kv_heads=1, heads=2).on(smallest(), CONTEXT, machine_model)
    assert made.cores[1].text.share.heads[1] == 0
    with process_of(model, made) as process:
        for position, token in enumerate([3, 0]):
            step_on_both(process, made, token, position)


@pytest.mark.slow
def test_an_error_of_one_core_ends_the_runs_of_both_and_a_reset_helps(model):
    made = TinyLlama().on(smallest(), CONTEXT, machine_model)
    with process_of(model, made) as process:
        for port, kind in ((2, CoreError.MEMORY), (0, CoreError.MEMORY)):
            process.set_constants(made.cores[0].step(3, 0).constants)
            process.fail(port, read=True, burst=5)
            with pytest.raises(HarnessError, match=f"core {port // 2} found an error response of a memory"):
                process.run_all([core.step(3, 0).numbered for core in made.cores], limit=100_000)
            found = [process.of(core).read("STATUS") for core in range(2)]
            assert [status & 1 for status in found] == [0, 0]
            assert {status >> 8 & 15 for status in found} == {kind, CoreError.OTHER_CORE}
            process.reset()
        step_on_both(process, made, 3, 0)


@pytest.mark.slow
def test_a_reset_in_mid_run(model):
    made = TinyLlama().on(smallest(), CONTEXT, machine_model)
    with process_of(model, made) as process:
        for cycles in (3000, 7000):
            process.set_constants(made.cores[0].step(3, 0).constants)
            with pytest.raises(HarnessError, match="a program must end within"):
                process.run_all([core.step(3, 0).numbered for core in made.cores], limit=cycles)
            process.reset()
            assert [process.of(core).read("STATUS") & 5 for core in range(2)] == [4, 4]
        step_on_both(process, made, 3, 0)


def text_of(*operations, **fields):
    """A text of SYS instructions alone, which need not end with DONE."""
    asm = Assembler()
    for operation in (*operations, "done"):
        asm.add("SYS", operation=operation, **(fields if operation == "exchange" else {}))
    return encode(asm.finish().stream, compact()).reshape(-1, 4)[: len(operations)], []


@pytest.mark.slow
@pytest.mark.parametrize(("texts", "errors"), [
    ((("barrier", "done"), ("done",)), (CoreError.OTHER_CORE, CoreError.NONE)),
    ((("barrier", "barrier", "done"), ("barrier", "done")), (CoreError.OTHER_CORE, CoreError.NONE)),
    ((("barrier", "exchange", "done"), ("barrier", "barrier", "done")), (CoreError.UNSUPPORTED, CoreError.UNSUPPORTED)),
    ((("barrier", "barrier", "done"), ("barrier",)), (CoreError.OTHER_CORE, CoreError.PAST_END)),
])  # fmt: skip
def test_cores_that_do_not_meet(model, texts, errors):
    made = TinyLlama().on(smallest(), CONTEXT, machine_model)
    with process_of(model, made, [text_of(*operations, limit=1) for operations in texts]) as process:
        with pytest.raises(HarnessError, match="a program must run to its end"):
            process.run_all([{}, {}], limit=2000)
        found = [process.of(core).read("STATUS") for core in range(2)]
        assert [(status & 1, CoreError(status >> 8 & 15)) for status in found] == [(0, error) for error in errors]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["memory", "sfu", "core"])
def test_random_programs_that_meet(model, part):
    outcome = check_cluster(model, smallest(), part, seeds=range(2))
    assert (outcome.tests, outcome.messages) == (4, ())
    assert outcome.cycles_sim == pytest.approx(outcome.cycles_rtl, rel=0.005)


def test_the_engines_cycles_of_two_layers(smollm2_path):
    """As sim/DEVIATIONS.md has them beside the RTL's."""
    made = machine_from_file(accelerator_named("mixpe-duo"), smollm2_path, 256, layers=2)
    assert made.engine([core.step(504, 0) for core in made.cores]).total == 137_429


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "tokens"), [(2, [504, 3575]), (None, [504])])
def test_smollm2_on_the_preset(smollm2_path, layers, tokens):
    """Some of its layers, then all: a token from the first position on, its logits as the golden model's."""
    machine = accelerator_named("mixpe-duo")
    built = build_core(CoreCluster(machine, generic=True))
    made = machine_from_file(machine, smollm2_path, 256, layers=layers)
    with process_of(built, made) as process:
        for position, token in enumerate(tokens):
            counted, expected = step_on_both(process, made, token, position)
            assert expected / counted["cycles"] == pytest.approx(1, abs=0.0005)
    if layers is None:
        logits = Session(load_llama(open_gguf(smollm2_path))).extend(tokens)
        found = np.concatenate([core.logits() for core in made.cores])
        assert np.array_equal(bits(found), bits(logits))


def test_a_machine_of_one_core_is_none():
    with pytest.raises(InputError, match="joined cores must be 2 at least, which mixpe-mini does not have"):
        CoreCluster(accelerator_named("mixpe-mini"))
    machine = accelerator_named("mixpe-duo")
    exchange = msgspec.structs.replace(machine.exchange, latency_cycles=13)
    with pytest.raises(InputError, match="exchange.latency_cycles must be barrier_cycles"):
        CoreCluster(msgspec.structs.replace(machine, exchange=exchange))
