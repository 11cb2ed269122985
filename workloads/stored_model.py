"""A model as a file holds it: its dimensions, and the stored weight of each operator.

    StoredWeight   what every reader's weight offers
    Features       what a family computes beside what ``Model`` describes
    StoredModel    dimensions, linears by operator name, embedding and vectors
"""

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

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


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What a family computes beside what ``Model`` describes; the defaults are a llama's.

    ``qk_norm``        queries and keys are normalised, per head, before the rotation.
    ``post_norms``     the outputs of attention and feed-forward network are normalised before the residual.
    ``biased``         linears with a bias vector, where not all have one.
    ``window``         tokens that the layers ``window_layers`` attend to; 0: all.
    ``attention_cap``  scores s become c tanh(s / c); 0: not. ``logit_cap`` the same for the logits.
    """

    qk_norm: bool = False
    post_norms: bool = False
    biased: tuple[str, ...] = ()
    window: int = 0
    window_layers: tuple[int, ...] = ()
    attention_cap: float = 0.0
    logit_cap: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """Dimensions and weights. ``linears`` is by operator: ``layers.3.q``, ``head``; a fused matrix is cut by rows.

    ``context_length`` of the model is at most the window, because longer contexts are computed differently.
    """

    model: Model
    features: Features
    embedding: StoredWeight
    linears: dict[str, StoredWeight]
    vectors: dict[str, StoredWeight]
