"""Loads, transition times and the longest path of a mapped netlist, from the library's delay tables.

Static, worst case over rising and falling, transitions handed on. Wires have no capacitance and no delay. Inputs
are driven by the flip-flop that the netlist has most of, clocked with the rest, as by the PE next to it; outputs
carry no load (the next PE's input pins are counted at its inputs). The longest path ends with the set-up time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mixflight.rtl.cell_mapping import Instance, Netlist
from mixflight.rtl.liberty import Arc, Cell, Library
from mixflight.rtl.synthesis import SynthesisError

CLOCK_TRANSITION_NS = 0.06
"""Transition time at the clock pins: what a clock tree would be built for."""


@dataclass(frozen=True)
class Edge:
    """When the worst rising and falling edge of a net come, and how long they take; in the library's unit."""

    rise: float
    fall: float
    rise_slew: float
    fall_slew: float

    @property
    def slew(self) -> float:
        """Mean transition time."""
        return (self.rise_slew + self.fall_slew) / 2


@dataclass(frozen=True, kw_only=True)
class Timing:
    """All in the library's units."""

    order: tuple[Instance, ...]
    """Gates such that every one follows those that drive it; flip-flops are not among them."""
    flip_flops: tuple[Instance, ...]
    loads: Mapping[int, float]
    edges: Mapping[int, Edge]
    """Of every net that has a driver or is an input."""
    clock_slew: float
    longest: float
    ends_at: str


def time_netlist(netlist: Netlist, library: Library) -> Timing:
    """Compute loads, edges and the longest path."""
    loads = dict.fromkeys(netlist.nets(), 0.0)
    for instance in netlist.instances:
        cell = library.cells[instance.cell]
        for pin, bit in instance.pins.items():
            if isinstance(bit, int) and not cell.pins[pin].output:
                loads[bit] += cell.pins[pin].capacitance
    flip_flops = tuple(item for item in netlist.instances if library.cells[item.cell].flip_flop)
    clock_slew = CLOCK_TRANSITION_NS / library.time_ns
    edges: dict[int, Edge] = {}
    counts = netlist.counts()
    usual = max((library.cells[item.cell] for item in flip_flops), key=lambda cell: counts[cell.name], default=None)
    clocks = {item.pins[library.cells[item.cell].clock or ""] for item in flip_flops}
    for bits in netlist.inputs.values():
        for bit in bits:
            if isinstance(bit, int):
                edges[bit] = (Edge(0.0, 0.0, clock_slew, clock_slew) if usual is None or bit in clocks
                              else _launched(usual, usual.outputs[0].name, loads.get(bit, 0.0), clock_slew))
    for item in flip_flops:
        cell = library.cells[item.cell]
        for pin in cell.outputs:
            bit = item.pins.get(pin.name)
            if isinstance(bit, int):
                edges[bit] = _launched(cell, pin.name, loads.get(bit, 0.0), clock_slew)
    order = _order(netlist, library, set(edges))
    for item in order:
        cell = library.cells[item.cell]
        for pin in cell.outputs:
            bit = item.pins.get(pin.name)
            if isinstance(bit, int):
                edges[bit] = _passed(item, pin.timing, edges, loads.get(bit, 0.0))
    longest, ends_at = 0.0, ""
    for item in flip_flops:
        for pin in library.cells[item.cell].inputs:
            edge = edges.get(item.pins.get(pin.name))
            arcs = [arc for arc in pin.timing if arc.kind.startswith("setup")]
            if edge is None or not arcs:
                continue
            for arc in arcs:
                for at, slew, table in ((edge.rise, edge.rise_slew, arc.rise), (edge.fall, edge.fall_slew, arc.fall)):
                    end = at + (table.at(slew, clock_slew) if table else 0.0)
                    if end > longest:
                        longest, ends_at = end, f"{item.cell} {item.name}"
    for name, bits in netlist.outputs.items():
        for bit in bits:
            if bit in edges and max(edges[bit].rise, edges[bit].fall) > longest:
                longest, ends_at = max(edges[bit].rise, edges[bit].fall), f"output {name}"
    return Timing(order=order, flip_flops=flip_flops, loads=loads, edges=edges, clock_slew=clock_slew,
                  longest=longest, ends_at=ends_at)


def _launched(cell: Cell, output: str, load: float, clock_slew: float) -> Edge:
    """A flip-flop's output after the clock's edge at time 0."""
    arcs = [arc for arc in cell.pins[output].timing if arc.related == cell.clock]
    if not arcs:
        raise SynthesisError(f"{cell.name} must have delays from its clock to {output}")
    arc = arcs[0]
    return Edge(*(table.at(load, clock_slew) for table in (arc.rise, arc.fall, arc.rise_slew, arc.fall_slew)))


def _passed(item: Instance, arcs: tuple[Arc, ...], edges: Mapping[int, Edge], load: float) -> Edge:
    """The worst of what the gate's inputs cause; a gate of constants never changes."""
    rise = fall = rise_slew = fall_slew = 0.0
    for arc in arcs:
        edge = edges.get(item.pins.get(arc.related))
        if edge is None:
            continue
        up, down = (edge.rise, edge.rise_slew), (edge.fall, edge.fall_slew)
        causes = {"positive_unate": ([up], [down]), "negative_unate": ([down], [up])}.get(
            arc.sense, ([up, down], [up, down]))
        for at, slew in causes[0]:
            if arc.rise and arc.rise_slew:
                rise = max(rise, at + arc.rise.at(load, slew))
                rise_slew = max(rise_slew, arc.rise_slew.at(load, slew))
        for at, slew in causes[1]:
            if arc.fall and arc.fall_slew:
                fall = max(fall, at + arc.fall.at(load, slew))
                fall_slew = max(fall_slew, arc.fall_slew.at(load, slew))
    return Edge(rise, fall, rise_slew, fall_slew)


def gate_delay(item: Instance, arcs: tuple[Arc, ...], timing: Timing, output: int) -> float:
    """The gate's own delay to ``output``: mean over its arcs and edges at their transition times."""
    delays = []
    for arc in arcs:
        edge = timing.edges.get(item.pins.get(arc.related))
        if edge is not None:
            delays += [table.at(timing.loads[output], edge.slew) for table in (arc.rise, arc.fall) if table]
    return sum(delays) / len(delays) if delays else 0.0


def _order(netlist: Netlist, library: Library, known: set[int]) -> tuple[Instance, ...]:
    """Gates after their drivers; a loop of gates is refused."""
    gates = [item for item in netlist.instances if not library.cells[item.cell].flip_flop]
    driver = {item.pins[pin.name]: index for index, item in enumerate(gates)
              for pin in library.cells[item.cell].outputs if pin.name in item.pins}
    readers: list[list[int]] = [[] for _ in gates]
    missing = [0] * len(gates)
    for index, item in enumerate(gates):
        for pin in library.cells[item.cell].inputs:
            bit = item.pins.get(pin.name)
            if bit in driver and bit not in known:
                readers[driver[bit]].append(index)
                missing[index] += 1
    ready = [index for index, number in enumerate(missing) if not number]
    for index in ready:     # grows while it is walked
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if len(ready) < len(gates):
        stuck = next(item.name for item, number in zip(gates, missing, strict=True) if number)
        raise SynthesisError(f"{netlist.top} must have no loop of gates, but {stuck} is in one or behind it")
    return tuple(gates[index] for index in ready)
