"""A core on compiled Verilog executes the compiler's own decode programs: every byte of memory as the executor's."""

import msgspec
import numpy as np
import pytest
from tiny_llama import KINDS, TinyLlama, bits

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.errors import InputError
from mixflight.arch.isa import encode
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import CoreProcess, build_core
from mixflight.sim.core_values.decode import from_file
from mixflight.sim.golden.llama import Session

CONTEXT = 128
pytestmark = pytest.mark.timeout(2400)      # the first of each machine compiles its core


def smaller(name):
    """The machine with just enough of everything for a made model, so that its Verilog compiles sooner."""
    machine, replace = accelerator_named(name), msgspec.structs.replace
    buffers = machine.buffers
    return replace(machine, buffers=replace(
        buffers, weight=replace(buffers.weight, depth=256), vector=replace(buffers.vector, depth=1024),
        act=replace(buffers.act, depth=256), instruction=replace(buffers.instruction, depth=128),
    ))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixpe-mini", "flightllm-mini"])
def test_a_made_model_speaks_bit_for_bit(name):
    machine = smaller(name)
    model, made = build_core(Core(machine, generic=True), quick=True), TinyLlama().on(machine, CONTEXT)
    decode_on_both(model, made, np.random.default_rng(3).integers(made.model.vocab, size=60).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "everything", "untied"])
def test_a_made_model_of_another_family_speaks_bit_for_bit(kind):
    """LayerNorm, biases, GELU and learned positions; soft caps and norms behind the residual; norms of heads with all
    of them; a head of another format than the embedding: every byte as the executor's, logits as the golden model's."""
    machine, tokens = smaller("mixpe-mini"), [3, 99, 0, 41, 7]
    model, tiny = build_core(Core(machine, generic=True), quick=True), TinyLlama(**KINDS[kind])
    made, session = tiny.on(machine, CONTEXT), Session(tiny.golden)
    expected = [made.engine(made.step(token, position), loads=position == 0).total
                for position, token in enumerate(tokens)]  # fmt: skip
    cycles = decode_on_both(model, made, tokens)
    session.extend(tokens[:-1])
    assert np.array_equal(bits(made.logits()), bits(session.extend(tokens[-1:])))
    assert sum(expected) / sum(cycles) == pytest.approx(1, abs=0.02)


def test_a_layer_and_the_head_of_smollm2(smollm2_path):
    machine = accelerator_named("mixpe-mini")
    model = build_core(Core(machine, generic=True))
    made = from_file(machine, smollm2_path, 512, layers=1)
    expected = made.engine(made.step(504, 0)).total
    [cycles] = decode_on_both(model, made, [504])
    assert expected / cycles == pytest.approx(1, abs=0.001)    # D15


def decode_on_both(model, made, tokens):
    """Decode ``tokens`` from the first position on; after each every byte of memory is the executor's. Cycles of each."""
    first, cycles = made.step(0, 0).text.text, []
    with CoreProcess(model, hbm=made.hbm, ddr=made.ddr[0], text=encode(first.stream, compact()),
                     constants=first.constants.tolist()) as core:  # fmt: skip
        for position, token in enumerate(tokens):
            step = made.step(token, position)
            core.set_constants(step.constants)
            cycles.append(core.run(step.numbered, limit=1_000_000)["cycles"])
            made.decode(token, position)
            for mine, golden in zip(core.hbm, made.hbm, strict=True):
                assert np.array_equal(mine[: len(golden)], golden), position
    return cycles


def test_rows_of_matrices_and_room_for_the_sums_of_a_tile():
    """16 rows times 16 steps; 16 rows, two together, times 8 steps."""
    alone, together = (core_shape(accelerator_named(name)) for name in ("mixpe-mini", "flightllm-mini"))
    assert "MM" in alone.classes and alone.classes == together.classes
    assert (alone.together, alone.outputs, together.together, together.outputs) == (1, 256, 2, 64)
    without = core_shape(accelerator_named("flightllm-mini"), matrices=False)
    assert without.together == 1 and {*without.classes, "MM"} == set(together.classes)


def test_a_machine_without_rtl_is_refused():
    with pytest.raises(InputError, match="several cores with RTL must have units in RTL and exchange 64 bytes"):
        core_shape(accelerator_named("flightllm-u280"))
