"""Switching activity of a mapped netlist, priced with the library's tables.

    run_cells         the netlist on Verilator with models of its cells: pins, and every net before each clock edge
    settled_toggles   rises and falls of every net from one cycle's end to the next
    timed_toggles     the same with what happens within a cycle: hazards of unequal paths
    energy            toggles → pJ by component

The timed count starts from the settled values of one cycle and must end in those of the next, net by net, or it
is refused. Time goes in steps of 10 ps; every gate output has one inertial delay, the mean of the library's at
its load and transition times: shorter pulses are swallowed, longer ones pass whole. Every cycle is simulated
alone, 64 at a time as the bits of a word.

Energy is switching, ``C V**2 / 2`` a toggle with C the pins that the net drives; internal, the library's table at
the load and the transition time of the pins that toggled; clock, both edges at every flip-flop in every cycle:
there is no clock gating and the PE is never idle; leakage over a cycle as long as the longest path. Not counted:
wires, clock tree, what drives the inputs (their nets are counted: they are the neighbour's outputs).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.errors import InputError
from mixflight.rtl.cell_mapping import PROBE_BITS, Instance, Netlist, simulation_text
from mixflight.rtl.cell_timing import Timing, gate_delay
from mixflight.rtl.harness import HarnessError, build_model, run_vectors
from mixflight.rtl.liberty import Arc, Expression, Library

STEP_NS = 0.01
_CHUNK_WORDS = 16


@dataclass(frozen=True, kw_only=True)
class Toggles:
    """How often each net rose and fell in ``cycles`` cycles."""

    rises: Mapping[int, int]
    falls: Mapping[int, int]
    cycles: int

    def both(self, net: Any) -> int:
        """Rises and falls; a constant has none."""
        return self.rises.get(net, 0) + self.falls.get(net, 0)


@dataclass(frozen=True, kw_only=True)
class Energy:
    """pJ a cycle."""

    switching: float
    internal: float
    clock: float
    leakage: float

    @property
    def total(self) -> float:
        """All four."""
        return self.switching + self.internal + self.clock + self.leakage


def run_cells(netlist: Netlist, library: Library, inputs: Mapping[str, np.ndarray],
              outputs: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray, list[int]]:
    """Simulate; return the output pins, every net as bits [cycles, nets], and which nets those are."""
    text, nets = simulation_text(netlist, library)
    probes = [f"probe_{i}" for i in range(-(-len(nets) // PROBE_BITS))]
    seen = run_vectors(build_model(text, top=netlist.top), inputs, [*outputs, *probes])
    words = np.stack([seen[probe] for probe in probes], axis=1).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :len(nets)]
    return {name: seen[name] for name in outputs}, bits, nets


def settled_toggles(bits: np.ndarray, nets: Sequence[int]) -> Toggles:
    """Of values [cycles, nets]."""
    before, after = bits[:-1].astype(bool), bits[1:].astype(bool)
    rises, falls = (~before & after).sum(axis=0), (before & ~after).sum(axis=0)
    return Toggles(rises=dict(zip(nets, rises.tolist(), strict=True)),
                   falls=dict(zip(nets, falls.tolist(), strict=True)), cycles=len(before))


def timed_toggles(netlist: Netlist, library: Library, timing: Timing, bits: np.ndarray,
                  nets: Sequence[int]) -> Toggles:
    """Rises and falls within the cycles, from the settled values [cycles, nets].

    Raises
    ------
    HarnessError
        A net does not end where the simulation says it does.
    """
    column = {net: index for index, net in enumerate(nets)}
    step = STEP_NS / library.time_ns
    cycles = len(bits) - 1
    clocks = {item.pins[library.cells[item.cell].clock or ""] for item in timing.flip_flops}
    launched = {bit for item in timing.flip_flops for pin in library.cells[item.cell].outputs
                if isinstance(bit := item.pins.get(pin.name), int)}
    launched |= {bit for word in netlist.inputs.values() for bit in word if isinstance(bit, int)} - clocks
    launched &= set(nets)
    delays = {id(item): {pin.name: max(1, round(gate_delay(item, pin.timing, timing, item.pins[pin.name]) / step))
                         for pin in library.cells[item.cell].outputs if isinstance(item.pins.get(pin.name), int)}
              for item in timing.order}
    starts = {bit: max(1, round((timing.edges[bit].rise + timing.edges[bit].fall) / 2 / step)) for bit in launched}
    ends = dict(starts)
    for item in timing.order:
        latest = max((ends.get(bit, 0) for bit in item.pins.values()), default=0)
        for pin, delay in delays[id(item)].items():
            ends[item.pins[pin]] = latest + delay
    steps = max(ends.values(), default=0) + 2
    readers: dict[int, int] = {}
    for item in timing.order:
        for pin in library.cells[item.cell].inputs:
            if isinstance(bit := item.pins.get(pin.name), int):
                readers[bit] = readers.get(bit, 0) + 1
    rises, falls = dict.fromkeys(nets, 0), dict.fromkeys(nets, 0)
    for at in range(0, cycles, 64 * _CHUNK_WORDS):
        rows = bits[at:at + 64 * _CHUNK_WORDS + 1]
        before, after = _packed(rows[:-1], rows[-1]), _packed(rows[1:], rows[-1])
        waves: dict[int, np.ndarray] = {}
        for bit in launched:
            wave = np.empty((steps, before.shape[1]), np.uint64)
            wave[:starts[bit]] = before[column[bit]]
            wave[starts[bit]:] = after[column[bit]]
            waves[bit] = wave
            _note(wave, bit, rises, falls)
        left = dict(readers)
        for item in timing.order:
            for pin, delay in delays[id(item)].items():
                bit = item.pins[pin]
                value = _evaluate(item, library, pin, waves, (steps, before.shape[1]))
                wave = _inertial(value, delay)
                if not (np.array_equal(wave[-1], after[column[bit]])
                        and np.array_equal(wave[0], before[column[bit]])):
                    raise HarnessError(f"{item.cell} {item.name} of {netlist.top} must settle as simulated")
                waves[bit] = wave
                _note(wave, bit, rises, falls)
            for pin in library.cells[item.cell].inputs:
                bit = item.pins.get(pin.name)
                if isinstance(bit, int):
                    left[bit] -= 1
                    if not left[bit]:
                        waves.pop(bit, None)
    return Toggles(rises=rises, falls=falls, cycles=cycles)


def _packed(rows: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Bits [cycles, nets] as words [nets, words], cycle c bit ``c % 64``; the last word is filled with ``rest``."""
    padded = np.empty((-(-len(rows) // 64) * 64, rows.shape[1]), np.uint8)
    padded[:len(rows)] = rows
    padded[len(rows):] = rest
    return np.packbits(padded.T.copy(), axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _note(wave: np.ndarray, bit: int, rises: dict[int, int], falls: dict[int, int]) -> None:
    changed = wave[1:] ^ wave[:-1]
    rises[bit] += int(np.bitwise_count(changed & wave[1:]).sum())
    falls[bit] += int(np.bitwise_count(changed & wave[:-1]).sum())


def _evaluate(item: Instance, library: Library, pin: str, waves: Mapping[int, np.ndarray],
              shape: tuple[int, int]) -> np.ndarray:
    """The cell's function of its inputs' waves, without delay."""
    inputs = {}
    for source in library.cells[item.cell].inputs:
        bit = item.pins.get(source.name, "0")
        inputs[source.name] = waves[bit] if isinstance(bit, int) else np.full(shape, _CONSTANT[bit == "1"])
    return _value(library.cells[item.cell].pins[pin].function, inputs)


_CONSTANT = np.array([0, 0xFFFFFFFFFFFFFFFF], np.uint64)
_TWO = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


def _value(function: Expression, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """``function`` of ``inputs``, 64 operands a word."""
    kind, *parts = function
    if kind == "pin":
        return inputs[parts[0]]
    if kind == "const":
        return _CONSTANT[parts[0]]
    values = [_value(part, inputs) for part in parts]
    return ~values[0] if kind == "not" else _TWO[kind](*values)


def _inertial(value: np.ndarray, delay: int) -> np.ndarray:
    """The output ``delay`` steps behind; it changes only when the value held for all of them."""
    held_high, held_low, done = value.copy(), ~value, 1
    while done < delay + 1:         # and over a window of delay + 1 steps, by doubling
        more = min(done, delay + 1 - done)
        for held in (held_high, held_low):
            held[more:] &= held[:-more].copy()
        done += more
    # At the start the value is taken to have held since ever, in which the doubling above leaves it.
    return _follow(value, held_high, held_low)


@njit(cache=True)
def _follow(value: np.ndarray, held_high: np.ndarray, held_low: np.ndarray) -> np.ndarray:
    """High where the value was held high, low where it was held low, else as before."""
    wave = np.empty_like(value)
    wave[0] = value[0]
    for t in range(1, value.shape[0]):
        for word in range(value.shape[1]):
            wave[t, word] = (wave[t - 1, word] & ~held_low[t, word]) | held_high[t, word]
    return wave


def energy(netlist: Netlist, library: Library, timing: Timing, toggles: Toggles, *,
           period: float | None = None) -> Energy:
    """pJ a cycle; ``period`` in the library's unit of time, else the longest path."""
    volts = library.voltage_v
    if volts <= 0 or toggles.cycles < 1:
        raise InputError(f"energy must have a nominal voltage and cycles, not {volts} V and {toggles.cycles} cycles, "
                         f"in {library.name}")
    clocks = {item.pins[library.cells[item.cell].clock or ""] for item in timing.flip_flops}
    switching = internal = leakage = 0.0
    clock = sum(timing.loads[net] for net in clocks) * volts ** 2 * toggles.cycles
    for net, load in timing.loads.items():
        if net not in clocks:
            switching += toggles.both(net) * load * volts ** 2 / 2
    for item in netlist.instances:
        cell = library.cells[item.cell]
        leakage += cell.leakage
        for pin in cell.pins.values():
            bit = item.pins.get(pin.name)
            if bit in clocks and not pin.output:
                clock += toggles.cycles * sum(_mean(pin.energy, 0.0, lambda _: (1.0, timing.clock_slew)))
            elif isinstance(bit, int):
                load = timing.loads[bit] if pin.output else 0.0
                rise, fall = _mean(pin.energy, load,
                                   functools.partial(_cause, item, pin.name, clocks, timing, toggles))
                internal += toggles.rises.get(bit, 0) * rise + toggles.falls.get(bit, 0) * fall
    scale = library.energy_pj / toggles.cycles
    nanoseconds = (timing.longest if period is None else period) * library.time_ns
    return Energy(switching=switching * scale, internal=internal * scale, clock=clock * scale,
                  leakage=leakage * library.leakage_nw * nanoseconds * 1e-6)


def _cause(item: Instance, pin: str, clocks: set[Any], timing: Timing, toggles: Toggles,
           related: str) -> tuple[float, float]:
    """How often the related pin toggled, and its transition time; a table without one is the pin's own."""
    bit = item.pins.get(related or pin)
    if bit in clocks:
        return 2.0 * toggles.cycles, timing.clock_slew
    edge = timing.edges.get(bit)
    return (float(toggles.both(bit)), edge.slew) if edge else (0.0, 0.0)


def _mean(arcs: Sequence[Arc], load: float, cause: Any) -> tuple[float, float]:
    """Energies of a rise and a fall: the arcs' mean, weighted by how often their related pins toggled."""
    found = []
    for arc in arcs:
        weight, slew = cause(arc.related)
        found.append((weight, *(table.at(load, slew) if table else 0.0 for table in (arc.rise, arc.fall))))
    total = sum(weight for weight, _, _ in found)
    if not total:
        return 0.0, 0.0
    return (sum(weight * rise for weight, rise, _ in found) / total,
            sum(weight * fall for weight, _, fall in found) / total)
