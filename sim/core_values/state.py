"""What a core holds: its buffers and memories as bytes, laid out as ``arch/core_execution.md`` says."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS, codes
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_tiles import column_step, slot_bytes

Octets = NDArray[np.uint8]

BUFFERS = tuple(codes("LD", "buffer"))
LAYOUTS = tuple(codes("LD", "layout"))
LINE_WORDS = LINE_BYTES // 4
LINE_BLOCKS = LINE_BYTES // K_BLOCK


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a core: ``channels`` C, columns of a ``step`` S, lines of the global and act buffers, ``words`` of a
    bank in a slot of the weight buffer, bytes of a bank in a slot of the scale and index buffers."""

    channels: int
    step: int
    global_lines: int
    act_lines: int
    words: int
    scale_bytes: int
    index_bytes: int

    @property
    def lanes(self) -> int:
        """Columns of a step that lie in one channel, L."""
        return self.step // self.channels


def shape_of(machine: CoreMachine) -> Shape:
    """The sizes of a core of ``machine``; ones that the layout does not allow are an InputError."""
    channels, step, slots = machine.hbm.channels_per_core, column_step(machine), slot_bytes(machine)
    if step % (4 * channels) or K_BLOCK % channels:
        raise InputError(
            f"a core that computes must have channels that divide 16 and steps of a multiple of 4 columns a channel, "
            f"not {channels} channels and {step} columns"
        )
    return Shape(
        channels=channels, step=step, global_lines=machine.buffers.vector.bytes // LINE_BYTES,
        act_lines=machine.buffers.act.bytes // LINE_BYTES, words=slots["weight"] // (step * K_BLOCK),
        scale_bytes=slots["scale"] // channels, index_bytes=slots["index"] // channels,
    )  # fmt: skip


@dataclass(kw_only=True, eq=False)
class CoreState:
    """Buffers, memories and control registers of one core; everything changes in place.

    ``vector``   the global buffer [lines, 64] in bytes; ``words()`` is its FP32 view
    ``act``      codes [lines, 64] and ``act_scales`` FP16 [lines, 4], one for each block of 16
    ``weight``   codes [slots, channels, words, lanes, 16]; ``layouts`` how each slot was filled last
    ``scale``, ``index``  bytes [slots, channels, bytes]
    ``hbm``      bytes of each of the core's channels; ``ddr`` likewise
    ``sums``     the matrix engine's sums [rows, columns] of the tile at hand
    """

    shape: Shape
    constants: ControlConstants
    hbm: list[Octets]
    ddr: list[Octets]
    vector: Octets
    act: Octets
    act_scales: NDArray[np.float16]
    weight: NDArray[np.int8]
    scale: Octets
    index: Octets
    layouts: list[str] = field(default_factory=lambda: [LAYOUTS[0]] * SLOTS)
    sums: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def words(self) -> NDArray[np.float32]:
        """The global buffer as FP32 [lines, 16]."""
        return self.vector.view(np.float32)

    def memory(self, ddr: int, channel: int) -> Octets:
        """One channel of HBM, or of DDR."""
        channels = self.ddr if ddr else self.hbm
        if channel >= len(channels):
            raise InputError(f"a channel must be below {len(channels)}, not {channel}")
        return channels[channel]


def new_state(
    shape: Shape, constants: ControlConstants, hbm: list[Octets], ddr: list[Octets]
) -> CoreState:  # fmt: skip
    """A core whose buffers are zeros."""
    lanes = shape.lanes
    return CoreState(
        shape=shape, constants=constants, hbm=hbm, ddr=ddr,
        vector=np.zeros((shape.global_lines, LINE_BYTES), np.uint8),
        act=np.zeros((shape.act_lines, LINE_BYTES), np.uint8),
        act_scales=np.zeros((shape.act_lines, LINE_BLOCKS), np.float16),
        weight=np.zeros((SLOTS, shape.channels, shape.words, lanes, K_BLOCK), np.int8),
        scale=np.zeros((SLOTS, shape.channels, shape.scale_bytes), np.uint8),
        index=np.zeros((SLOTS, shape.channels, shape.index_bytes), np.uint8),
    )  # fmt: skip
