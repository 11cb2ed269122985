"""Chunks of a prompt leave what so many decode steps leave, bit for bit, and their last token's logits."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from tiny_llama import TinyLlama, bits, from_position

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.mapping.core_compile import CoreCompiler
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.decode import from_file, machine_model
from mixflight.sim.core_values.order import races, received_by
from mixflight.sim.core_values.state import shape_of
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces

SHAPE = {"head_dim": 64, "heads": 6, "kv_heads": 3, "hidden": 384, "ffn": 640, "vocab": 333}


@pytest.fixture(scope="module")
def model():
    return TinyLlama(seed=6, **SHAPE)


@pytest.mark.parametrize(("machine", "chunk"), [("flightllm-mini", 8), ("flightllm-mini", 12), ("mixpe-mini", 4)])
def test_a_prompt_in_chunks_then_decode_steps(model, machine, chunk):
    core, session = model.on(accelerator_named(machine), 320, chunk=chunk), Session(model.golden)
    draw = np.random.default_rng(chunk)
    for first in (0, 120, 252):  # rows of the cache; contexts on both sides of a tile's end
        from_position(core, session, draw.integers(0, 100, first - session.position).tolist())
        for at in range(first, first + 4 * chunk, chunk):
            tokens = draw.integers(0, 100, chunk).tolist()
            assert np.array_equal(bits(core.prefill(tokens, at)), bits(session.extend(tokens)))
    for position in range(session.position, session.position + 2):
        assert np.array_equal(bits(core.decode(3, position)), bits(session.extend([3])))


def test_the_cache_is_that_of_decode_steps(model):
    machine, tokens = accelerator_named("flightllm-mini"), [9, 8, 7, 6, 5, 4, 3, 2]
    one, other = (model.on(machine, 64, chunk=8) for _ in range(2))
    one.prefill(tokens, 0)
    for position, token in enumerate(tokens):
        other.decode(token, position)
    cache = slice(one.text.memory.cache[0], sum(one.text.memory.cache))
    assert all(np.array_equal(a[cache], b[cache]) for a, b in zip(one.hbm, other.hbm, strict=True))


@pytest.mark.parametrize(
    "shape", [{"head_dim": 128, "heads": 2, "kv_heads": 2, "hidden": 256}, {"heads": 3, "kv_heads": 1, "vocab": 333}],
    ids=["heads of 128", "one KV head"],
)  # fmt: skip
def test_other_shapes(shape):
    model = TinyLlama(seed=7, **SHAPE | {"hidden": 192} | shape)
    core, session = model.on(accelerator_named("flightllm-mini"), 160, chunk=4), Session(model.golden)
    from_position(core, session, list(range(120)))
    for at in range(120, 136, 4):
        assert np.array_equal(bits(core.prefill([at % 50, 1, 2, 3], at)), bits(session.extend([at % 50, 1, 2, 3])))


@pytest.mark.parametrize("machine", ["flightllm-u280", "flightllm-vhk158"])
def test_several_cores(model, machine):
    cores, session = model.on(accelerator_named(machine), 1024, machine_model, chunk=16), Session(model.golden)
    from_position(cores, session, np.random.default_rng(2).integers(0, 100, 496).tolist())
    tokens = list(range(16))
    for at in (496, 512):
        assert np.array_equal(bits(cores.prefill(tokens, at)), bits(session.extend(tokens)))
    programs = [core.instructions(core.chunk_step(tokens, 528)) for core in cores.cores]
    for number, program in enumerate(programs):
        assert races(program, shape_of(cores.cores[0].machine), received=received_by(number, programs)) == []


def test_a_chunk_takes_fewer_cycles_than_its_tokens_one_by_one(model):
    core = model.on(accelerator_named("flightllm-mini"), 320, chunk=8)
    chunk = core.engine(core.chunk_step(list(range(8)), 96))
    steps = [core.engine(core.step(1, position)) for position in range(96, 104)]
    assert chunk.instructions > 0 and max(step.total for step in steps) < chunk.total
    assert chunk.total < sum(step.total for step in steps)


def test_the_engine_times_a_step_as_the_compilers_own_program(model):
    machine = accelerator_named("flightllm-mini")
    core, trace = model.on(machine, 320), next(iter(decode_traces(model.model, recipe_named("w4a8g32"), 200, 1)))
    units, program = Units(machine), CoreCompiler(machine, max_context=320).compile(trace, repeat=False)
    whole = execute(units, compile_streams(units, program.streams, program.core_of),
                    text_bytes=16 * len(program.texts[0]))  # fmt: skip
    assert core.engine(core.step(0, 200)).total == whole.total


@pytest.mark.parametrize("position", [0, 120, 256])
def test_no_races(model, position):
    core = model.on(accelerator_named("flightllm-mini"), 320, chunk=8)
    assert races(core.instructions(core.chunk_step(list(range(8)), position)), shape_of(core.machine)) == []


def test_two_layers_of_the_real_model(smollm2_path):
    core = from_file(accelerator_named("flightllm-mini"), smollm2_path, 256, layers=2, chunk=8)
    llama = load_llama(open_gguf(smollm2_path))
    session = Session(replace(llama, model=msgspec.structs.replace(llama.model, layers=2)))
    tokens = [504, 3575, 282, 4649, 314, 28, 253, 665]
    assert np.array_equal(bits(core.prefill(tokens, 0)), bits(session.extend(tokens)))
    assert np.array_equal(bits(core.prefill(tokens, 8)), bits(session.extend(tokens)))


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["flightllm-mini", "mixpe-mini"])
def test_a_prompt_of_32_tokens_on_the_real_model(smollm2_path, machine):
    core = from_file(accelerator_named(machine), smollm2_path, 512, chunk=8)
    session = Session(load_llama(open_gguf(smollm2_path)))
    tokens = np.random.default_rng(3).integers(0, 49152, 32).tolist()
    for at in range(0, 32, 8):
        logits = core.prefill(tokens[at : at + 8], at)
        assert np.array_equal(bits(logits), bits(session.extend(tokens[at : at + 8])))


@pytest.mark.parametrize(
    ("shape", "chunk", "message"),
    [
        ({}, 7, "a chunk must be whole rows of 4 tokens in the cache, not 7 tokens"),
        ({"head_dim": 32}, 8, "heads of a chunk must be lines of 64 codes in whole groups, not 32 in groups of 32"),
        ({}, 512, "the global buffer must hold"),
    ],
)
def test_what_is_refused(shape, chunk, message):
    with pytest.raises(InputError, match=message):
        TinyLlama(**SHAPE | shape).on(accelerator_named("flightllm-mini"), 64, chunk=chunk)


def test_chunks_begin_with_a_row_of_the_cache(model):
    core = model.on(accelerator_named("flightllm-mini"), 64, chunk=4)
    with pytest.raises(InputError, match="a chunk must begin at a multiple of 4 tokens, not at 3"):
        core.chunk_step([1, 2, 3, 4], 3)
    with pytest.raises(InputError, match="a chunk must be 4 tokens of a model with chunks, not 2"):
        core.chunk_step([1, 2], 4)
