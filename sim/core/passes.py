"""Single passes of a scenario on cores, fused or general: what a change of the machine does to each."""

from collections.abc import Sequence

from mixflight.arch.core import CoreMachine
from mixflight.mapping.block_mask import Mask
from mixflight.sim.core.general import GeneralCores
from mixflight.sim.core.scenario import Cores, Effects, Run
from mixflight.workloads.model import Model
from mixflight.workloads.trace import Formats, Trace, decode_traces, prefill_trace


class Passes:
    """The prefill and the last decode step of a scenario; ``general`` operator by operator, else fused."""

    def __init__(
        self, model: Model, formats: Formats, prefill: int, decode: int, *, batch: int = 1, general: bool = False,
        masks: Sequence[Mask] = (),
    ) -> None:  # fmt: skip
        self.model, self.formats, self.batch, self.general, self.masks = model, formats, batch, general, tuple(masks)
        self.context = prefill + decode
        *_, last = decode_traces(model, formats, prefill, decode, batch)
        self.traces: tuple[Trace, Trace] = prefill_trace(model, formats, prefill, batch, decode), last

    def cores(self, machine: CoreMachine, effects: Effects | None = None) -> Cores:
        """The cores of ``machine`` for this scenario."""
        return Cores(
            machine, self.model, self.formats, max_context=self.context, batch=self.batch, effects=effects,
            masks=self.masks,
        )  # fmt: skip

    def run(self, machine: CoreMachine, effects: Effects | None = None) -> tuple[Run, Run]:
        """Both passes on ``machine``."""
        cores = self.cores(machine, effects)
        first, last = self.traces
        if self.general:
            operators = GeneralCores(cores.machine, cores.units)
            return operators.run([first], [1.0]), operators.run([last], [1.0])
        return cores.run(first), cores.run(last)

    def times(self, machine: CoreMachine, effects: Effects | None = None) -> tuple[float, float]:
        """Microseconds of both passes on ``machine``."""
        first, last = self.run(machine, effects)
        return first.cycles / machine.clock_mhz, last.cycles / machine.clock_mhz
