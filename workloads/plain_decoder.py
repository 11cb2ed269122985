"""Decoders in GGUF files to be computed with: every weight by its role, in the order in which a machine takes it.

    plain_decoder   GgufFile to PlainDecoder
    scaled_scales   scales of an embedding whose values are multiplied by a constant

Fused matrices are cut by rows, their biases with them. A family that rotates elements i and i + h/2 of a head gets the
rows of q and k, their biases and the norms of heads in the order 0, h/2, 1, h/2 + 1 ..., so that adjacent pairs rotate,
as everywhere else: scores are sums over a head, so nothing else changes. What would compute something else than these
weights say (experts, scaled rotations, two bases of rotation) is an InputError.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import GgufFile
from mixflight.workloads.gguf_families import FAMILIES, Family
from mixflight.workloads.gguf_model import IGNORED, POSITIONS, stored_model_of
from mixflight.workloads.llama_gguf import LINEARS
from mixflight.workloads.model import Model
from mixflight.workloads.tensor import Tensor, pack_tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainDecoder:
    """Dimensions and weights. ``linears`` by operator (``layers.3.q``, ``head``); ``vectors``, norms and biases, by the
    names that they have where nothing is fused (``blk.3.attn_q.bias``); ``positions``: learned ones, a row each."""

    model: Model
    embedding: Tensor
    linears: dict[str, Tensor]
    vectors: dict[str, Tensor]
    positions: Tensor | None = None


def plain_decoder(gguf: GgufFile) -> PlainDecoder:
    """The model of a file; what is no plain decoder is an InputError."""
    stored = stored_model_of(gguf)
    model, family = stored.model, FAMILIES[gguf.metadata.text("general.architecture")]
    _refuse(gguf, model, family)
    linears = {name: item for name, item in stored.linears.items() if isinstance(item, Tensor)}
    vectors = {name: item for name, item in stored.vectors.items() if isinstance(item, Tensor)}
    vectors = _cut(vectors, family, model)
    if family.halves:
        _pair(linears, vectors, model)
    return PlainDecoder(
        model=model, embedding=gguf.tensor("token_embd.weight"), linears=linears, vectors=vectors,
        positions=None if family.rotary else gguf.tensor(f"{POSITIONS}.weight"),
    )  # fmt: skip


def _refuse(gguf: GgufFile, model: Model, family: Family) -> None:
    metadata, scaling = gguf.metadata, f"{gguf.metadata.text('general.architecture')}.rope.scaling.type"
    scaled = scaling in metadata and metadata.text(scaling) != "none"
    factors = [name for name in IGNORED if name in gguf.tensors]
    for wrong, what in (
        (model.experts, "one FFN a layer, not experts"),
        (scaled or factors, "rotations that nothing scales"),
        (family.local_base, "one base of rotation for all layers"),
    ):  # fmt: skip
        if wrong:
            raise InputError(f"a model that is computed must have {what}: {gguf.path}")


def _cut(vectors: dict[str, Tensor], family: Family, model: Model) -> dict[str, Tensor]:
    """``vectors`` with the biases of fused matrices role by role."""
    shapes, found = model.block_linears(), dict(vectors)
    for name in dict.fromkeys(family.linears[role] for role in family.biased):
        roles = [role for role in family.linears if family.linears[role] == name]
        for layer in range(model.layers):
            whole, at = found.pop(f"blk.{layer}.{name}.bias").values(), 0
            for role in roles:
                part = f"blk.{layer}.{LINEARS[role]}.bias"
                found[part] = _vector(part, whole[at : at + shapes[role][0]])
                at += shapes[role][0]
    return found


def _pair(linears: dict[str, Tensor], vectors: dict[str, Tensor], model: Model) -> None:
    """Put elements that rotate together beside each other."""
    head = model.head_dim
    order = np.arange(head).reshape(2, head // 2).T.reshape(-1)
    for layer in range(model.layers):
        for role, heads in (("q", model.heads), ("k", model.kv_heads)):
            rows = (np.arange(heads)[:, None] * head + order).reshape(-1)
            name = f"layers.{layer}.{role}"
            linears[name] = _rows(linears[name], rows)
            bias, norm = f"blk.{layer}.{LINEARS[role]}.bias", f"blk.{layer}.{LINEARS[role]}_norm.weight"
            for vector, places in ((bias, rows), (norm, order)):
                if vector in vectors:
                    vectors[vector] = _vector(vector, vectors[vector].values()[places])


def _rows(tensor: Tensor, rows: NDArray[np.int64]) -> Tensor:
    stored = tensor.raw.reshape(tensor.n, -1)[rows]
    return Tensor(name=tensor.name, shape=tensor.shape, format=tensor.format, raw=stored.reshape(-1))


def _vector(name: str, values: NDArray[np.float16] | NDArray[np.float32]) -> Tensor:
    return pack_tensor(name, "f32", values=values.astype(np.float32))


def scaled_scales(scales: NDArray[np.float16], scale: float) -> NDArray[np.float16]:
    """FP16(f32(d · f32(``scale``))); one that FP16 cannot hold is an InputError."""
    if scale == 1:
        return scales
    with np.errstate(over="ignore"):
        found: NDArray[np.float16] = (scales.astype(np.float32) * np.float32(scale)).astype(np.float16)
    if not np.isfinite(found).all():
        raise InputError(f"scales of an embedding times {scale:g} must be at most 65,504")
    return found
