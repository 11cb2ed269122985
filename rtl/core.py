"""A core that executes programs: controller, memory side, buffers, matrix engine, special functions.

What each instruction does: ``arch/core_execution.md``.
"""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.compact import INSTRUCTION_BYTES, K_BLOCK, LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.core_registers import as_markdown, c_header, core_registers
from mixflight.arch.errors import InputError
from mixflight.arch.exchange_pipeline import LINK_BYTES
from mixflight.arch.isa import CLASSES
from mixflight.arch.mm_pipeline import lanes_in_core, rows_in_core, rows_together
from mixflight.arch.mv_pipeline import DOTS
from mixflight.rtl.axi_read import AxiRead
from mixflight.rtl.core_controller import Controller
from mixflight.rtl.core_exchange import CoreExchange, ExchangePort
from mixflight.rtl.core_memory import CoreMemory
from mixflight.rtl.core_mm_queue import ProductQueues
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_ports import LINE_BITS, Axi4, Axi4Lite, Axi4Read
from mixflight.rtl.core_sfu import CoreSfu

_TEXT_BURSTS = 4
"""Bursts of text on their way: more than the 16 bytes a cycle that are written need."""

_KINDS = {"weight": "uram", "act": "bram", "index": "bram", "scale": "bram", "instruction": "bram"}
"""Blocks that each buffer asks for; the global buffer asks for what its machine says."""


@dataclass(frozen=True, kw_only=True)
class CoreShape:
    """Sizes of a core, from its machine: channels, columns of a step, rows that go ``together``, depths in words, lines
    and instructions, the kind of blocks of the global buffer; the ``classes`` of instructions that it carries out; how
    many of 16 weights it takes as ``kept`` beside dense ones."""

    classes: tuple[str, ...]
    channels: int
    columns: int
    together: int
    dots: str
    lanes: int
    outputs: int
    weight_depth: int
    scale_depth: int
    index_depth: int
    act_lines: int
    global_lines: int
    global_kind: str
    instructions: int
    queue_depth: int
    kept: tuple[int, ...]
    sfu_width: int
    burst_bytes: int
    outstanding: int
    slot_bytes: dict[str, int]


def core_shape(machine: CoreMachine, *, matrices: bool = True) -> CoreShape:
    """The sizes of one core of ``machine``, on request without ``matrices``; no RTL of the machine is an InputError.

    A machine whose rows share words of weights carries out no MM where its core takes them one by one.
    """
    buffers, channels, columns = machine.buffers, machine.hbm.channels_per_core, machine.column_step
    if not machine.products or machine.hbm.port_bytes_per_cycle != LINE_BYTES:
        raise InputError(f"a core with RTL must be of {', '.join(DOTS)}, with memory ports of {LINE_BYTES} bytes, "
                         f"which {machine.name} is not")  # fmt: skip
    if machine.cores > 1 and (machine.units != "rtl" or machine.exchange.bytes_per_cycle != LINK_BYTES):
        raise InputError(f"several cores with RTL must have units in RTL and exchange {LINK_BYTES} bytes a cycle, "
                         f"which those of {machine.name} do not")  # fmt: skip
    kinds = {name: getattr(buffers, name).kind for name in _KINDS}
    if kinds != _KINDS:
        asked = ", ".join(f"{name} in {kind}" for name, kind in _KINDS.items())
        raise InputError(f"a core with RTL must have its buffers {asked}, which {machine.name} does not")
    together = rows_in_core(machine) if matrices else 1
    matrices = matrices and together == rows_together(machine)
    steps = machine.mv_columns // columns
    weight_depth = buffers.weight.bytes // (columns * K_BLOCK)
    return CoreShape(
        classes=tuple(kind for kind in CLASSES if kind != "MM" or matrices),
        channels=channels, columns=columns, together=together, dots=machine.products,
        lanes=min(lanes_in_core(machine), columns * together),
        outputs=max(64, 4 * steps, -(-machine.mm_rows // together) * steps if matrices else 0),
        weight_depth=weight_depth, scale_depth=buffers.scale.bytes // (4 * columns),
        index_depth=weight_depth if machine.kept else buffers.index.bytes // (2 * columns), kept=machine.kept,
        act_lines=buffers.act.bytes // LINE_BYTES, global_lines=buffers.vector.bytes // LINE_BYTES,
        global_kind=buffers.vector.kind,
        instructions=buffers.instruction.bytes // INSTRUCTION_BYTES, queue_depth=machine.controller.queue_depth,
        sfu_width=machine.sfu.elements_per_cycle, burst_bytes=machine.hbm.request_bytes,
        outstanding=machine.hbm.outstanding, slot_bytes=buffers.slot_bytes,
    )  # fmt: skip


class Core(wiring.Component):
    """One core of ``machine``; an MM where its shape does not have that class is an error that ends the run.

    ======================  ========================================================================================
    s_axi                   control registers (:func:`mixflight.arch.core_registers.core_registers`)
    m_axi_0, m_axi_1, …     the channels of HBM, addresses from 0 on
    m_axi_ddr               DDR for LD
    m_axi_text              DDR for text and constants
    exchange                where ``machine`` has several cores: to the others
                            (:func:`~mixflight.rtl.core_exchange.ExchangePort`)
    begins, ends            pulses, a bit a class: its unit takes an instruction, ends one; for whoever watches
    ======================  ========================================================================================

    All memory buses are 512 bits wide, and have bursts of at most ``hbm.request_bytes`` that cross no 4 KiB.
    ``generic``: operators instead of the device's DSP blocks, same values in the same cycles, for simulation.
    """

    def __init__(self, machine: CoreMachine, *, generic: bool = False):
        self.shape = shape = core_shape(machine)
        self.machine = machine
        self.dots = "generic" if generic and shape.dots != "shift-add" else shape.dots
        super().__init__({
            "s_axi": In(Axi4Lite(core_registers().address_bits)),
            **{f"m_axi_{channel}": Out(Axi4(LINE_BITS)) for channel in range(shape.channels)},
            "m_axi_ddr": Out(Axi4Read(LINE_BITS)), "m_axi_text": Out(Axi4Read(LINE_BITS)),
            "begins": Out(len(CLASSES)), "ends": Out(len(CLASSES)),
            **({"exchange": Out(ExchangePort(machine.cores))} if machine.cores > 1 else {}),
        })  # fmt: skip

    @property
    def documents(self) -> dict[str, str]:
        """The register map: a C header and a page."""
        header = c_header(self.machine.name, values={"SLOT_BYTES": tuple(self.shape.slot_bytes.values())}, sequencer={})
        return {"core_registers.h": header, "core_registers.md": as_markdown()}

    @property
    def memories(self) -> tuple[str, ...]:
        """The memory buses, channels first."""
        return (*(f"m_axi_{channel}" for channel in range(self.shape.channels)), "m_axi_ddr", "m_axi_text")

    def elaborate(self, platform):
        """Units on the controller, units on the memory side, the memory side on buses."""
        m = Module()
        shape, lanes = self.shape, self.shape.columns // self.shape.channels
        m.submodules.controller = controller = Controller(
            depth=shape.instructions, queue_depth=shape.queue_depth, slot_bytes=shape.slot_bytes, classes=shape.classes,
            cores=self.machine.cores,
        )
        m.submodules.memory = memory = CoreMemory(
            channels=shape.channels, lanes=lanes, weight_depth=shape.weight_depth, scale_depth=shape.scale_depth,
            index_depth=shape.index_depth, vector_depth=shape.global_lines, act_depth=shape.act_lines,
            burst_bytes=shape.burst_bytes, outstanding=shape.outstanding, together=shape.together,
            exchanges=self.machine.cores > 1, places=bool(shape.kept), far=2 in shape.kept,
            vector_kind=shape.global_kind,
        )  # fmt: skip
        m.submodules.mv = mv = MatrixVector(
            columns=shape.columns, banks=shape.channels, dots=self.dots, lanes=shape.lanes, outputs=shape.outputs,
            together=shape.together,
            weight_depth=shape.weight_depth, scale_depth=shape.scale_depth, kept=shape.kept,
        )  # fmt: skip
        m.submodules.sfu = sfu = CoreSfu(width=shape.sfu_width, channels=shape.channels)
        products = {"mv": mv}
        if "MM" in shape.classes:
            m.submodules.products = queues = ProductQueues()
            connect(m, queues.engine.instruction, mv.instruction)
            m.d.comb += queues.engine.done.eq(mv.done)
            products = {"mm": queues.mm, "mv": queues.mv}
        for name, part in (("ld", memory.load), ("st", memory.store), *products.items(), ("misc", sfu)):
            port = getattr(controller, f"unit_{name}")
            connect(m, port.instruction, part.instruction)
            m.d.comb += port.done.eq(part.done)
        for client, port in ((sfu.a, memory.vector_read[0]), (sfu.b, memory.vector_read[1]),
                             (mv.out, memory.vector_write[0]), (sfu.out, memory.vector_write[1]),
                             (mv.act, memory.act_read), (sfu.act, memory.act_write), (mv.weight, memory.weight),
                             (mv.scale, memory.scale)):  # fmt: skip
            connect(m, client, port)
        if shape.kept:
            connect(m, mv.index, memory.index)
        if 2 in shape.kept:
            connect(m, mv.act_far, memory.act_far)
        m.submodules.text = text = AxiRead(
            burst_bytes=shape.burst_bytes, outstanding=_TEXT_BURSTS,
            buffered=_TEXT_BURSTS * shape.burst_bytes // LINE_BYTES)
        connect(m, flipped(self.s_axi), controller.s_axi)
        connect(m, controller.reader, text.memory)
        connect(m, text.axi, flipped(self.m_axi_text))
        connect(m, memory.ddr, flipped(self.m_axi_ddr))
        for channel, bus in enumerate(memory.hbm):
            connect(m, bus, flipped(getattr(self, f"m_axi_{channel}")))
        unsupported = [mv.unsupported, sfu.unsupported, memory.refused.any()]
        if self.machine.cores > 1:
            unsupported.append(self._exchange(m, controller, memory))
        faults = [text.error, *memory.read_error, *memory.write_error]
        m.d.comb += [
            memory.head.eq(controller.constants.head_elements), sfu.constants.eq(controller.constants),
            Value.cast(mv.layouts).eq(memory.slot_layouts), sfu.rope_table.valid.eq(controller.rope.valid),
            sfu.rope_table.index.eq(controller.rope.index), sfu.rope_table.value.eq(controller.rope.value),
            controller.memory_fault.eq(Cat(error.found for error in faults).any()),
            controller.unsupported.eq(reduce(or_, unsupported)),
            self.begins.eq(controller.begins), self.ends.eq(controller.ends),
        ]  # fmt: skip
        return m

    def _exchange(self, m, controller, memory):
        """SYS of one of several cores; whether it was given what it does not carry out."""
        m.submodules.exchanges = unit = CoreExchange(cores=self.machine.cores)
        connect(m, controller.unit_sys.instruction, unit.instruction)
        connect(m, unit.port, flipped(self.exchange))
        for name in ("vector_read", "act_read", "vector_write", "act_write"):
            connect(m, getattr(unit, name), getattr(memory, f"exchange_{name}"))
        m.d.comb += [
            controller.unit_sys.done.eq(unit.done), unit.failed.eq(controller.failed),
            unit.stopped.eq(controller.stopped), controller.other_failed.eq(unit.other_failed),
            controller.missing.eq(unit.missing),
        ]  # fmt: skip
        return unit.unsupported
