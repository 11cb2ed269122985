"""Function units against golden: every significand, or a million points and the edges; stalls; cycles as computed."""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.special_functions import STAGES
from mixflight.rtl.pe_driver import Driver, build_driver, drive
from mixflight.rtl.sfu_functions import FunctionUnit
from mixflight.sim.golden import functions as golden
from mixflight.sim.sfu_timing import function_cycles
from mixflight.verify_outcome import StreamOutcome

Bits = NDArray[np.uint32]

CHUNK = 1 << 21
"""Operands of one run: its table of pins is some 70 MB."""

STALLS = ((0.0, 0.5), (0.5, 0.0), (0.3, 0.3), (0.05, 0.9), (0.9, 0.05))
"""Probabilities that an operand is not offered and that a result is not taken."""

STALLED_CYCLES = 4000

_INPUTS = ("x__payload", "x__valid", "y__ready")
_OUTPUTS = ("y__payload", "y__valid", "x__ready")


def build_function(text: str, *, top: str) -> Driver:
    """The compiled loop around a unit's streams."""
    return build_driver(text, top=top, inputs=_INPUTS, outputs=_OUTPUTS)


def expected(function: str, operands: Bits) -> Bits:
    """Golden results as words."""
    of = {"exp": golden.exp, "reciprocal": golden.reciprocal, "rsqrt": golden.rsqrt}[function]
    return of(operands.view(np.float32)).view(np.uint32)


def operands(function: str, random: np.random.Generator, *, sample: int = 1) -> Iterator[tuple[str, Bits]]:
    """Named runs of operands; of significands and points every ``sample``-th, of edges all.

    ``reciprocal``: all 2^23 significands, each with a random exponent. ``rsqrt``: all with an odd and all with an even
    one. ``exp``: 2^21 points evenly in [-128, 0], 2^21 in [-89, 0], and random words from -0 to -128.
    """
    yield "edges", _edges(function)
    if function == "exp":
        count = (1 << 21) // sample
        yield "points of [-128, 0]", _words(-np.linspace(0, 128, count))
        yield "points of [-89, 0]", _words(-random.uniform(0, 89, count))
        yield "random words", random.integers(0x80000000, 0xC3000001, count, dtype=np.uint32)
        return
    significands = np.arange(int(random.integers(sample)), 1 << 23, sample, dtype=np.uint32)
    for parity in (1,) if function == "reciprocal" else (1, 2):
        for start in range(0, len(significands), CHUNK):
            part = significands[start:start + CHUNK]
            fields = random.integers(1, 255, len(part), dtype=np.uint32)
            if function == "rsqrt":
                fields = (fields - 1 >> np.uint32(1)) * np.uint32(2) + np.uint32(parity)
            name = f"significands from {start * sample}" + (f", exponent field {parity}, …" if parity == 2 else "")
            yield name, fields << np.uint32(23) | part


def _words(values: NDArray[np.float64]) -> Bits:
    return values.astype(np.float32).view(np.uint32)


def _edges(function: str) -> Bits:
    """Both sides of every place where something changes: exponents, intervals, flushes and limits."""
    near = np.arange(-3, 4)
    if function == "exp":
        places = [0.0, -87.33654, -88.0, -103.97, -128.0, -np.log(2), -1.0, *-np.log(2.0) * np.arange(1, 186),
                  *(-np.log(2) / 256 * np.arange(257)), *(-2.0 ** np.arange(-149, 128)), -3.4028235e38]
        around = _words(np.array(places)).astype(np.int64)[:, None] + near
        fixed = np.array([0, 0x80000000, 0x80000001, 0x807FFFFF, 0x80800000, 0xFF7FFFFF])
        words = np.concatenate([around.ravel(), fixed])
        within: Bits = words[(words >= 0x80000000) & (words <= 0xFF7FFFFF) | (words == 0)].astype(np.uint32)
        return within
    fields = np.arange(1, 255) << 23
    intervals = (np.arange(256) << 15)[:, None] + near
    words = np.concatenate([(fields[:, None] + near).ravel(), (fields[:, None] + (1 << 22)).ravel(),
                            ((126 << 23) + intervals).ravel(), ((127 << 23) + intervals).ravel()])
    inside: Bits = words[(words >= 1 << 23) & (words < 255 << 23)].astype(np.uint32)
    return inside


def check_function(unit: FunctionUnit, driver: Driver, *, seed: int = 0, sample: int = 1) -> StreamOutcome:
    """Run a built unit over its operands without stalls, then over random ones with each of ``STALLS``."""
    random = np.random.default_rng(seed)
    start = time.perf_counter()
    messages: list[str] = []
    tests = failures = cycles_rtl = cycles_sim = values = 0
    for name, words in operands(unit.function, random, sample=sample):
        found, taken = _streamed(unit.function, driver, words)
        computed = function_cycles(unit.function, elements=len(words))
        if taken != computed:
            found.append(f"{taken} cycles, computed {computed}")
        messages += [f"{name}: {message}" for message in found]
        tests, failures, values = tests + 1, failures + bool(found), values + len(words)
        cycles_rtl, cycles_sim = cycles_rtl + taken, cycles_sim + computed
    for stall in STALLS:
        found, compared = _stalled(unit.function, driver, random, *stall)
        messages += [f"stalls {stall}: {message}" for message in found]
        tests, failures, values = tests + 1, failures + bool(found), values + compared
    return StreamOutcome(tests=tests, failures=failures, messages=tuple(messages[:20]), cycles_rtl=cycles_rtl,
                           cycles_sim=cycles_sim, values=values, run_s=time.perf_counter() - start)


def _streamed(function: str, driver: Driver, words: Bits) -> tuple[list[str], int]:
    """What is wrong with a run in which every operand is offered and every result taken at once, and its cycles."""
    rows = len(words) + STAGES[function] + 8
    given = np.zeros(rows, np.uint64)
    given[:len(words)] = words
    seen = drive(driver, {"x__payload": given, "x__valid": np.arange(rows) < len(words),
                          "y__ready": np.ones(rows, np.uint64)})
    found = [] if seen["x__ready"].all() else ["an operand was refused though every result was taken"]
    offered = np.flatnonzero(seen["y__valid"])
    if len(offered) != len(words):
        return [*found, f"{len(offered)} results of {len(words)} operands"], 0
    found += _differences(function, words, seen["y__payload"][offered])
    return found, int(offered[-1]) + 1


def _stalled(function: str, driver: Driver, random: np.random.Generator, offered_not: float,
             taken_not: float) -> tuple[list[str], int]:
    """What is wrong with a run with stalls, and how many results were compared; at its end the unit runs empty.

    An operand that is not taken is not offered again: the unit cannot depend on what it did not take.
    """
    pool = np.concatenate([words for _, words in operands(function, random, sample=1 << 12)])
    given = random.choice(pool, STALLED_CYCLES)
    running = np.arange(STALLED_CYCLES) < STALLED_CYCLES - 4 * STAGES[function]
    valid = running & (random.random(STALLED_CYCLES) >= offered_not)
    ready = ~running | (random.random(STALLED_CYCLES) >= taken_not)
    seen = drive(driver, {"x__payload": given, "x__valid": valid, "y__ready": ready})
    shown, payload = seen["y__valid"].astype(bool), seen["y__payload"]
    words, results = given[valid & seen["x__ready"].astype(bool)], payload[shown & ready]
    found = []
    held = np.flatnonzero(shown[:-1] & ~ready[:-1])
    if not (shown[held + 1] & (payload[held + 1] == payload[held])).all():
        found.append("a result was withdrawn or changed before it was taken")
    if not len(held) and taken_not:
        found.append("no result had to wait")
    if len(results) != len(words):
        return [*found, f"{len(results)} results of {len(words)} operands"], 0
    return found + _differences(function, words, results), len(words)


def _differences(function: str, words: Bits, results: NDArray[np.uint64]) -> list[str]:
    truth = expected(function, words)
    wrong = np.flatnonzero(truth != results)
    if not len(wrong):
        return []
    first = wrong[0]
    message = (f"{len(wrong)} of {len(words)} values differ; first of {words[first]:#010x}: "
               f"golden {truth[first]:#010x}, RTL {int(results[first]):#010x}")
    return [message]
