"""A model as a file holds it: its dimensions, and the stored weight of each operator.

    StoredWeight   what every reader's weight offers
    RowsOf         some rows of a fused weight
    Stacked        the experts of a layer as one weight
    Transposed     a weight that is stored [K, N]
    StoredModel    dimensions, linears by operator name, embedding and vectors
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.workloads.model import Model
from mixflight.workloads.tensor import ALL, Rows


class StoredWeight(Protocol):
    """One weight (N, K) as stored, whatever the container."""

    @property
    def name(self) -> str:
        """The name in the file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions, K last."""

    @property
    def format(self) -> Format:
        """What a code means."""

    @property
    def nbytes(self) -> int:
        """Stored bytes, scales and zero points included."""

    def dequantise(self, rows: Rows = ALL) -> NDArray[np.floating[Any]]:
        """The chosen rows [N, K]."""


@dataclass(frozen=True, eq=False)
class RowsOf:
    """The rows ``start`` ... ``stop`` - 1 of a fused matrix, for one of the roles that it has."""

    whole: StoredWeight
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The matrix's name with the rows."""
        return f"{self.whole.name}[{self.start}:{self.stop}]"

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions, K last."""
        return self.stop - self.start, self.whole.shape[1]

    @property
    def format(self) -> Format:
        """What a code means."""
        return self.whole.format

    @property
    def nbytes(self) -> int:
        """The rows' share of the stored bytes."""
        return self.whole.nbytes * (self.stop - self.start) // self.whole.shape[0]

    def dequantise(self, rows: Rows = ALL) -> NDArray[np.floating[Any]]:
        """The chosen rows [N, K]."""
        return self.whole.dequantise(np.arange(self.start, self.stop)[rows])


@dataclass(frozen=True, eq=False)
class Stacked:
    """The same matrix of each expert of a layer, (experts, N, K), of one format."""

    name: str
    experts: tuple[StoredWeight, ...]

    def __post_init__(self) -> None:
        formats = [expert.format for expert in self.experts]
        other = next((number for number, item in enumerate(formats) if item != formats[0]), None)
        if other is not None:
            raise InputError(
                f"the experts of a layer must have one format, not {formats[0].name} of expert 0 and "
                f"{formats[other].name} of expert {other}, in weight {self.name!r}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions, K last."""
        return len(self.experts), *self.experts[0].shape

    @property
    def format(self) -> Format:
        """What a code means."""
        return self.experts[0].format

    @property
    def nbytes(self) -> int:
        """Stored bytes of all experts."""
        return sum(expert.nbytes for expert in self.experts)

    def dequantise(self, rows: Rows = ALL) -> NDArray[np.floating[Any]]:
        """The chosen rows [experts N, K], those of expert 0 first."""
        expert, row = np.divmod(np.arange(np.prod(self.shape[:-1]))[rows], self.experts[0].shape[0])
        runs = np.split(row, np.flatnonzero(np.diff(expert)) + 1)
        first = np.cumsum([0, *(len(run) for run in runs[:-1])])
        if not len(row):
            return self.experts[0].dequantise(row)
        return np.concatenate([self.experts[expert[at]].dequantise(run) for at, run in zip(first, runs, strict=True)])


@dataclass(frozen=True, eq=False)
class Transposed:
    """A float matrix (N, K) that the file has as [K, N]."""

    stored: StoredWeight

    @property
    def name(self) -> str:
        """The name in the file."""
        return self.stored.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions, K last."""
        return self.stored.shape[::-1]

    @property
    def format(self) -> Format:
        """What a code means."""
        return self.stored.format

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return self.stored.nbytes

    def dequantise(self, rows: Rows = ALL) -> NDArray[np.floating[Any]]:
        """The chosen rows [N, K]."""
        return np.ascontiguousarray(self.stored.dequantise().T[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """Dimensions and weights. ``linears`` is by operator: ``layers.3.q``, ``head``; a fused matrix is cut by rows, the
    experts of a layer are one weight (experts, N, K)."""

    model: Model
    embedding: StoredWeight
    linears: dict[str, StoredWeight]
    vectors: dict[str, StoredWeight]
