"""Energy per MAC of a processing element from switching activity, on real and on random operands.

    streams       the operands of a PE in every data set, and the sums that it must show
    pe_energy     map, simulate, check every sum against golden, count toggles, price them

The real operands are a model's, SmolLM2's unless another is given: weights of three linears (the codes as they are in
the file; of the first layer, the middle and the last) and the activations that enter them in a prefill, INT8 in groups
of 32; one PE of an output-stationary array sees the steps of one output after another. An INT8 PE takes the same
weights quantised to INT8 (per group of 32, absolute maximum), and in ``real-codes`` the file's own 4-bit codes; FP16
operands are the values that codes, scales and minima stand for, rounded to FP16. Uniform random operands cover all
integers of a width, and -1..1 for FP16.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.rtl.cell_activity import Energy, energy, run_cells, settled_toggles, timed_toggles
from mixflight.rtl.cell_synthesis import CellSynthesis
from mixflight.rtl.design import ChosenTop
from mixflight.verify_tiles import PROMPT

GROUP = 32
STEPS = 480
"""Steps of one output: 15 groups."""

TOKENS = (2, 5, 8)
CHANNELS = (1, 100, 200)
"""Which outputs of each tensor one PE computes, in turn."""

RANDOM_STEPS = 4320

ASSUMPTIONS = (
    "a step in every cycle, no stall; no clock gating; wires and clock tree left out; input nets counted, output nets "
    "without load; hazards by gate delays with inertial filtering; leakage over a cycle as long as the longest path")

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operands:
    """Operands of steps; a group ends every ``GROUP`` steps and an output every ``STEPS``."""

    a: Array
    """INT8 activations."""
    q: Array
    """Unsigned 4-bit codes."""
    zero: Array
    """Each code's integer zero point."""
    step: Array
    """Each code's integer scale within its channel, such that ``|q - zero| * step`` < 128."""
    w8: Array
    """The same weights as INT8 codes."""
    a16: Array
    w16: Array
    """The same values as FP16."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """What is driven, and what must come: ``sums`` at the pin ``sum`` in rows ``at``."""

    pins: Mapping[str, Array]
    at: Array
    sums: Array
    macs_per_step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSetEnergy:
    """pJ a MAC on one data set."""

    timed: Energy
    """With hazards: what is reported."""
    settled: Energy
    """Without: a lower bound."""
    macs: int
    sums_checked: int


def real_tensors(layers: int) -> tuple[str, str, str]:
    """The linears whose operands are taken: of the first layer, the middle one and the last."""
    return ("blk.0.ffn_up.weight", f"blk.{(layers - 1) // 2}.attn_q.weight", f"blk.{layers - 1}.ffn_down.weight")


def real_operands(path: Path, text: str = PROMPT) -> Operands:
    """Weights of a model file with Q4_1 linears, and the activations of its prefill of ``text``."""
    from mixflight.sim.golden.llama import Session, load_llama
    from mixflight.workloads.gguf import open_gguf
    from mixflight.workloads.tokenizer import tokenizer_of

    file = open_gguf(path)
    tokens = tokenizer_of(file).encode(text)
    if len(tokens) <= max(TOKENS):
        raise InputError(f"a text to take operands from must have at least {max(TOKENS) + 1} tokens, not {len(tokens)}")
    llama = load_llama(file)
    tensors = real_tensors(llama.model.layers)
    entering: dict[str, Any] = {}

    def observe(name: str, activation: Any) -> None:
        if name in tensors:
            entering[name] = activation

    Session(llama, observe=observe).extend(tokens, every=True)
    parts: list[Operands] = []
    for name in tensors:
        weight, activation = llama.linears[name], entering[name]
        channels, inputs = weight.codes.shape
        if inputs < STEPS or channels <= max(CHANNELS):
            raise InputError(f"real operands must come from linears of at least {STEPS} inputs and {max(CHANNELS) + 1} "
                             f"outputs, not {name} of {inputs} and {channels}, in {path}")
        if weight.group != GROUP or weight.zero is None or weight.zero.dtype != np.float16:
            raise InputError(f"real operands must come from a Q4_1 tensor, which {name} is not, in {path}")
        for token, channel in zip(TOKENS, CHANNELS, strict=True):
            d, m = (np.repeat(part[channel, :STEPS // GROUP].astype(np.float64), GROUP)
                    for part in (weight.d, weight.zero))
            q = weight.codes[channel, :STEPS].astype(np.int64)
            values = d * q + m
            s_a = np.repeat(activation.scales[token, :STEPS // GROUP].astype(np.float64), GROUP)
            a = activation.codes[token, :STEPS].astype(np.int64)
            largest = np.repeat(np.abs(values).reshape(-1, GROUP).max(axis=1), GROUP)
            live = d > 0
            parts.append(Operands(
                a=a, q=q, zero=np.clip(np.rint(-m / np.where(live, d, 1)), 0, 15).astype(np.int64),
                step=np.clip(np.rint(8 * d / d.max()), 1, 8).astype(np.int64),
                w8=np.rint(values / np.where(largest > 0, largest, 1) * 127).astype(np.int64),
                a16=(a * s_a).astype(np.float16), w16=values.astype(np.float16)))
    return Operands(**{field.name: np.concatenate([getattr(part, field.name) for part in parts])
                       for field in dataclasses.fields(Operands)})


def random_operands(seed: int = 0, steps: int = RANDOM_STEPS) -> Operands:
    """Uniform, independent."""
    random = np.random.default_rng(seed)

    def integers(low: int, high: int) -> Array:
        return random.integers(low, high, steps, endpoint=True)

    return Operands(a=integers(-128, 127), q=integers(0, 15), zero=integers(0, 15), step=integers(1, 8),
                    w8=integers(-128, 127), a16=random.uniform(-1, 1, steps).astype(np.float16),
                    w16=random.uniform(-1, 1, steps).astype(np.float16))


def streams(chosen: ChosenTop, operands: Mapping[str, Operands]) -> dict[str, Stream]:
    """The streams of a PE, by data set; a top that is no PE has none and is an ``InputError``."""
    make = _KINDS.get(type(chosen.component).__name__)
    if make is None:
        raise InputError(f"energy per MAC must be asked of a processing element, not of {chosen.top}")
    found = {name: make(chosen.component, values) for name, values in operands.items()}
    if make is _int8 and "real" in operands:
        found["real-codes"] = _int8(chosen.component, dataclasses.replace(operands["real"], w8=operands["real"].q))
    return found


def _stream(element: Any, *, a: Array, w: Array, products: Array, group: int = GROUP, macs: int = 1,
            further: Mapping[str, int] | None = None) -> Stream:
    """Steps without a gap, and the sums that a group's products have; one cycle more for each of latency."""
    steps = len(products) // group * group
    latency = int(getattr(element, "latency", 1))
    tail = latency + 1      # rows that show the last sum
    ends = np.arange(group - 1, steps, group)
    last = np.zeros(steps + tail, np.int64)
    last[ends] = 1
    valid = np.arange(steps + tail) < steps
    rest = np.zeros(tail, np.int64)
    grouped = products[:steps].reshape(-1, group)
    if products.dtype == np.float32:
        totals = np.zeros(len(grouped), np.float32)
        for column in grouped.T:        # ascending k, rounded each step, as the contract has it
            totals = totals + column
        sums = (totals + np.float32(0)).view(np.uint32).astype(np.int64)
    else:
        sums = grouped.sum(axis=1) & ((1 << element.sum_bits) - 1)
    a_bits, w_bits = len(element.a), len(element.w)
    return Stream(
        pins={"rst": 0 * last, "en": 0 * last + 1, "control": valid | last << 1,
              "a": np.append(a[:steps] & ((1 << a_bits) - 1), rest),
              "w": np.append(w[:steps] & ((1 << w_bits) - 1), rest),
              **{pin: 0 * last + value for pin, value in (further or {}).items()}},
        at=ends + latency, sums=sums, macs_per_step=macs)


def _codes(element: Any, data: Operands) -> Stream:
    """4-bit codes; of an element with wider activations the FP16 values as aligned integers."""
    a = data.a if element.a_bits == 8 else _aligned(element.a_bits, data)
    return _stream(element, a=a, w=data.q, products=a * data.q)


def _aligned(bits: int, data: Operands) -> Array:
    """Each group's values in units that let its largest fill the activation's width."""
    values = data.a16.astype(np.float64)
    steps = len(values) // GROUP * GROUP
    groups = values[:steps].reshape(-1, GROUP)
    _, exponents = np.frexp(np.abs(groups).max(axis=1))
    unit = 2.0 ** (exponents - (bits - 1))
    high = (1 << bits - 1) - 1
    whole: Array = np.clip(np.rint(groups / unit[:, None]), -high, high).astype(np.int64).ravel()
    return whole


def _centred(element: Any, data: Operands) -> Stream:
    return _stream(element, a=data.a, w=data.q, products=data.a * (data.q - 8))


def _int8(element: Any, data: Operands) -> Stream:
    return _stream(element, a=data.a, w=data.w8, products=data.a * data.w8)


def _dequantise(element: Any, data: Operands) -> Stream:
    return _stream(element, a=data.a, w=data.q | data.zero << 4 | data.step << 8,
                   products=data.a * ((data.q - data.zero) * data.step))


def _fusible(element: Any, data: Operands) -> Stream:
    """Mode 4 x 8: two products a step."""
    a, q = data.a.reshape(-1, 2), data.q.reshape(-1, 2)
    return _stream(element, a=(a[:, 0] & 255) | (a[:, 1] & 255) << 8, w=q[:, 0] | q[:, 1] << 4,
                   products=(a * q).sum(axis=1), macs=2, group=GROUP // 2, further={"mode": 1, "a_signed": 1})


def _dot(element: Any, data: Operands) -> Stream:
    """Codes, or INT8 weights, with INT8 activations or FP16 values as aligned integers, several k a step."""
    a = data.a if element.act_bits == 8 else _aligned(element.act_bits, data)
    w = data.q if element.code_bits == 4 else data.w8
    products = (a * w).reshape(-1, element.products).sum(axis=1)
    return _stream(element, a=_joined(a, element.products, element.act_bits), products=products,
                   w=_joined(w, element.products, element.code_bits), macs=element.products,
                   group=GROUP // element.products)


def _joined(values: Array, parts: int, bits: int) -> Array:
    """``parts`` neighbours as one word, the first one lowest."""
    places = np.arange(parts) * bits
    joined: Array = ((values.reshape(-1, parts) & ((1 << bits) - 1)) << places).sum(axis=1)
    return joined


def _float_codes(element: Any, data: Operands) -> Stream:
    difference = data.q - data.zero
    sign = (difference < 0).astype(np.int64) << (element.w_bits - 1)
    return _stream(element, a=data.a16.view(np.uint16).astype(np.int64), w=sign | np.abs(difference),
                   products=data.a16.astype(np.float32) * difference.astype(np.float32))


def _fp16(element: Any, data: Operands) -> Stream:
    """Sums over the whole of an output: FP16 weights have no group."""
    return _stream(element, a=data.a16.view(np.uint16).astype(np.int64),
                   w=data.w16.view(np.uint16).astype(np.int64), group=STEPS,
                   products=data.a16.astype(np.float32) * data.w16.astype(np.float32))


_KINDS = {"CentredShiftAddPE": _centred, "ShiftAddPE": _codes, "MultiplyPE": _codes, "Int8PE": _int8,
          "DequantisePE": _dequantise, "FusiblePE": _fusible, "DotPE": _dot, "FloatShiftAddPE": _float_codes,
          "Fp16PE": _fp16}
"""Class of a PE → what makes its stream."""


def has_energy(chosen: ChosenTop) -> bool:
    """Whether the top is a processing element whose operands are known here."""
    return type(chosen.component).__name__ in _KINDS


def macs_per_step(chosen: ChosenTop) -> int:
    """Products that a step adds in the mode that is measured."""
    if type(chosen.component).__name__ == "FusiblePE":
        return 2
    return int(getattr(chosen.component, "products", 1))


def pe_energy(chosen: ChosenTop, mapped: CellSynthesis, operands: Mapping[str, Operands]) -> dict[str, DataSetEnergy]:
    """Energy per MAC on every data set.

    Raises
    ------
    InputError
        The top is no processing element.
    AssertionError
        The mapped cells do not compute golden's sums: a defect of the program.
    """
    found = {}
    for name, stream in streams(chosen, operands).items():
        pins = {pin: values for pin, values in stream.pins.items() if pin in mapped.netlist.inputs}
        outputs, bits, nets = run_cells(mapped.netlist, mapped.library, pins, ["sum"])
        wrong = int((outputs["sum"][stream.at].astype(np.int64) != stream.sums).sum())
        assert not wrong, f"{wrong} of {len(stream.sums)} sums of {chosen.top} on {name} data must be golden's"
        bits = bits[:int(stream.at[-1])]        # the steps, without the rows that show the last sum
        timed = timed_toggles(mapped.netlist, mapped.library, mapped.timing, bits, nets)
        priced = [_per_mac(energy(mapped.netlist, mapped.library, mapped.timing, toggles), stream.macs_per_step)
                  for toggles in (timed, settled_toggles(bits, nets))]
        found[name] = DataSetEnergy(timed=priced[0], settled=priced[1], sums_checked=len(stream.sums),
                                    macs=timed.cycles * stream.macs_per_step)
    return found


def _per_mac(cycle: Energy, macs: int) -> Energy:
    return Energy(**{field.name: getattr(cycle, field.name) / macs for field in dataclasses.fields(Energy)})


def measure(chosen: ChosenTop, mapped: CellSynthesis, model: Path | None) -> dict[str, dict[str, Any]]:
    """By data set, real operands first where ``model`` is a file: pJ a MAC, its components and what was checked."""
    operands = {} if model is None else {"real": real_operands(model)}
    return measure_operands(chosen, mapped, {**operands, "random": random_operands()})


def measure_operands(
    chosen: ChosenTop, mapped: CellSynthesis, operands: Mapping[str, Operands]
) -> dict[str, dict[str, Any]]:
    """The same on given operands, as a row of ``arch/synthesis/osu018.toml`` has it."""
    found = pe_energy(chosen, mapped, operands)
    return {name: {
        "pj_per_mac": round(values.timed.total, 4), "settled_pj_per_mac": round(values.settled.total, 4),
        **{part.name: round(getattr(values.timed, part.name), 6) for part in dataclasses.fields(Energy)},
        "macs": values.macs, "sums_checked": values.sums_checked} for name, values in found.items()}
