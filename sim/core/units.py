"""What each primitive instruction takes on its unit: occupancy, latency, and the resource that sets them.

*Occupancy* is how long an instruction keeps its unit from the next one, *latency* how much later its results are there
(and its tokens released). All in cycles of the core's clock:

LD    occupancy of its channels: ``mixflight.sim.core.memory``, times ``cross_channel_factor`` on channels across the
      switch. The buffer it fills takes ``bytes / (ports width)`` cycles, a server of its own that may lag behind by the
      requests in flight. Latency: a lone burst of a closed row.
ST    the same towards memory; reading the buffer is not a limit (it shares no port with what fills it).
MV    chains: ceil(columns / column step) ceil(k keep / (16 chain)) ceil(rows / packed rows) cycles of products, or
      sums / lanes of dequantisation, or stored codes / widening, whichever is longest; sums are rows x columns
      x groups. Latency: the last product through the chain (``mixflight.arch.csd_chain``) and a lane
      (``mixflight.arch.array_pipeline``).
MM    chains: ceil(rows / row step) ceil(columns / chains of a unit) ceil(k keep / (16 chain)) cycles, lanes, widening
      and latency as MV.
MM, MV on an array: tiles x groups x (the period of a group, ``mixflight.sim.array_timing``); latency is the array's
      skew R + C - 2 and its drain. If its weights stay: the periods of each tile's tokens, and the ends of a run
      (``mixflight.sim.stationary_timing``). N:M weights are multiplied as dense ones.
MISC  passes x vectors x ceil(elements / width); a later pass of the first vector waits for the one before, so
      (passes - 1) latencies more; causal vectors are as long as their past. Latency: the pipeline's.
SYS   exchange: bytes received over the link, and its latency; barrier and done: ``barrier_cycles``; both after the last
      core has arrived. Control: ``loop_cycles`` each in the sequencer, which dispatches nothing meanwhile.

An instruction of no bytes, columns or vectors takes a cycle.

A machine whose ``units`` are those in RTL takes the closed forms that these are verified against, MV, MISC, LD and ST
(``mixflight.sim.core.rtl_units``) and exchanges (``mixflight.sim.core.exchanges``). Memories that answer after a fixed
time write beside what they read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.array import Array
from mixflight.arch.array_pipeline import group_gap, lane_latency
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.csd_chain import node_latency
from mixflight.arch.formats import Zero
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints
from mixflight.mapping.core_program import BUFFERS, CONTROL, MEMORIES, SYS_OPERATIONS, Piece
from mixflight.sim.array_timing import drain
from mixflight.sim.core.distinct import distinct
from mixflight.sim.core.exchanges import exchange_in_rtl
from mixflight.sim.core.memory import ChannelTiming
from mixflight.sim.core.row import NO_CHANNEL, SHARED_DDR, TICKS, channel_use, pairs_of, place_rows, rows_of
from mixflight.sim.core.rtl_units import has_rtl, load_times, misc_busy, product_times, store_times
from mixflight.sim.stationary_timing import stationary_ends, stationary_period

Floats = NDArray[np.float64]

LIMITS = (
    "dram", "compute", "array edge", "lanes", "widening", "sfu", "exchange", "issue", "latency", "port", "barrier",
)  # fmt: skip
Limit = Literal[
    "dram", "compute", "array edge", "lanes", "widening", "sfu", "exchange", "issue", "latency", "port", "barrier"
]
LIMIT = {name: index for index, name in enumerate(LIMITS)}

ZEROS: tuple[Zero, ...] = ("none", "int4", "f16-min")
"""``zero`` of a matrix instruction as the array's pipeline names it."""

_BLOCK = 16
_EXCHANGE, _DONE = SYS_OPERATIONS.index("exchange"), SYS_OPERATIONS.index("done")


_TOKENS = ("wait", "release", "operator")
_MATRIX = ("rows", "columns", "k", "keep_n", "weight_bits", "group", "zero", "last")
_TIMED = {
    "LD": ("target", "memory", "channel", "channels", "bytes", "address", "code_bits", "layout"),
    "ST": ("memory", "channel", "channels", "bytes", "address"),
    "MM": _MATRIX,
    "MV": _MATRIX,
    "MISC": ("operation", "vectors", "elements", "passes", "group", "causal"),
    "SYS": ("operation", "bytes", "lines", "controls"),
}
"""Columns of each class on which its times depend; transfers also on the address of the one before."""


class Units:
    """Times the instructions of one machine. ``rows`` and ``refresh`` switch DRAM row timing, ``fill`` the latencies of
    the matrix engine, ``hbm_speed`` makes HBM and its ports faster; all to measure what each effect costs."""

    def __init__(
        self, machine: CoreMachine, *, rows: bool = True, refresh: bool = True, fill: bool = True,
        hbm_speed: float = 1.0,
    ) -> None:  # fmt: skip
        self.machine, self.fill = machine, fill
        self.memories = tuple(
            ChannelTiming(
                channels=getattr(machine, name),
                clock_mhz=machine.clock_mhz,
                rows=rows,
                refresh=refresh,
                speed=hbm_speed if name == "hbm" else 1.0,
            )  # fmt: skip
            for name in MEMORIES
        )
        buffers = machine.buffers
        sizes = {"weight": buffers.weight, "scale": buffers.scale, "index": buffers.index, "act": buffers.act,
                 "global": buffers.vector}  # fmt: skip
        self.port_bytes = np.array([sizes[name].bytes_per_cycle for name in BUFFERS], np.float64)

    def write_rows(self, pieces: Sequence[Piece], rows: Any) -> None:
        """Write the rows (``mixflight.sim.core.row``) of all ``pieces``, one after the other."""
        kinds = np.concatenate([piece.kinds for piece in pieces]) if pieces else np.zeros(0, np.uint8)
        for index, kind in enumerate(CLASSES):
            at = np.flatnonzero(kinds == index)
            if not len(at):
                continue
            table = {
                name: np.concatenate([piece.tables[kind][name] for piece in pieces])
                for name in (*_TOKENS, *_TIMED[kind])
            }
            piece = np.repeat(np.arange(len(pieces)), [piece.count(kind) for piece in pieces])
            timed, which = self._distinct(kind, table, pieces, piece)
            waits, releases = pairs_of(index)
            place_rows(
                rows, at, timed, which, waits[table["wait"]], releases[table["release"]], table["operator"]
            )  # fmt: skip

    def _distinct(
        self, kind: str, table: dict[str, Ints], pieces: Sequence[Piece], piece: Ints
    ) -> tuple[Any, Ints]:  # fmt: skip
        """(Rows of the distinct instructions of a class, but for tokens and operator; the number of each one's).

        ``piece``: which of ``pieces`` each is in.
        """
        keys = tuple(table[name] for name in _TIMED[kind] if name != "address")
        if kind in ("LD", "ST"):
            offset, lead = self._places(table, pieces, piece, write=kind == "ST")
            keys = (*keys, offset, lead)
        first, which = distinct(keys)
        some = {name: column[first] for name, column in table.items()}
        if kind in ("LD", "ST"):
            some |= {"offset": offset[first], "lead": lead[first]}
        timed = rows_of(len(first))
        timed["kind"] = CLASS_INDEX[kind]
        for name, values in self.of_class(kind, some).items():
            timed[name] = values
        return timed, which

    def of_class(self, kind: str, table: Mapping[str, Ints]) -> dict[str, Ints]:
        """Columns of the instructions of one class, but for tokens and operator."""
        if kind in ("LD", "ST"):
            return self._transfers(table, write=kind == "ST")
        if kind in ("MM", "MV"):
            busy, latency, limit = self.matrix(kind, table)
            if self.machine.units == "rtl":
                there = (table["columns"] > 0) & (table["rows"] > 0)
                times = product_times(self.machine, table)
                busy, latency = (
                    np.where(there, mine, other) for mine, other in zip(times, (busy, latency), strict=True)
                )  # fmt: skip
            return _columns(busy, latency, limit)
        if kind == "MISC":
            return self._misc(table)
        return self._sys(table)

    def _places(
        self, table: Mapping[str, Ints], pieces: Sequence[Piece], piece: Ints, *, write: bool
    ) -> tuple[Ints, Ints]:  # fmt: skip
        """``ChannelTiming.places`` of transfers, each among those of its memory."""
        offset, lead = np.zeros_like(table["bytes"]), np.zeros_like(table["bytes"])
        for index, timing in enumerate(self.memories):
            here = np.flatnonzero((table["memory"] == index) & (table["bytes"] > 0))
            first = np.flatnonzero(np.diff(piece[here], prepend=-1))
            first = first[[pieces[number].before is not None for number in piece[here][first]]]
            ended = np.array([(pieces[number].before or (0, 0))[index] for number in piece[here][first]], np.int64)
            offset[here], lead[here] = timing.places(
                table["bytes"][here], table["address"][here], write=write, known=first, ended=ended
            )  # fmt: skip
        return offset, lead

    def _transfers(self, table: Mapping[str, Ints], *, write: bool) -> dict[str, Ints]:
        count = len(table["bytes"])
        occupancy, latency = np.ones(count), np.zeros(count)
        first = table["channel"].copy()
        for index, timing in enumerate(self.memories):
            here = np.flatnonzero((table["memory"] == index) & (table["bytes"] > 0))
            busy = timing.added(table["bytes"][here], table["offset"][here], table["lead"][here], write=write)
            across = table["channel"][here] + table["channels"][here] > timing.channels.channels_per_core
            occupancy[here] = busy * np.where(across, timing.channels.cross_channel_factor, 1.0)
            latency[here] = timing.latency_cycles
            if index:
                first[here] = SHARED_DDR + table["channel"][here] % timing.channels.channels
        if self.machine.units == "rtl":
            there = table["bytes"] > 0
            busy, stages = (store_times if write else load_times)(self.machine, table)
            occupancy = np.where(there, np.maximum(occupancy, busy), occupancy)
            latency = np.where(there, latency + stages, latency)
        moved = table["bytes"] * table["channels"]
        found = _columns(occupancy, latency, np.full(count, LIMIT["dram"]))
        channels = np.where(table["bytes"] > 0, table["channels"], 0)
        use = channel_use(first, channels, self.machine.hbm.channels_per_core)
        if write:
            apart = np.array([timing.channels.answers_after_cycles is not None for timing in self.memories])
            use = np.where(apart[table["memory"]], NO_CHANNEL, use)
        found |= {"first": first, "channels": channels, "use": use, "sync": use == NO_CHANNEL}
        if not write and self.machine.units != "rtl":
            port_time = moved / self.port_bytes[table["target"]]
            found |= {"port": np.where(moved > 0, table["target"], -1), "port_time": _ticks(port_time)}
            found["limit"] = np.where(port_time > occupancy, LIMIT["port"], LIMIT["dram"])
        return found

    def matrix(self, kind: str, table: Mapping[str, Ints]) -> tuple[Floats, Floats, Ints]:
        """(Occupancy, latency, limit) of MM or MV."""
        engine = self.machine.mpe
        edge = np.zeros(0)
        if isinstance(engine, Chains):
            products, latency = self._chains(engine, kind, table)
        else:
            products, latency = self._array(engine, table)
        useful = table["rows"] * table["columns"] * table["k"] * self._kept(table) / _BLOCK
        peak = self.machine.mm_macs_per_cycle if kind == "MM" else self.machine.mv_macs_per_cycle
        if isinstance(engine, Array):
            passes = -(-table["weight_bits"] // engine.element.weight_bits)
            useful, peak = useful * passes, self.machine.mm_macs_per_cycle
        edge = np.where(useful >= 0.5 * products * peak, LIMIT["compute"], LIMIT["array edge"])
        unit = self.machine.memory_unit
        groups = np.where(table["group"] > 0, -(-table["k"] // np.maximum(table["group"], 1)), table["last"])
        lanes = table["rows"] * table["columns"] * groups / unit.lanes
        stored = table["columns"] * table["k"] * table["keep_n"] / _BLOCK
        widen = stored / unit.widen_codes_per_cycle
        all_busy = np.stack([products, lanes if isinstance(engine, Chains) else np.zeros_like(lanes), widen])
        which = all_busy.argmax(axis=0)
        limit = np.where(which == 1, LIMIT["lanes"], np.where(which == 2, LIMIT["widening"], edge))
        empty = table["columns"] == 0
        busy = np.where(empty, 1.0, np.maximum(all_busy.max(axis=0), 1.0))
        return busy, np.where(empty | (not self.fill), 0.0, latency), limit

    def _kept(self, table: Mapping[str, Ints]) -> Ints:
        """Products of a block of 16 that the engine does."""
        return table["keep_n"] if isinstance(self.machine.mpe, Chains) else np.full_like(table["keep_n"], _BLOCK)

    def _chains(self, engine: Chains, kind: str, table: Mapping[str, Ints]) -> tuple[Floats, Floats]:
        deep = -(-table["k"] * table["keep_n"] // (_BLOCK * engine.chain))
        if kind == "MV":
            steps = -(-table["columns"] // engine.column_step) * -(-table["rows"] // engine.packed_rows)
        else:
            steps = -(-table["rows"] // engine.row_step) * -(-table["columns"] // engine.chains_per_mpu)
        last = engine.chain // engine.group - 1
        through = node_latency(node=last, group=engine.group, variant=engine.dsp_kind)
        lane = np.array([lane_latency(zero) for zero in ZEROS])[table["zero"]]
        return (steps * deep).astype(np.float64), (through + lane).astype(np.float64)

    def _array(self, engine: Array, table: Mapping[str, Ints]) -> tuple[Floats, Floats]:
        shape = {"rows": engine.rows, "cols": engine.cols, "lanes": engine.lanes}
        if engine.tokens is not None:
            return self._stationary(engine, table)
        rows, columns = table["rows"], table["columns"]
        tiles = np.full(len(rows), np.iinfo(np.int64).max)
        split = 1
        while split <= engine.split:
            tile_rows, tile_columns = engine.tile(split)
            tiles = np.minimum(tiles, -(-rows // tile_rows) * -(-columns // tile_columns))
            split *= 2
        group = np.where(table["group"] > 0, table["group"], np.maximum(table["k"], 1))
        steps = -(-table["weight_bits"] // engine.element.weight_bits) * group
        gap = np.array([group_gap(**shape, zero=zero) for zero in ZEROS])[table["zero"]]
        tail = np.array([drain(**shape, zero=zero) for zero in ZEROS])[table["zero"]]
        busy = tiles * -(-table["k"] // group) * np.maximum(steps, gap)
        return busy.astype(np.float64), (engine.rows + engine.cols - 2 + tail).astype(np.float64)

    def _stationary(self, engine: Array, table: Mapping[str, Ints]) -> tuple[Floats, Floats]:
        """A weight-stationary array: groups of each tile's tokens at their periods, and what a run takes beyond."""
        busy, latency = np.zeros(len(table["rows"])), np.zeros(len(table["rows"]))
        names = ("rows", "columns", "k", "group", "weight_bits", "zero")
        rows_of = zip(*(table[name].tolist() for name in names), strict=True)
        for at, (rows, columns, k, group, bits, zero) in enumerate(rows_of):
            given = {
                "rows": engine.rows, "cols": engine.cols, "lanes": engine.lanes, "group": group or max(k, 1),
                "passes": -(-bits // engine.element.weight_bits), "zero": ZEROS[zero],
            }  # fmt: skip
            most = engine.tokens or 1
            full, rest = divmod(max(rows, 1), most)
            periods = full * stationary_period(**given, tokens=most) if full else 0
            periods += stationary_period(**given, tokens=rest) if rest else 0
            busy[at] = -(-columns // engine.cols) * -(-k // given["group"]) * periods
            latency[at] = stationary_ends(**given, tokens=min(most, max(rows, 1)))
        return busy, latency

    def _misc(self, table: Mapping[str, Ints]) -> dict[str, Ints]:
        sfu = self.machine.sfu
        issue = table["passes"] * misc_steps(table, sfu.elements_per_cycle)
        empty = table["vectors"] == 0
        waits = (table["passes"] - 1) * sfu.latency_cycles
        busy = np.where(empty, 1, np.maximum(issue + waits, 1))
        latency = np.where(empty, 0, sfu.latency_cycles)
        limit = np.where(issue >= waits, LIMIT["sfu"], LIMIT["latency"])
        if self.machine.units == "rtl":
            there = has_rtl(table) & ~empty
            busy, latency = np.where(there, misc_busy(self.machine, table), busy), np.where(there, 0, latency)
        return _columns(busy.astype(np.float64), latency.astype(np.float64), limit)

    def _sys(self, table: Mapping[str, Ints]) -> dict[str, Ints]:
        machine = self.machine
        exchange = table["operation"] == _EXCHANGE
        moved = table["lines"] if exchange_in_rtl(machine) else table["bytes"] / machine.exchange.bytes_per_cycle
        busy = np.where(exchange, moved, 1.0)
        latency = np.where(exchange, machine.exchange.latency_cycles, machine.controller.barrier_cycles)
        latency = np.where(table["operation"] == _DONE, 0, latency) * (machine.cores > 1)
        found = _columns(busy, latency.astype(np.float64), np.where(exchange, LIMIT["exchange"], LIMIT["barrier"]))
        control = table["operation"] == CONTROL
        found["kind"] = np.where(control, -1, CLASS_INDEX["SYS"])
        found["sync"] = np.where(control, 0, table["operation"] != _DONE)
        spent = _ticks((table["controls"] * machine.controller.loop_cycles).astype(np.float64))
        found["occupancy"] = np.where(control, spent, found["occupancy"])
        return found


def misc_steps(table: Mapping[str, Ints], width: int) -> Ints:
    """Cycles of one pass over all vectors of each instruction; causal vector r of v of n elements has n - v + 1 + r."""
    count, longest = table["vectors"], table["elements"]
    plain = count * -(-longest // width)
    return np.where(table["causal"] > 0, _steps_to(longest, width) - _steps_to(longest - count, width), plain)


def _steps_to(longest: Ints, width: int) -> Ints:
    """Sum of ceil(n / width) for n up to ``longest``."""
    full, rest = longest // width, longest % width
    return width * (full * (full + 1) // 2) + rest * (full + 1)


def _ticks(cycles: Floats) -> Ints:
    return np.ceil(cycles * TICKS - 1e-9).astype(np.int64)


def _columns(busy: Floats, latency: Floats, limit: Ints) -> dict[str, Ints]:
    return {"occupancy": _ticks(busy), "latency": _ticks(latency), "limit": limit.astype(np.int64)}
