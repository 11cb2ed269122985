"""The bench of the memory side of a core: memories, instructions, other clients of the buffers, what is left.

One coroutine wakes once a clock edge. What it reads then are the values before the edge, what it writes takes effect
after it. Memories answer reads ``latency`` cycles after their address was taken and then a beat a cycle, writes
``latency`` cycles after their last beat, both later with ``stall``; rules of AXI4 are watched.
"""

import json
import os
from collections import deque

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

_BEAT = 64
_RESET_CYCLES = 3
_PAGE = 4096
_SCRATCH_STALL = 0.3


def _get(handle) -> int:
    return int(handle.value)


class _Stable:
    """Watches that what is offered stays until it is taken."""

    def __init__(self, dut, prefix: str, valid: str, ready: str, fields: tuple[str, ...], errors: list[str]) -> None:
        self.valid, self.ready = getattr(dut, prefix + valid), getattr(dut, prefix + ready)
        self.fields = {name: getattr(dut, prefix + name) for name in fields}
        self.held: dict[str, int] | None = None
        self.errors, self.name = errors, prefix + valid

    def look(self) -> dict[str, int] | None:
        """What is taken at this edge."""
        if not _get(self.valid):
            if self.held is not None:
                self.errors.append(f"{self.name} fell before it was taken")
                self.held = None
            return None
        now = {name: _get(handle) for name, handle in self.fields.items()}
        if self.held is not None and now != self.held:
            self.errors.append(f"{self.name}: payload changed before it was taken")
        taken = _get(self.ready)
        self.held = None if taken else now
        return now if taken else None


class _Reads:
    """One memory's AR and R."""

    def __init__(self, dut, prefix: str, store: np.ndarray, job: dict, random, errors: list[str]) -> None:
        self.store, self.job, self.random, self.errors = store, job, random, errors
        fields = ("araddr", "arlen", "arsize", "arburst", "arid")
        self.address = _Stable(dut, prefix, "arvalid", "arready", fields, errors)
        self.arready = getattr(dut, prefix + "arready")
        self.rvalid, self.rready = getattr(dut, prefix + "rvalid"), getattr(dut, prefix + "rready")
        self.out = {name: getattr(dut, prefix + name) for name in ("rdata", "rresp", "rlast", "rid")}
        self.queue: deque[tuple[int, int, int, int]] = deque()
        self.offering = False
        self.most = 0
        self.arready.value, self.rvalid.value = 1, 0

    def step(self, cycle: int, stall: float) -> None:
        """One edge."""
        taken = self.address.look()
        if taken:
            self._accept(cycle, taken)
        if self.offering and _get(self.rready):
            self.queue.popleft()
            self.offering = False
            self.rvalid.value = 0
        self.arready.value = int(self.random.random() >= stall)
        if not self.offering and self.queue and self.queue[0][0] <= cycle + 1 and self.random.random() >= stall:
            _, address, last, response = self.queue[0]
            self.out["rdata"].value = int.from_bytes(self.store[address : address + _BEAT].tobytes(), "little")
            self.out["rresp"].value, self.out["rlast"].value, self.out["rid"].value = response, last, 0
            self.rvalid.value = 1
            self.offering = True

    def _accept(self, cycle: int, taken: dict[str, int]) -> None:
        address, beats = taken["araddr"], taken["arlen"] + 1
        self.errors += _wrong_burst("AR", taken["araddr"], beats, taken["arsize"], taken["arburst"])
        response = 2 if address in self.job["bad"] else 0
        for index in range(beats):
            due = cycle + self.job["latency"] + index
            self.queue.append((due, address + index * _BEAT, int(index == beats - 1), response))
        waiting = sum(entry[2] for entry in self.queue)
        self.most = max(self.most, waiting)


class _Writes:
    """One memory's AW, W and B."""

    def __init__(self, dut, prefix: str, store: np.ndarray, job: dict, random, errors: list[str]) -> None:
        self.store, self.job, self.random, self.errors = store, job, random, errors
        fields = ("awaddr", "awlen", "awsize", "awburst", "awid")
        self.address = _Stable(dut, prefix, "awvalid", "awready", fields, errors)
        self.data = _Stable(dut, prefix, "wvalid", "wready", ("wdata", "wstrb", "wlast"), errors)
        self.ready = [getattr(dut, prefix + name) for name in ("awready", "wready")]
        self.bvalid, self.bready = getattr(dut, prefix + "bvalid"), getattr(dut, prefix + "bready")
        self.bresp, self.bid = getattr(dut, prefix + "bresp"), getattr(dut, prefix + "bid")
        self.bursts: deque[tuple[int, int]] = deque()
        self.place = 0
        self.answers: deque[tuple[int, int]] = deque()
        self.offering = False
        self.bvalid.value = 0
        for handle in self.ready:
            handle.value = 1

    def step(self, cycle: int, stall: float) -> None:
        """One edge."""
        taken = self.address.look()
        if taken:
            beats = taken["awlen"] + 1
            self.errors += _wrong_burst("AW", taken["awaddr"], beats, taken["awsize"], taken["awburst"])
            self.bursts.append((taken["awaddr"], beats))
        beat = self.data.look()
        if beat:
            self._write(cycle, beat)
        if self.offering and _get(self.bready):
            self.answers.popleft()
            self.offering = False
            self.bvalid.value = 0
        for handle in self.ready:
            handle.value = int(self.random.random() >= stall)
        if not self.offering and self.answers and self.answers[0][0] <= cycle + 1 and self.random.random() >= stall:
            self.bvalid.value, self.bresp.value, self.bid.value = 1, self.answers[0][1], 0
            self.offering = True

    def _write(self, cycle: int, beat: dict[str, int]) -> None:
        if not self.bursts:
            self.errors.append("W before its AW")
            return
        address, beats = self.bursts[0]
        if beat["wlast"] != (self.place == beats - 1):
            self.errors.append(f"WLAST {beat['wlast']} in beat {self.place} of {beats}")
        at = address + self.place * _BEAT
        octets = np.frombuffer(beat["wdata"].to_bytes(_BEAT, "little"), np.uint8)
        strobe = np.unpackbits(np.frombuffer(beat["wstrb"].to_bytes(_BEAT // 8, "little"), np.uint8), bitorder="little")
        self.store[at : at + _BEAT] = np.where(strobe, octets, self.store[at : at + _BEAT])
        self.place += 1
        if self.place == beats:
            self.bursts.popleft()
            self.place = 0
            self.answers.append((cycle + self.job["latency"], 2 if address in self.job["bad"] else 0))


def _wrong_burst(name: str, address: int, beats: int, size: int, kind: int) -> list[str]:
    found = []
    if address // _PAGE != (address + beats * _BEAT - 1) // _PAGE:
        found.append(f"{name} of {beats} beats at {address:#x} crosses 4 KiB")
    if address % _BEAT or (1 << size) != _BEAT or kind != 1:
        found.append(f"{name} at {address:#x}: size {size}, burst {kind}")
    return found


class _Unit:
    """Offers instructions to a unit, and notes when they were taken and done."""

    def __init__(self, dut, name: str, random) -> None:
        self.valid, self.ready, self.payload = (
            getattr(dut, f"{name}__instruction__{part}") for part in ("valid", "ready", "payload"))
        self.done = getattr(dut, f"{name}__done")
        self.random = random
        self.waiting: deque[int] = deque()
        self.offering = False
        self.taken: list[int] = []
        self.ended: list[int] = []
        self.valid.value = 0

    @property
    def idle(self) -> bool:
        return not self.waiting and len(self.taken) == len(self.ended)

    def step(self, cycle: int, stall: float) -> None:
        """One edge."""
        if self.offering and _get(self.ready):
            self.taken.append(cycle)
            self.waiting.popleft()
            self.offering = False
            self.valid.value = 0
        if _get(self.done):
            self.ended.append(cycle)
        if not self.offering and self.waiting and self.random.random() >= stall:
            self.payload.value = self.waiting[0]
            self.valid.value = 1
            self.offering = True


class _Noise:
    """Other clients of the global and act buffers, which come first: reads anywhere, writes to a line of their own."""

    def __init__(self, dut, job: dict, random) -> None:
        self.random = random
        self.valids = [dut.vector_read__1__valid, dut.act_read__valid]
        self.writes = [dut.vector_write__0__valid, dut.vector_write__1__valid]
        for port in ("vector_write__0__", "vector_write__1__"):
            getattr(dut, port + "address").value = job["scratch"]
            getattr(dut, port + "mask").value = 0xFFFF

    def step(self, stall: float) -> None:
        """One edge."""
        for handle in (*self.valids, *self.writes):
            handle.value = int(self.random.random() < stall * _SCRATCH_STALL)


async def _fill(dut, edge, name: str, rows: np.ndarray, mask: int) -> None:
    """Write all lines of a buffer."""
    for line, row in enumerate(rows):
        getattr(dut, f"{name}__address").value = line
        getattr(dut, f"{name}__data").value = int.from_bytes(row.tobytes(), "little")
        getattr(dut, f"{name}__mask").value = mask
        getattr(dut, f"{name}__valid").value = 1
        await edge
    getattr(dut, f"{name}__valid").value = 0


async def _dump(dut, edge, name: str, depth: int) -> list[int]:
    """All words of a read port, two cycles after each was asked."""
    found = []
    for address in range(depth + 3):
        getattr(dut, f"{name}__valid").value = int(address < depth)
        getattr(dut, f"{name}__address").value = min(address, depth - 1)
        await edge
        if _get(getattr(dut, f"{name}__data_valid")):
            found.append(_get(getattr(dut, f"{name}__data")))
    return found


def _packed(words: list[int], size: int) -> np.ndarray:
    return np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8).reshape(len(words), size)


class Memories:
    """All memories of a job: ``step`` at every edge, and at the end what lies in them."""

    def __init__(self, dut, job: dict, arrays: dict[str, np.ndarray], errors: list[str]) -> None:
        random = np.random.default_rng(job["seed"] + 1)
        self.stores = {name: arrays[name].copy() for name in (*hbm_names(job), "ddr")}
        self.reads = [_Reads(dut, "ddr__", self.stores["ddr"], job, random, errors)]
        self.writes = []
        for index, name in enumerate(hbm_names(job)):
            self.reads.append(_Reads(dut, f"hbm__{index}__", self.stores[name], job, random, errors))
            self.writes.append(_Writes(dut, f"hbm__{index}__", self.stores[name], job, random, errors))

    def step(self, cycle: int, stall: float) -> int:
        """One edge; how many beats are on their way."""
        for part in (*self.reads, *self.writes):
            part.step(cycle, stall)
        return sum(len(read.queue) for read in self.reads)

    def contents(self) -> dict[str, np.ndarray]:
        """What lies in them."""
        return self.stores


def hbm_names(job: dict) -> list[str]:
    """Arrays of a job that are HBM channels."""
    return [f"hbm{index}" for index in range(job["channels"])]


async def run_job(dut, job: dict, arrays: dict[str, np.ndarray], make=Memories) -> tuple[dict, dict[str, np.ndarray]]:
    """One job after a reset; ``make`` gives its memories."""
    random, edge, errors = np.random.default_rng(job["seed"]), RisingEdge(dut.clk), []
    memories = make(dut, job, arrays, errors)
    units = {name: _Unit(dut, name, random) for name in ("load", "store")}
    for name in ("weight", "scale", "index", "vector_read__0", "vector_read__1", "act_read", "act_write",
                 "vector_write__0", "vector_write__1"):
        getattr(dut, f"{name}__valid").value = 0
    dut.head.value = job["head"]
    dut.rst.value = 1
    for _ in range(_RESET_CYCLES):
        await edge
    dut.rst.value = 0
    await edge
    await _fill(dut, edge, "vector_write__0", arrays["vector"], 0xFFFF)
    await _fill(dut, edge, "act_write", arrays["act"], 0xF)
    noise = _Noise(dut, job, random)
    cycle = idle = 0
    for phase in job["phases"]:
        for name, unit in units.items():
            unit.waiting.extend(int(word, 16) for word in phase[name])
        idle, moved = 0, -1
        while not all(unit.idle for unit in units.values()) and idle < job["patience"]:
            await edge
            stall = job["stall"]
            on_their_way = memories.step(cycle, stall)
            for part in units.values():
                part.step(cycle, stall)
            noise.step(stall)
            now = sum(len(unit.taken) + len(unit.ended) for unit in units.values())
            now += on_their_way
            idle = 0 if now != moved else idle + 1
            moved = now
            cycle += 1
        if idle >= job["patience"]:
            ended = [len(unit.ended) for unit in units.values()]
            errors.append(f"stopped: nothing moved for {idle} cycles; {ended} ended")
            break
    for _ in range(4):
        noise.step(0.0)
        await edge
    out = {f"after/{name}": store for name, store in memories.contents().items()}
    for name, size in job["dump"].items():
        out[f"after/{name}"] = _packed(await _dump(dut, edge, name, size["depth"]), size["bytes"])
    found = {
        "errors": errors[:20], "cycles": cycle, "refused": _get(dut.refused), "slot_layouts": _get(dut.slot_layouts),
        "taken": {name: unit.taken for name, unit in units.items()},
        "ended": {name: unit.ended for name, unit in units.items()},
        "most": max((read.most for read in memories.reads), default=0),
        "memory_errors": [_get(getattr(dut, name)) for name in (
            *[f"read_error__{index}" for index in range(job["channels"] + 1)],
            *[f"write_error__{index}" for index in range(job["channels"])])],
    }
    return found, out


@cocotb.test()
async def run_all_jobs(dut) -> None:
    """Run every job of the job file and write the result file."""
    await run_file(dut)


async def run_file(dut, make=Memories) -> None:
    """Run every job of the job file, its memories from ``make``, and write the result file."""
    Clock(dut.clk, 10, unit="ns").start()
    rows, out = [], {}
    with np.load(os.environ["MIXFLIGHT_JOBS"]) as stored:
        for index, job in enumerate(json.loads(str(stored["jobs"]))):
            arrays = {name.split("/", 1)[1]: stored[name] for name in stored.files if name.startswith(f"{index}/")}
            row, found = await run_job(dut, job, arrays, make)
            rows.append(row)
            out |= {f"{index}/{name}": values for name, values in found.items()}
    path = os.environ["MIXFLIGHT_RESULTS"]
    np.savez(path + ".part.npz", results=np.array(json.dumps(rows)), **out)
    os.replace(path + ".part.npz", path)
