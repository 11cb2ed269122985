"""The bench that runs inside the simulator: sets every input pin each cycle, and notes every output pin.

Row ``t`` of an input is at the pins when clock edge ``t`` comes; row ``t`` of an output is what the pins
showed just before that edge.
"""

import os
import time

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

_RESET_CYCLES = 3


@cocotb.test()
async def apply_all_vectors(dut) -> None:
    """Apply the vectors of the job file and write the result file."""
    with np.load(os.environ["MIXFLIGHT_JOBS"]) as stored:
        columns = {name.removeprefix("in/"): stored[name] for name in stored.files if name.startswith("in/")}
        outputs = [str(name) for name in stored["outputs"]]
    handles = [getattr(dut, name) for name in columns]
    watched = [getattr(dut, name) for name in outputs]
    rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    seen = []
    Clock(dut.clk, 10, unit="ns").start()
    edge = RisingEdge(dut.clk)
    dut.rst.value = 1
    for handle in handles:
        handle.value = 0
    for _ in range(_RESET_CYCLES):
        await edge
    dut.rst.value = 0
    start = time.perf_counter()
    before: tuple[int | None, ...] = (None,) * len(handles)
    for row in rows:
        for handle, value, old in zip(handles, row, before, strict=True):
            if value != old:
                handle.value = value
        before = row
        await edge
        seen.append([int(handle.value) for handle in watched])
    table = np.array(seen, np.uint64).reshape(len(rows), len(outputs))
    path = os.environ["MIXFLIGHT_RESULTS"]
    np.savez(path + ".part.npz", seconds=time.perf_counter() - start,
             **{f"out/{name}": table[:, index] for index, name in enumerate(outputs)})
    os.replace(path + ".part.npz", path)
