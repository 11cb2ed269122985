"""The systolic array of processing elements: its shape, its lanes, its tiles."""

from typing import Literal

import msgspec

from mixflight.arch.array_pipeline import tile_shape
from mixflight.arch.pe import PES, Pe, PeKind

LONGEST_EDGE = 4096
"""Rows, columns, lanes or tokens of an array; more is a slip of the pen."""


Dataflow = Literal["output-stationary", "weight-stationary"]


class Array(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A systolic array of ``rows`` x ``cols`` PEs with ``lanes`` dequantisation lanes of ``cols / lanes`` columns each.

    ``output-stationary``  rows hold tokens (activations enter on the left), columns hold output channels (weights enter
    on top). With ``split`` > 1 the rows can also work as so many blocks, each with weights of its own: a tile of
    ``rows / split`` tokens and ``cols * split`` channels.

    ``weight-stationary``  PEs keep weights: rows hold inputs along K, columns hold output channels, and up to
    ``tokens`` tokens pass before the next weights; integer PEs only. ``tokens`` is given here and only here.
    """

    dataflow: Dataflow
    pe: PeKind
    rows: int
    cols: int
    lanes: int
    split: int = 1
    tokens: int | None = None

    def __post_init__(self) -> None:
        stationary = self.dataflow == "weight-stationary"
        if stationary != (self.tokens is not None):
            must = "given" if stationary else "left out"
            raise ValueError(f"tokens must be {must} for an array that is {self.dataflow}")
        for field in ("rows", "cols", "lanes", *(["tokens"] if stationary else [])):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
            if getattr(self, field) > LONGEST_EDGE:
                raise ValueError(f"{field} must be at most {LONGEST_EDGE:,}, not {getattr(self, field):,}")
        if self.cols % self.lanes:
            raise ValueError(f"lanes must divide cols: {self.lanes} does not divide {self.cols}")
        tile_shape(rows=self.rows, cols=self.cols, split=self.split)
        if stationary and self.split > 1:
            raise ValueError(f"split must be 1 for an array that is weight-stationary, not {self.split}")
        if stationary and self.element.arithmetic != "integer":
            raise ValueError(f"pe must have integer sums in an array that is weight-stationary, not be {self.pe}")

    @property
    def element(self) -> Pe:
        """What one PE is."""
        return PES[self.pe]

    def tile(self, split: int) -> tuple[int, int]:
        """(Tokens, output channels) of a tile on ``split`` blocks of rows."""
        if self.tokens is not None:
            return self.tokens, self.cols
        return tile_shape(rows=self.rows, cols=self.cols, split=split)
