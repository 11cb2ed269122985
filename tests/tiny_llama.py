"""A made model of the llama family, small enough to run everywhere: random weights in the formats of a real file."""

import numpy as np

from mixflight.sim.core_values.decode import core_model
from mixflight.sim.golden.linear import grouped_weight
from mixflight.sim.golden.llama import Llama
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.llama_gguf import LINEARS
from mixflight.workloads.model import Model
from mixflight.workloads.tensor import pack_tensor

KINDS = {
    "gpt2": {"norm": "layernorm", "biases": True, "ffn_kind": "plain", "activation": "gelu", "rope_theta": 0.0},
    "opt": {"norm": "layernorm", "biases": True, "ffn_kind": "plain", "activation": "relu", "rope_theta": 0.0},
    "gemma2": {"activation": "gelu", "post_norms": True, "attention_cap": 2.0, "logit_cap": 3.0,
               "embedding_scale": 128**0.5},
    "qwen2": {"biased": ("q", "k", "v"), "norm_epsilon": 1e-6},
    "qwen3": {"qk_norm": True, "norm_epsilon": 1e-6},
    "everything": {"norm": "layernorm", "biases": True, "activation": "gelu", "post_norms": True, "qk_norm": True,
                   "attention_cap": 2.0, "logit_cap": 3.0, "embedding_scale": 0.5},
    "untied": {"tied_head": False},
}  # fmt: skip
"""What makes a made model one of another family."""
SHAPE = {"layers": 2, "hidden": 128, "heads": 4, "kv_heads": 2, "head_dim": 32, "ffn": 192, "vocab": 100}


class TinyLlama:
    """``golden`` for a Session, and ``on(machine, max_context)`` for a core; the same weights in both."""

    def __init__(self, seed: int = 1, **shape) -> None:
        self.model = self.model_of(**shape)
        rng, model = np.random.default_rng(seed), self.model
        self.embedding = self._tensor(rng, "token_embd.weight", model.vocab, model.hidden, "q8_0")
        head = self.embedding
        if not model.tied_head:
            head = self._tensor(rng, "output.weight", model.vocab, model.hidden, "q4_1")
        self.linears, named = {"head": head}, {head.name: head}
        for layer in range(model.layers):
            for role, (n, k) in model.block_linears().items():
                name = f"blk.{layer}.{LINEARS[role]}.weight"
                named[name] = self.linears[f"layers.{layer}.{role}"] = self._tensor(rng, name, n, k, "q4_1")
        self.vectors = {
            name: pack_tensor(name, "f32", values=(rng.uniform(0.5, 1.5, (1, size)) - (name.endswith("bias"))).astype(
                np.float32
            ))
            for name, size in vector_sizes(model).items()
        }  # fmt: skip
        self.positions = None
        if not model.rope_theta:
            rows = rng.uniform(-1, 1, (model.context_length, model.hidden)).astype(np.float32)
            self.positions = pack_tensor("position_embd.weight", "f32", values=rows)
        self.golden = Llama(
            model=model, embedding=self.embedding, head_name=head.name,
            linears={name: grouped_weight(tensor) for name, tensor in named.items()},
            norms={name: tensor.dequantise()[0].astype(np.float32) for name, tensor in self.vectors.items()},
            positions=None if self.positions is None else self.positions.dequantise(),
        )  # fmt: skip

    @staticmethod
    def model_of(**shape) -> Model:
        """Its dimensions."""
        return Model(**{
            "name": "tiny", "summary": "made", "source": "random", "context_length": 4096, "rope_theta": 10000.0,
            "tied_head": True, "norm_epsilon": 1e-5, **SHAPE, **shape,
        })  # fmt: skip

    @staticmethod
    def _tensor(rng, name, n, k, form):
        low, high = (0, 16) if form == "q4_1" else (-127, 128)
        codes = rng.integers(low, high, (n, k)).astype(np.uint8 if form == "q4_1" else np.int8)
        scales = (rng.uniform(0.5, 1.5, (n, k // 32)) / (high - low) / np.sqrt(k) * 8).astype(np.float16)
        minima = (-8 * scales.astype(np.float32)).astype(np.float16) if form == "q4_1" else None
        return pack_tensor(name, form, codes=codes, scales=scales, minima=minima)

    def on(self, machine, max_context, make=core_model, chunk=0, block=0):
        """The model in the memories of the only core of ``machine``; ``make=machine_model`` for all its cores."""
        return make(
            machine, self.model, recipe_of("as-stored", self), linears=self.linears, vectors=self.vectors,
            embedding=self.embedding, max_context=max_context, chunk=chunk, block=block, positions=self.positions,
        )  # fmt: skip


def vector_sizes(model):
    """Names and sizes of the vectors of a model, as in a GGUF file in which nothing is fused."""
    norms, found = {"output_norm": model.hidden}, {}
    for block in (f"blk.{layer}." for layer in range(model.layers)):
        norms |= {f"{block}{name}": model.hidden for name in ("attn_norm", "ffn_norm")}
        if model.post_norms:
            norms |= {f"{block}{name}": model.hidden for name in ("post_attention_norm", "post_ffw_norm")}
        if model.qk_norm:
            found |= {f"{block}attn_{role}_norm.weight": model.head_dim for role in "qk"}
        for role, (n, _) in model.block_linears().items():
            if model.biases or role in model.biased:
                found[f"{block}{LINEARS[role]}.bias"] = n
    ends = ("weight", "bias") if model.norm == "layernorm" else ("weight",)
    return found | {f"{name}.{end}": size for name, size in norms.items() for end in ends}


def bits(values):
    """FP32 values as their bits."""
    return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)


def from_position(core, session, tokens):
    """The core as if it had decoded all tokens of ``session`` itself, ``tokens`` the last of them."""
    if tokens:
        session.extend(tokens)
    for layer in range(session.llama.model.layers):
        core.put_cache(layer, *session.cache(layer), session.position)
