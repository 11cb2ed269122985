"""Files as MODEL: a mixture of experts on arrays and cores, and what is wrong with a file or a recipe in one line."""

import json

import gguf
import numpy as np
import pytest
import safetensors_files as files
from command_line import document, refusal
from model_folders import ACTIVE, CONFIGS, EXPERTS, LAYERS, arrays_of

RECIPE = 'summary = "x"\n[weight]\n"*" = "int8"\n[act]\n"*" = "int8"\n[kv]\nk = "int8"\nv = "int8"\n'


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A Qwen2-MoE of FP16 in a folder."""
    folder = tmp_path_factory.mktemp("mixture")
    (folder / "config.json").write_text(json.dumps(CONFIGS["qwen2_moe"]))
    files.write(folder / "model.safetensors", arrays_of("qwen2_moe"))
    return folder


def test_a_mixture_of_experts_is_traced(mixture):
    found = document("trace", mixture, "--decode", 1)
    experts = sum(array.nbytes for name, array in arrays_of("qwen2_moe").items() if ".experts." in name)
    weights = sum(array.nbytes for name, array in arrays_of("qwen2_moe").items() if array.ndim == 2 and "embed" not in name)
    assert found["weight_bytes"] == weights - experts * (EXPERTS - ACTIVE) // EXPERTS
    assert found["ops"] > 20 * LAYERS


@pytest.mark.parametrize(("arch", "option"), [
    ("mixpe-w4a8", ("--float-operands", "int8")), ("mixpe-w4a8", ("--recipe", "w4a8g32")),
    ("flightllm-u280", ("--recipe", "w4a8g32")), ("flightllm-vhk158", ("--float-operands", "int8")),
])
def test_a_mixture_of_experts_is_simulated(mixture, arch, option):
    found = document("simulate", "--arch", arch, "--model", mixture, *option, "--prefill", 16, "--decode", 2)
    assert found["prefill"]["time_ms"] > found["decode"]["time_ms_per_token"] > 0
    assert found["decode"]["energy_mj_per_token"] > 0
    assert ("shared_gate" in found["float_operands"]) == ("int8" in option)


def _gguf(path, shapes):
    writer = gguf.GGUFWriter(path, "llama")
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def _damaged_gguf(path):
    path.write_bytes(b"GGUX" + _gguf(path, {"a": (4, 4)})[4:])
    return path


def _overlapping_gguf(path):
    raw = _gguf(path, {"first": (8, 8), "second": (8, 8)})
    at = raw.index(b"second") + 6 + 4 + 2 * 8 + 4  # the name, the number of dimensions, two of them and the type
    assert raw[at : at + 8] == (256).to_bytes(8, "little")
    path.write_bytes(raw[:at] + bytes(8) + raw[at + 8 :])
    return path


def _folder(path, change):
    path.mkdir()
    arrays = arrays_of("llama")
    change(arrays)
    (path / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    files.write(path / "model.safetensors", arrays)
    return path


def _misshapen(path):
    return _folder(path, lambda arrays: arrays.update({"model.norm.weight": np.ones(3, np.float16)}))


def _without_shard(path):
    _folder(path, lambda arrays: None)
    names = dict.fromkeys(arrays_of("llama"), "gone.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return path


def _not_two_of_four(path):
    name = "model.layers.0.mlp.up_proj"

    def change(arrays):
        del arrays[f"{name}.weight"]
        dense = np.zeros((128, 64), np.float16)
        dense[:, ::2] = 1
        arrays |= {f"{name}.{part}": array for part, array in files.sparse(dense).items()}
        arrays[f"{name}.weight.bitmask"][3, 2] = 0b0111_0101

    return _folder(path, change)


@pytest.mark.parametrize(("make", "message"), [
    (_damaged_gguf, "a GGUF file must start with b'GGUF'"),
    (_overlapping_gguf, "tensors must not overlap, but 'first' and 'second' do"),
    (_misshapen, "array 'model.norm.weight' must have shape (64,), not (3,)"),
    (_without_shard, "must hold the shard 'gone.safetensors', which is missing"),
    (_not_two_of_four, "a 2:4 mask must have 2 values in each 4, not 3 at row 3, columns 20 to 23"),
])
def test_a_file_that_is_wrong_is_one_line(make, message, tmp_path):
    assert message in refusal("trace", make(tmp_path / ("model.gguf" if "gguf" in make.__name__ else "model")))


@pytest.mark.parametrize(("change", "message"), [
    (('"*" = "int8"\n[act]', '"*" = "int4-g100"\n[act]'), "group must divide K: 100 does not divide 576"),
    (("[act]\n", '"layers.30.q" = "int4"\n[act]\n'), "must name layers 0 ... 29 of smollm2-135m, not 30"),
    (("[act]\n", '"*.upp" = "int4"\n[act]\n'), "must end with the name of a weight or a wildcard, not '*.upp' (nearest: 'up')"),
])
def test_a_recipe_that_does_not_fit_is_one_line(change, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.replace(*change))
    assert message in refusal("trace", "smollm2-135m", "--recipe", path)
