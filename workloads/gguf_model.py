"""Models of several families in GGUF files, to be traced: dimensions from the metadata, each weight by its operator.

    FAMILIES         what each architecture stores, one row each
    stored_model_of  GgufFile to StoredModel, every tensor's shape checked

What is not supported (mixtures of experts, rotation of part of a head, a tensor without a role) is an InputError.
``llama_gguf`` is the narrower reading of llama files that golden arithmetic computes with.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import GgufFile
from mixflight.workloads.model import Model
from mixflight.workloads.stored_model import Features, StoredModel, StoredWeight
from mixflight.workloads.tensor import Tensor

EMBEDDING, POSITIONS, FINAL_NORM, HEAD = "token_embd", "position_embd", "output_norm", "output"
IGNORED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")

SEPARATE = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
QKV = {"q": "attn_qkv", "k": "attn_qkv", "v": "attn_qkv", "o": "attn_output"}


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What an architecture stores in a block, and how it computes where families differ.

    ``linears``       role to the tensor's name; roles that share a name lie one after the other in its rows.
    ``norms``         vectors of the hidden width; ``head_norms`` of the head size.
    ``biased``        roles whose tensors have a bias.
    ``window_step``   of every ``window_step`` layers the last one attends to all tokens; 1: every layer has the window.
    """

    linears: dict[str, str]
    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    head_norms: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    activation: Literal["silu", "gelu"] = "silu"
    rotary: bool = True
    window_step: int = 1


FAMILIES: dict[str, Family] = {
    "llama": Family(linears=SEPARATE),
    "qwen2": Family(linears=SEPARATE, biased=("q", "k", "v")),
    "qwen3": Family(linears=SEPARATE, head_norms=("attn_q_norm", "attn_k_norm")),
    "gemma2": Family(
        linears=SEPARATE, norms=("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), activation="gelu",
        window_step=2,
    ),
    "gemma3": Family(
        linears=SEPARATE, norms=("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
        head_norms=("attn_q_norm", "attn_k_norm"), activation="gelu", window_step=6,
    ),
    "phi3": Family(linears=QKV | {"gate": "ffn_up", "up": "ffn_up", "down": "ffn_down"}),
    "gpt2": Family(
        linears=QKV | {"up": "ffn_up", "down": "ffn_down"}, biased=("q", "k", "v", "o", "up", "down"),
        norm="layernorm", activation="gelu", rotary=False,
    ),
}  # fmt: skip


class _Keys:
    """The metadata keys of one architecture."""

    def __init__(self, gguf: GgufFile) -> None:
        self.gguf, self.metadata = gguf, gguf.metadata
        self.architecture = self.metadata.text("general.architecture")

    def full(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    def has(self, key: str) -> bool:
        return self.full(key) in self.metadata

    def integer(self, key: str, default: int | None = None, low: int = 1) -> int:
        if default is not None and not self.has(key):
            return default
        return self.metadata.integer(self.full(key), low=low)

    def number(self, key: str, default: float | None = None) -> float:
        if default is not None and not self.has(key):
            return default
        return self.metadata.number(self.full(key))


def stored_model_of(gguf: GgufFile) -> StoredModel:
    """Dimensions and weights; what is missing, misshapen, unknown or not supported is an InputError."""
    keys = _Keys(gguf)
    if keys.architecture not in FAMILIES:
        raise InputError(
            f"the architecture must be one of {', '.join(FAMILIES)}, not {keys.architecture!r}, in {gguf.path}"
        )
    family = FAMILIES[keys.architecture]
    if keys.integer("expert_count", 0, low=0):
        raise InputError(
            f"{keys.full('expert_count')} must be 0 (mixtures of experts are not supported), in {gguf.path}"
        )
    features = _features(keys, family)
    model = _model(keys, family, features)
    return _weights(gguf, family, model, features)


def _features(keys: _Keys, family: Family) -> Features:
    window, layers = keys.integer("attention.sliding_window", 0, low=0), keys.integer("block_count", low=1)
    step = keys.integer("attention.sliding_window_pattern", family.window_step)
    if layers > len(keys.gguf.tensors):
        raise InputError(
            f"{keys.full('block_count')} must be at most the number of tensors, {len(keys.gguf.tensors)}, "
            f"not {layers}, in {keys.gguf.path}"
        )
    within = tuple(layer for layer in range(layers) if step == 1 or layer % step < step - 1)
    return Features(
        qk_norm=bool(family.head_norms),
        post_norms="post_attention_norm" in family.norms,
        biased=family.biased,
        window=window,
        window_layers=within if window else (),
        attention_cap=keys.number("attn_logit_softcapping", 0.0),
        logit_cap=keys.number("final_logit_softcapping", 0.0),
    )


def _model(keys: _Keys, family: Family, features: Features) -> Model:
    gguf = keys.gguf
    hidden, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
    if not keys.has("attention.key_length") and hidden % heads:
        raise InputError(
            f"embedding_length must be a multiple of head_count: {hidden} is none of {heads}, in {gguf.path}"
        )
    head_dim = keys.integer("attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.integer(key, head_dim) != head_dim:
            raise InputError(
                f"{keys.full(key)} must be the head size {head_dim}, not {keys.integer(key)}, in {gguf.path}"
            )
    if family.rotary and head_dim % 2:
        raise InputError(f"the head size must be even for rotary embeddings, not {head_dim}, in {gguf.path}")
    theta = keys.number("rope.freq_base", 10000.0) if family.rotary else 0.0
    suffix = "rms_epsilon" if family.norm == "rmsnorm" else "epsilon"
    epsilon = keys.number(f"attention.layer_norm_{suffix}")
    if (family.rotary and theta <= 1) or epsilon <= 0:
        raise InputError(
            f"rope.freq_base must be above 1 and the norm's epsilon above 0, not {theta:g} and {epsilon:g}, "
            f"in {gguf.path}"
        )
    embedding = gguf.tensor(f"{EMBEDDING}.weight")
    if len(embedding.shape) != 2:
        raise InputError(f"{EMBEDDING}.weight must have two dimensions, not {embedding.shape}, in {gguf.path}")
    metadata = gguf.metadata
    title = metadata.text("general.name") if "general.name" in metadata else gguf.path.stem
    layers, context = keys.integer("block_count"), keys.integer("context_length")
    return Model(
        name=gguf.path.stem,
        summary=f"{title}: {layers} layers of {hidden}",
        source=f"metadata of {gguf.path.name}",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=keys.integer("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=keys.integer("feed_forward_length"),
        vocab=keys.integer("vocab_size", embedding.n),
        context_length=min(context, features.window) if features.window else context,
        ffn_kind="gated" if "gate" in family.linears else "plain",
        activation=family.activation,
        norm=family.norm,
        norm_epsilon=epsilon,
        rope_theta=theta,
        tied_head=f"{HEAD}.weight" not in gguf.tensors,
        biases=set(family.biased) == set(family.linears),
    )


def _weights(gguf: GgufFile, family: Family, model: Model, features: Features) -> StoredModel:
    used: set[str] = set()

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = gguf.tensor(name)
        if tensor.shape != shape:
            raise InputError(f"tensor {name!r} must have shape {shape}, not {tensor.shape}, in {gguf.path}")
        used.add(name)
        return tensor

    vectors: dict[str, StoredWeight] = {}

    def vector(name: str, size: int) -> None:
        tensor = take(name, (size,))
        if tensor.format.kind != "float":
            raise InputError(f"tensor {name!r} must hold floats, not {tensor.format.name}, in {gguf.path}")
        vectors[name] = tensor

    def norm(name: str, size: int) -> None:
        vector(f"{name}.weight", size)
        if family.norm == "layernorm":
            vector(f"{name}.bias", size)

    embedding = take(f"{EMBEDDING}.weight", (model.vocab, model.hidden))
    if not family.rotary:
        take(f"{POSITIONS}.weight", (model.context_length, model.hidden))
    norm(FINAL_NORM, model.hidden)
    linears: dict[str, StoredWeight] = {}
    for layer in range(model.layers):
        block = f"blk.{layer}."
        for name in family.norms:
            norm(block + name, model.hidden)
        for name in family.head_norms:
            norm(block + name, model.head_dim)
        _block_linears(block, f"layers.{layer}.", family, model, take, linears)
        for name, size in _bias_sizes(family, model).items():
            vector(f"{block}{name}.bias", size)
    tied = embedding if model.tied_head else take(f"{HEAD}.weight", (model.vocab, model.hidden))
    linears["head"] = tied
    unknown = [name for name in gguf.tensors if name not in used and name not in IGNORED]
    if unknown:
        raise InputError(
            f"every tensor must have a role in a model of {model.layers} layers, but {unknown[0]!r} has none, "
            f"in {gguf.path}"
        )
    return StoredModel(model=model, features=features, embedding=embedding, linears=linears, vectors=vectors)


def _block_linears(
    block: str, operators: str, family: Family, model: Model, take: Callable[[str, tuple[int, ...]], Tensor],
    linears: dict[str, StoredWeight],
) -> None:  # fmt: skip
    shapes = model.block_linears()
    for name in dict.fromkeys(family.linears.values()):
        roles = [role for role, stored in family.linears.items() if stored == name]
        k = shapes[roles[0]][1]
        tensor = take(f"{block}{name}.weight", (sum(shapes[role][0] for role in roles), k))
        start = 0
        for role in roles:
            rows = shapes[role][0]
            linears[operators + role] = tensor if len(roles) == 1 else rows_of(tensor, start, start + rows)
            start += rows


def _bias_sizes(family: Family, model: Model) -> dict[str, int]:
    """Bias vectors of a block by tensor name."""
    shapes, sizes = model.block_linears(), dict[str, int]()
    for role in family.biased:
        name = family.linears[role]
        sizes[name] = sizes.get(name, 0) + shapes[role][0]
    return sizes


def rows_of(tensor: Tensor, start: int, stop: int) -> Tensor:
    """The rows start..stop - 1 of a matrix as a Tensor over the same memory."""
    row = tensor.nbytes // tensor.n
    return Tensor(
        name=f"{tensor.name}[{start}:{stop}]", shape=(stop - start, tensor.k), format=tensor.format,
        raw=tensor.raw[start * row : stop * row],
    )  # fmt: skip
