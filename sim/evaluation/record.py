"""What a model's codes look like: histograms of weights and of activations on a text, and what they mean for PEs.

    record            a model and tokens to a Record
    CodeStatistics    what a histogram of codes says: zeros, ones, signed digits, entropy

A Record is small (a histogram a role) and exact (counts, no samples), so that laws of energy and sparsity can be taken
from a real model instead of being assumed.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.sim.evaluation.prepare import operators
from mixflight.sim.evaluation.score import CHUNK
from mixflight.sim.golden.llama import Llama, Session
from mixflight.sim.golden.numerics import Numerics
from mixflight.sim.golden.quantise import Quantised

LOWEST = -128
ROLE_OF_INPUT = {
    "q": "attention_input", "o": "attention_output", "gate": "ffn_input", "down": "ffn_hidden", "head": "head_input",
}  # fmt: skip


class CodeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of integer codes: ``counts[i]`` is how many are ``lowest + i``.

    ``zeros``        share of zeros
    ``ones``         mean number of ones in the code's magnitude, without its sign
    ``digits``       mean number of non-zero digits in the non-adjacent form, the least of any signed-digit form
    ``entropy_bits`` of a code
    """

    codes: int
    lowest: int
    counts: tuple[int, ...]
    zeros: float
    ones: float
    digits: float
    entropy_bits: float

    @staticmethod
    def of(histogram: NDArray[np.int64], lowest: int) -> "CodeStatistics":
        """Of a histogram; empty ends are cut off."""
        used = np.flatnonzero(histogram)
        histogram, lowest = histogram[used[0] : used[-1] + 1], lowest + int(used[0])
        values = np.arange(lowest, lowest + len(histogram))
        share = histogram / histogram.sum()
        some = share[share > 0]
        return CodeStatistics(
            codes=int(histogram.sum()), lowest=lowest, counts=tuple(histogram.tolist()),
            zeros=float(share[values == 0].sum()),
            ones=float(share @ [abs(int(value)).bit_count() for value in values]),
            digits=float(share @ [signed_digits(int(value)) for value in values]),
            entropy_bits=float(-(some * np.log2(some)).sum()),
        )  # fmt: skip

    def shifted(self, by: int) -> "CodeStatistics":
        """Of the codes plus ``by``: q - 8 for a PE that takes 4-bit codes as signed."""
        return CodeStatistics.of(np.array(self.counts), self.lowest + by)


def signed_digits(value: int) -> int:
    """Non-zero digits of the non-adjacent form: the ones of value xor 3·value, for a magnitude."""
    magnitude = abs(value)
    return (magnitude ^ (3 * magnitude)).bit_count()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``weights`` by role (q, k, v, o, gate, up, down, head, and all: the linears of the blocks) as stored, less a
    constant offset of the format; ``activations`` by the input they are: INT8 codes of the recorded tokens.
    """

    model: str
    tokens: int
    activation_group: int
    weights: dict[str, CodeStatistics]
    activations: dict[str, CodeStatistics]


def record(llama: Llama, tokens: Sequence[int], numerics: Numerics | None = None) -> Record:
    """Histograms of ``llama``'s codes, and of its activations while it reads ``tokens`` in golden arithmetic."""
    roles = {weight: operator.rsplit(".", 1)[-1] for operator, weight in operators(llama).items()}
    weights: dict[str, NDArray[np.int64]] = {}
    for name, weight in llama.linears.items():
        _add(weights, roles[name], weight.codes)
    weights["all"] = np.sum([found for role, found in weights.items() if role != "head"], axis=0)
    activations: dict[str, NDArray[np.int64]] = {}

    def observe(name: str, activation: Quantised) -> None:
        if roles[name] in ROLE_OF_INPUT:
            _add(activations, ROLE_OF_INPUT[roles[name]], activation.codes)

    chosen = numerics or Numerics()
    session = Session(llama, numerics=chosen, observe=observe)
    for at in range(0, len(tokens), CHUNK):
        session.extend(tokens[at : at + CHUNK])
    return Record(
        model=llama.model.name, tokens=len(tokens), activation_group=chosen.of(next(iter(llama.linears))).group,
        weights={role: CodeStatistics.of(found, LOWEST) for role, found in weights.items()},
        activations={role: CodeStatistics.of(found, LOWEST) for role, found in activations.items()},
    )  # fmt: skip


def _add(histograms: dict[str, NDArray[np.int64]], key: str, codes: NDArray[Any]) -> None:
    """Count ``codes`` (bytes from -128 to 255) into a histogram from LOWEST on."""
    counts = np.bincount(codes.reshape(-1).view(np.uint8), minlength=256)
    found = np.zeros(255 - LOWEST + 1, np.int64)
    if codes.dtype == np.int8:
        found[:128], found[128:256] = counts[128:], counts[:128]
    else:
        found[-LOWEST:] = counts
    histograms[key] = histograms[key] + found if key in histograms else found
