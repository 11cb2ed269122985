"""Processing elements against golden: every operand where the operand space allows, then random groups with gaps.

A kind of PE is three functions: its operands, a random choice of them, and the exact term each adds. Everything else,
groups and their sums among it, is the same for all.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.array_pipeline import GROUP_SUM_STAGES
from mixflight.rtl.pe import ProcessingElement
from mixflight.rtl.pe_align import GroupAlign
from mixflight.rtl.pe_centred import CentredShiftAddPE
from mixflight.rtl.pe_dequantise import DequantisePE
from mixflight.rtl.pe_dot import DotPE
from mixflight.rtl.pe_driver import Driver, build_driver, drive
from mixflight.rtl.pe_float import FloatShiftAddPE, Fp16PE
from mixflight.rtl.pe_fusible import FusiblePE
from mixflight.rtl.pe_int8 import Int8PE
from mixflight.sim.golden.pe_float import aligned_integers, fp16_terms, fp32_bits, integer_terms
from mixflight.sim.golden.pe_integer import (
    centred_terms,
    dequantised_weights,
    dot_terms,
    fused_terms,
    twos_complement,
)

Vectors = dict[str, NDArray[Any]]
"""Pin → its unsigned values, a row a step. The fields of ``control`` stand for themselves."""

FP16_WEIGHTS = (0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3555, 0x3BFF, 0x3C00, 0xBC01, 0x4248, 0xD640, 0x7800,
                0x7BFF, 0xFC00, 0x7C01, 0xFFFF)
"""What an FP16 PE multiplies every activation by: zeros, subnormals, ones, large values, all-ones exponents."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """How one kind of PE is exercised."""

    operands: Callable[[Any, np.random.Generator], Vectors]
    """Operands of groups of one."""
    random: Callable[[Any, np.random.Generator, int], Vectors]
    """Operands of that many steps of groups."""
    terms: Callable[[Any, Vectors], NDArray[Any]]
    """What each step adds: int64, or float32 for an FP32 accumulator."""
    covers: str = "every operand pair"
    """What the operands of groups of one are, in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was compared and what was wrong."""

    tests: int
    messages: tuple[str, ...]
    latency: int
    expected_latency: int
    values: int
    run_s: float


def check_element(element: Any, driver: Driver, *, seed: int = 0, sample: int = 1) -> Outcome:
    """Run a built PE; with ``sample`` above 1 only every so-many-th operand is run alone."""
    if isinstance(element, GroupAlign):
        return _check_alignment(element, driver, sample)
    kind = kind_of(element)
    random = np.random.default_rng(seed)
    alone = {pin: values[::sample] for pin, values in kind.operands(element, random).items()}
    checks = {kind.covers: _alone(alone), "random groups": _groups(element, kind, random, gaps=False),
              "random groups with gaps": _groups(element, kind, random, gaps=True)}
    latency = getattr(element, "latency", GROUP_SUM_STAGES)
    messages: list[str] = []
    values, run_s = 0, 0.0
    seen: int | None = None
    for name, vectors in checks.items():
        terms = kind.terms(element, vectors)
        golden = _words(element, shown_sums(element, terms, vectors, latency))
        started = time.perf_counter()
        sums = drive(driver, _pins(vectors))["sum"]
        run_s += time.perf_counter() - started
        values += len(golden)
        wrong = np.flatnonzero(sums != golden)
        if len(wrong):
            messages.append(f"{name}: {len(wrong)} of {len(golden)} sums differ; first in step {wrong[0]}: "
                            f"golden {golden[wrong[0]]:#x}, RTL {sums[wrong[0]]:#x}")
        if seen is None:
            # Operands run alone: the first product that is not zero changes the sum from its value after reset.
            seen = int(np.flatnonzero(sums)[0] - np.flatnonzero(terms)[0]) if sums.any() else -1
    if seen != latency:
        messages.append(f"a sum came {seen} steps after its operands, computed {latency}")
    return Outcome(tests=len(checks) + 1, messages=tuple(messages), latency=int(seen or 0), expected_latency=latency,
                   values=values, run_s=run_s)


def build_element(element: Any, text: str, *, top: str) -> Driver:
    """Build the emitted text of a PE, or take it from the cache."""
    if isinstance(element, GroupAlign):
        return build_driver(text, top=top, inputs=("en", "a", "exponent"), outputs=("value",))
    configuration = ("mode", "a_signed") if isinstance(element, FusiblePE) else ()
    return build_driver(text, top=top, inputs=("en", "a", "w", "control", *configuration), outputs=("sum",))


def kind_of(element: Any) -> Kind:
    """The kind of a PE; every PE of plain codes, signed or unsigned, is of one kind."""
    return KINDS.get(type(element), _PLAIN)


def shown_sums(element: Any, terms: NDArray[Any], vectors: Vectors, latency: int = 1) -> NDArray[Any]:
    """Golden: the ``sum`` output before each clock edge, given what each step adds."""
    counted = vectors["en"] & vectors["valid"]
    if (counted & vectors["last"]).all():
        return np.concatenate([np.zeros(latency, terms.dtype), terms])[:len(terms)]
    zero = terms.dtype.type(0)
    total = zero
    waiting = [zero] * latency      # what ``sum`` shows now, and what the next steps bring it
    sums = np.zeros(len(terms), terms.dtype)
    with np.errstate(invalid="ignore"):
        for step, (en, valid, last) in enumerate(zip(
                vectors["en"].tolist(), vectors["valid"].tolist(), vectors["last"].tolist(), strict=True)):
            sums[step] = waiting[0]
            if en:
                newest = waiting[-1]
                if valid:
                    total = total + terms[step]
                    if last:
                        newest, total = total, zero
                waiting = [*waiting[1:], newest]
    return sums


def _words(element: Any, sums: NDArray[Any]) -> NDArray[np.uint64]:
    if sums.dtype == np.float32:
        return fp32_bits(sums).astype(np.uint64)
    words: NDArray[np.uint64] = (sums & ((1 << element.sum_bits) - 1)).astype(np.uint64)
    return words


def _pins(vectors: Vectors) -> Vectors:
    """The vectors with the fields of ``control`` joined."""
    control = vectors["valid"] | vectors["last"] << 1 | vectors["signed"] << 2 | vectors["high"] << 3
    return {pin: values for pin, values in vectors.items() if pin not in _CONTROL} | {"control": control}


_CONTROL = ("valid", "last", "signed", "high")


def _alone(operands: Vectors) -> Vectors:
    ones = np.ones(len(operands["a"]), np.int64)
    return {"signed": 0 * ones, "high": 0 * ones, **operands, "en": ones, "valid": ones, "last": ones}


def _groups(element: Any, kind: Kind, random: np.random.Generator, *, gaps: bool, steps: int = 60_000) -> Vectors:
    def chance(probability: float) -> NDArray[np.int64]:
        return (random.random(steps) < probability).astype(np.int64)

    longest = getattr(element, "group_max", 1000)        # an FP32 sum has no longest group
    last = chance(0.03) | (np.arange(steps) % longest == longest - 1)
    zeros = np.zeros(steps, np.int64)
    operands = {"signed": zeros, "high": zeros, **kind.random(element, random, steps)}
    return {**operands, "en": 1 - chance(0.3) * gaps, "valid": 1 - chance(0.3) * gaps, "last": last}


def _grid(*axes: NDArray[Any]) -> list[NDArray[Any]]:
    return [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]


# Integer PEs. Activations are pins' words: two's complement of ``a_bits``.

def _activations(random: np.random.Generator, steps: int, bits: int) -> NDArray[np.int64]:
    """Words, three in ten of them the most negative."""
    return np.where(random.random(steps) < 0.3, 1 << (bits - 1), random.integers(0, 1 << bits, steps))


def _plain_operands(element: Any, random: np.random.Generator) -> Vectors:
    a, w, signed = _grid(np.arange(1 << element.a_bits), np.arange(1 << element.w_bits), np.arange(2))
    return {"a": a, "w": w, "signed": signed}


def _plain_random(element: Any, random: np.random.Generator, steps: int) -> Vectors:
    return {"a": _activations(random, steps, element.a_bits), "w": random.integers(0, 1 << element.w_bits, steps),
            "signed": random.integers(0, 2, steps), "high": random.integers(0, 2, steps) * element.two_pass}


def _passed(element: Any, products: NDArray[Any], vectors: Vectors) -> NDArray[Any]:
    shifts: NDArray[Any] = vectors["high"] * element.w_bits if element.two_pass else np.zeros_like(products)
    shifted: NDArray[Any] = np.left_shift(products, shifts)
    return shifted


def _plain_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    w = np.where(vectors["signed"], twos_complement(vectors["w"], element.w_bits), vectors["w"])
    return _passed(element, w * twos_complement(vectors["a"], element.a_bits), vectors)


def _centred_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    a = twos_complement(vectors["a"], element.a_bits)
    return _passed(element, centred_terms(a, vectors["w"], vectors["signed"]), vectors)


def _int8_operands(element: Any, random: np.random.Generator) -> Vectors:
    a, w = _grid(np.arange(1 << element.a_bits), np.arange(1 << element.w_bits))
    return {"a": a, "w": w}


def _int8_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    return twos_complement(vectors["a"], element.a_bits) * twos_complement(vectors["w"], element.w_bits)


def _dequantise_operands(element: Any, random: np.random.Generator) -> Vectors:
    # Every weight with some activation, then every INT8 weight (1 - 0) * s with every activation.
    words, (a, s) = np.arange(1 << 16), _grid(np.arange(1 << element.a_bits), np.arange(256))
    return {"a": np.concatenate([random.integers(0, 1 << element.a_bits, 1 << 16), a]),
            "w": np.concatenate([words, 1 | s << 8])}


def _dequantise_random(element: Any, random: np.random.Generator, steps: int) -> Vectors:
    return {"a": _activations(random, steps, element.a_bits), "w": random.integers(0, 1 << 16, steps)}


def _dequantise_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    w = vectors["w"]
    return dequantised_weights(w & 15, w >> 4 & 15, w >> 8) * twos_complement(vectors["a"], element.a_bits)


def _fusible_operands(element: Any, random: np.random.Generator) -> Vectors:
    """In every signedness: every 8 x 8 pair; every pair of each narrower product beside random other ones."""
    a8, w8 = _grid(np.arange(256), np.arange(256))
    parts = [(0, a8, w8)]
    for narrow, count, a_bits in ((1, 2, 8), (2, 4, 4)):
        a, w = _grid(np.arange(1 << a_bits), np.arange(16))
        for index in range(count):
            a_mask, w_mask = (1 << a_bits) - 1 << index * a_bits, 15 << index * 4
            others = random.integers(0, 1 << 16, (2, len(a)))
            parts.append((narrow, others[0] & ~a_mask | a << index * a_bits, others[1] & ~w_mask | w << index * 4))
    mode = np.concatenate([np.full(len(part[1]), part[0]) for part in parts])
    a, w = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    signs = [np.repeat(np.arange(4) >> bit & 1, len(a)) for bit in range(2)]
    return {"a": np.tile(a, 4), "w": np.tile(w, 4), "mode": np.tile(mode, 4), "a_signed": signs[0], "signed": signs[1]}


def _fusible_random(element: Any, random: np.random.Generator, steps: int) -> Vectors:
    def word() -> NDArray[np.int64]:
        return np.where(random.random(steps) < 0.3, 0xFFFF, random.integers(0, 1 << 16, steps))

    return {"a": word(), "w": word(), "mode": random.integers(0, 3, steps), "a_signed": random.integers(0, 2, steps),
            "signed": random.integers(0, 2, steps)}


def _fusible_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    return fused_terms(vectors["a"], vectors["w"], vectors["mode"], vectors["a_signed"], vectors["signed"])


def _words_of(random: np.random.Generator, steps: int, parts: int, bits: int, extreme: int) -> NDArray[np.int64]:
    """Words of ``parts`` parts, three in ten of them with ``extreme`` in every part."""
    extreme = sum(extreme << (bits * part) for part in range(parts))
    return np.where(random.random(steps) < 0.3, extreme, random.integers(0, 1 << parts * bits, steps))


def _dot_operands(element: DotPE, random: np.random.Generator) -> Vectors:
    """Every pair in every place, beside random other ones."""
    a, w = _grid(np.arange(1 << element.act_bits), np.arange(1 << element.code_bits))
    words = []
    for part in range(element.products):
        others = _dot_random(element, random, len(a))
        places = (("a", a, element.act_bits), ("w", w, element.code_bits))
        words.append([others[pin] & ~((1 << bits) - 1 << part * bits) | values << part * bits
                      for pin, values, bits in places])
    return {"a": np.concatenate([word[0] for word in words]), "w": np.concatenate([word[1] for word in words])}


def _dot_random(element: DotPE, random: np.random.Generator, steps: int) -> Vectors:
    largest = 1 << (element.code_bits - 1) if element.code_signed else (1 << element.code_bits) - 1
    return {"a": _words_of(random, steps, element.products, element.act_bits, 1 << (element.act_bits - 1)),
            "w": _words_of(random, steps, element.products, element.code_bits, largest)}


def _dot_terms(element: DotPE, vectors: Vectors) -> NDArray[Any]:
    return dot_terms(vectors["a"], vectors["w"], products=element.products, act_bits=element.act_bits,
                     code_bits=element.code_bits, code_signed=element.code_signed)


# PEs of FP16 activations.

def _finite(random: np.random.Generator, steps: int, *, top: int = 31) -> NDArray[np.int64]:
    """Patterns whose exponents wander: neighbours are near one another, so that sums cancel and tie."""
    centre = np.clip(np.cumsum(random.integers(-1, 2, steps)) + top // 2, 0, top - 1)
    exponent = np.clip(centre + random.integers(-6, 7, steps), 0, top - 1)
    fraction = np.where(random.random(steps) < 0.3, 0, random.integers(0, 1024, steps))
    patterns: NDArray[np.int64] = exponent << 10 | fraction | random.integers(0, 2, steps) << 15
    return patterns


def _patterns(element: Any, random: np.random.Generator, steps: int) -> NDArray[np.int64]:
    values = _finite(random, steps)
    return np.where(random.random(steps) < 0.02, random.integers(0, 1 << 16, steps), values)


def _float_operands(element: Any, random: np.random.Generator) -> Vectors:
    a, w = _grid(np.arange(1 << 16), np.arange(1 << element.w_bits))
    return {"a": a, "w": w}


def _float_random(element: Any, random: np.random.Generator, steps: int) -> Vectors:
    return {"a": _patterns(element, random, steps), "w": random.integers(0, 1 << element.w_bits, steps)}


def _float_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    return integer_terms(vectors["a"], vectors["w"], w_bits=element.w_bits, specials=element.specials)


def _fp16_operands(element: Any, random: np.random.Generator) -> Vectors:
    a, w = _grid(np.arange(1 << 16), np.array(FP16_WEIGHTS))
    fractions = [0x3C00 + fraction for fraction in _grid(np.arange(1024), np.arange(1024))]
    heads = [head << 10 | low for head, low in zip(_grid(np.arange(64), np.arange(64)), (0x155, 0x2C9), strict=True)]
    more = random.integers(0, 1 << 16, (2, 1 << 18))
    return {"a": np.concatenate([a, fractions[0], heads[0], more[0]]),
            "w": np.concatenate([w, fractions[1], heads[1], more[1]])}


def _fp16_random(element: Any, random: np.random.Generator, steps: int) -> Vectors:
    return {"a": _patterns(element, random, steps), "w": _finite(random, steps, top=18)}


def _fp16_terms(element: Any, vectors: Vectors) -> NDArray[Any]:
    return fp16_terms(vectors["a"], vectors["w"], specials=element.specials)


_PLAIN = Kind(operands=_plain_operands, random=_plain_random, terms=_plain_terms)

KINDS: Mapping[type, Kind] = {
    CentredShiftAddPE: Kind(operands=_plain_operands, random=_plain_random, terms=_centred_terms),
    Int8PE: Kind(operands=_int8_operands, random=_plain_random, terms=_int8_terms),
    DequantisePE: Kind(operands=_dequantise_operands, random=_dequantise_random, terms=_dequantise_terms,
                       covers="every weight, and every INT8 weight with every activation"),
    FusiblePE: Kind(operands=_fusible_operands, random=_fusible_random, terms=_fusible_terms,
                    covers="every operand pair of every product"),
    DotPE: Kind(operands=_dot_operands, random=_dot_random, terms=_dot_terms,
                covers="every operand pair in every place"),
    FloatShiftAddPE: Kind(operands=_float_operands, random=_float_random, terms=_float_terms,
                          covers="every weight with every pattern"),
    Fp16PE: Kind(operands=_fp16_operands, random=_fp16_random, terms=_fp16_terms,
                 covers="every pattern with chosen weights, every pair of fractions, of signs and exponents"),
}
"""The kinds with operands or terms of their own."""


def _check_alignment(element: GroupAlign, driver: Driver, sample: int) -> Outcome:
    """Every pattern at every exponent that is not below its own."""
    a, exponent = _grid(np.arange(1 << 16), np.arange(1, 32))
    fits = exponent >= (a >> 10 & 31)
    a, exponent = a[fits][::sample], exponent[fits][::sample]
    golden = aligned_integers(a, exponent, extra_bits=element.extra_bits)
    started = time.perf_counter()
    values = drive(driver, {"en": np.ones_like(a), "a": a, "exponent": exponent})["value"]
    values = twos_complement(values, element.out_bits)
    run_s = time.perf_counter() - started
    expected = np.concatenate([[0], golden[:-1]])
    wrong = np.flatnonzero(values != expected)
    seen = int(np.flatnonzero(values)[0] - np.flatnonzero(golden)[0]) if values.any() else -1
    messages = []
    if len(wrong):
        messages.append(f"every pattern and exponent: {len(wrong)} of {len(a)} values differ; "
                        f"first in step {wrong[0]}: golden {expected[wrong[0]]}, RTL {values[wrong[0]]}")
    if seen != 1:
        messages.append(f"a value came {seen} steps after its operands, computed 1")
    return Outcome(tests=2, messages=tuple(messages), latency=seen, expected_latency=1, values=len(a), run_s=run_s)


def is_element(component: Any) -> bool:
    """Whether :func:`check_element` knows how to exercise it."""
    return isinstance(component, ProcessingElement | GroupAlign) or type(component) in KINDS
