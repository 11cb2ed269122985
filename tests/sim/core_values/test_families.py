"""Norms with biases, GELU, soft caps, learned positions... on cores: what the golden model computes, bit for bit."""

import msgspec
import numpy as np
import pytest
from tiny_llama import KINDS, TinyLlama, bits, from_position

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.mapping.core_contents import gather, position_rows
from mixflight.sim.core_values.decode import machine_model
from mixflight.sim.core_values.order import races, received_by
from mixflight.sim.core_values.state import shape_of
from mixflight.sim.golden.llama import Session

WIDE = {"head_dim": 64, "heads": 6, "kv_heads": 3, "hidden": 384, "ffn": 640, "vocab": 333}
"""Tiles of several widths; three heads on two cores."""


def same(core, session, tokens):
    for token in tokens:
        position = session.position
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))


@pytest.fixture(scope="module", params=[
    pytest.param(kind, marks=[] if kind in ("gpt2", "everything", "untied") else pytest.mark.slow) for kind in KINDS
])  # fmt: skip
def made(request):
    return TinyLlama(seed=6, **WIDE, **KINDS[request.param])


def test_decode_steps(made):
    core, session = made.on(accelerator_named("mixpe-mini"), 256), Session(made.golden)
    same(core, session, [3, 99, 0])
    from_position(core, session, list(range(90)) * 2)
    same(core, session, [7])
    assert races(core.instructions(core.step(1, 140)), shape_of(core.machine)) == []


def test_decode_steps_of_two_cores(made):
    cores, session = made.on(accelerator_named("mixpe-duo"), 256, machine_model), Session(made.golden)
    same(cores, session, [3, 99])
    programs = [core.instructions(core.step(1, 140)) for core in cores.cores]
    for number, program in enumerate(programs):
        assert races(program, shape_of(cores.cores[0].machine), received=received_by(number, programs)) == []


@pytest.mark.parametrize("way", ["chunk", "block"])
def test_a_prompt_at_once(made, way):
    core, session = made.on(accelerator_named("flightllm-mini"), 64, **{way: 8}), Session(made.golden)
    tokens = [9, 80, 7, 0, 5, 4, 3, 2, 11, 12, 13]
    if way == "chunk":
        found, tokens = core.prefill(tokens[:8], 0), tokens[:8]
        step = core.chunk_step(tokens, 8)
    else:
        found, step = core.prompt(tokens), core.block_step(tokens[:8], 16)
    assert np.array_equal(bits(found), bits(session.extend(tokens)))
    same(core, session, [50])
    assert races(core.instructions(step), shape_of(core.machine)) == []


def test_constants_of_soft_caps_are_the_first_parameters():
    core = TinyLlama(**KINDS["gemma2"]).on(accelerator_named("mixpe-mini"), 64)
    lines = gather(core.hbm, core.text.memory.parameters[0], 128).view("<f4").reshape(2, 16)
    scores = np.float32(2.0 * np.sqrt(32))
    assert np.array_equal(lines[:, 1], [scores, np.float32(3.0)])
    assert lines[0, 0] == pytest.approx(2 / scores) and lines[1, 0] == np.float32(2 / 3) and not lines[:, 2:].any()


def test_learned_positions_lie_behind_the_embedding():
    made = TinyLlama(**KINDS["gpt2"])
    core = made.on(accelerator_named("mixpe-mini"), 64)
    rows = core.ddr[0][core.network.table_bytes(0) :].view("<f4").reshape(64, 128)
    assert np.array_equal(rows, made.positions.dequantise(slice(0, 64)))
    assert core.step(5, 63).registers["POSITION"] == core.network.table_bytes(63)
    with pytest.raises(InputError, match="learned positions must be those of 5000 tokens for a memory image, not of 4096"):
        position_rows(core.network, made.positions, 5000)
    with pytest.raises(InputError, match="not of none, of tiny"):
        position_rows(core.network, None, 64)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("gpt2", lambda v: v.pop("blk.1.ffn_norm.bias"), "must have vector 'blk.1.ffn_norm.bias' of tiny"),
        ("gpt2", lambda v: v.pop("blk.0.attn_q.bias"), "must have vector 'blk.0.attn_q.bias' of tiny"),
        ("qwen3", lambda v: v.pop("blk.0.attn_k_norm.weight"), "must have vector 'blk.0.attn_k_norm.weight' of tiny"),
        ("gemma2", lambda v: v.update({"blk.0.attn_q.bias": v["output_norm.weight"]}), "have a place for vector 'blk.0.attn_q"),
    ],
)  # fmt: skip
def test_vectors_must_be_those_of_the_model(kind, change, message):
    made = TinyLlama(**KINDS[kind])
    change(made.vectors)
    with pytest.raises(InputError, match=message):
        made.on(accelerator_named("mixpe-mini"), 64)


def test_a_context_beyond_a_window_is_refused():
    made = TinyLlama(**KINDS["gemma2"])
    made.model = msgspec.structs.replace(made.model, window=32)
    assert made.on(accelerator_named("mixpe-mini"), 32)
    with pytest.raises(InputError, match="contexts must be at most the 32 tokens that a token of tiny sees, not 64"):
        made.on(accelerator_named("mixpe-mini"), 64)
