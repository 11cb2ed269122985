"""Programs of the published generator: fused layers, each built once, and the order in which they run."""

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import FlightLlmMachine
from mixflight.arch.isa import CLASSES, Ints, Stream, join
from mixflight.mapping.block_mask import Mask
from mixflight.mapping.published_attention import attention_mm, attention_mv
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


def _first_equal(masks: tuple[Mask, ...], index: int) -> int:
    """The first of ``masks`` that equals the one at ``index``."""
    return next(i for i, mask in enumerate(masks) if mask is masks[index] or np.array_equal(mask, masks[index]))


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
        elif masks:
            raise InputError("attention masks must be given for a prefill only")
        layers: list[Emitted] = []
        places: dict[tuple[FusedLayer, bool, bool, int], int] = {}

        def place(layer: FusedLayer, *, first: bool = False, last: bool = False, mask: int = -1) -> int:
            """Where the built ``layer`` stands among the distinct ones."""
            key = layer, first, last, mask
            if key not in places:
                places[key] = len(layers)
                layers.append(
                    self._shared(layer, not first, last) if mask < 0 else self._build(layer, True, False, masks[mask])
                )
            return places[key]

        masked = {block: _first_equal(masks, block % len(masks)) if masks else -1 for block in range(fused.blocks)}
        rows = {
            mask: [place(layer, mask=mask if layer.kind in ("qk", "av") else -1) for layer in fused.block]
            for mask in dict.fromkeys(masked.values())
        }
        order = [index for block in range(fused.blocks) for index in rows[masked[block]]]
        order[0] = place(fused.block[0], first=True)
        order += [place(layer, last=layer is fused.after[-1]) for layer in fused.after]
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
