"""Models of several families in GGUF files, to be traced: dimensions from the metadata, each weight by its operator.

    stored_model_of  GgufFile to StoredModel, every tensor's shape checked

What is not supported (rotation of part of a head, a tensor without a role) is an InputError. ``llama_gguf`` is the
narrower reading of llama files that golden arithmetic computes with.
"""

import math
from collections.abc import Callable

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import GgufFile
from mixflight.workloads.gguf_families import EXPERTS, FAMILIES, ROUTER, SHARED_EXPERTS, SHARED_GATE, Family
from mixflight.workloads.model import MIXED, Model
from mixflight.workloads.stored_model import StoredModel, StoredWeight
from mixflight.workloads.tensor import Tensor

EMBEDDING, POSITIONS, FINAL_NORM, HEAD = "token_embd", "position_embd", "output_norm", "output"
IGNORED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
Take = Callable[[str, tuple[int, ...]], Tensor]


class _Keys:
    """The metadata keys of one architecture."""

    def __init__(self, gguf: GgufFile) -> None:
        self.gguf, self.metadata, self.path = gguf, gguf.metadata, gguf.path
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
    return _weights(gguf, family, _model(keys, family))


def _layers(keys: _Keys) -> int:
    layers, tensors = keys.integer("block_count"), len(keys.gguf.tensors)
    if layers > tensors:
        raise InputError(
            f"{keys.full('block_count')} must be at most the number of tensors, {tensors}, not {layers}, in {keys.path}"
        )
    return layers


def _global_layers(keys: _Keys, family: Family, layers: int) -> tuple[int, ...]:
    """The layers that attend to all tokens, in a model of which others have a window."""
    step = keys.integer("attention.sliding_window_pattern", family.window_step)
    return tuple(layer for layer in range(layers) if step > 1 and layer % step == step - 1)


def _experts(keys: _Keys, family: Family) -> dict[str, int | bool]:
    """Fields of a Model that say what experts it has."""
    count = keys.integer("expert_count", 0, low=0) if family.experts != "must" else keys.integer("expert_count")
    if family.experts == "never" and count:
        raise InputError(f"{keys.full('expert_count')} must be 0 in a {keys.architecture}, not {count}, in {keys.path}")
    if not count:
        return {}
    active = keys.integer("expert_used_count")
    if active > count:
        raise InputError(
            f"{keys.full('expert_used_count')} must be at most the {count} experts, not {active}, in {keys.path}"
        )
    # A llama's experts have the width of its FFN, and llama.cpp reads the other two so where a file names no width.
    whole = keys.integer("feed_forward_length")
    width = keys.integer("expert_feed_forward_length", whole if family.experts == "may" else max(1, whole // active))
    shared = keys.integer("expert_shared_feed_forward_length", whole) if family.shared else 0
    if shared % width:
        raise InputError(
            f"the shared expert must be as wide as a whole number of experts of {width}, not {shared}, in {keys.path}"
        )
    return {
        "experts": count, "active_experts": active, "expert_ffn": width, "shared_experts": shared // width,
        "shared_gate": family.shared,
    }  # fmt: skip


def _model(keys: _Keys, family: Family) -> Model:
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
    layers, window = _layers(keys), keys.integer("attention.sliding_window", 0, low=0)
    every = set(family.biased) == set(family.linears)
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
        context_length=keys.integer("context_length"),
        ffn_kind="gated" if "gate" in family.linears else "plain",
        activation=family.activation,
        norm=family.norm,
        norm_epsilon=epsilon,
        rope_theta=theta,
        embedding_scale=math.sqrt(hidden) if family.scaled else 1.0,
        tied_head=f"{HEAD}.weight" not in gguf.tensors,
        biases=every,
        biased=() if every else family.biased,
        qk_norm=bool(family.head_norms),
        post_norms="post_attention_norm" in family.norms,
        attention_cap=keys.number("attn_logit_softcapping", 0.0),
        logit_cap=keys.number("final_logit_softcapping", 0.0),
        window=window,
        global_layers=_global_layers(keys, family, layers) if window else (),
        **_experts(keys, family),  # type: ignore[arg-type]
    )


def _weights(gguf: GgufFile, family: Family, model: Model) -> StoredModel:
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
        _block_linears(gguf, block, f"layers.{layer}.", family, model, take, linears)
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
    return StoredModel(model=model, embedding=embedding, linears=linears, vectors=vectors)


def _block_linears(
    gguf: GgufFile, block: str, operators: str, family: Family, model: Model, take: Take,
    linears: dict[str, StoredWeight],
) -> None:  # fmt: skip
    shapes = model.block_linears()
    names = {role: name for role, name in family.linears.items() if not (model.experts and role in MIXED)}
    for name in dict.fromkeys(names.values()):
        roles = [role for role, stored in names.items() if stored == name]
        k = shapes[roles[0]][1]
        tensor = take(f"{block}{name}.weight", (sum(shapes[role][0] for role in roles), k))
        start = 0
        for role in roles:
            rows = shapes[role][0]
            linears[operators + role] = tensor if len(roles) == 1 else rows_of(tensor, start, start + rows)
            start += rows
    if model.experts:
        _mixture(gguf, block, operators, model, take, linears)


def _mixture(
    gguf: GgufFile, block: str, operators: str, model: Model, take: Take, linears: dict[str, StoredWeight]
) -> None:
    linears[f"{operators}router"] = take(f"{block}{ROUTER}.weight", (model.experts, model.hidden))
    for role, (n, k) in model.expert_linears().items():
        linears[operators + role] = take(f"{block}{EXPERTS[role]}.weight", (model.experts, n, k))
    if not model.shared_experts:
        return
    for role, shape in model.expert_linears(model.shared_experts).items():
        linears[f"{operators}shared.{role}"] = take(f"{block}{SHARED_EXPERTS[role]}.weight", shape)
    if model.shared_gate:  # one row, which some writers store as a vector
        name = f"{block}{SHARED_GATE}.weight"
        row: tuple[int, ...] = (model.hidden,)
        linears[f"{operators}shared_gate"] = take(name, (1, *row) if len(gguf.tensor(name).shape) == 2 else row)


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
