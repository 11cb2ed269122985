"""A core on compiled Verilog with N:M weights: memory byte by byte as the executor's, cycles as the engine's."""

import numpy as np
import pytest
from sparse_llama import SparseLlama, real_layer
from tiny_llama import bits

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.isa import encode
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import CoreProcess, build_core
from mixflight.sim.core_values.random_program import random_program
from mixflight.verify_core import PARTS, parts_of, run_program
from mixflight.verify_prefill import check_blocks

MACHINE = accelerator_named("flightllm-mini-sparse")
pytestmark = pytest.mark.timeout(2400)
"""To compile the core takes minutes."""


@pytest.fixture(scope="module")
def model():
    return build_core(Core(MACHINE, generic=True), quick=True)


WIDE = {"head_dim": 128, "heads": 2, "kv_heads": 1, "hidden": 256, "ffn": 256}
MODELS = [(2, 128, WIDE), (4, 64, {"head_dim": 64, "heads": 2, "kv_heads": 1}),
          (8, 32, {"head_dim": 64, "heads": 2, "kv_heads": 1})]
"""Kept of 16, group, shape."""


def check_step(made, core, token, position):
    """Run a step on the core and in the executor: cycles and every byte."""
    step = made.step(token, position)
    core.set_constants(step.constants)
    cycles = core.run(step.numbered, limit=1_000_000)["cycles"]
    assert made.engine(step, loads=position == 0).total == pytest.approx(cycles, rel=0.005)
    logits = made.decode(token, position)
    for mine, golden in zip(core.hbm, made.hbm, strict=True):
        assert np.array_equal(mine[: len(golden)], golden), position
    return cycles, logits


def process(model, made):
    """The core with the memories of a model and its text."""
    first = made.step(0, 0).text.text
    return CoreProcess(model, hbm=made.hbm, ddr=made.ddr[0], text=encode(first.stream, compact()),
                       constants=first.constants.tolist())  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("n", "group", "shape", "tokens"), [
    (8, 32, {}, 40), *((*given, 5) for given in MODELS[:2])])
def test_a_sparse_model_speaks_bit_for_bit(model, n, group, shape, tokens):
    made = SparseLlama(n, 16, group, **shape).core(MACHINE, 128)
    with process(model, made) as core:
        for position, token in enumerate(np.random.default_rng(3).integers(0, made.model.vocab, tokens).tolist()):
            check_step(made, core, token, position)


@pytest.mark.slow
def test_a_token_through_a_pruned_layer_of_smollm2(model, smollm2_path):
    """8:16 by magnitude: every byte as the executor's, the logits as the golden model's; D15."""
    made, session = real_layer(smollm2_path, MACHINE, 128)
    with process(model, made) as core:
        cycles, logits = check_step(made, core, 504, 0)
    assert (cycles, made.engine(made.step(504, 0)).total) == pytest.approx((138_335, 138_332), abs=200)
    assert np.array_equal(bits(logits), bits(session.extend([504])))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "group", "shape"), MODELS)
def test_prompts_of_sparse_models(model, n, group, shape):
    """In blocks of eight tokens on matrices, rows two together; the golden model's residual vectors, cells and logits."""
    made = SparseLlama(n, 16, group, **shape)
    prompt = [(7 * number + 3) % 100 for number in range(13)]
    found = check_blocks(model, made.core(MACHINE, 128, block=8), made.golden, prompt, numerics=made.numerics)
    assert found.messages == () and found.tests == 3
    assert found.cycles_sim / found.cycles_rtl == pytest.approx(1, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "kind"), [("sparse", "MV"), ("sparse-matrix", "MM")])
def test_random_programs(model, part, kind):
    kept, errors = set(), []
    for seed in range(12):
        made = random_program(MACHINE, seed, families=PARTS[part])
        kept |= {item.fields["keep"] for item in made.instructions if item.kind == kind and not item.empty}
        run = run_program(model, MACHINE, made)
        assert run.wrong == ""
        assert run_program(model, MACHINE, made, stall=40, seed=seed).wrong == ""
        errors.append(abs(run.error))
    assert kept == {2, 4, 8, 16}
    assert np.mean(errors) < 0.005 and max(errors) < 0.02


def test_which_cores_take_them():
    """The index buffer has a place for every code of the weight buffer; others have no part of it in their text."""
    assert core_shape(MACHINE).kept == (2, 4, 8)
    for name in ("flightllm-mini", "mixpe-mini"):
        shape = core_shape(accelerator_named(name))
        assert shape.kept == () and "sparse" not in parts_of(shape.classes, shape.kept)
