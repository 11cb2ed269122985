"""Several joined cores on compiled Verilog with their memories: as ``core_harness`` runs one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.core_errors import MEANINGS, CoreError
from mixflight.arch.core_registers import core_registers
from mixflight.rtl.compiled_model import CompiledModel
from mixflight.rtl.core_harness import LATENCY_CYCLES, LIMIT_CYCLES, CoreProcess
from mixflight.rtl.harness import HarnessError

Text = tuple[NDArray[np.uint32], Sequence[int]]


class ClusterProcess(CoreProcess):
    """Running cores, one for each of ``texts``: words and constants. ``more`` has other texts of all cores, which
    ``select`` takes by their number from 1 on. One core alone has no windows.

    ``hbm`` are the channels of the first core, then of the second, …; all share ``ddr``. What is written or read
    without more is of the core that ``of`` chose last.
    """

    def __init__(
        self, model: CompiledModel, *, hbm: Sequence[NDArray[np.uint8]], ddr: NDArray[np.uint8], texts: Sequence[Text],
        latency: int = LATENCY_CYCLES, more: Sequence[Sequence[Text]] = (),
    ) -> None:  # fmt: skip
        self.cores, self.selected = len(texts), 0
        (text, constants), *others = (item for each in (texts, *more) for item in each)
        super().__init__(model, hbm=hbm, ddr=ddr, text=text, constants=constants, more=others, cores=self.cores,
                         latency=latency)  # fmt: skip

    def select(self, number: int) -> None:
        """The next run loads the ``number``-th text of each core, 0 the first; buffers keep what they hold."""
        self.selected = number
        self._say_where()

    def of(self, core: int) -> "ClusterProcess":
        """The same, for the registers of ``core``; those of all for the number behind the last core's, to write."""
        self.window = core << core_registers().address_bits if self.cores > 1 else 0
        return self

    def _say_where(self) -> None:
        for core in range(self.cores):
            self.of(core)
            place = self._texts[self.selected * self.cores + core]
            self.text_at, self.constants_at, self.instructions, self.constants = place
            super()._say_where()

    def set_constants(self, constants: ControlConstants, core: int | None = None) -> None:
        """Write what MISC reads, to all cores or to one."""
        super(ClusterProcess, self.of(self.cores if core is None else core)).set_constants(constants)

    def run_all(
        self, registers: Sequence[Mapping[int, int]], *, limit: int = LIMIT_CYCLES, every: int = 0,
        on_progress: Callable[[int, dict[str, int]], None] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Write each core's registers of the sequencer, run all texts to their ends; what was counted, ``cores`` what
        each has: cycles, executed, busy. ``on_progress`` is told of the first core's units as by ``run``.

        Raises
        ------
        HarnessError
            A core stopped with an error of its own, or was busy after ``limit`` cycles.
        """
        for core, given in enumerate(registers):
            self.of(core).write_registers(given)
        of_all = self._ran(self._until_end(limit, every, on_progress), limit)
        each = [self.of(core)._counted() for core in range(self.cores)]
        return of_all | {"cycles": max(item["cycles"] for item in each), "cores": each}

    def _ended(self, limit: int) -> None:
        """The error of a core that has one of its own comes before those of the others, which it stopped."""
        found = [CoreError(self.of(core).read("STATUS") >> 8 & 15) for core in range(self.cores)]
        for core, error in sorted(enumerate(found), key=lambda item: item[1] == CoreError.OTHER_CORE):
            if error:
                at = self.of(core).read("ERROR_AT")
                raise HarnessError(f"a program must run to its end, but core {core} found {MEANINGS[error]}, at "
                                   f"instruction {at}")  # fmt: skip
        for core in range(self.cores):
            super(ClusterProcess, self.of(core))._ended(limit)
