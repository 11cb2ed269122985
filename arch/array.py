"""The systolic array of processing elements: its shape, its lanes, its tiles."""

import msgspec

from mixflight.arch.array_pipeline import tile_shape
from mixflight.arch.pe import PES, Pe, PeKind

LONGEST_EDGE = 4096
"""Rows, columns or lanes of an array; more is a slip of the pen."""


class Array(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output-stationary systolic array of ``rows`` x ``cols`` PEs with ``lanes`` dequantisation lanes.

    Rows hold tokens (activations enter on the left), columns hold output channels (weights enter on top). A lane serves
    ``cols / lanes`` columns. With ``split`` > 1 the rows can also work as so many blocks, each with weights of its own:
    a tile of ``rows / split`` tokens and ``cols * split`` channels.
    """

    pe: PeKind
    rows: int
    cols: int
    lanes: int
    split: int = 1

    def __post_init__(self) -> None:
        for field in ("rows", "cols", "lanes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
            if getattr(self, field) > LONGEST_EDGE:
                raise ValueError(f"{field} must be at most {LONGEST_EDGE:,}, not {getattr(self, field):,}")
        if self.cols % self.lanes:
            raise ValueError(f"lanes must divide cols: {self.lanes} does not divide {self.cols}")
        tile_shape(rows=self.rows, cols=self.cols, split=self.split)

    @property
    def element(self) -> Pe:
        """What one PE is."""
        return PES[self.pe]

    def tile(self, split: int) -> tuple[int, int]:
        """(Tokens, output channels) of a tile on ``split`` blocks of rows."""
        return tile_shape(rows=self.rows, cols=self.cols, split=split)
