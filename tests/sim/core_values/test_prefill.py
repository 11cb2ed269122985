"""Prompts in blocks on matrices leave what the golden model computes, bit for bit, whatever their length."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from tiny_llama import TinyLlama, bits, from_position

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX
from mixflight.mapping.core_prefill_block import block_tokens
from mixflight.sim.core_values.decode import from_file, machine_model
from mixflight.sim.core_values.order import races, received_by
from mixflight.sim.core_values.state import shape_of
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf

SHAPE = {"head_dim": 64, "heads": 6, "kv_heads": 3, "hidden": 384, "ffn": 640, "vocab": 333}


@pytest.fixture(scope="module")
def model():
    return TinyLlama(seed=6, **SHAPE)


@pytest.mark.parametrize(("machine", "block"), [("flightllm-mini", 8), ("flightllm-mini", 12), ("mixpe-mini", 16)])
def test_prompts_of_any_length_then_decode_steps(model, machine, block):
    machine, draw = accelerator_named(machine), np.random.default_rng(block)
    for length in (1, block, 2 * block + 3):
        core, session = model.on(machine, 320, block=block), Session(model.golden)
        tokens = draw.integers(0, 100, length).tolist()
        assert np.array_equal(bits(core.prompt(tokens)), bits(session.extend(tokens)))
        for token in (3, 5):
            assert np.array_equal(bits(core.decode(token, session.position)), bits(session.extend([token])))


def test_a_prompt_goes_on_from_where_a_sequence_is(model):
    core, session = model.on(accelerator_named("flightllm-mini"), 320, block=8), Session(model.golden)
    draw = np.random.default_rng(1)
    for first in (124, 252):  # both sides of a tile's end
        from_position(core, session, draw.integers(0, 100, first - session.position).tolist())
        tokens = draw.integers(0, 100, 20).tolist()
        assert np.array_equal(bits(core.prompt(tokens, first)), bits(session.extend(tokens)))


def test_the_cache_is_that_of_decode_steps(model):
    machine, tokens = accelerator_named("flightllm-mini"), list(range(9, 25))
    one, other = (model.on(machine, 64, block=8) for _ in range(2))
    one.prompt(tokens)
    for position, token in enumerate(tokens):
        other.decode(token, position)
    cache = slice(one.text.memory.cache[0], sum(one.text.memory.cache))
    assert all(np.array_equal(a[cache], b[cache]) for a, b in zip(one.hbm, other.hbm, strict=True))


def test_rows_that_share_a_word_of_weights_save_the_engines_time(model):
    """Two on flightllm-mini: half the cycles, more for taking instructions, fewer in waiting for room for results. Rows
    of an MV go together likewise."""
    machine = accelerator_named("flightllm-mini")
    alone = msgspec.structs.replace(machine, chains=msgspec.structs.replace(machine.chains, packed_rows=1))
    core, slow = (model.on(item, 64, chunk=8, block=8) for item in (machine, alone))
    block, chunk = core.engine(core.block_step([1] * 8, 0)), core.engine(core.chunk_step([1] * 8, 0))
    other = slow.engine(slow.block_step([1] * 8, 0))
    assert block.total < other.total
    matrices, head = (block.busy[0][CLASS_INDEX[kind]] for kind in ("MM", "MV"))
    assert matrices / other.busy[0][CLASS_INDEX["MM"]] == pytest.approx(0.5, abs=0.03)
    assert chunk.busy[0][CLASS_INDEX["MV"]] == pytest.approx(matrices + head, rel=0.001)


def test_blocks_in_front_of_the_last_need_no_head(model):
    core = model.on(accelerator_named("flightllm-mini"), 64, block=8)
    one, other = (core.instructions(core.block_step([1] * 8, 0, logits=wanted)) for wanted in (True, False))
    products = [{kind: sum(item.kind == kind and not item.empty for item in program) for kind in ("MM", "MV")}
                for program in (one, other)]  # fmt: skip
    assert products[0]["MM"] == products[1]["MM"] > 0
    assert products[0]["MV"] > 0 and products[1]["MV"] == 0


@pytest.mark.parametrize("machine", ["flightllm-u280", "flightllm-vhk158"])
def test_several_cores(model, machine):
    cores, session = model.on(accelerator_named(machine), 1024, machine_model, block=16), Session(model.golden)
    tokens = np.random.default_rng(2).integers(0, 100, 37).tolist()
    assert np.array_equal(bits(cores.prompt(tokens)), bits(session.extend(tokens)))
    for wanted in (True, False):
        programs = [core.instructions(core.block_step(tokens[:5], 48, logits=wanted)) for core in cores.cores]
        for number, program in enumerate(programs):
            assert races(program, shape_of(cores.cores[0].machine), received=received_by(number, programs)) == []


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("position", [0, 120, 256])
def test_no_races(model, position, wanted):
    core = model.on(accelerator_named("flightllm-mini"), 320, block=8)
    program = core.instructions(core.block_step([1, 2, 3], position, logits=wanted))
    assert races(program, shape_of(core.machine)) == []


def test_the_largest_block_that_buffers_hold(model):
    core = model.on(accelerator_named("flightllm-mini"), 320)
    most = block_tokens([core.text], core.network, core.machine)
    channels = core.machine.hbm.channels_per_core
    assert most % channels == 0
    model.on(core.machine, 320, block=most)
    if most < core.machine.mm_rows:
        with pytest.raises(InputError, match="buffer must hold"):
            model.on(core.machine, 320, block=most + channels)


@pytest.mark.parametrize("machine", ["flightllm-mini", "mixpe-mini"])
def test_32_tokens_on_a_layer_of_the_real_model(smollm2_path, machine):
    core = from_file(accelerator_named(machine), smollm2_path, 64, layers=1, block=8)
    llama = load_llama(open_gguf(smollm2_path))
    session = Session(replace(llama, model=msgspec.structs.replace(llama.model, layers=1)))
    tokens = np.random.default_rng(5).integers(0, 49152, 32).tolist()
    assert np.array_equal(bits(core.prompt(tokens)), bits(session.extend(tokens)))
    left, other = core.hbm, from_file(accelerator_named(machine), smollm2_path, 64, layers=1)
    from_position(other, session, [])
    cache = slice(core.text.memory.cache[0], sum(core.text.memory.cache))
    assert all(np.array_equal(a[cache], b[cache]) for a, b in zip(left, other.hbm, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["flightllm-mini", "mixpe-mini"])
def test_32_tokens_on_the_whole_real_model(smollm2_path, machine):
    core, session = from_file(accelerator_named(machine), smollm2_path, 512, block=8), Session(
        load_llama(open_gguf(smollm2_path))
    )
    tokens = np.random.default_rng(3).integers(0, 49152, 32).tolist()
    assert np.array_equal(bits(core.prompt(tokens)), bits(session.extend(tokens)))
    assert np.array_equal(bits(core.decode(7, 32)), bits(session.extend([7])))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (7, "a chunk must be whole rows of . tokens in the cache, not 7 tokens"),
        (20, "a block must be at most the 16 rows of an MM, not 20 tokens"),
    ],
)
def test_what_is_refused(model, block, message):
    with pytest.raises(InputError, match=message):
        model.on(accelerator_named("flightllm-mini"), 64, block=block)


def test_prompts_end_inside_the_cache(model):
    core = model.on(accelerator_named("flightllm-mini"), 64, block=8)
    with pytest.raises(InputError, match="a block must be 1 ... 8 tokens of a model with blocks, not 0"):
        core.block_step([], 0)
    with pytest.raises(InputError, match="a prompt must be at least 1 token"):
        core.prompt([])
    with pytest.raises(InputError, match="a block must end inside the cache of 64 tokens, not at 68"):
        core.block_step([1], 60)
