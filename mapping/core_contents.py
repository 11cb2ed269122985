"""What the host writes before a run: weights, scales, places of N:M weights, parameters and the embedding to memories;
control registers.

Channels hold the regions of ``MemoryMap`` one after the other; cache and results are zeros. Vectors (norms) lie in the
order in which a program fetches them, as FP32, in pieces of 32 bytes dealt over the channels. DDR holds the rows of the
embedding at multiples of ``Network.embedding_stride``: codes, then the scales of its groups.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mixflight.arch.control_constants import ControlConstants, control_constants
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_compile import CoreText
from mixflight.mapping.core_image import Octets, core_image
from mixflight.mapping.core_memory import MemoryMap, channel_share
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_tiles import BURST_BYTES
from mixflight.workloads.model import Model
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


def vectors_of(network: Network, vectors: Mapping[str, Tensor]) -> list[Octets]:
    """The norms' weights as FP32, in the order in which a program fetches them."""
    names = [f"blk.{index}.{norm}.weight" for index in range(len(network.layers)) for norm in ("attn_norm", "ffn_norm")]
    missing = [name for name in (*names, "output_norm.weight") if name not in vectors]
    biased = any(item.bias for layer in network.layers for item in layer.values())
    if missing or biased or network.head_norm_bytes or len(vectors) != len(names) + 1:
        raise InputError(
            f"a memory image must be of a llama file (norms only, no biases), which {network.model} is not; "
            "--count-only leaves the image out"
        )
    return [
        np.ascontiguousarray(vectors[name].dequantise()[0], "<f4").view(np.uint8)
        for name in (*names, "output_norm.weight")
    ]


def embedding_rows(network: Network, embedding: Tensor) -> Octets:
    """The embedding as DDR holds it."""
    form = embedding.format
    if form != network.embedding or form.bits != 8 or not form.signed or form.scale != "f16" or form.zero != "none":
        raise InputError(f"the embedding must be INT8 codes with FP16 scales, as the head, not {form.name}")
    found = np.zeros((embedding.n, network.embedding_stride), np.uint8)
    k = embedding.k
    found[:, :k] = embedding.codes().view(np.uint8)
    scales = np.ascontiguousarray(embedding.scales(), "<f2").view(np.uint8)
    found[:, k : k + scales.shape[1]] = scales
    return found.reshape(-1)
