"""The bench that runs inside the simulator for a unit of a core: instructions in, buffers behind its ports.

Reads are answered from the words of the job, ``READ_LATENCY`` cycles after they are accepted; writes are noted. Every
handshake stalls with its own probability; ports that the unit takes for granted have none.
"""

import json
import os

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from mixflight.rtl.core_ports import READ_LATENCY
from mixflight.rtl.harness import from_words, to_words
from mixflight.rtl.stall_pattern import StallPattern

_RESET_CYCLES = 3


class _Reads:
    """A read port's buffer: answers in order, a fixed time after it accepted."""

    def __init__(self, dut, name: str, words: tuple[int, ...], stalls: StallPattern) -> None:
        self.valid, self.ready, self.address, self.data, self.data_valid = (
            getattr(dut, f"{name}__{pin}") for pin in ("valid", "ready", "address", "data", "data_valid"))
        self.words, self.stalls = words, stalls
        self.answers: list[int | None] = [None] * (READ_LATENCY - 1)
        self.shown: int | None = None
        self.open = False
        self.ready.value = self.data_valid.value = 0

    def edge(self) -> None:
        """Accept a request, answer an old one, decide about the next cycle."""
        accepted = self.open and self.valid.value == 1
        self.answers.append(self.words[int(self.address.value)] if accepted else None)
        answer = self.answers.pop(0)
        if answer is not None:
            self.data.value = answer
        if (answer is None) != (self.shown is None):
            self.data_valid.value = int(answer is not None)
        self.shown = answer
        going = not self.stalls()
        if going != self.open:
            self.ready.value, self.open = int(going), going


class _Writes:
    """A write port's buffer: notes what it accepted."""

    def __init__(self, dut, name: str, stalls: StallPattern) -> None:
        self.valid, self.ready, self.address, self.data, self.mask = (
            getattr(dut, f"{name}__{pin}") for pin in ("valid", "ready", "address", "data", "mask"))
        self.stalls, self.open = stalls, False
        self.cycles: list[int] = []
        self.words: dict[str, list[int]] = {"address": [], "data": [], "mask": []}
        self.ready.value = 0

    def edge(self, cycle: int) -> bool:
        """Note what is accepted, decide about the next cycle."""
        accepted = self.open and self.valid.value == 1
        if accepted:
            self.cycles.append(cycle)
            for name, values in self.words.items():
                values.append(int(getattr(self, name).value))
        going = not self.stalls()
        if going != self.open:
            self.ready.value, self.open = int(going), going
        return accepted


async def _run(dut, job: dict, instructions: tuple[int, ...], buffers: dict[str, tuple[int, ...]]) -> dict:
    def pattern(name: str, number: int) -> StallPattern:
        return StallPattern(job["stall"].get(name, 0.0), [job["seed"], number])

    reads = [_Reads(dut, name, words, pattern(name, i)) for i, (name, words) in enumerate(buffers.items())]
    writes = {name: _Writes(dut, name, pattern(name, 100 + i)) for i, name in enumerate(job["writes"])}
    for name, value in job["pins"].items():
        getattr(dut, name).value = value
    valid, ready, payload = (getattr(dut, f"instruction__{pin}") for pin in ("valid", "ready", "payload"))
    stalls = pattern("instruction", 200)
    watched = {name: getattr(dut, name) for name in job["watch"]}
    totals = dict.fromkeys(watched, 0)
    edge = RisingEdge(dut.clk)
    valid.value = 0
    dut.rst.value = 1
    for _ in range(_RESET_CYCLES):
        await edge
    dut.rst.value = 0
    taken: list[int] = []
    done: list[int] = []
    cycle = idle = 0
    offering = False
    while idle < job["patience"] and (len(done) < len(instructions) or idle < job["surplus"]):
        await edge
        moved = False
        if offering and ready.value == 1:
            taken.append(cycle)
            offering, moved = False, True
        for port in reads:
            port.edge()
        for port in writes.values():
            moved |= port.edge(cycle)
        for name, pin in watched.items():
            totals[name] += int(pin.value)
        if dut.done.value == 1:
            done.append(cycle)
            moved = True
        if not offering:
            offering = len(taken) < len(instructions) and not stalls()
            valid.value = int(offering)
            if offering:
                payload.value = instructions[len(taken)]
        cycle += 1
        idle = 0 if moved else idle + 1
    return {"taken": taken, "done": done, "writes": writes, "cycles": cycle, "totals": totals}


@cocotb.test()
async def carry_out_all_jobs(dut) -> None:
    """Run every job of the job file and write the result file."""
    arrays, described = {}, []
    Clock(dut.clk, 10, unit="ns").start()
    with np.load(os.environ["MIXFLIGHT_JOBS"]) as stored:
        for index, job in enumerate(json.loads(str(stored["jobs"]))):
            buffers = {name: from_words(stored[f"{index}/read/{name}"]) for name in job["reads"]}
            row = await _run(dut, job, from_words(stored[f"{index}/instructions"]), buffers)
            for name, port in row.pop("writes").items():
                arrays |= {f"{index}/{name}/{part}": to_words(values) for part, values in port.words.items()}
                arrays[f"{index}/{name}/cycles"] = np.array(port.cycles, np.int64)
            described.append(row)
    path = os.environ["MIXFLIGHT_RESULTS"]
    np.savez(path + ".part.npz", results=np.array(json.dumps(described)), **arrays)
    os.replace(path + ".part.npz", path)
