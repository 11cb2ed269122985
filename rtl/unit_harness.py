"""Jobs for a unit of a core under cocotb: its instructions, the buffers it reads, what it wrote."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixflight.rtl.harness import Build, from_words, simulate, to_words

_BENCH = "mixflight.rtl.bench_unit"


@dataclass(frozen=True, kw_only=True)
class UnitJob:
    """Instructions (unsigned integers as wide as the payload) for a unit, and what stands behind its ports."""

    instructions: Sequence[int]
    reads: Mapping[str, Sequence[int]]
    """Read port → the words of its buffer."""
    writes: Sequence[str]
    """Write ports."""
    pins: Mapping[str, int] = field(default_factory=dict)
    """Inputs that do not change."""
    stall: Mapping[str, float] = field(default_factory=dict)
    """Port, or ``instruction`` → probability that a cycle is not accepted, or not offered."""
    seed: int = 0
    patience: int = 2000
    """Cycles without any progress after which the run is given up."""
    watch: Sequence[str] = ()
    """Outputs whose values are added up over all cycles."""
    surplus: int = 50
    """Cycles in which nothing more may come, after the last ``done``."""


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """Cycles count clock edges from the end of reset; writes of each port in order."""

    taken: Sequence[int]
    done: Sequence[int]
    addresses: Mapping[str, Sequence[int]]
    data: Mapping[str, Sequence[int]]
    masks: Mapping[str, Sequence[int]]
    write_cycles: Mapping[str, np.ndarray]
    totals: Mapping[str, int] = field(default_factory=dict)
    """Watched output → the sum of its values."""

    def buffer(self, port: str, *, words: int, parts: int, part_bits: int) -> np.ndarray:
        """What the port's buffer holds at the end, [words, parts] of up to 64 bits; unwritten parts are -1."""
        found = np.full((words, parts), -1, np.int64)
        mask_of = (1 << part_bits) - 1
        for address, word, mask in zip(self.addresses[port], self.data[port], self.masks[port], strict=True):
            for part in range(parts):
                if mask >> part & 1:
                    found[address, part] = word >> part * part_bits & mask_of
        return found


def run_unit(build: Build, jobs: Sequence[UnitJob], *, timeout_s: float = 600) -> list[UnitResult]:
    """Run the jobs one after another in one simulation, each after a reset.

    Raises
    ------
    HarnessError
        The simulation ended without writing its result.
    """
    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        folder = Path(name)
        arrays, described = {}, []
        for index, job in enumerate(jobs):
            arrays[f"{index}/instructions"] = to_words(job.instructions)
            arrays |= {f"{index}/read/{port}": to_words(words) for port, words in job.reads.items()}
            described.append({
                "reads": list(job.reads), "writes": list(job.writes), "pins": dict(job.pins), "stall": dict(job.stall),
                "watch": list(job.watch),
                "seed": job.seed, "patience": job.patience, "surplus": job.surplus,
            })
        np.savez(folder / "jobs.npz", jobs=np.array(json.dumps(described)), **arrays)
        with np.load(simulate(build, folder, _BENCH, timeout_s)) as stored:
            return [_result(stored, index, row, jobs[index].writes)
                    for index, row in enumerate(json.loads(str(stored["results"])))]


def _result(stored, index: int, row: dict, writes: Sequence[str]) -> UnitResult:
    found = {part: {port: from_words(stored[f"{index}/{port}/{part}"]) for port in writes}
             for part in ("address", "data", "mask")}
    return UnitResult(
        taken=row["taken"], done=row["done"], addresses=found["address"], data=found["data"], masks=found["mask"],
        write_cycles={port: stored[f"{index}/{port}/cycles"] for port in writes}, totals=row["totals"])
