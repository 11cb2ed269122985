"""Slabs of operands as stream beats of a sparse DSP chain, and its output words as sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixflight.rtl.bench_systolic_array import packer
from mixflight.rtl.csd_core import segment_code
from mixflight.rtl.harness import Job, Result


@dataclass(frozen=True, kw_only=True)
class Slab:
    """Activations [entries, 2], and the steps that use them: weights and indices [steps, length], one segment."""

    activations: np.ndarray
    weights: np.ndarray
    indices: np.ndarray
    segment: int


def chain_job(chain, slabs: Sequence[Slab], *, stall: Mapping[str, float], seed: int = 0) -> Job:
    """The job that sends ``slabs`` back to back; ``stall`` for ``act``, ``wgt`` and ``out`` (every node)."""
    wgt = packer(chain.wgt.payload.shape())
    beats: dict[str, list[int]] = {"wgt": []}
    if chain.select == "lutram":
        act = packer(chain.act.payload.shape())
        beats["act"] = [act({"a": entry.tolist(), "last": int(number == len(slab.activations) - 1)})
                        for slab in slabs for number, entry in enumerate(slab.activations)]
    for slab in slabs:
        for number, (w, index) in enumerate(zip(slab.weights, slab.indices, strict=True)):
            chosen = ({"index": index.tolist(), "last": int(number == len(slab.weights) - 1)}
                      if chain.select == "lutram" else {"a": [_both(entry) for entry in slab.activations[index]]})
            beats["wgt"].append(wgt({"w": w.tolist(), "segment": segment_code(slab.segment), **chosen}))
    nodes = range(len(chain.latency))
    counts = {f"out__{node}": sum(len(slab.weights) for slab in slabs if ends_segment(chain, node, slab.segment))
              for node in nodes}
    probabilities = {name: stall[name] for name in beats if name in stall}
    if "out" in stall:
        probabilities |= dict.fromkeys(counts, stall["out"])
    return Job(beats=beats, counts=counts, stall=probabilities, seed=seed)


def _both(entry) -> int:
    """An entry of both rows as the bits that it is in a beat."""
    return sum((int(value) & 0xFF) << 8 * row for row, value in enumerate(entry))


def ends_segment(chain, node: int, segment: int) -> bool:
    """Whether segments of that length end in the node."""
    return (node + 1) * chain.group % segment == 0


def chain_values(chain, slabs: Sequence[Slab], result: Result) -> list[np.ndarray]:
    """The sums of each slab as :func:`mixflight.sim.golden.csd_chain.chain_sums` has them."""
    bits, taken = chain.sum_bits, [0] * len(chain.latency)
    sums = []
    for slab in slabs:
        columns = []
        for node in range(len(chain.latency)):
            if ends_segment(chain, node, slab.segment):
                words = result.outputs[f"out__{node}"][taken[node]:taken[node] + len(slab.weights)]
                taken[node] += len(slab.weights)
                columns.append([[_signed(word >> row * bits, bits) for row in range(2)] for word in words])
        sums.append(np.array(columns, np.int64).transpose(1, 0, 2))
    return sums


def _signed(word: int, bits: int) -> int:
    word &= (1 << bits) - 1
    return word - (word >> bits - 1 << bits)
