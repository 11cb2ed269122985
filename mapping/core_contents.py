"""What the host writes before a run: weights, scales, places of N:M weights, parameters and the embedding to memories;
control registers.

Channels hold the regions of ``MemoryMap`` one after the other; cache and results are zeros. Vectors (norms, biases,
constants of soft caps) lie in the order in which a program fetches them, as FP32, in pieces of 32 bytes dealt over the
channels. DDR holds the rows of the embedding at multiples of ``Network.embedding_stride``: codes, then the scales of
its groups; behind them learned positions, FP32.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from mixflight.arch.compact import LINE_BYTES
from mixflight.arch.control_constants import ControlConstants, cap_constants, control_constants, score_cap
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.mapping.core_compile import CoreText
from mixflight.mapping.core_image import Octets, core_image
from mixflight.mapping.core_memory import MemoryMap, channel_share
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_shares import Share, tilings
from mixflight.mapping.core_tiles import BURST_BYTES, Tiling
from mixflight.mapping.homes import FP32_BYTES as FP32
from mixflight.workloads.llama_gguf import LINEARS
from mixflight.workloads.model import Model
from mixflight.workloads.plain_decoder import scaled_scales
from mixflight.workloads.tensor import Tensor


def control_of(model: Model, position: int) -> ControlConstants:
    """The control registers of MISC for a token of ``model`` at ``position``."""
    return control_constants(hidden=model.hidden, head=model.head_dim, epsilon=model.norm_epsilon,
                             rope_base=model.rope_theta or None, position=position)  # fmt: skip


def channel_bytes(memory: MemoryMap) -> int:
    """Bytes of a channel up to the end of its last region."""
    return memory.results[0] + memory.results[1]


def fill_channels(
    into: Sequence[Octets], text: CoreText, network: Network, machine: CoreMachine, linears: Mapping[str, Tensor],
    vectors: Sequence[Octets],
) -> None:  # fmt: skip
    """Write weights, scales, places and ``vectors`` (from :func:`vectors_of`) to the channels of a core.

    ``into`` are the channels' bytes, zeros at least up to the cache (arrays or files mapped to memory); cache and
    results are left as they are.
    """
    memory, channels = text.memory, machine.hbm.channels_per_core
    starts = [memory.weights[0], memory.scales[0], memory.indices[0]]
    for _, *parts in core_image(linears, network, machine, text.share):
        for region, part in enumerate(parts):
            for channel in range(channels):
                into[channel][starts[region] : starts[region] + part.shape[1]] = part[channel]
            starts[region] += part.shape[1]
    at = memory.parameters[0]
    for vector in vectors:
        dealt = deal(vector, channels)
        for channel in range(channels):
            into[channel][at : at + dealt.shape[1]] = dealt[channel]
        at += dealt.shape[1]


def deal(data: Octets, channels: int) -> Octets:
    """``data`` in pieces of 32 bytes, dealt over ``channels`` [channels, bytes]; zeros behind its end."""
    each = channel_share(len(data), channels)
    padded = np.zeros(each * channels, np.uint8)
    padded[: len(data)] = data
    return padded.reshape(-1, channels, BURST_BYTES).swapaxes(0, 1).reshape(channels, each)


def gather(channels: Sequence[Octets], at: int, size: int) -> Octets:
    """The inverse: ``size`` bytes whose pieces begin at byte ``at`` of every channel."""
    each = channel_share(size, len(channels))
    dealt = np.stack([channel[at : at + each] for channel in channels])
    return dealt.reshape(len(channels), -1, BURST_BYTES).swapaxes(0, 1).reshape(-1)[:size]


def vector_names(network: Network) -> set[str]:
    """Names of the vectors of a model: norms, and biases of norms and linears, as GGUF files name those of its kind."""
    ends = ("weight", "bias") if network.norm == "layernorm" else ("weight",)
    norms = ["output_norm"]
    found = set()
    for index, layer in enumerate(network.layers):
        block = f"blk.{index}."
        norms += [block + name for name in ("attn_norm", "ffn_norm")]
        norms += [block + name for name in POST_NORMS.values() if network.post_norms]
        found |= {f"{block}attn_{role}_norm.weight" for role in ("q", "k") if network.head_norm_bytes}
        found |= {f"{block}{LINEARS[name]}.bias" for name, linear in layer.items() if linear.bias}
    return found | {f"{name}.{end}" for name in norms for end in ends}


def vectors_of(
    network: Network, machine: CoreMachine, share: Share, model: Model, vectors: Mapping[str, Tensor]
) -> list[Octets]:  # fmt: skip
    """What a core's program fetches of parameters, in its order: constants of soft caps, then norms and biases, FP32.

    Biases come tile by tile. ``vectors`` has exactly those of ``vector_names``.
    """
    names = vector_names(network)
    missing, more = sorted(names - set(vectors)), sorted(set(vectors) - names)
    if missing or more:
        what = f"have vector {missing[0]!r}" if missing else f"have a place for vector {more[0]!r}"
        raise InputError(f"a memory image must {what} of {network.model}; --count-only leaves the image out")
    values = {name: np.ascontiguousarray(item.dequantise()[0], "<f4") for name, item in vectors.items()}
    parts = (values[name][part] for name, part in _fetched(network, machine, share))
    found = [np.ascontiguousarray(part).view(np.uint8) for part in parts]
    return [_caps(model), *found] if network.capped else found


POST_NORMS = {"attention": "post_attention_norm", "ffn": "post_ffw_norm"}
"""Norms behind the two halves of a block."""
_WHOLE = slice(None)
_ROWS = Format(name="", bits=8, scale="f16")
"""What a core dequantises of an embedding, in groups of any size."""


def _fetched(network: Network, machine: CoreMachine, share: Share) -> Iterator[tuple[str, slice]]:
    """(Name, part) of every vector in the order of the decode program."""
    ends = ("weight", "bias")[: network.norm_parameters]
    for index, layer in enumerate(network.layers):
        block, tiles = f"blk.{index}.", tilings(network, machine, share, layer)

        def norm(name: str, block: str = block) -> list[tuple[str, slice]]:
            return [(f"{block}{name}.{end}", _WHOLE) for end in ends]

        def linear(*roles: str, block: str = block, tiles: dict[str, Tiling] = tiles) -> Iterator[tuple[str, slice]]:
            cut = [(role, tiles[role]) for role in roles if role in tiles]
            for spans in zip(*(tiling.spans() for _, tiling in cut), strict=True):
                for (role, tiling), (first, columns) in zip(cut, spans, strict=True):
                    if tiling.linear.bias:
                        yield f"{block}{LINEARS[role]}.bias", slice(first, first + columns)
                    if role in ("q", "k") and network.head_norm_bytes:
                        yield f"{block}attn_{role}_norm.weight", _WHOLE

        yield from norm("attn_norm")
        for role in ("k", "v", "q", "o"):
            yield from linear(role)
        yield from norm(POST_NORMS["attention"]) if network.post_norms else ()
        yield from norm("ffn_norm")
        yield from linear("gate", "up")
        yield from linear("down")
        yield from norm(POST_NORMS["ffn"]) if network.post_norms else ()
    yield from [(f"output_norm.{end}", _WHOLE) for end in ends]


def _caps(model: Model) -> Octets:
    """A line for each soft cap, of scores and of logits: f32(2 / C), then C; zeros where there is none."""
    found = np.zeros((2, LINE_BYTES // FP32), np.float32)
    for line, cap in zip(found, (score_cap(model.attention_cap, model.head_dim), model.logit_cap), strict=True):
        if cap:
            line[:2] = cap_constants(cap)
    return found.astype("<f4").reshape(-1).view(np.uint8)


def check_embedding(network: Network, embedding: Tensor) -> None:
    """An InputError where the rows of ``embedding`` are none that a core dequantises, or others than the program's."""
    form = embedding.format
    if msgspec.structs.replace(form, name="", group=0) != _ROWS:
        raise InputError(f"an embedding must be INT8 codes with FP16 scales for a memory image, not {form.name}, in "
                         f"{embedding.name!r} of {network.model}")  # fmt: skip
    if msgspec.structs.replace(network.embedding, name=form.name) != form:
        raise InputError(f"the recipe must keep the format of the embedding for a memory image: {embedding.name!r} is "
                         f"{form.name}, not {network.embedding.name}, of {network.model}")  # fmt: skip


def embedding_rows(network: Network, embedding: Tensor, scale: float = 1.0) -> Octets:
    """The embedding as DDR holds it; ``scale``: of a model that multiplies it, in the scales of the codes."""
    check_embedding(network, embedding)
    found = np.zeros((embedding.n, network.embedding_stride), np.uint8)
    k = embedding.k
    found[:, :k] = embedding.codes().view(np.uint8)
    scales = np.ascontiguousarray(scaled_scales(embedding.scales(), scale), "<f2").view(np.uint8)
    found[:, k : k + scales.shape[1]] = scales
    return found.reshape(-1)


def position_rows(network: Network, positions: Tensor | None, context: int) -> Octets:
    """The learned positions of ``context`` tokens as DDR holds them, behind the embedding; nothing without them."""
    if (positions is None) == network.positions or (positions is not None and positions.n < context):
        raise InputError(
            f"learned positions must be those of {context if network.positions else 'no'} tokens for a memory image, "
            f"not of {positions.n if positions is not None else 'none'}, of {network.model}"
        )
    if positions is None:
        return np.zeros(0, np.uint8)
    return np.ascontiguousarray(positions.dequantise(slice(0, context)), "<f4").view(np.uint8).reshape(-1)
