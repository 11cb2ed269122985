"""Programs of the published generator: fused layers, each built once, and the order in which they run."""

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import FlightLlmMachine
from mixflight.arch.isa import CLASSES, Ints, Stream, join
from mixflight.mapping.published_attention import Mask, attention_mm, attention_mv
from mixflight.mapping.published_layers import FusedLayer, fuse
from mixflight.mapping.published_linear import concat, linear_mm, linear_mv, norm
from mixflight.mapping.published_recipe import PublishedRecipe
from mixflight.mapping.stream_builder import Emitted, StreamBuilder
from mixflight.workloads.trace import Trace


class PublishedProgram(msgspec.Struct, frozen=True, kw_only=True):
    """The distinct fused ``layers`` of one pass, and the ``order`` in which they run (indices into ``layers``)."""

    layers: tuple[Emitted, ...]
    order: Ints

    def __len__(self) -> int:
        return sum(self.count(kind) for kind in CLASSES)

    def count(self, kind: str) -> int:
        """Instructions of one class, all layers counted."""
        counts = np.array([item.stream.count(kind) for item in self.layers])
        return int(counts[self.order].sum())

    @property
    def byte_size(self) -> int:
        """Bytes in the published encoding."""
        sizes = np.array([item.stream.byte_size() for item in self.layers])
        return int(sizes[self.order].sum())

    def stream(self) -> Stream:
        """All instructions, one after the other."""
        return join([self.layers[index].stream for index in self.order])


class Generator:
    """Builds the programs of one machine and recipe; layers that do not depend on the length are built once."""

    def __init__(self, machine: FlightLlmMachine, recipe: PublishedRecipe) -> None:
        self.machine, self.recipe = machine, recipe
        self._built: dict[tuple[FusedLayer, bool, bool], Emitted] = {}

    def program(self, trace: Trace, masks: tuple[Mask, ...] = ()) -> PublishedProgram:
        """The program of ``trace``; ``masks`` of a prefill, one for every block or one for all."""
        fused = fuse(trace, self.recipe)
        if trace.phase == "prefill":
            self._check_masks(masks, fused.blocks, trace.context)
        layers: list[Emitted] = []
        order: list[int] = []
        index_of: dict[int, int] = {}
        by_mask: dict[tuple[bytes, FusedLayer], Emitted] = {}
        last = fused.barriers - 1
        items = [(layer, block) for block in range(fused.blocks) for layer in fused.block]
        items += [(layer, -1) for layer in fused.after]
        for number, (layer, block) in enumerate(items):
            if layer.kind in ("qk", "av") and trace.phase == "prefill":
                mask = masks[block % len(masks)]
                key = mask.tobytes(), layer
                if key not in by_mask:
                    by_mask[key] = self._build(layer, True, False, mask)
                built = by_mask[key]
            else:
                built = self._shared(layer, number > 0, number == last)
            if id(built) not in index_of:
                index_of[id(built)] = len(layers)
                layers.append(built)
            order.append(index_of[id(built)])
        return PublishedProgram(layers=tuple(layers), order=np.array(order, np.int64))

    def _check_masks(self, masks: tuple[Mask, ...], blocks: int, context: int) -> None:
        if len(masks) not in (1, blocks):
            raise InputError(f"attention masks must be one for all blocks or one a block ({blocks}), not {len(masks)}")
        edge = -(-context // self.machine.mask_block)
        for index, mask in enumerate(masks):
            if mask.ndim != 3 or mask.shape[1] < edge or mask.shape[2] < edge:
                raise InputError(f"an attention mask must be [heads, {edge}, {edge}] or larger, not {mask.shape}")
            if not mask[:, range(edge), range(edge)].all():
                raise InputError(f"an attention mask must keep its diagonal, which mask {index} does not")

    def _shared(self, layer: FusedLayer, barrier: bool, last: bool) -> Emitted:
        key = layer, barrier, last
        if key not in self._built:
            self._built[key] = self._build(layer, barrier, last, None)
        return self._built[key]

    def _build(self, layer: FusedLayer, barrier: bool, last: bool, mask: Mask | None) -> Emitted:
        build, machine = StreamBuilder(), self.machine
        if layer.kind == "norm":
            norm(build, layer, machine)
        elif layer.kind == "concat":
            concat(build, layer, machine)
        elif layer.kind == "linear" and layer.m == 1:
            linear_mv(build, layer, machine)
        elif layer.kind == "linear":
            linear_mm(build, layer, machine)
        elif mask is None:
            attention_mv(build, layer, machine)
        else:
            attention_mm(build, layer, machine, mask)
        return build.finish(layer.name, barrier, last)
