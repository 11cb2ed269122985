"""The control registers of a core on AXI4-Lite, and the course of a run. The map: ``arch/core_registers.toml``."""

from collections.abc import Mapping

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from mixflight.arch.compact import REGISTERS
from mixflight.arch.core_errors import CoreError
from mixflight.arch.core_registers import WORD_BYTES, core_registers
from mixflight.arch.isa import CLASSES
from mixflight.rtl.core_ports import ADDRESS_BITS, Axi4Lite, CoreConstants, RopeTable
from mixflight.rtl.core_sequencer import memory_write

_OKAY, _SLVERR = 0, 2
SETTLE_CYCLES = 64
"""Cycles of a run, a power of two, until what other cores said before it has passed."""
_CONSTANTS = ("EPS", "INVERSE_HIDDEN", "INVERSE_HEAD", "INVERSE_ROOT", "POSITION", "HEAD_ELEMENTS")


class Control(wiring.Component):
    """The registers, and who does what when: fetch, sequencer, end.

    ======================  ========================================================================================
    bus                     AXI4-Lite; a write takes two cycles, a read three
    constants, rope         to the special-function unit
    load, loaded            pulses: read text and constants; that is done
    go                      a pulse: the sequencer and the queues begin
    finished, fault         a run's end: a pulse, or the code of an error; ``fault_at`` its instruction
    memory_fault            a memory answered with an error
    unsupported             a unit was given what it does not carry out
    other_failed, missing   of one of several ``cores``: another one's run ended with an error; one has no run on that
                            this one waits for
    failed, stopped         likewise: this one's run ended with an error; none is on
    halt                    the run is over: nothing more is handed out
    text_at …               what the registers hold
    ======================  ========================================================================================

    A run begins with START. Its end, or an error, makes it not busy. After an error instructions may still be in queues
    and units; another START is safe when STATUS says idle, otherwise the core must be reset first. Several cores must
    be started together: what the others say counts from cycle ``SETTLE_CYCLES`` of a run on.
    """

    def __init__(self, *, depth: int, constants: int, slot_bytes: Mapping[str, int], cores: int = 1):
        self.depth, self.words, self.slot_bytes, self.cores = depth, constants, tuple(slot_bytes.values()), cores
        others = {"other_failed": In(1), "missing": In(1), "failed": Out(1), "stopped": Out(1, init=1)}
        super().__init__({
            "bus": In(Axi4Lite(core_registers().address_bits)),
            "constants": Out(CoreConstants), "rope": Out(RopeTable),
            "register": Out(memory_write(REGISTERS, 32)), "constant": Out(memory_write(constants, 32)),
            "text_at": Out(ADDRESS_BITS), "instructions": Out(range(depth + 1)),
            "constants_at": Out(ADDRESS_BITS), "constant_words": Out(range(constants + 1)),
            "load": Out(1), "loaded": In(1), "go": Out(1), "halt": Out(1), "executed": In(1), "finished": In(1),
            "memory_fault": In(1), "unsupported": In(1), "fault": In(4), "fault_at": In(range(depth + 1)),
            "busy_units": In(len(CLASSES)), "idle": In(1), **(others if cores > 1 else {}),
        })  # fmt: skip

    def elaborate(self, platform):
        """Kept registers, counters, the run's state, the bus."""
        m = Module()
        kept = {row.name: Signal(32, name=row.name.lower()) for row in core_registers().rows if row.access == "rw"}
        busy, done, error, error_at = Signal(), Signal(), Signal(4), Signal(32)
        cycles, executed = Signal(64), Signal(32)
        units = [Signal(32, name=f"busy_{kind.lower()}") for kind in CLASSES]
        m.d.comb += [
            self.text_at.eq(Cat(kept["TEXT_ADDRESS_LOW"], kept["TEXT_ADDRESS_HIGH"])),
            self.constants_at.eq(Cat(kept["CONSTANTS_ADDRESS_LOW"], kept["CONSTANTS_ADDRESS_HIGH"])),
            self.instructions.eq(kept["TEXT_INSTRUCTIONS"]), self.constant_words.eq(kept["CONSTANTS_COUNT"]),
            *(getattr(self.constants, name.lower()).eq(kept[name]) for name in _CONSTANTS),
        ]  # fmt: skip

        start, with_text = Signal(), Signal()
        too_long = (kept["TEXT_INSTRUCTIONS"] > self.depth) | (kept["CONSTANTS_COUNT"] > self.words)
        running, waiting = Signal(), Signal()
        m.d.comb += self.halt.eq(~busy)
        m.d.sync += [self.load.eq(0), self.go.eq(0)]
        with m.If(busy):
            m.d.sync += cycles.eq(cycles + 1)
            for unit, active in zip(units, self.busy_units, strict=True):
                with m.If(active):
                    m.d.sync += unit.eq(unit + 1)
            with m.If(self.executed):
                m.d.sync += executed.eq(executed + 1)
        with m.If(start):
            m.d.sync += [busy.eq(~too_long), done.eq(0), error.eq(Mux(too_long, CoreError.TEXT_LENGTH, CoreError.NONE)),
                         error_at.eq(0), cycles.eq(0), executed.eq(0), *(unit.eq(0) for unit in units),
                         self.load.eq(with_text & ~too_long), waiting.eq(with_text & ~too_long),
                         self.go.eq(~with_text & ~too_long), running.eq(0)]  # fmt: skip
        with m.If(self.go):
            m.d.sync += running.eq(1)
        with m.If(waiting & self.loaded):
            m.d.sync += [waiting.eq(0), self.go.eq(1)]
        others = self._others(m, busy, start, cycles, error) if self.cores > 1 else None
        with m.If(running & (self.fault != 0)):
            m.d.sync += [busy.eq(0), running.eq(0), error.eq(self.fault), error_at.eq(self.fault_at)]
        with m.Elif((running | waiting) & self.memory_fault):
            m.d.sync += [busy.eq(0), waiting.eq(0), running.eq(0), error.eq(CoreError.MEMORY)]
        with m.Elif(running & self.unsupported):
            m.d.sync += [busy.eq(0), running.eq(0), error.eq(CoreError.UNSUPPORTED)]
        if self.cores > 1:
            with m.Elif(running & others):
                m.d.sync += [busy.eq(0), running.eq(0), error.eq(CoreError.OTHER_CORE)]
        with m.Elif(running & self.finished):
            m.d.sync += [busy.eq(0), running.eq(0), done.eq(1)]

        shown = {
            "STATUS": Cat(busy, done, self.idle, C(0, 5), error), "ERROR_AT": error_at, "EXECUTED": executed,
            "CYCLES_LOW": cycles[:32], "CYCLES_HIGH": cycles[32:], **kept,
        } | {f"SLOT_BYTES {number}": C(size, 32) for number, size in enumerate(self.slot_bytes)} | {
            f"BUSY {number}": unit for number, unit in enumerate(units)
        }  # fmt: skip
        self._acts(m, self._writes(m, busy, kept, start, with_text))
        self._reads(m, shown)
        return m

    def _others(self, m, busy, start, cycles, error):
        """Tells other cores of this one; whether one of them ends a run."""
        m.d.comb += [self.failed.eq(error != CoreError.NONE), self.stopped.eq(~busy)]
        settled = Signal()
        with m.If(start):
            m.d.sync += settled.eq(0)
        with m.Elif(cycles[SETTLE_CYCLES.bit_length() - 1]):
            m.d.sync += settled.eq(1)
        return settled & (self.other_failed | self.missing)

    def _writes(self, m, busy, kept, start, with_text):
        """Address and data are taken together and answered in the next cycle; what is written is there by then.

        Returns whether a write is taken that counts, if it is to a register.
        """
        bus, rows = flipped(self.bus), core_registers().rows
        take, known, free, act = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            take.eq(bus.awvalid & bus.wvalid & ~bus.bvalid), bus.awready.eq(take), bus.wready.eq(take),
            known.eq(Cat(_inside(bus.awaddr, row) for row in rows if row.access != "ro").any()),
            free.eq(take & ~busy & bus.wstrb.all()), act.eq(free & known),
            start.eq(free & (bus.awaddr == core_registers()["START"].address) & bus.wdata[0]),
            with_text.eq(bus.wdata[1]),
        ]  # fmt: skip
        with m.If(take):
            m.d.sync += [bus.bvalid.eq(1), bus.bresp.eq(Mux(act, _OKAY, _SLVERR))]
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        for row in rows:
            if row.name in kept:
                with m.If(free & (bus.awaddr == row.address)):
                    m.d.sync += kept[row.name].eq(bus.wdata)
        m.d.sync += [
            self.rope.valid.eq(free & (bus.awaddr == core_registers()["ROPE"].address)),
            self.rope.index.eq(bus.wdata[8:16]), self.rope.value.eq(Cat(kept["ROPE_LOW"], bus.wdata[:8])),
        ]  # fmt: skip
        return free

    def _acts(self, m, free) -> None:
        """Registers of the sequencer and constants, a cycle later."""
        address, value = self.bus.awaddr, self.bus.wdata
        for name, port in (("REGISTER", self.register), ("CONSTANT", self.constant)):
            row = core_registers()[name]
            m.d.sync += [
                port.valid.eq(free & _inside(address, row)), port.value.eq(value),
                port.index.eq((address - row.address)[WORD_BYTES.bit_length() - 1 :]),
            ]  # fmt: skip

    def _reads(self, m, shown) -> None:
        """The address is taken, the word chosen, the word offered: a cycle each."""
        bus = flipped(self.bus)
        address, asked = Signal(len(bus.araddr)), Signal()
        m.d.comb += bus.arready.eq(~asked & ~bus.rvalid)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [address.eq(bus.araddr), asked.eq(1)]
        with m.If(asked):
            m.d.sync += [asked.eq(0), bus.rvalid.eq(1), bus.rresp.eq(_SLVERR), bus.rdata.eq(0)]
            with m.Switch(address):
                for row in core_registers().rows:
                    for number in range(row.count if row.access != "wo" else 0):
                        with m.Case(row.address + WORD_BYTES * number):
                            word = shown[f"{row.name} {number}" if row.count > 1 else row.name]
                            m.d.sync += [bus.rresp.eq(_OKAY), bus.rdata.eq(word)]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)


def _inside(address, row):
    """Whether ``address`` is one of a register's words."""
    last = row.address + WORD_BYTES * (row.count - 1)
    if row.count == 1:
        return address == row.address
    return (address >= row.address) & (address <= last) & (address[:2] == 0)
