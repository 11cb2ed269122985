"""A core on compiled Verilog with N:M weights: memory byte by byte as the executor's, cycles as the engine's."""

import msgspec
import numpy as np
import pytest
from sparse_llama import SparseLlama

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.isa import encode
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import CoreProcess, build_core
from mixflight.sim.core_values.random_program import random_program
from mixflight.verify_core import PARTS, parts_of, run_program

NAME = "flightllm-mini-sparse"


@pytest.fixture(scope="module")
def machine():
    """With just enough of everything for a made model, and a place for every code of its weight buffer."""
    found, replace = accelerator_named(NAME), msgspec.structs.replace
    buffers = found.buffers
    return replace(found, buffers=replace(
        buffers, weight=replace(buffers.weight, depth=256), index=replace(buffers.index, depth=128),
        vector=replace(buffers.vector, depth=1024), act=replace(buffers.act, depth=256),
        instruction=replace(buffers.instruction, depth=128),
    ))  # fmt: skip


@pytest.fixture(scope="module")
def model(machine):
    return build_core(Core(machine, generic=True), quick=True)


@pytest.mark.slow
def test_a_sparse_model_speaks_bit_for_bit(machine, model):
    made = SparseLlama(8, 16).core(machine, 128)
    first = made.step(0, 0).text.text
    with CoreProcess(model, hbm=made.hbm, ddr=made.ddr[0], text=encode(first.stream, compact()),
                     constants=first.constants.tolist()) as core:  # fmt: skip
        for position, token in enumerate(np.random.default_rng(3).integers(made.model.vocab, size=40).tolist()):
            step = made.step(token, position)
            core.set_constants(step.constants)
            cycles = core.run(step.numbered, limit=1_000_000)["cycles"]
            assert made.engine(step, loads=position == 0).total == pytest.approx(cycles, rel=0.005)
            made.decode(token, position)
            for mine, golden in zip(core.hbm, made.hbm, strict=True):
                assert np.array_equal(mine[: len(golden)], golden), position


@pytest.mark.slow
def test_random_programs(machine, model):
    kept, errors = set(), []
    for seed in range(12):
        made = random_program(machine, seed, families=PARTS["sparse"])
        kept |= {item.fields["keep"] for item in made.instructions if item.kind == "MV" and not item.empty}
        run = run_program(model, machine, made)
        assert run.wrong == ""
        assert run_program(model, machine, made, stall=40, seed=seed).wrong == ""
        errors.append(abs(run.error))
    assert kept == {4, 8, 16}
    assert np.mean(errors) < 0.005 and max(errors) < 0.02


def test_which_cores_take_them():
    """The index buffer has a place for every code of the weight buffer; others have no part of it in their text."""
    assert core_shape(accelerator_named(NAME)).kept == (4, 8)
    for name in ("flightllm-mini", "mixpe-mini"):
        shape = core_shape(accelerator_named(name))
        assert shape.kept == () and "sparse" not in parts_of(shape.classes, shape.kept)
