"""The rules of the engine of cores once more, slowly: every head of every queue is looked at before every start."""

from collections import deque

import numpy as np

from mixflight.arch.isa import CLASS_INDEX, CLASSES, token_mask
from mixflight.sim.core.execution import compile_streams, fetch
from mixflight.sim.core.row import TICKS
from mixflight.sim.core.units import LIMIT, LIMITS

NEVER = 1 << 60
LD, ST, MM, MV, MISC, SYS = range(len(CLASSES))


def classes_of(kind, mask):
    """Classes that a mask names."""
    return [other for other in CLASSES if other != kind and mask & token_mask(kind, [other])]


class Core:
    """One core: its instructions in program order as (class, timed row, waits for, releases to)."""

    def __init__(self, stream, rows, firsts, units):
        machine = units.machine
        hbm = machine.hbm
        self.code = deque()
        for piece in stream.order:
            self.code += self._piece(stream.pieces[piece], rows[firsts[piece] :])
        self.depth, (self.issue, _) = machine.controller.queue_depth, fetch(machine, units, 0)
        in_flight = hbm.outstanding * hbm.request_bytes * hbm.channels_per_core
        self.room = [int(in_flight / width * TICKS) for width in units.port_bytes]
        self.queues = {c: deque() for c in range(6)}
        self.free, self.in_order = [0] * 6, [0] * 6
        self.starts = {c: [] for c in range(6)}
        self.channels, self.ports = [0] * 64, [0] * 8
        self.tokens = {}
        self.dispatched = self.front = 0
        self.last = (0, None)
        self.spent = {}
        self.slices = []

    @staticmethod
    def _piece(piece, rows):
        at = dict.fromkeys(CLASSES, 0)
        for kind, row in zip(piece.kinds, rows, strict=False):
            name = CLASSES[kind]
            masks = [int(piece.tables[name][mask][at[name]]) for mask in ("wait", "release")]
            at[name] += 1
            yield int(kind), row, *([CLASS_INDEX[other] for other in classes_of(name, mask)] for mask in masks)

    def dispatch(self):
        while self.code:
            kind, row, *_ = self.code[0]
            if row["kind"] < 0:
                self.dispatched += int(row["occupancy"])
                self.code.popleft()
                continue
            if len(self.queues[kind]) == self.depth:
                return
            self.dispatched += self.issue
            earlier = len(self.starts[kind]) + len(self.queues[kind]) - self.depth
            if earlier >= 0:
                self.dispatched = max(self.dispatched, self.starts[kind][earlier])
            self.queues[kind].append((self.dispatched, *self.code.popleft()[1:]))

    def candidate(self, kind):
        """(When the head of a queue can start, what it waits for last, the latency that this ends with)."""
        if not self.queues[kind]:
            return NEVER, None, 0
        at, row, waits, _ = self.queues[kind][0]
        reasons = [(self.free[kind], None, 0), (at, "issue", 0)]
        for other in waits:
            if not self.tokens.get((other, kind)):
                return NEVER, None, 0
            reasons.append(self.tokens[other, kind][0])
        if kind <= ST and row["channels"]:
            used = range(row["first"], row["first"] + row["channels"])
            reasons.append((max(self.channels[channel] for channel in used), "dram", 0))
            if row["port"] >= 0:
                reasons.append((self.ports[row["port"]] - self.room[row["port"]], "port", 0))
        return max(reasons, key=lambda reason: reason[0])  # the first of equal ones

    def start(self, kind, start, why, late):
        _, row, waits, releases = self.queues[kind].popleft()
        self.starts[kind].append(start)
        busy, latency, operator = start + int(row["occupancy"]), int(row["latency"]), int(row["operator"])
        end = busy + latency
        if kind <= ST and row["channels"]:
            for channel in range(row["first"], row["first"] + row["channels"]):
                self.channels[channel] = busy
            self.free[kind] = start + TICKS
            if row["port"] >= 0:
                self.ports[row["port"]] = max(start, self.ports[row["port"]]) + int(row["port_time"])
                end = max(end, self.ports[row["port"]] + latency)
        else:
            for user in (MM, MV) if kind in (MM, MV) else (kind,):
                self.free[user] = max(self.free[user], busy)
        end = self.in_order[kind] = max(end, self.in_order[kind])
        own = LIMITS[row["limit"]]
        if end >= self.last[0]:
            self.last = end, (operator, own if kind <= ST else "latency")
        if kind > ST:
            self.account(operator, own, why, late, start, busy)
        for other in waits:
            self.tokens[other, kind].popleft()
        for other in releases:
            self.tokens.setdefault((kind, other), deque()).append((end, own, latency))
        self.slices.append((kind, operator, start, busy if kind > ST else start + int(row["occupancy"]), end))

    def account(self, operator, own, why, late, start, busy):
        gap = max(start - self.front, 0)
        if busy <= self.front:
            return
        shares = [(own, gap)] if why is None else [("latency", min(gap, late)), (why, gap - min(gap, late))]
        for limit, time in (*shares, (own, busy - max(start, self.front))):
            self.spent[operator, limit] = self.spent.get((operator, limit), 0) + time
        self.front = busy


def plain_execution(units, streams):
    """(Total, (core, operator, limit) times, slices of each core) of streams, one a core; in ticks."""
    compiled = compile_streams(units, streams, range(len(streams)))
    firsts = np.split(compiled.firsts, np.cumsum([len(stream.pieces) for stream in streams])[:-1])
    cores = [Core(stream, compiled.program, first, units) for stream, first in zip(streams, firsts, strict=True)]
    while True:
        found, syncs = [], []
        for core in cores:
            core.dispatch()
            for kind in range(6):
                start, why, late = core.candidate(kind)
                if start < NEVER and kind == SYS and core.queues[SYS][0][1]["sync"]:
                    syncs.append((start, why, late, core))
                elif start < NEVER:
                    found.append((start, kind, why, late, core))
        first = min(found, key=lambda item: item[:2], default=(NEVER,))
        together = max((start for start, *_ in syncs), default=NEVER)
        if len(syncs) == len(cores) and together < first[0]:
            for start, why, late, core in syncs:
                core.start(SYS, together, why if start == together else None, late)
        elif found:
            first[4].start(first[1], first[0], first[2], first[3])
        else:
            break
    assert not any(core.code or any(core.queues.values()) for core in cores)
    spent = np.zeros((len(cores), compiled.operators, len(LIMITS)))
    for core, times in zip(cores, spent, strict=True):
        left = core.last[0] - core.front
        if left > 0:
            operator, limit = core.last[1]
            core.spent[operator, limit] = core.spent.get((operator, limit), 0) + left
        for (operator, limit), time in core.spent.items():
            times[operator, LIMIT[limit]] = time
    return max(core.last[0] for core in cores), spent, [core.slices for core in cores]
