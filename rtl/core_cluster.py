"""Several cores that execute the programs of one pass together: one control bus, a ring, all their memories."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.core import CoreMachine
from mixflight.arch.core_registers import as_markdown, c_header, core_registers
from mixflight.arch.errors import InputError
from mixflight.arch.exchange_pipeline import link_stages, meeting_stages
from mixflight.arch.isa import CLASSES
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_ports import LINE_BITS, Axi4, Axi4Read
from mixflight.rtl.core_ring import CoreRing
from mixflight.rtl.core_windows import ControlWindows, windows_bus
from mixflight.rtl.placed_copy import place


class CoreCluster(wiring.Component):
    """The ``machine.cores`` cores of a machine, joined.

    ========================  ======================================================================================
    s_axi                     control registers, a window a core
                              (:class:`~mixflight.rtl.core_windows.ControlWindows`); the window behind them writes to
                              all cores, and START must be written there
    m_axi_0, m_axi_1, …       channels of HBM: the first core's, then the second's, …
    m_axi_ddr_0, …            DDR for LD of each core
    m_axi_text_0, …           DDR for text and constants of each
    begins, ends              as :class:`~mixflight.rtl.core.Core`, core after core
    ========================  ======================================================================================

    An error of one core ends the runs of all: of the others with ``OTHER_CORE``. How many registers lie between two
    cores follows from ``exchange.latency_cycles`` and ``controller.barrier_cycles`` of the machine
    (:mod:`mixflight.arch.exchange_pipeline`). ``generic`` as of a core.
    """

    def __init__(self, machine: CoreMachine, *, generic: bool = False):
        if machine.cores < 2:
            raise InputError(f"joined cores must be 2 at least, which {machine.name} does not have")
        self.shape, self.machine, self.generic = core_shape(machine), machine, generic
        self.dots = "generic" if generic and self.shape.dots != "shift-add" else self.shape.dots
        barrier, latency = machine.controller.barrier_cycles, machine.exchange.latency_cycles
        self.meeting = meeting_stages(barrier_cycles=barrier)
        self.link = link_stages(cores=machine.cores, latency_cycles=latency, barrier_cycles=barrier)
        super().__init__({
            "s_axi": In(windows_bus(machine.cores, core_registers().address_bits)),
            **{name: Out((Axi4 if self._channel(name) else Axi4Read)(LINE_BITS)) for name in self.memories},
            "begins": Out(machine.cores * len(CLASSES)), "ends": Out(machine.cores * len(CLASSES)),
        })  # fmt: skip

    @property
    def documents(self) -> dict[str, str]:
        """The register map: a C header and a page."""
        header = c_header(self.machine.name, values={"SLOT_BYTES": tuple(self.shape.slot_bytes.values())}, sequencer={},
                          cores=self.machine.cores)  # fmt: skip
        return {"core_registers.h": header, "core_registers.md": as_markdown(cores=self.machine.cores)}

    @property
    def memories(self) -> tuple[str, ...]:
        """The memory buses, channels first."""
        cores = range(self.machine.cores)
        return (*(f"m_axi_{channel}" for channel in range(len(cores) * self.shape.channels)),
                *(f"m_axi_ddr_{core}" for core in cores), *(f"m_axi_text_{core}" for core in cores))  # fmt: skip

    @staticmethod
    def _channel(name: str) -> bool:
        return name.rpartition("_")[0] == "m_axi"

    def elaborate(self, platform):
        """Equal cores on a ring."""
        m = Module()
        cores, channels = self.machine.cores, self.shape.channels
        m.submodules.windows = windows = ControlWindows(cores=cores, window_bits=core_registers().address_bits)
        m.submodules.ring = ring = CoreRing(cores=cores, meeting=self.meeting, link=self.link)
        connect(m, flipped(self.s_axi), windows.bus)
        begins, ends = [], []
        for number in range(cores):
            core = Core(self.machine, generic=self.generic)
            place(m, platform, f"core_{number}", core, like="core_0")
            connect(m, windows.core[number], core.s_axi)
            connect(m, core.exchange, ring.core[number])
            names = {f"m_axi_{channel}": f"m_axi_{number * channels + channel}" for channel in range(channels)}
            names |= {name: f"{name}_{number}" for name in ("m_axi_ddr", "m_axi_text")}
            for mine, outside in names.items():
                connect(m, getattr(core, mine), flipped(getattr(self, outside)))
            begins.append(core.begins)
            ends.append(core.ends)
        m.d.comb += [self.begins.eq(Cat(begins)), self.ends.eq(Cat(ends))]
        return m
