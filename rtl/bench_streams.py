"""The bench that runs inside the simulator: offers and collects stream beats as the job file says.

One coroutine wakes once a clock edge. What it reads then are the values before the edge, what it writes takes
effect after it, so a handshake seen here is the handshake that the hardware saw.
"""

import json
import os
import time

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from mixflight.rtl.harness import from_words, to_words
from mixflight.rtl.stall_pattern import StallPattern, job_stalls

_RESET_CYCLES = 3
_SURPLUS_CYCLES = 16
"""Cycles in which nothing more may come, after the last expected payload."""


class _Source:
    """Offers payloads in order, each until it is taken."""

    def __init__(self, dut, name: str, payloads: tuple[int, ...], stalls: StallPattern) -> None:
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.payload = getattr(dut, f"{name}__payload")
        self.name, self.payloads, self.stalls = name, payloads, stalls
        self.taken = 0
        self.offering = False
        self.cycles: list[int] = []
        self.valid.value = 0

    @property
    def done(self) -> bool:
        return self.taken == len(self.payloads)

    def before_edge(self, cycle: int) -> bool:
        """Note whether the offer was taken at this edge."""
        if self.offering and self.ready.value == 1:
            self.cycles.append(cycle)
            self.taken += 1
            self.offering = False
            return True
        return False

    def after_edge(self, moved: bool) -> None:
        """Offer the next payload, unless this cycle stalls."""
        if self.offering or self.done:
            if moved:
                self.valid.value = 0
            return
        if self.stalls():
            if moved:
                self.valid.value = 0
            return
        self.payload.value = self.payloads[self.taken]
        self.valid.value = 1
        self.offering = True


class _Sink:
    """Takes payloads, and watches that none is withdrawn or changed while it waits."""

    def __init__(self, dut, name: str, count: int, stalls: StallPattern) -> None:
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.payload = getattr(dut, f"{name}__payload")
        self.name, self.count, self.stalls = name, count, stalls
        self.taking = False
        self.waiting: int | None = None
        self.payloads: list[int] = []
        self.cycles: list[int] = []
        self.errors: list[str] = []
        self.ready.value = 0

    @property
    def done(self) -> bool:
        return len(self.payloads) >= self.count

    def before_edge(self, cycle: int) -> bool:
        """Note what was offered, and whether it was taken at this edge."""
        if self.valid.value != 1:
            if self.waiting is not None:
                self.errors.append(f"{self.name}: a payload was withdrawn before it was taken, cycle {cycle}")
                self.waiting = None
            return False
        payload = int(self.payload.value)
        if self.waiting is not None and self.waiting != payload:
            self.errors.append(f"{self.name}: a payload changed before it was taken, cycle {cycle}")
        if not self.taking:
            self.waiting = payload
            return False
        self.waiting = None
        if self.done:
            self.errors.append(f"{self.name}: more than {self.count} payloads, cycle {cycle}")
        else:
            self.payloads.append(payload)
            self.cycles.append(cycle)
        return True

    def after_edge(self) -> None:
        """Decide whether the next cycle takes."""
        taking = not self.stalls()
        if taking != self.taking:
            self.ready.value = int(taking)
            self.taking = taking


async def _run(dut, job: dict, beats: dict[str, tuple[int, ...]]) -> tuple[dict, list[_Source], list[_Sink]]:
    stalls = job_stalls(job["inputs"], job["counts"], job["stall"], job["seed"])
    sources = [_Source(dut, name, beats[name], stalls[name]) for name in job["inputs"]]
    sinks = [_Sink(dut, name, count, stalls[name]) for name, count in job["counts"].items()]
    edge = RisingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(_RESET_CYCLES):
        await edge
    dut.rst.value = 0
    start = time.perf_counter()
    cycle = idle = 0
    surplus = _SURPLUS_CYCLES
    for source in sources:
        source.after_edge(False)
    for sink in sinks:
        sink.after_edge()
    while idle < job["patience"]:
        await edge
        progress = False
        for source in sources:
            moved = source.before_edge(cycle)
            source.after_edge(moved)
            progress |= moved
        for sink in sinks:
            progress |= sink.before_edge(cycle)
            sink.after_edge()
        cycle += 1
        idle = 0 if progress else idle + 1
        if all(sink.done for sink in sinks) and all(source.done for source in sources):
            surplus -= 1
            if surplus < 0:
                break
    finished = all(sink.done for sink in sinks) and all(source.done for source in sources)
    errors = [error for sink in sinks for error in sink.errors]
    return ({"finished": finished, "cycles": cycle, "seconds": time.perf_counter() - start,
             "protocol_errors": errors[:20]}, sources, sinks)


@cocotb.test()
async def transfer_all_jobs(dut) -> None:
    """Run every job of the job file and write the result file."""
    arrays, described = {}, []
    Clock(dut.clk, 10, unit="ns").start()
    with np.load(os.environ["MIXFLIGHT_JOBS"]) as stored:
        for index, job in enumerate(json.loads(str(stored["jobs"]))):
            beats = {name: from_words(stored[f"{index}/{name}"]) for name in job["inputs"]}
            row, sources, sinks = await _run(dut, job, beats)
            described.append(row)
            for source in sources:
                arrays[f"{index}/{source.name}/cycles"] = np.array(source.cycles, np.int64)
            for sink in sinks:
                arrays[f"{index}/{sink.name}"] = to_words(sink.payloads)
                arrays[f"{index}/{sink.name}/cycles"] = np.array(sink.cycles, np.int64)
    path = os.environ["MIXFLIGHT_RESULTS"]
    np.savez(path + ".part.npz", results=np.array(json.dumps(described)), **arrays)
    os.replace(path + ".part.npz", path)
