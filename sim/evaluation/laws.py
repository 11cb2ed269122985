"""Empirical laws of a model on a text: where attention looks, how wide keys and values are, how many neurons matter.

    measure   a model and tokens to Laws, from the unquantised forward pass
    save      Laws and code histograms to one .npz file; ``LAYOUT`` documents its arrays

The text is cut into windows as for ``score``; what is recorded of a query is recorded within its window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.record import Record
from mixflight.sim.evaluation.score import WINDOW, windows
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.llama import Llama

F64 = NDArray[np.float64]
EDGES = (0, *(1 << i for i in range(WINDOW.bit_length())))  # distances 0, 1, 2-3, 4-7 ... below WINDOW
SHARES = tuple(i / 40 for i in range(1, 41))

LAYOUT = {
    "distance_edges": "[bins + 1] distances query - key; bin i is edges[i] <= distance < edges[i + 1]",
    "attention_mass": "[layers, heads, bins] mean share of a query's attention at that distance, key 0 left out",
    "attention_sink": "[layers, heads] mean share on key 0, of queries other than the first",
    "key_low, key_high, value_low, value_high": "[layers, KV heads, head] extremes of each channel, keys after the "
    "rotary embedding",
    "key_rms, value_rms": "[layers, KV heads, head] root mean square of each channel",
    "neuron_shares": "[points] shares of a layer's neurons",
    "neuron_l1, neuron_l2": "[layers, points] mean share of a token's sum of |h| and of h^2, h = SiLU(gate)·up, that "
    "the largest such share of its neurons holds",
    "weights_ROLE, activations_ROLE": "[codes] how often each code occurred; the first is that of "
    "weights_ROLE_lowest, activations_ROLE_lowest",
    "model, tokens, activation_group": "what was recorded: the file's name, tokens read, group of the activation codes",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Laws:
    """The arrays of ``LAYOUT`` that are no histograms, by name."""

    arrays: dict[str, F64]


class _Sums:
    """Adds up what the forward pass shows, layer by layer."""

    def __init__(self, llama: Llama) -> None:
        model = llama.model
        cache = (model.layers, model.kv_heads, model.head_dim)
        self.mass = np.zeros((model.layers, model.heads, len(EDGES) - 1))
        self.sink = np.zeros((model.layers, model.heads))
        self.low = {"key": np.full(cache, np.inf), "value": np.full(cache, np.inf)}
        self.high = {"key": np.full(cache, -np.inf), "value": np.full(cache, -np.inf)}
        self.squares = {"key": np.zeros(cache), "value": np.zeros(cache)}
        self.neurons = {power: np.zeros((model.layers, len(SHARES))) for power in (1, 2)}

    def see(self, what: str, layer: int, index: int, values: F32) -> None:
        """An ``Observer`` of ``Emulated``."""
        if what == "probabilities":
            self._probabilities(layer, index, values)
        elif what == "neurons":
            self._neurons(layer, values)
        else:
            self.low[what][layer] = np.minimum(self.low[what][layer], values.min(axis=0))
            self.high[what][layer] = np.maximum(self.high[what][layer], values.max(axis=0))
            self.squares[what][layer] += (values.astype(np.float64) ** 2).sum(axis=0)

    def _probabilities(self, layer: int, head: int, p: F32) -> None:
        self.sink[layer, head] += p[1:, 0].sum()
        others = p.copy()
        others[:, 0] = 0
        distance = np.maximum(np.arange(len(p))[:, None] - np.arange(len(p)), 0)
        bins = np.searchsorted(EDGES, distance, side="right") - 1
        self.mass[layer, head] += np.bincount(bins.ravel(), others.ravel(), minlength=len(EDGES) - 1)

    def _neurons(self, layer: int, hidden: F32) -> None:
        ordered = -np.sort(-np.abs(hidden.astype(np.float64)), axis=1)
        kept = [max(1, round(share * hidden.shape[1])) - 1 for share in SHARES]
        for power, found in self.neurons.items():
            running = np.cumsum(ordered**power, axis=1)
            found[layer] += (running[:, kept] / np.maximum(running[:, -1:], 1e-300)).sum(axis=0)


def measure(llama: Llama, tokens: Sequence[int]) -> Laws:
    """What the unquantised forward pass of ``llama`` does on ``tokens``."""
    cut = windows(tokens)
    sums = _Sums(llama)
    logits = Emulated(llama, observe=sums.see).logits()
    for window in cut:
        for _ in logits(window):
            pass
    count, later = len(tokens), len(tokens) - len(cut)
    arrays: dict[str, F64] = {
        "distance_edges": np.array(EDGES, np.float64),
        "attention_mass": sums.mass / count,
        "attention_sink": sums.sink / later,
        "neuron_shares": np.array(SHARES),
        "neuron_l1": sums.neurons[1] / count,
        "neuron_l2": sums.neurons[2] / count,
    }
    for part in ("key", "value"):
        arrays |= {
            f"{part}_low": sums.low[part], f"{part}_high": sums.high[part],
            f"{part}_rms": np.sqrt(sums.squares[part] / count),
        }  # fmt: skip
    return Laws(arrays=arrays)


def save(laws: Laws, record: Record, path: Path) -> None:
    """One compressed .npz file, as ``LAYOUT`` says; float32, counts int64."""
    parts: dict[str, NDArray[np.generic]] = {name: values.astype(np.float32) for name, values in laws.arrays.items()}
    for kind, roles in (("weights", record.weights), ("activations", record.activations)):
        for role, codes in roles.items():
            parts[f"{kind}_{role}"] = np.array(codes.counts, np.int64)
            parts[f"{kind}_{role}_lowest"] = np.array(codes.lowest)
    with path.open("wb") as file:
        np.savez_compressed(
            file, model=np.array(record.model), tokens=np.array(record.tokens),
            activation_group=np.array(record.activation_group), **parts,  # type: ignore[arg-type]
        )  # fmt: skip
