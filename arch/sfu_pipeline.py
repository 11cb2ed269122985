"""The special-function unit's pipeline as data: what its hardware implements and its cycle formulas count.

A *step* is a cycle in which the unit's lanes advance: every cycle in which it has an instruction and its results can be
written. A *beat* is V elements of a vector, of which the lanes take one a step.
"""

from dataclasses import dataclass

from mixflight.arch.special_functions import STAGES

MULTIPLY_STAGES = 9
"""Registers of an FP32 multiplication with gradual underflow: ordered, normalised (two), products, their results, sum,
leading one, moved down, rounded."""

ADD_STAGES = 6
"""Registers of an FP32 addition with gradual underflow: ordered, aligned, added, leading zeros, moved up, rounded."""

FP16_WIDEN_STAGES = 2
"""Registers from FP16 to FP32: zeros counted, moved up."""

FP16_ROUND_STAGES = 3
"""Registers from FP32 to FP16: distance, moved down, rounded."""

CODE_STAGES = 3
"""Registers from FP32 to a code: moved, rounded, clamped."""

DIVIDE_STAGES = 27
"""Registers of a division: compared, 25 bits of the quotient, rounded."""

PREPARE_STAGES = 3
"""Registers between a beat's issue and the lanes' first operators: chosen from its line, and widened (two)."""

PARTIALS = 128
"""Partial sums of a reduction."""

REDUCE_LOOP = ADD_STAGES + 2
"""Steps from an addition to a partial sum until it can be read: operands, the sum, its memory."""

BATCH = 16
"""Segments whose maxima or sums are found before they are used: a pass goes over all of them, then the next does."""

_P, _M, _A = PREPARE_STAGES, MULTIPLY_STAGES, ADD_STAGES
_E, _R = STAGES["exp"], STAGES["reciprocal"]


@dataclass(frozen=True, kw_only=True)
class Path:
    """How an operation runs through the lanes.

    ``passes`` over every segment; ``result`` steps from a beat's issue to its results, in the last pass. What the
    passes before it find for a segment: ``largest`` steps to the values whose maximum is taken, ``summed`` to those
    that are added, ``post`` steps from a sum to what is used of it; ``mean`` those of a sum in a pass before. ``used``:
    steps from issue to where the last of these is used. ``every``: steps from a beat's issue to the next one's, where
    the lanes' operators have each element more than once.
    """

    passes: int
    result: int
    largest: int = 0
    summed: int = 0
    post: int = 0
    mean: int = 0
    used: int = 0
    every: int = 1


GELU_ARGUMENT_STEPS = 3 * MULTIPLY_STAGES + ADD_STAGES
"""From x to the argument of GELU's sigmoid: squared, times a constant, a constant more, times x."""

GELU_STEPS = GELU_ARGUMENT_STEPS + _E + _A + _R + 1 + 2 * _M
"""From x to GELU(x). The reciprocal waits a step, so that the operators that have x twice take it in turns."""

SOFTCAP_STEPS = 3 * _M + _E + _A + _R
"""From x to its soft cap: times a constant, exp, and of both sums with it the quotient, times the cap."""


PATHS = {
    "embed": Path(passes=1, result=_P + _M + _A),
    "norm": Path(passes=2, result=_P + 2 * _M, summed=_P + _M, post=_M + _A + _R, used=_P),
    "layernorm": Path(passes=3, result=_P + _A + 2 * _M, summed=_P + _A + _M, post=_M + _A + _R, mean=_M, used=_P + _A),
    "rope": Path(passes=1, result=_P + _M + _A),
    "quantise": Path(passes=2, result=_P + _M + CODE_STAGES, largest=_P, used=_P),
    "kv_append": Path(passes=2, result=_P + _M + CODE_STAGES, largest=_P, used=_P),
    "probability_quantise": Path(passes=2, result=_P + 2 * _M + CODE_STAGES, largest=_P + _M, used=_P + _M),
    "softmax": Path(passes=3, result=_P + 2 * _M + _A + _E, largest=_P + _M, summed=_P + _M + _A + _E, post=_A + _R,
                    used=_P + _M + _A + _E),
    "residual": Path(passes=1, result=_P + _A),
    "bias": Path(passes=1, result=_P + _A),
    "activation:silu:gated": Path(passes=1, result=_P + _E + _A + _R + 3 * _M),
    "activation:silu:plain": Path(passes=1, result=_P + _E + _A + _R + 2 * _M),
    "activation:gelu:gated": Path(passes=1, result=_P + GELU_STEPS + _M, every=2),
    "activation:gelu:plain": Path(passes=1, result=_P + GELU_STEPS, every=2),
    "softcap": Path(passes=1, result=_P + SOFTCAP_STEPS, every=2),
    "activation:relu:gated": Path(passes=1, result=_P + _M),
    "activation:relu:plain": Path(passes=1, result=_P + _A),
}
"""Operation of MISC → its path through the lanes."""


def fold_cycles(width: int) -> int:
    """Steps from a segment's last values to its sum, ``width`` values a step: the halves within lanes, then across."""
    lanes = width.bit_length() - 1
    levels = PARTIALS.bit_length() - 1
    return PARTIALS // width - 1 + lanes + (REDUCE_LOOP - 1) * levels + REDUCE_LOOP


ROTATION_STAGES = 12
"""Registers from the number of a cosine or sine to its value: step, products (two), sums (two), sine (seven)."""


def rotation_cycles(head: int) -> int:
    """Cycles from a new position, or the last written step, until ROPE of heads of ``head`` elements need not wait."""
    return head + ROTATION_STAGES + 2


def _latency(path: Path, width: int) -> tuple[int, int]:
    """Steps from a segment's last beat to the first beat that may use its maximum, and from that of a sum to the next
    segment's first: what is on the way and the registers between."""
    tree = width.bit_length() - 1 + 2
    of_largest = path.largest + tree + (DIVIDE_STAGES + FP16_ROUND_STAGES + 3 if path.passes == 2 else 1)
    return of_largest, path.summed + fold_cycles(width) + path.post + 2


def _divisions_late(operation: str, count: int, beats: int) -> int:
    """Cycles by which the last scale of ``count`` segments comes later than its segment's turn: each takes two."""
    if operation == "softmax" or beats > 1:
        return 0
    return count // 2 if operation == "kv_append" else count - 1


def misc_cycles(operation: str, *, width: int, vectors: int, elements: int, group: int = 0) -> int:
    """Cycles from the one in which the unit takes an instruction to its ``done``, when nothing stalls; both included.

    ``width`` elements a cycle, ``group`` elements that share a scale (0: the vector). With b = ceil(segment / width)
    beats and batches of N <= 16 segments, a segment being a vector, or a group of ``quantise``:

    one pass      N b a batch; 2 N b - 1 where the lanes take a beat every other step (GELU, soft caps)
    of a maximum  max(N b, b + wait) + N b, wait from a segment's last beat to the first that uses its scale
    of a sum      N (b + wait) + N b, wait from a segment's last beat to the next one's first: sums are not overlapped
    layernorm     the same with a wait of the mean's before: N (b + wait') + N (b + wait) + N b
    softmax       max(N b, b + wait) + N (b + wait') + N b

    and for ``kv_append`` a beat a head. To their sum come 6 cycles before the first beat, the steps of the last beat's
    results and 3 to write them. Where the scales of a cache come from more than 2 channels, their lines are read in
    blocks, and ``probability_quantise`` can take longer.
    """
    path = PATHS[operation]
    length = group if group and operation == "quantise" else elements
    segments, beats = vectors * -(-elements // length), -(-length // width)
    of_largest, of_sum = _latency(path, width)
    total = vectors // 2 if operation == "kv_append" else 0
    for first in range(0, segments, BATCH if path.passes > 1 else segments):
        count = min(BATCH, segments - first) if path.passes > 1 else segments
        total += count * beats
        if path.largest:
            total += max(count * beats, beats - 1 + of_largest + _divisions_late(operation, count, beats))
        if path.summed:
            total += count * (beats - 1 + of_sum)
        if path.mean:
            total += count * (beats - 1 + of_sum - path.post + path.mean)
    total = path.every * (total - 1) + 1
    return 6 + total - 1 + path.result + 3
