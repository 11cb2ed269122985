"""N:M weights on a core: values as the golden model's on the matrix with zeros, bytes as the compiler lays them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from command_line import document
from sparse_llama import SparseLlama, real_layer
from tiny_llama import bits

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import codes
from mixflight.arch.control_constants import control_constants
from mixflight.arch.errors import InputError
from mixflight.mapping.core_image import kept_codes
from mixflight.sim.core_values.order import races
from mixflight.sim.core_values.products import multiply
from mixflight.sim.core_values.random_program import random_program
from mixflight.sim.core_values.state import new_state, shape_of

MACHINE = accelerator_named("flightllm-mini-sparse")


def kept(core):
    return {item.fields["keep"] for item in core.instructions(core.step(0, 0)) if item.kind == "MV" and not item.empty}


@pytest.mark.parametrize(("n", "m", "group", "machine"), [
    (8, 16, 32, "flightllm-mini-sparse"), (4, 8, 32, "flightllm-mini-sparse"), (2, 4, 32, "flightllm-mini"),
    (4, 16, 64, "flightllm-mini-sparse"), (2, 16, 128, "flightllm-mini-sparse")])
def test_a_sequence_of_a_sparse_model(n, m, group, machine):
    model = SparseLlama(n, m, group, ffn=256)
    core, session = model.core(accelerator_named(machine), 512), model.session()
    for position, token in enumerate([3, 99, 0, 41, 7]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))
    assert kept(core) == {16 * n // m, 16}


def test_a_prompt_of_a_sparse_model_in_blocks():
    """2:16, the groups of the activations that q, k and v make as long as a head."""
    model = SparseLlama(2, 16, 128, head_dim=128, heads=2, kv_heads=1, hidden=256, ffn=256, layers=1)
    core, session = model.core(MACHINE, 256, block=8), model.session()
    prompt = [3, 9, 77, 20, 1, 0, 55, 42, 13, 12]
    assert np.array_equal(bits(core.prompt(prompt)), bits(session.extend(prompt)))
    step = core.block_step(prompt[:8], 0)
    assert {item.fields["keep"] for item in core.instructions(step) if item.kind == "MM" and not item.empty} == {2, 16}


def test_a_layer_of_the_real_model_pruned_by_magnitude(smollm2_path):
    core, session = real_layer(smollm2_path, MACHINE, 256)
    for position, token in enumerate([504, 3575]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))
    assert kept(core) == {8, 16}


def slot(keep, group, rows, columns, k, seed=0):
    """A core whose first slot has random N:M weights, its act buffer random activations; an MV of both, its results.

    Codes that lie behind the last column are no weights."""
    rng, shape = np.random.default_rng(seed), shape_of(MACHINE)
    constants = control_constants(hidden=64, head=64, epsilon=1e-5, rope_base=10000.0, position=0)
    state = new_state(shape, constants, [np.zeros(64, np.uint8)] * shape.channels, [np.zeros(64, np.uint8)])
    steps = -(-columns // shape.step)
    matrix = np.zeros((steps * shape.step, k), np.int8)
    places = np.argsort(rng.random((*matrix.shape[:1], k // 16, 16)), axis=-1)[..., :keep]
    np.put_along_axis(matrix.reshape(-1, k // 16, 16), places, rng.integers(-128, 128, places.shape).astype(np.int8), -1)
    found, where = kept_codes(matrix.view(np.uint8), keep, "test")
    words = steps * k * keep // 256
    turned = (steps, shape.channels, shape.lanes, k * keep // 256)
    state.weight[0, :, :words] = found.view(np.int8).reshape(*turned, 16).transpose(1, 0, 3, 2, 4).reshape(
        shape.channels, words, shape.lanes, 16)
    nibbles = (where[:, 0::2] | where[:, 1::2] << 4).reshape(*turned, 8).transpose(1, 0, 3, 2, 4)
    state.index[0, :, : words * shape.lanes * 8] = nibbles.reshape(shape.channels, -1)
    groups = k // group if group else 1
    d = rng.normal(0, 0.01, (len(matrix), groups)).astype(np.float16)
    each = np.zeros((shape.channels, steps, -(-groups * shape.lanes * 2 // 32) * 32), np.uint8)
    each[..., : groups * shape.lanes * 2] = np.ascontiguousarray(
        d.reshape(steps, shape.channels, shape.lanes, groups).transpose(1, 0, 3, 2)
    ).view(np.uint8).reshape(shape.channels, steps, -1)
    state.scale[0, :, : each[0].size] = each.reshape(shape.channels, -1)
    a, lines = rng.integers(-128, 128, (rows, k)).astype(np.int8), k // 64 * rows
    state.act[3 : 3 + lines] = a.reshape(rows, -1, 64).transpose(1, 0, 2).reshape(lines, 64).view(np.uint8)
    state.act_scales[3 : 3 + lines] = 0.125
    fields = {"rows": rows, "columns": columns, "k_blocks": k // 16, "weight_bits": 8, "keep": keep, "zero": 0,
              "accumulate": 0, "last": 1, "transpose": 0, "group": group.bit_length() - 1 if group else 0, "slot": 0,
              "in_line": 3, "out_line": 5}
    per = group or k
    expected = np.zeros((rows, columns), np.float32)
    for g in range(groups):
        part = slice(g * per, (g + 1) * per)
        sums = a[:, part].astype(np.int64) @ matrix[:columns, part].T.astype(np.int64)
        expected = expected + (d[:columns, g].astype(np.float32) * np.float32(0.125)) * sums.astype(np.float32)
    return state, fields, expected


@pytest.mark.parametrize(("keep", "group", "rows", "columns", "k"), [
    (8, 32, 1, 64, 192), (8, 0, 3, 48, 320), (4, 64, 2, 40, 256), (4, 128, 1, 128, 512), (4, 0, 1, 16, 64),
    (2, 128, 2, 24, 384), (2, 0, 1, 32, 128)])
def test_products_of_every_ratio(keep, group, rows, columns, k):
    state, fields, expected = slot(keep, group, rows, columns, k)
    multiply(state, fields)
    lines = state.words()[5 : 5 + rows * -(-columns // 16)].reshape(-1, rows, 16).transpose(1, 0, 2).reshape(rows, -1)
    assert np.array_equal(bits(lines[:, :columns]), bits(expected))


def test_codes_of_one_place_are_added():
    state, fields, _ = slot(8, 0, 1, 16, 64)
    state.index[0] = 0x33
    multiply(state, fields)
    whole = state.weight[0, :, :2].astype(np.int64).reshape(4, 2, 4, 2, 8).sum(axis=-1)
    a = state.act[3].view(np.int8).astype(np.int64)[3::16].reshape(2, 2)
    sums = np.einsum("cwlb,wb->cl", whole, a).reshape(-1)
    assert np.array_equal(state.sums[0], sums)


@pytest.mark.parametrize(("changed", "message"), [
    ({"keep": 12}, "must keep 2, 4 or 8 of 16 of a slot of linear, without zero points or minima, not 12"),
    ({"zero": codes("MV", "zero")["minimum"]}, "without zero points or minima"),
    ({"group": 4}, "K and groups of weights that keep 8 of 16 must be whole 32, not 64 and 16"),
    ({"keep": 2}, "that keep 2 of 16 must be whole 128, not 64 and 64"),
])
def test_refusals(changed, message):
    state, fields, _ = slot(8, 0, 1, 16, 64)
    with pytest.raises(InputError, match=message):
        multiply(state, fields | changed)


def test_compile_writes_a_sparse_file(tmp_path):
    """A pruned GGUF file with a recipe that says so: the channels are what the executor's core has."""
    made = SparseLlama(8, 16)
    write_gguf(tmp_path / "pruned.gguf", made)
    (tmp_path / "pruned.toml").write_text(RECIPE)
    document("compile", "--arch", "flightllm-mini-sparse", "--model", tmp_path / "pruned.gguf", "--recipe",
             tmp_path / "pruned.toml", "--max-context", 128, "-o", tmp_path / "out")
    core = made.core(MACHINE, 128)
    at, size = core.text.memory.indices
    assert size > 0
    for channel, expected in enumerate(core.hbm):
        written = np.fromfile(tmp_path / "out" / f"core0.channel{channel}.bin", np.uint8)
        assert expected[at : at + size].any() and np.array_equal(written, expected[: len(written)])


RECIPE = """
summary = "INT8 in groups of 32, 8:16"

[weight]
"*" = {t = "int", b = 8, per = "group", group = 32, scale = "f16", sparse = {kind = "nm", n = 8, m = 16, index = "four_bit"}}
head = "q8_0"

[act]
"*" = "int8-g32"
attention = "int8"

[kv]
k = "int8"
v = "int8"
"""


def write_gguf(path: Path, made: SparseLlama) -> None:
    writer, model = gguf.GGUFWriter(path, "llama"), made.model
    for name, value in (("block_count", model.layers), ("context_length", model.context_length),
                        ("embedding_length", model.hidden), ("feed_forward_length", model.ffn),
                        ("attention.head_count", model.heads), ("attention.head_count_kv", model.kv_heads)):
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", model.norm_epsilon)
    writer.add_float32("llama.rope.freq_base", model.rope_theta)
    for item in made.linears.values():
        writer.add_tensor(item.name, item.raw.reshape(item.n, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for item in made.vectors.values():
        writer.add_tensor(item.name, item.dequantise()[0].astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_random_programs_of_every_ratio_have_tokens_enough():
    kept = set()
    for seed in range(3):
        made = random_program(MACHINE, seed, families=("sparse", "vector"))
        assert races(made.instructions, shape_of(MACHINE)) == []
        kept |= {item.fields["keep"] for item in made.instructions if item.kind == "MV"}
    assert kept == set(MACHINE.kept) == {2, 4, 8}
    with pytest.raises(InputError, match="must be of a machine that takes them, not flightllm-mini"):
        random_program(accelerator_named("flightllm-mini"), 0, families=("sparse",))
