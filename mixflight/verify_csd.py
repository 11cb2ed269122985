"""The sparse DSP chain against golden sums and computed cycles: every ratio, extreme operands, stalls, counted work."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixflight.arch.csd_chain import RATIOS, ROWS
from mixflight.rtl.bench_csd_chain import Slab, chain_job, chain_values
from mixflight.rtl.harness import Build, Result, run_jobs
from mixflight.sim.csd_timing import chain_cycles
from mixflight.sim.golden.csd_chain import chain_sums, kept_weights
from mixflight.verify_outcome import StreamOutcome

CORNERS = (-128, -127, -1, 0, 1, 127)

STALLS: tuple[Mapping[str, float], ...] = (
    {}, {"act": 0.4}, {"wgt": 0.4}, {"out": 0.3}, {"act": 0.3, "wgt": 0.3, "out": 0.2})
"""Probabilities by stream, for slabs of all ratios by turns."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainCheck:
    """One run: these slabs back to back, with these stalls; ``rows`` in use, 1 in MV mode."""

    name: str
    slabs: Sequence[Slab]
    stall: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seed: int = 0
    rows: int = ROWS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainOutcome(StreamOutcome):
    """Beside the rest, how busy the DSPs were while steps were taken without stalls."""

    lanes_busy: Mapping[str, float]
    """Check → products that count, of all that the DSPs' lanes could do between the first step and the last."""


def random_slab(chain: Any, random: np.random.Generator, ratio: str, *, steps: int | None = None,
                operands: str = "random", rows: int = ROWS) -> Slab:
    """A slab as wide as the ratio's M and its N:M weights, packed as the compiler packs them.

    ``operands``: ``random``, ``corners`` (only values at the edges) or ``lowest`` (only -128).
    """
    kept, block = RATIOS[ratio]
    if ratio == "dense":
        kept = block = chain.length
    steps = steps or block

    def codes(shape: tuple[int, ...]) -> Any:
        if operands == "random":
            return random.integers(-128, 128, shape)
        return random.choice(np.array(CORNERS if operands == "corners" else [-128]), shape)

    activations = codes((block, ROWS))
    activations[:, rows:] = 0
    channels = steps * chain.length // kept
    full = codes((channels, block))
    kept_places = np.argsort(random.random((channels, block)), axis=1)[:, :kept]
    mask = np.zeros_like(full)
    np.put_along_axis(mask, kept_places, 1, axis=1)
    values, indices = kept_weights(full * mask, kept=kept, block=block)
    return Slab(activations=activations, weights=values.reshape(steps, -1), indices=indices.reshape(steps, -1),
                segment=kept)


def chain_checks(chain: Any, *, seed: int = 0) -> list[ChainCheck]:
    """The runs of :func:`check_chain`."""
    random = np.random.default_rng(seed)
    ratios = chain.ratios.split(",")

    def slabs(count: int, **fields: Any) -> list[Slab]:
        return [random_slab(chain, random, str(random.choice(ratios)), **fields) for _ in range(count)]

    checks = []
    for ratio in ratios:
        checks += [
            ChainCheck(name=f"{ratio}", slabs=[random_slab(chain, random, ratio) for _ in range(3)]),
            ChainCheck(name=f"{ratio}, corners", slabs=[random_slab(chain, random, ratio, operands="corners")
                                                        for _ in range(3)]),
            ChainCheck(name=f"{ratio}, all -128", slabs=[random_slab(chain, random, ratio, operands="lowest")]),
            ChainCheck(name=f"{ratio}, one row (MV)", rows=1,
                       slabs=[random_slab(chain, random, ratio, rows=1) for _ in range(3)]),
        ]
    mixed = slabs(8)
    for number, stall in enumerate(STALLS):
        checks.append(ChainCheck(name=f"ratios by turns, stalls {stall or 'none'}", slabs=mixed, stall=stall,
                                 seed=seed + number))
    checks.append(ChainCheck(name="one step a slab", slabs=slabs(6, steps=1)))
    checks.append(ChainCheck(name="slabs used longer than loaded", slabs=slabs(4, steps=40)))
    return checks


def check_chain(chain: Any, build: Build, *, seed: int = 0) -> ChainOutcome:
    """Run a built chain over all checks."""
    checks = chain_checks(chain, seed=seed)
    results = run_jobs(build, [chain_job(chain, check.slabs, stall=check.stall, seed=check.seed) for check in checks])
    messages: list[str] = []
    busy: dict[str, float] = {}
    failures = cycles_rtl = cycles_sim = values = 0
    for check, result in zip(checks, results, strict=True):
        found, taken, computed = _compare(chain, check, result)
        if result.finished and not check.stall:
            busy[check.name] = lanes_busy(check, result)
        failures += bool(found)
        messages += [f"{check.name}: {message}" for message in found]
        cycles_rtl, cycles_sim = cycles_rtl + taken, cycles_sim + computed
        values += ROWS * sum(len(words) for words in result.outputs.values())
    return ChainOutcome(tests=len(checks), failures=failures, messages=tuple(messages[:20]), cycles_rtl=cycles_rtl,
                        cycles_sim=cycles_sim, values=values, run_s=sum(result.seconds for result in results),
                        lanes_busy=busy)


def lanes_busy(check: ChainCheck, result: Result) -> float:
    """Products that count between the first step taken and the last, of the two a DSP can do in a cycle."""
    cycles = result.input_cycles["wgt"]
    window = int(cycles[-1] - cycles[0]) + 1
    return len(cycles) * check.rows / (window * ROWS)


def _compare(chain: Any, check: ChainCheck, result: Result) -> tuple[list[str], int, int]:
    if not result.finished:
        return [f"stopped: no transfer for too long, after {result.cycles} cycles"], 0, 0
    found = list(result.protocol_errors)
    for number, (slab, sums) in enumerate(zip(check.slabs, chain_values(chain, check.slabs, result), strict=True)):
        golden = chain_sums(activations=slab.activations, weights=slab.weights, indices=slab.indices,
                            segment=slab.segment)
        wrong = np.argwhere(golden != sums)
        if len(wrong):
            place = tuple(wrong[0])
            found.append(f"{len(wrong)} of {golden.size} sums differ; first slab {number}, (step, sum, row) "
                         f"{[int(i) for i in place]}: golden {golden[place]}, RTL {sums[place]}")
    if check.stall:
        return found, 0, 0
    last = [result.output_cycles[name][-1] for name in result.outputs if len(result.output_cycles[name])]
    loads = chain.select == "lutram"
    taken = int(max(last) - result.input_cycles["act" if loads else "wgt"][0] + 1)
    computed = chain_cycles(entries=[len(slab.activations) for slab in check.slabs] if loads else None,
                            steps=[len(slab.weights) for slab in check.slabs], length=chain.length,
                            group=chain.group, variant=chain.variant)
    if taken != computed:
        found.append(f"{taken} cycles, computed {computed}")
    expected = check.rows / ROWS
    fed = all(len(slab.weights) >= len(slab.activations) for slab in check.slabs[:-1]) and _even(check)
    if fed or not loads:
        fraction = lanes_busy(check, result)
        if fraction != expected:
            found.append(f"{fraction:.3f} of the lanes' products count, not {expected}")
    return found, taken, computed


def _even(check: ChainCheck) -> bool:
    """Whether every slab is loaded while the one before is used."""
    return all(len(after.activations) <= len(before.weights)
               for before, after in zip(check.slabs, check.slabs[1:], strict=False))
