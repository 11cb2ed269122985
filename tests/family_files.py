"""Small GGUF files of several architectures with random weights, as converters write them: fused, halves that rotate
together, and what the reference computes with in float64."""

import gguf
import numpy as np
from float_decoder import FloatDecoder

from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.gguf_families import FAMILIES
from mixflight.workloads.gguf_model import stored_model_of
from mixflight.workloads.llama_gguf import LINEARS

HIDDEN, KV_HEADS, FFN, VOCAB, CONTEXT = 128, 2, 192, 258, 64
HEADS = {"gpt2": 2, "phi3": 2}
KEYS = {"gemma2": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "attention.sliding_window": 48}}
Q8 = gguf.GGMLQuantizationType.Q8_0
UNTIED = ("llama", "phi3")
TYPES = {"output.weight": gguf.GGMLQuantizationType.Q4_1}
"""Of tensors that are not Q8_0."""


def shapes_of(family):
    """Names and shapes of the tensors of a file of two layers."""
    row, head = FAMILIES[family], HIDDEN // HEADS.get(family, 4)
    kv = KV_HEADS * head
    roles = {"q": (HIDDEN, HIDDEN), "k": (kv, HIDDEN), "v": (kv, HIDDEN), "o": (HIDDEN, HIDDEN),
             "gate": (FFN, HIDDEN), "up": (FFN, HIDDEN), "down": (HIDDEN, FFN)}  # fmt: skip
    norms, found = {"output_norm": HIDDEN}, {"token_embd.weight": (VOCAB, HIDDEN)}
    if not row.rotary:
        found["position_embd.weight"] = (CONTEXT, HIDDEN)
    if family in UNTIED:
        found["output.weight"] = (VOCAB, HIDDEN)
    for block in ("blk.0.", "blk.1."):
        norms |= {block + name: HIDDEN for name in row.norms} | {block + name: head for name in row.head_norms}
        for name in dict.fromkeys(row.linears.values()):
            fused = [role for role, stored in row.linears.items() if stored == name]
            rows = sum(roles[role][0] for role in fused)
            found[f"{block}{name}.weight"] = (rows, roles[fused[0]][1])
            if any(role in row.biased for role in fused):
                found[f"{block}{name}.bias"] = (rows,)
    ends = ("weight", "bias") if row.norm == "layernorm" else ("weight",)
    return found | {f"{name}.{end}": (size,) for name, size in norms.items() for end in ends}


def write(path, family, more=None, types=TYPES):
    """A file at ``path`` with ``more`` tensors, by name their shapes; ``types`` are those of what is not Q8_0."""
    writer, rng = gguf.GGUFWriter(path, family), np.random.default_rng(len(family))
    epsilon = "layer_norm_epsilon" if FAMILIES[family].norm == "layernorm" else "layer_norm_rms_epsilon"
    keys = {"block_count": 2, "context_length": CONTEXT, "embedding_length": HIDDEN, "feed_forward_length": FFN,
            "attention.head_count": HEADS.get(family, 4), "attention.head_count_kv": KV_HEADS,
            f"attention.{epsilon}": 1e-5} | KEYS.get(family, {})  # fmt: skip
    for key, value in keys.items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{family}.{key}", value)
    if family == "gpt2":  # a token for each byte, and the end
        symbols = [chr(byte) if 0x21 <= byte < 0x7F or 0xA1 <= byte < 0xAD or byte > 0xAD else None for byte in range(256)]
        others = iter(range(256, 512))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list([symbol or chr(next(others)) for symbol in symbols] + ["ab", "<|endoftext|>"])
        writer.add_token_merges(["a b"])
    for name, shape in (shapes_of(family) | (more or {})).items():
        if len(shape) == 1:
            values = rng.uniform(0.5, 1.5, shape) - name.endswith("bias")
            writer.add_tensor(name, values.astype(np.float32))
        elif name == "position_embd.weight":
            writer.add_tensor(name, rng.uniform(-1, 1, shape).astype(np.float32))
        else:
            values = (rng.standard_normal(shape) * 2 / np.sqrt(shape[1])).astype(np.float32)
            kind = types.get(name, Q8)
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


def reference(file):
    """The file's weights as they lie in it, in float64."""
    stored, family = stored_model_of(file), FAMILIES[file.metadata.text("general.architecture")]
    weights = {name: item.dequantise().astype(np.float64) for name, item in stored.linears.items()}
    vectors = {name: item.dequantise()[0].astype(np.float64) for name, item in stored.vectors.items()}
    shapes = stored.model.block_linears()
    for name in dict.fromkeys(family.linears[role] for role in family.biased):
        roles = [role for role in family.linears if family.linears[role] == name]
        for layer in range(stored.model.layers):
            whole = vectors.pop(f"blk.{layer}.{name}.bias")
            parts = np.split(whole, np.cumsum([shapes[role][0] for role in roles])[:-1])
            vectors |= {f"blk.{layer}.{LINEARS[role]}.bias": part for role, part in zip(roles, parts, strict=True)}
    positions = None if family.rotary else file.tensor("position_embd.weight").dequantise().astype(np.float64)
    embedding = file.tensor("token_embd.weight").dequantise().astype(np.float64)
    return FloatDecoder(stored.model, weights, embedding, vectors, positions, halves=family.halves)
