"""Models larger than memory are traced from their headers."""

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from mixflight.workloads.model import model_named
from mixflight.workloads.model_file import open_model
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

MODEL = model_named("llama2-7b")
MIXTRAL, QWEN = model_named("mixtral-8x7b"), model_named("qwen1.5-moe-a2.7b")
SECONDS, KILOBYTES = 2.0, 500_000
ROLES = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}
# Opens the file that it is given, traces a prefill and a decode step, prints what they say and what they took, imports included;
# time of the processor, so that a busy machine does not decide.
PROGRAM = """
import json, sys, time
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.model_file import open_model
from mixflight.workloads.trace import decode_traces, prefill_trace
stored = open_model(sys.argv[1])
recipe = recipe_of("as-stored", stored)
(step,) = decode_traces(stored.model, recipe, 128, 1)
macs = prefill_trace(stored.model, recipe, 128).macs
# Not ru_maxrss: a process starts with the peak of the one that made it.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "seconds": time.process_time(), "kilobytes": peak,
    "weight_bytes": step.weight_bytes, "macs": step.macs, "prefill": macs,
}))
"""


def _traced(path):
    finished = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


def _shapes(model):
    """The matrices and vectors of a file, by the reference package's names."""
    shapes = {"token_embd": (model.vocab, model.hidden), "output": (model.vocab, model.hidden), "output_norm": (model.hidden,)}
    for layer in range(model.layers):
        block = f"blk.{layer}."
        shapes |= {f"{block}{name}": (model.hidden,) for name in ("attn_norm", "ffn_norm")}
        linears = {role: shape for role, shape in model.block_linears().items() if not model.experts or role in "qkvo"}
        shapes |= {f"{block}{ROLES[role]}": shape for role, shape in linears.items()}
        if model.experts:
            shapes[f"{block}ffn_gate_inp"] = model.experts, model.hidden
            shapes |= {f"{block}{ROLES[r]}_exps": (model.experts, *shape) for r, shape in model.expert_linears().items()}
        if model.shared_experts:
            shapes[f"{block}ffn_gate_inp_shexp"] = (model.hidden,)
            shared = model.expert_linears(model.shared_experts)
            shapes |= {f"{block}{ROLES[r]}_shexp": shape for r, shape in shared.items()}
    return shapes


def _gguf(path, kind, model=MODEL, architecture="llama"):
    """The model in a file whose data is a hole; vectors and routers are F32."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {
        "block_count": model.layers, "context_length": model.context_length, "embedding_length": model.hidden,
        "feed_forward_length": model.ffn, "attention.head_count": model.heads,
        "attention.head_count_kv": model.kv_heads, "expert_count": model.experts, "expert_used_count": model.active_experts,
        "expert_feed_forward_length": model.expert_ffn,
        "expert_shared_feed_forward_length": model.shared_experts * model.expert_ffn,
    }.items():
        if value:
            writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_array("tokenizer.ggml.tokens", [f"token {i}" for i in range(model.vocab)])
    total = 0
    shapes = {f"{name}.weight": shape for name, shape in _shapes(model).items()}
    if model.biased:
        for layer in range(model.layers):
            shapes |= {f"blk.{layer}.{ROLES[role]}.bias": model.block_linears()[role][:1] for role in model.biased}
    for name, shape in shapes.items():
        stored = gguf.GGMLQuantizationType.F32 if len(shape) == 1 or "gate_inp" in name else kind
        codes, size = gguf.GGML_QUANT_SIZES[stored]
        nbytes = math.prod(shape) // codes * size
        writer.add_tensor_info(name, shape, "float32", nbytes, raw_dtype=stored)
        total += -(-nbytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, (path.stat().st_size + 31) // 32 * 32 + total)
    return path


def _gptq_folder(folder):
    """A llama2-7b of GPTQ with groups of 128 in two shards whose data are holes."""
    config = {
        "model_type": "llama", "hidden_size": MODEL.hidden, "num_attention_heads": MODEL.heads,
        "num_key_value_heads": MODEL.kv_heads, "num_hidden_layers": MODEL.layers, "intermediate_size": MODEL.ffn,
        "vocab_size": MODEL.vocab, "max_position_embeddings": MODEL.context_length, "rms_norm_eps": 1e-5,
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    }
    (folder / "config.json").write_text(json.dumps(config))
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
             "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}  # fmt: skip
    arrays = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), ("F16", (MODEL.vocab, MODEL.hidden)))
    arrays["model.norm.weight"] = "F16", (MODEL.hidden,)
    for layer in range(MODEL.layers):
        block = f"model.layers.{layer}."
        arrays |= {f"{block}{name}.weight": ("F16", (MODEL.hidden,)) for name in ("input_layernorm", "post_attention_layernorm")}
        for role, (n, k) in MODEL.block_linears().items():
            arrays |= {
                f"{block}{names[role]}.qweight": ("I32", (k // 8, n)), f"{block}{names[role]}.scales": ("F16", (k // 128, n)),
                f"{block}{names[role]}.qzeros": ("I32", (k // 128, n // 8)),
            }
    index = {}
    for shard in range(2):
        name, header, at = f"model-{shard}.safetensors", {}, 0
        for array, (dtype, shape) in [*arrays.items()][shard::2]:
            size = (2 if dtype == "F16" else 4) * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[array] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            index[array], at = name, at + size
        text = json.dumps(header).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text)
        os.truncate(folder / name, 8 + len(text) + at)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


LINEAR = MODEL.linear_weights()
HEAD = MODEL.vocab * MODEL.hidden


@pytest.mark.parametrize(("kind", "bits"), [("Q4_0", 4.5), ("Q4_K", 4.5)])
def test_a_7b_gguf_file_traces_without_being_loaded(kind, bits, tmp_path):
    path = _gguf(tmp_path / "7b.gguf", gguf.GGMLQuantizationType[kind])
    assert path.stat().st_size > 3.5e9
    assert path.stat().st_blocks * 512 < 10e6
    found = _traced(path)
    assert found["weight_bytes"] * 8 == bits * LINEAR
    assert found["prefill"] > 100 * found["macs"] > 100 * LINEAR
    assert found["seconds"] < SECONDS
    assert found["kilobytes"] < KILOBYTES


@pytest.mark.parametrize(("architecture", "model"), [("llama", MIXTRAL), ("qwen2moe", QWEN)])
def test_a_mixture_larger_than_memory_is_the_preset_of_its_dimensions(architecture, model, tmp_path):
    """26 and 8 GB: under one recipe the file's trace is the preset's, under its own formats it reads two experts' bytes."""
    path = _gguf(tmp_path / "moe.gguf", gguf.GGMLQuantizationType.Q4_0, model, architecture)
    stored = open_model(path)
    recipe = recipe_named("fp16")
    for ours, preset in (
        (prefill_trace(stored.model, recipe, 64), prefill_trace(model, recipe, 64)),
        (*decode_traces(stored.model, recipe, 64, 1), *decode_traces(model, recipe, 64, 1)),
    ):
        assert ours.operators == preset.operators
    found = _traced(path)
    experts = sum(n * k for n, k in model.expert_linears(model.active_experts + model.shared_experts).values())
    attention = sum(n * k for role, (n, k) in model.block_linears().items() if role in "qkvo")
    floats = (model.experts + model.shared_gate) * model.hidden
    assert found["weight_bytes"] * 8 == (
        4.5 * (model.layers * (attention + experts) + model.vocab * model.hidden) + 32 * model.layers * floats
    )
    assert found["seconds"] < SECONDS
    assert found["kilobytes"] < KILOBYTES


def test_a_7b_gptq_folder_traces_without_being_loaded(tmp_path):
    folder = _gptq_folder(tmp_path)
    assert sum(Path(file).stat().st_size for file in folder.iterdir()) > 3.5e9
    found = _traced(folder)
    assert found["weight_bytes"] * 8 == 4.15625 * (LINEAR - HEAD) + 16 * HEAD
    assert found["seconds"] < SECONDS
    assert found["kilobytes"] < KILOBYTES
