"""The bench of the memory side with the memories of cocotbext-axi, which we did not write."""

import itertools

import cocotb
import numpy as np
from cocotbext.axi import AxiBus, AxiRam, AxiRamRead, AxiReadBus

from mixflight.rtl.bench_core_memory import hbm_names, run_file


class AxiRams:
    """Memories of a job, one a simulation: they go on for ever. Every channel pauses with the job's probability."""

    reads = ()

    def __init__(self, dut, job: dict, arrays: dict[str, np.ndarray], errors: list[str]) -> None:
        size = len(arrays["ddr"])
        self.rams = {"ddr": AxiRamRead(AxiReadBus.from_prefix(dut, "ddr_"), dut.clk, dut.rst, size=size)}
        halves = [self.rams["ddr"]]
        for index, name in enumerate(hbm_names(job)):
            ram = self.rams[name] = AxiRam(AxiBus.from_prefix(dut, f"hbm__{index}_"), dut.clk, dut.rst, size=size)
            halves += [ram.read_if, ram.write_if]
        for number, half in enumerate(halves):
            random = np.random.default_rng([job["seed"], number])
            for name in ("ar_channel", "r_channel", "aw_channel", "w_channel", "b_channel"):
                if hasattr(half, name):
                    pauses = (random.random(997) < job["stall"]).tolist()
                    getattr(half, name).set_pause_generator(itertools.cycle(pauses))
        for name, ram in self.rams.items():
            ram.write(0, arrays[name].tobytes())
        self.size = size

    def step(self, cycle: int, stall: float) -> int:
        return 0

    def contents(self) -> dict[str, np.ndarray]:
        return {name: np.frombuffer(ram.read(0, self.size), np.uint8) for name, ram in self.rams.items()}


@cocotb.test()
async def run_all_jobs(dut) -> None:
    await run_file(dut, AxiRams)
