"""Files of several architectures: golden arithmetic against a forward in float64, cores against golden arithmetic."""

import json

import gguf
import numpy as np
import pytest
from command_line import document, refusal
from family_files import reference, write
from float_decoder import relative
from tiny_llama import bits

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.compile_program import compile_model
from mixflight.compile_program import write as write_image
from mixflight.generate import generate
from mixflight.generate_rtl import generate_rtl
from mixflight.sim.core_values.decode import from_file
from mixflight.sim.golden.llama import Session, load_decoder
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.gguf_model import stored_model_of
from mixflight.workloads.plain_decoder import plain_decoder

FAMILIES = ("gpt2", "gemma2", "qwen2", "qwen3", "phi3", "llama")
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


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "llama", *slow("gemma2", "qwen2", "phi3")])
def test_a_core_computes_a_file_bit_for_bit(family, folder):
    path = folder / f"core-{family}.gguf"
    session = Session(load_decoder(write(path, family)))
    core = from_file(accelerator_named("mixpe-mini"), path, 48)
    for position, token in enumerate(TOKENS[:3]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))


@pytest.mark.parametrize("family", ["gpt2", "llama", *slow("gemma2")])
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


def test_an_embedding_that_a_core_does_not_dequantise_is_refused(folder, tmp_path):
    path, narrow = folder / "narrow.gguf", {"token_embd.weight": gguf.GGMLQuantizationType.Q5_0}
    assert Session(load_decoder(write(path, "llama", types=narrow))).extend(TOKENS).shape == (1, 258)
    says = "an embedding must be INT8 codes with FP16 scales for a memory image, not q5_0, in 'token_embd.weight' of narrow"
    with pytest.raises(InputError, match=says):
        from_file(accelerator_named("mixpe-mini"), path, 48)
    into = tmp_path / "out"
    assert says in refusal("compile", "--arch", "mixpe-mini", "--model", path, "--max-context", "48", "-o", into)
    assert not into.exists()


def test_what_no_core_computes_is_refused_before_its_verilog_is_compiled(folder, monkeypatch):
    file = write(folder / "early.gguf", "gpt2", types={"token_embd.weight": gguf.GGMLQuantizationType.Q4_1})
    monkeypatch.setattr("mixflight.generate_rtl.open_core", lambda *_, **__: pytest.fail("the core was compiled"))
    with pytest.raises(InputError, match="an embedding must be INT8 codes .* not q4_1"):
        generate_rtl(file.path, "xyz", 4)


def test_a_recipe_says_the_format_of_the_embedding(folder, tmp_path):
    path, recipe = folder / "said.gguf", tmp_path / "own.toml"
    write(path, "llama")

    def compiled(more):
        recipe.write_text(f"""summary = "own"
            {more}
            weight = {{"*" = "q8_0", head = "q4_1"}}
            act = {{"*" = "int8-g32", attention = "int8"}}
            kv = {{k = "int8", v = "int8"}}""")
        return compile_model("mixpe-mini", str(path), str(recipe), 48)

    says = "must keep the format of the embedding for a memory image: 'token_embd.weight' is q8_0, not f16, of said"
    with pytest.raises(InputError, match=says):
        write_image(compiled(""), str(path), tmp_path / "no", lambda: None)
    write_image(compiled('embedding = "q8_0"'), str(path), tmp_path / "yes", lambda: None)
    core = from_file(accelerator_named("mixpe-mini"), path, 48)
    assert np.array_equal(np.fromfile(tmp_path / "yes" / "ddr.bin", np.uint8), core.ddr[0])


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
