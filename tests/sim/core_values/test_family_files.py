"""Files of several architectures: golden arithmetic against a forward in float64, cores against golden arithmetic."""

import json

import numpy as np
import pytest
from command_line import document
from family_files import reference, write
from float_decoder import relative
from tiny_llama import bits

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.compile_program import compile_model
from mixflight.generate import generate
from mixflight.sim.core_values.decode import from_file
from mixflight.sim.golden.llama import Session, load_decoder
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.gguf_model import stored_model_of
from mixflight.workloads.plain_decoder import plain_decoder

FAMILIES = ("gpt2", "gemma2", "qwen2", "qwen3", "phi3")
TOKENS = [3, 95, 0, 41, 7, 12, 80]


def slow(*families):
    """The same code as for the others, with other weights."""
    return [pytest.param(family, marks=pytest.mark.slow) for family in families]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_computes_what_float64_says(family, folder):
    file = write(folder / f"{family}.gguf", family)
    floats = Numerics(activation=Activation.named("f16"), k="fp16", v="fp16")
    found = Session(load_decoder(file), numerics=floats).extend(TOKENS, every=True)
    assert relative(found, reference(file).logits(TOKENS)) < 0.003


@pytest.mark.parametrize("family", ["gpt2", "qwen3", *slow("gemma2", "qwen2")])
def test_a_core_computes_a_file_bit_for_bit(family, folder):
    path = folder / f"core-{family}.gguf"
    session = Session(load_decoder(write(path, family)))
    core = from_file(accelerator_named("mixpe-mini"), path, 48)
    for position, token in enumerate(TOKENS[:3]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))


@pytest.mark.parametrize("family", ["gpt2", *slow("gemma2")])
def test_compile_writes_what_the_core_starts_with(family, folder, tmp_path):
    path = folder / f"compiled-{family}.gguf"
    write(path, family)
    arguments = ("--arch", "mixpe-mini", "--model", path, "--max-context", "48")
    document("compile", *arguments, "-o", tmp_path)
    core = from_file(accelerator_named("mixpe-mini"), path, 48)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["image"] and manifest["embedding_bytes"] == core.ddr[0].size
    for channel, data in enumerate(core.hbm):
        written = np.fromfile(tmp_path / f"core0.channel{channel}.bin", np.uint8)
        assert np.array_equal(written, data[: len(written)])
    assert np.array_equal(np.fromfile(tmp_path / "ddr.bin", np.uint8), core.ddr[0])
    said = document("simulate", "--arch", "mixpe-mini", "--model", path, "--prefill", "16", "--decode", "8")
    assert said["path"] == "fused" and said["decode"]["time_ms"] > 0


def test_a_file_of_gpt2_speaks(folder):
    file = write(folder / "speaks.gguf", "gpt2")
    said = generate(file.path, "xyz", 4)
    session, tokens = Session(load_decoder(file)), [ord(letter) for letter in "xyz"]
    expected = [int(session.extend(tokens)[-1].argmax())]
    while len(expected) < 4:
        expected.append(int(session.extend(expected[-1:])[-1].argmax()))
    assert list(said.tokens) == expected[: len(said.tokens)] and said.tokens


def test_what_is_not_computed_is_refused(folder):
    with pytest.raises(InputError, match="must have one base of rotation for all layers"):
        plain_decoder(write(folder / "gemma3.gguf", "gemma3"))
    with pytest.raises(InputError, match="must have rotations that nothing scales"):
        plain_decoder(write(folder / "scaled.gguf", "phi3", {"rope_factors_long.weight": (16,)}))
    with pytest.raises(InputError, match="whose embedding is its head, which"):
        from_file(accelerator_named("mixpe-mini"), write(folder / "untied.gguf", "phi3").path, 48)


def test_no_program_is_of_contexts_beyond_the_window(folder):
    path = folder / "window.gguf"
    write(path, "gemma2")
    with pytest.raises(InputError, match="a token must see the whole context .* but window does not see all 64 tokens"):
        compile_model("mixpe-mini", str(path), None, None)


def test_rows_of_halves_lie_in_pairs(folder):
    file = write(folder / "pairs.gguf", "qwen3")
    found, stored = plain_decoder(file), stored_model_of(open_gguf(file.path))
    order = np.arange(32).reshape(2, 16).T.reshape(-1)
    assert order[:4].tolist() == [0, 16, 1, 17]
    for role in ("q", "k"):
        rows = stored.linears[f"layers.1.{role}"].dequantise().reshape(-1, 32, 128)[:, order]
        assert np.array_equal(found.linears[f"layers.1.{role}"].dequantise(), rows.reshape(-1, 128))
        name = f"blk.1.attn_{role}_norm.weight"
        assert np.array_equal(found.vectors[name].values(), stored.vectors[name].values()[order])
