"""The widening unit against golden: every width, padding, signs, stalls; cycles of single runs as computed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.widen import CODE_BITS, PORT_QUANTA
from mixflight.rtl.bench_systolic_array import packer
from mixflight.rtl.harness import Build, Job, Result, run_jobs
from mixflight.rtl.widen import Widen
from mixflight.sim.golden.widen import widened
from mixflight.sim.widen_timing import widen_cycles
from mixflight.verify_outcome import StreamOutcome

STALLS: tuple[Mapping[str, float], ...] = (
    {}, {"run": 0.5, "word": 0.3, "out": 0.3}, {"word": 0.8}, {"out": 0.8}, {"run": 0.9})
"""Probabilities by stream, for runs of all widths by turns."""

SINGLE_BEATS = (1, 2, 3, 4, 5, 7, 64, 200)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run's command, and its words one after the other as bytes."""

    bits: int
    signed: bool
    beats: int
    octets: NDArray[np.uint8]


def random_run(unit: Widen, random: np.random.Generator, *, bits: int, beats: int, padding: int = 0) -> Run:
    """Random codes, ``padding`` words more than they need, signed or not."""
    word = PORT_QUANTA * unit.lanes // 8
    words = -(-beats * bits // PORT_QUANTA) + padding
    octets = random.integers(0, 256, words * word, np.uint8)
    return Run(bits=bits, signed=bool(random.integers(2)), beats=beats, octets=octets)


def widen_job(unit: Widen, runs: Sequence[Run], *, stall: Mapping[str, float], seed: int = 0) -> Job:
    """The job that sends ``runs`` back to back."""
    run, word = packer(unit.run.payload.shape()), packer(unit.word.payload.shape())
    words = []
    for item in runs:
        rows = item.octets.reshape(-1, PORT_QUANTA * unit.lanes // 8)
        words += [word({"data": int.from_bytes(row.tobytes(), "little"), "last": int(number == len(rows) - 1)})
                  for number, row in enumerate(rows)]
    commands = [run({"bits": item.bits, "signed": int(item.signed), "beats": item.beats}) for item in runs]
    return Job(beats={"run": commands, "word": words}, counts={"out": sum(item.beats for item in runs)}, stall=stall,
               seed=seed)


def check_widen(unit: Widen, build: Build, *, seed: int = 0) -> StreamOutcome:
    """Run a built unit over single runs of every width and length, then over many by turns with each stall."""
    random = np.random.default_rng(seed)
    cases: list[tuple[str, list[Run], Mapping[str, float]]] = [
        (f"{bits} bits, {beats} beats", [random_run(unit, random, bits=bits, beats=beats, padding=beats % 2)], {})
        for bits in CODE_BITS for beats in SINGLE_BEATS]
    for padding in (0, 1, 3):
        runs = [random_run(unit, random, bits=int(random.choice(CODE_BITS)), beats=int(random.integers(1, 20)),
                           padding=padding) for _ in range(12)]
        cases += [(f"runs by turns, {padding} words of padding, stalls {stall or 'none'}", runs, stall)
                  for stall in STALLS]
    results = run_jobs(build, [widen_job(unit, runs, stall=stall, seed=seed + number)
                               for number, (_, runs, stall) in enumerate(cases)])
    messages: list[str] = []
    failures = cycles_rtl = cycles_sim = values = 0
    for (name, runs, _), result in zip(cases, results, strict=True):
        found = _wrong(unit, runs, result)
        if len(runs) == 1 and not found:
            [run] = runs
            taken = result.span("word", ["out"])
            computed = widen_cycles(bits=run.bits, beats=run.beats,
                                    words=len(run.octets) * 8 // (PORT_QUANTA * unit.lanes))
            cycles_rtl, cycles_sim = cycles_rtl + taken, cycles_sim + computed
            if taken != computed:
                found = [f"{taken} cycles, computed {computed}"]
        failures += bool(found)
        messages += [f"{name}: {message}" for message in found]
        values += unit.lanes * sum(run.beats for run in runs)
    return StreamOutcome(tests=len(cases), failures=failures, messages=tuple(messages[:20]), cycles_rtl=cycles_rtl,
                        cycles_sim=cycles_sim, values=values, run_s=sum(result.seconds for result in results))


def _wrong(unit: Any, runs: Sequence[Run], result: Result) -> list[str]:
    if not result.finished:
        return [f"stopped: no transfer for too long, after {result.cycles} cycles"]
    found = list(result.protocol_errors)
    golden = np.concatenate([widened(run.octets, bits=run.bits, signed=run.signed, codes=run.beats * unit.lanes)
                             for run in runs])
    seen = np.frombuffer(b"".join(word.to_bytes(unit.lanes, "little") for word in result.outputs["out"]), np.uint8)
    wrong = np.flatnonzero(golden != seen)
    if len(wrong):
        found.append(f"{len(wrong)} of {len(golden)} codes differ; first at {wrong[0]}: golden {golden[wrong[0]]}, "
                     f"RTL {seen[wrong[0]]}")
    return found
