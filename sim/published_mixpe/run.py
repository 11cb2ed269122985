"""A model on an accelerator: its products scheduled, each distinct one once, their counts summed and priced."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.sim.published_mixpe import tiling
from mixflight.sim.published_mixpe.energy import EnergySplit, search_prices, split
from mixflight.sim.published_mixpe.machines import Machine, Model, Published, published
from mixflight.sim.published_mixpe.workloads import Gemm, model_gemms


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """The best schedule of one product: counts (order of ``tiling.COUNTS``), tile sizes and loop order."""

    counts: NDArray[np.int64]
    tile: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def cycles(self) -> int:
        """Cycles in all."""
        return int(self.counts[0])

    @property
    def stall_cycles(self) -> int:
        """Cycles in which the array waits, first load and last store among them."""
        return int(self.counts[1])


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """A model on an accelerator."""

    cycles: int
    energy: EnergySplit


class Search:
    """Schedules of the published model; ``schedule`` remembers what it has searched."""

    def __init__(self, given: Published | None = None) -> None:
        self.given = given or published()
        self._known: dict[tuple[object, ...], Schedule] = {}

    def schedule(self, gemm: Gemm, machine: Machine) -> Schedule:
        """The best schedule of ``gemm`` on ``machine``."""
        key = (gemm, machine.rows, machine.cols, machine.bits, machine.one_mac_per_pe)
        if key not in self._known:
            best, tile, order = tiling.search(*arguments(gemm, machine, self.given))
            self._known[key] = Schedule(counts=best, tile=tuple(tile.tolist()), order=tuple(order.tolist()))
        return self._known[key]

    def total(self, model: Model, machine: Machine) -> Total:
        """Cycles and energy of ``model`` on ``machine``."""
        counts = np.zeros(len(tiling.COUNTS), dtype=np.int64)
        for gemm, uses in model_gemms(model, machine, self.given.workload).items():
            counts += uses * self.schedule(gemm, machine).counts
        return Total(cycles=int(counts[0]), energy=split(counts, machine, self.given))

    def totals(self) -> dict[tuple[str, str], Total]:
        """(model, accelerator) to total, for everything that was published."""
        given = self.given
        return {(model.name, item.name): self.total(model, item) for model in given.model for item in given.accelerator}


def arguments(gemm: Gemm, machine: Machine, given: Published) -> tuple[object, ...]:
    """The arguments of ``tiling.search`` for ``gemm`` on ``machine``."""
    shape = np.array([gemm.batch, gemm.out_side, gemm.out_side, gemm.inputs, gemm.outputs], dtype=np.int64)
    memory = given.memory
    return (
        shape, gemm.kernel**2, gemm.act_bits, gemm.weight_bits, memory.output_bits, machine.rows, machine.cols,
        machine.factor(gemm.act_bits), machine.factor(gemm.weight_bits), memory.half_buffer_bits,
        memory.dram_bits_per_cycle, search_prices(machine, given), tiling.ORDERS,
    )  # fmt: skip
