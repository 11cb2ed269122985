"""Models of the llama architecture in GGUF files: the dimensions, and each weight by its role.

    model_of      GgufFile to Model, from the metadata
    weights_of    GgufFile to LlamaWeights, every tensor's shape checked against the model

The rows of q and k are stored for rotary embeddings of adjacent pairs: elements 2i and 2i + 1 of a head
rotate together. A tensor of the file that has no role here is an error, because leaving it out would change
what the model computes. Golden arithmetic computes with these weights; ``gguf_model`` reads more families and every
type, to be traced.
"""

from dataclasses import dataclass

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import GgufFile
from mixflight.workloads.model import Model
from mixflight.workloads.tensor import Tensor

ARCHITECTURE = "llama"
EMBEDDING, FINAL_NORM, HEAD = "token_embd.weight", "output_norm.weight", "output.weight"

# A layer's weights by role: the name in the file is blk.LAYER.NAME.weight.
LINEARS = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}
NORMS = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LlamaLayer:
    """The weights of one block; linears are (N outputs, K inputs)."""

    attn_norm: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    ffn_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LlamaWeights:
    """All weights of a model; ``head`` is the embedding tensor itself when the head is tied."""

    embedding: Tensor
    layers: tuple[LlamaLayer, ...]
    final_norm: Tensor
    head: Tensor


def model_of(gguf: GgufFile) -> Model:
    """The dimensions, from the metadata and the shape of the embedding."""
    metadata = gguf.metadata
    architecture = metadata.text("general.architecture")
    if architecture != ARCHITECTURE:
        raise InputError(f"the architecture must be {ARCHITECTURE!r}, not {architecture!r}, in {gguf.path}")
    _refuse_variants(gguf)

    def integer(key: str, default: int | None = None) -> int:
        key = f"{ARCHITECTURE}.{key}"
        return default if default is not None and key not in metadata else metadata.integer(key, low=1)

    hidden, heads = integer("embedding_length"), integer("attention.head_count")
    if f"{ARCHITECTURE}.attention.key_length" not in metadata and hidden % heads:
        raise InputError(
            f"embedding_length must be a multiple of head_count: {hidden} is none of {heads}, in {gguf.path}"
        )
    head_dim = integer("attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if integer(key, head_dim) != head_dim:
            raise InputError(
                f"{ARCHITECTURE}.{key} must be the head size {head_dim}, not {integer(key)}, in {gguf.path}"
            )
    if head_dim % 2:
        raise InputError(f"the head size must be even for rotary embeddings, not {head_dim}, in {gguf.path}")
    embedding = gguf.tensor(EMBEDDING)
    if len(embedding.shape) != 2:
        raise InputError(f"{EMBEDDING} must have two dimensions, not {embedding.shape}, in {gguf.path}")
    vocab = integer("vocab_size", embedding.n)
    theta_key, epsilon_key = (
        f"{ARCHITECTURE}.{key}" for key in ("rope.freq_base", "attention.layer_norm_rms_epsilon")
    )
    theta = metadata.number(theta_key) if theta_key in metadata else 10000.0
    epsilon = metadata.number(epsilon_key)
    if theta <= 1 or epsilon <= 0:
        raise InputError(
            f"{theta_key} must be above 1 and {epsilon_key} above 0, not {theta:g} and {epsilon:g}, "
            f"in {gguf.path}"
        )
    title = metadata.text("general.name") if "general.name" in metadata else gguf.path.stem
    layers = integer("block_count")
    return Model(
        name=gguf.path.stem,
        summary=f"{title}: {layers} layers of {hidden}",
        source=f"metadata of {gguf.path.name}",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=integer("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=integer("feed_forward_length"),
        vocab=vocab,
        context_length=integer("context_length"),
        ffn_kind="gated",
        activation="silu",
        norm="rmsnorm",
        norm_epsilon=epsilon,
        rope_theta=theta,
        tied_head=HEAD not in gguf.tensors,
        biases=False,
    )


def weights_of(gguf: GgufFile) -> LlamaWeights:
    """Every weight by its role; a missing, misshapen or unknown tensor is an InputError."""
    model = model_of(gguf)
    used: set[str] = set()

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = gguf.tensor(name)
        if tensor.shape != shape:
            raise InputError(f"tensor {name!r} must have shape {shape}, not {tensor.shape}, in {gguf.path}")
        used.add(name)
        return tensor

    def norm(name: str) -> Tensor:
        tensor = take(name, (model.hidden,))
        if tensor.format.kind != "float":
            raise InputError(f"tensor {name!r} must be f32 or f16, not {tensor.format.name}, in {gguf.path}")
        return tensor

    embedding = take(EMBEDDING, (model.vocab, model.hidden))
    head = embedding if model.tied_head else take(HEAD, (model.vocab, model.hidden))
    final_norm = norm(FINAL_NORM)
    shapes = model.block_linears()
    layers = tuple(
        LlamaLayer(
            **{role: norm(f"blk.{layer}.{name}.weight") for role, name in NORMS.items()},
            **{role: take(f"blk.{layer}.{name}.weight", shapes[role]) for role, name in LINEARS.items()},
        )
        for layer in range(model.layers)
    )
    unknown = [name for name in gguf.tensors if name not in used]
    if unknown:
        raise InputError(
            f"every tensor must have a role in a {ARCHITECTURE} model of {model.layers} layers, "
            f"but {unknown[0]!r} has none, in {gguf.path}"
        )
    return LlamaWeights(embedding=embedding, layers=layers, final_norm=final_norm, head=head)


def _refuse_variants(gguf: GgufFile) -> None:
    """Variants of the architecture that would compute something else than what is modelled."""
    metadata = gguf.metadata
    experts = f"{ARCHITECTURE}.expert_count"
    if experts in metadata and metadata.integer(experts):
        raise InputError(f"{experts} must be 0 (golden arithmetic has no mixtures of experts), in {gguf.path}")
    scaling = f"{ARCHITECTURE}.rope.scaling.type"
    if scaling in metadata and metadata.text(scaling) != "none":
        raise InputError(f"{scaling} must be 'none', not {metadata.text(scaling)!r}, in {gguf.path}")
