"""Runs a compiled program on its machine: total time, busy time of each unit, and what each operator waited for."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numba import njit

from mixflight.arch.compact import INSTRUCTION_BYTES
from mixflight.arch.controller_pipeline import start_cycles
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES, Ints
from mixflight.mapping.core_program import Pieces
from mixflight.sim.core import kernel
from mixflight.sim.core.exchanges import exchange_in_rtl, with_lines_awaited
from mixflight.sim.core.row import ROW, TICKS
from mixflight.sim.core.units import LIMITS, Floats, Units

SLICES = ("class", "operator", "start", "busy until", "end", "instructions")


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One run, in cycles.

    ``busy``      of each core (row) and class: the sum of occupancies (LD and ST: of their channels, as an average
                  over the core's own)
    ``spent``     (core, operator, limit): the time each operator owned, by the limit that set it; sums to a core's end
    ``used``      (core, operator, class): occupancies by operator
    ``executed``  instructions that were executed one by one, sequenced ones not counted; the others came again
    ``start_up``  cycles before the first dispatch: the text's way into the instruction buffer
    ``slices``    of each core where asked for: rows of ``SLICES`` in order of execution (of their first instructions)
    """

    total: float
    instructions: int
    executed: int
    busy: Floats
    spent: Floats
    used: Floats
    start_up: float
    slices: tuple[Floats, ...]

    @property
    def shares(self) -> dict[str, float]:
        """Busy time of each class over the total, on the busiest core."""
        return {kind: float(self.busy[:, c].max()) / self.total for c, kind in enumerate(CLASSES)}


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """Streams of cores, timed: the ``program`` of all distinct pieces (``sim.core.row``), where each begins and how
    long it is, and the order of each core."""

    program: Any
    firsts: Ints
    counts: Ints
    orders: tuple[Ints, ...]
    operators: int


def compile_streams(units: Units, streams: Sequence[Pieces], core_of: Sequence[int]) -> Compiled:
    """All distinct ``streams``, timed; ``core_of`` names each core's."""
    counts = np.array([len(piece) for stream in streams for piece in stream.pieces], np.int64)
    program = np.empty(int(counts.sum()), ROW)
    if exchange_in_rtl(units.machine):
        streams = with_lines_awaited(streams, core_of, units.machine)
    orders, pieces, first = [], 0, 0
    for stream in streams:
        orders.append(stream.order + pieces)
        last = first + int(counts[pieces : pieces + len(stream.pieces)].sum())
        units.write_rows(stream.pieces, program[first:last])
        pieces, first = pieces + len(stream.pieces), last
    return Compiled(
        program=program, firsts=np.cumsum(counts) - counts, counts=counts,
        orders=tuple(orders[index] for index in core_of),
        operators=1 + int(program["operator"].max(initial=0)),
    )  # fmt: skip


def execute(
    units: Units, compiled: Compiled, *, text_bytes: int = 0, constants: int = 0, repeat: bool = True,
    with_slices: bool = False, merged: bool = False,
) -> Execution:  # fmt: skip
    """Run ``compiled`` on the cores of the machine of ``units``; a program that cannot finish is an InputError.

    ``text_bytes`` of instructions are fetched before the first one where they fit the instruction buffer; what does not
    fit is fetched as it is dispatched, which then is no faster than the fetch. Units in RTL also fetch the words of
    ``constants``, and have a text of 0 bytes there from the run before. ``repeat`` skips whole periods
    of pieces that come again in the same state; the result is the same without. ``with_slices`` notes each instruction;
    ``merged``: what follows in its class for the same operator makes one slice, which is as long as an operator's share
    of a class, so that millions of instructions are some thousands of slices.
    """
    machine = units.machine
    if len(compiled.orders) != machine.cores:
        found = len(compiled.orders)
        raise InputError(f"a program must be for the {machine.cores} cores of {machine.name}, not {found}")
    issue, start_up = fetch(machine, units, text_bytes, constants)
    cores = len(compiled.orders)
    state = kernel.new_state(
        cores, own=machine.hbm.channels_per_core, room=_room(units), depth=machine.controller.queue_depth, issue=issue,
        begin=round(start_up * TICKS),
    )  # fmt: skip
    spent = np.zeros((cores, compiled.operators, len(LIMITS)), np.int64)
    sizes = [int(compiled.counts[order].sum()) for order in compiled.orders]
    room = (_changes(compiled) if merged else max(sizes)) if with_slices else 0
    trace = np.zeros((cores, room, len(SLICES)), np.int64)
    traced = np.zeros((cores, 1 + kernel.N if merged else 1), np.int64)
    order_first = np.concatenate([[0], np.cumsum([len(order) for order in compiled.orders])])
    reason, core = kernel.run(
        state, np.concatenate(compiled.orders), order_first, compiled.firsts, compiled.counts,
        compiled.program, spent, trace, traced, repeat and not with_slices,
    )  # fmt: skip
    if reason != kernel.FINISHED:
        _refuse(state[core], reason, int(core))
    last = state[:, kernel.LAST_END]
    for index in range(cores):
        left = int(last[index] - state[index, kernel.FRONT])
        if left > 0:
            owner = int(state[index, kernel.LAST_OP])
            spent[index, owner // 16, owner % 16] += left
    used = _used(compiled, machine)
    return Execution(
        total=float(last.max(initial=0)) / TICKS, instructions=sum(sizes),
        executed=int(state[:, kernel.STARTED : kernel.STARTED + kernel.N].sum()), busy=used.sum(axis=1), used=used,
        spent=spent / TICKS, start_up=start_up,
        slices=tuple(trace[i, : traced[i, 0]] / [1, 1, TICKS, TICKS, TICKS, 1] for i in range(cores))
        if with_slices else (),
    )  # fmt: skip


def _changes(compiled: Compiled) -> int:
    """How many slices a core has at most where neighbours of a class and an operator are one."""
    most = np.zeros(len(compiled.counts), np.int64)
    for piece, (first, count) in enumerate(zip(compiled.firsts.tolist(), compiled.counts.tolist(), strict=True)):
        rows = compiled.program[first : first + count]
        for kind in np.unique(rows["kind"]):
            operators = rows["operator"][rows["kind"] == kind]
            most[piece] += 1 + np.count_nonzero(np.diff(operators))
    return max(int(most[order].sum()) for order in compiled.orders)


def fetch(machine: CoreMachine, units: Units, text_bytes: int, constants: int = 0) -> tuple[int, float]:
    """(Ticks between two dispatches, cycles before the first) for a text of so many bytes and its constants."""
    controller = machine.controller
    issue = round(controller.issue_cycles * TICKS)
    if machine.units == "rtl":
        return issue, float(start_cycles(
            instructions=text_bytes // INSTRUCTION_BYTES, constants=constants,
            latency=round(units.memories[1].latency_cycles),
        ))  # fmt: skip
    if not text_bytes:
        return issue, 0.0
    ddr = units.memories[1]
    rate = min(float(controller.fetch_bytes_per_cycle), machine.ddr.port_bytes_per_cycle)
    if text_bytes <= machine.buffers.instruction.bytes:
        return issue, ddr.latency_cycles + text_bytes / rate
    return max(issue, -int(-16 * TICKS // rate)), ddr.latency_cycles


def _room(units: Units) -> Ints:
    """Ticks by which a buffer's port may lag: all requests in flight of a core's channels."""
    hbm = units.machine.hbm
    in_flight = hbm.outstanding * hbm.request_bytes * hbm.channels_per_core
    return (in_flight / units.port_bytes * TICKS).astype(np.int64)


def _used(compiled: Compiled, machine: CoreMachine) -> Floats:
    """Occupancies by core, operator and class; a transfer on one of eight channels counts an eighth."""
    uses = np.stack([np.bincount(order, minlength=len(compiled.counts)) for order in compiled.orders])
    own = machine.hbm.channels_per_core
    found = np.zeros((len(compiled.orders), compiled.operators, len(CLASSES)), np.int64)
    _add_up(compiled.program, compiled.firsts, compiled.counts, uses, own, found)
    found[:, :, kernel.MM :] *= own
    return found / (own * TICKS)


@njit(cache=True)
def _add_up(program: Any, firsts: Any, counts: Any, uses: Any, own: int, found: Any) -> None:
    """Occupancies in ticks, each as often as a core runs its piece; those of LD and ST times channels."""
    for piece in range(len(firsts)):
        for index in range(firsts[piece], firsts[piece] + counts[piece]):
            row = program[index]
            if row.kind < 0:
                continue
            busy = row.occupancy * min(row.channels, own) if row.kind <= kernel.ST else row.occupancy
            for core in range(len(uses)):
                found[core, row.operator, row.kind] += busy * uses[core, piece]


def _refuse(state: Ints, reason: int, core: int) -> None:
    if reason == kernel.OVERFLOW:
        raise InputError(f"a program must release at most {kernel.RING} tokens ahead, not more, on core {core}")
    if reason == kernel.ALONE:
        raise InputError(f"all cores must meet at every barrier and exchange, but core {core} is done before others")
    for c, kind in enumerate(CLASSES):
        if state[kernel.PUSHED + c] > state[kernel.STARTED + c]:
            number = int(state[kernel.STARTED + c])
            raise InputError(
                f"a program must run to its end, but {kind} number {number} of core {core} waits for a token that "
                "never comes"
            )
    raise InputError(f"a program must run to its end, but core {core} does not")
