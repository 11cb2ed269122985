"""Checkpoints that the reference packages wrote (``tests/data/record_checkpoints.py``): names, keys, codes and values."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors_files as files

from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.folder_families import FAMILIES
from mixflight.workloads.model_file import open_model
from mixflight.workloads.packed_weights import Quantiser, SparseWeight, weight_at
from mixflight.workloads.safetensors_reader import open_safetensors
from mixflight.workloads.trace import decode_traces

DATA = Path(__file__).parents[1] / "data" / "checkpoints"
RECORDED = json.loads((DATA / "families.json").read_text())["families"]
TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "BOOL": np.uint8}
N, K = 64, 64
LAYERS = {"gemma3_text": 7}
EXPERTS = {"mixtral": (4, 2, 96), "qwen2_moe": (4, 2, 32), "qwen3_moe": (4, 2, 32)}
WINDOWS = {"mistral": (16, ()), "phi3": (16, ()), "gemma2": (16, (1,)), "gemma3_text": (16, (5,)), "gemma3": (16, ())}


def test_every_family_was_recorded():
    assert set(RECORDED) == set(FAMILIES)


@pytest.mark.parametrize("kind", RECORDED)
def test_a_family_as_the_library_saves_it(kind, tmp_path):
    recorded = RECORDED[kind]
    (tmp_path / "config.json").write_text(json.dumps(recorded["config"]))
    arrays = {name: np.zeros(shape, TYPES[dtype]) for name, (dtype, shape) in recorded["arrays"].items()}
    files.write(tmp_path / "model.safetensors", arrays)
    stored = open_model(tmp_path)
    model, plain = stored.model, kind in ("opt", "gpt2")
    assert (model.layers, model.hidden, model.heads, model.head_dim) == (LAYERS.get(kind, 2), 64, 4, 16)
    assert (model.kv_heads, model.vocab, model.context_length) == (4 if plain else 2, 40, 128)
    assert model.ffn == (256 if kind == "gpt2" else 96)
    assert (model.experts, model.active_experts, model.expert_ffn) == EXPERTS.get(kind, (0, 0, 0))
    assert (model.shared_experts, model.shared_gate) == ((2, True) if kind == "qwen2_moe" else (0, False))
    assert (model.window, model.global_layers) == WINDOWS.get(kind, (0, ()))
    assert (model.attention_cap, model.logit_cap) == ((50.0, 30.0) if kind == "gemma2" else (0.0, 0.0))
    assert model.rope_theta == (0 if plain else 1e6 if kind == "mixtral" or "gemma3" in kind else 1e4)
    # Every number that the library stored is in a weight, but the tables of positions and what encodes images.
    left_out = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
    wanted = sum(
        array.size for name, array in arrays.items()
        if not name.startswith(left_out) and "wpe" not in name and "embed_positions" not in name
    )
    weights = {id(weight): weight for weight in (stored.embedding, *stored.linears.values(), *stored.vectors.values())}
    assert sum(int(np.prod(weight.shape)) for weight in weights.values()) == wanted
    (step,) = decode_traces(model, recipe_of("as-stored", stored), 60, 1)
    assert step.macs > 0


@pytest.mark.parametrize("name", [
    "gptq2", "gptq3", "gptq4", "gptq8", "awq", "packed2s", "packed2a", "packed4s", "packed4a", "packed8s", "packed8a",
    "nf4", "nf4-nested", "fp4", "fp4-nested", "int8", "fp8",
])
def test_a_packing_as_its_package_writes_it(name):
    """Codes and zero points are what the package was given, values what it makes of them, to the last bit."""
    file = open_safetensors(DATA / "packings.safetensors")
    weight = weight_at(file, name, (N, K), Quantiser(method=name[:4] if name[:4] == "gptq" else "awq" if name == "awq" else ""))
    assert np.array_equal(weight.dequantise(), file.array(f"{name}.values").floats())
    half = 1 << int(name[6]) - 1 if name.startswith("packed") and name.endswith("a") else 0  # stored unsigned
    for part, found in (("codes", weight.codes()), ("zeros", weight.zeros())):
        if f"{name}.{part}" in file.arrays:
            assert np.array_equal(found.astype(int) - half, file.array(f"{name}.{part}").numbers())
        else:
            assert part == "zeros" or name.startswith(("nf4", "fp4", "fp8"))


def test_two_of_four_as_its_package_writes_it():
    file = open_safetensors(DATA / "two_of_four.safetensors")
    weight = weight_at(file, "sparse", (N, K))
    assert isinstance(weight, SparseWeight)
    assert np.array_equal(weight.dequantise(), file.array("sparse.values").floats())
