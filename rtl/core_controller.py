"""The controller of a core: control registers, fetch, sequencer and queues."""

from collections.abc import Mapping

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.compact import CONSTANTS
from mixflight.arch.core_errors import CoreError
from mixflight.arch.core_registers import core_registers
from mixflight.arch.isa import CLASSES
from mixflight.rtl.core_control import Control
from mixflight.rtl.core_fetch import TextFetch
from mixflight.rtl.core_ports import Axi4Lite, CoreConstants, MemoryReader, RopeTable, UnitPort
from mixflight.rtl.core_queues import Queues
from mixflight.rtl.core_sequencer import Sequencer

OTHERS = ("other_failed", "missing", "failed", "stopped")
"""What a core of several hears of the others and says of itself."""


class Controller(wiring.Component):
    """Everything that makes units work: the host talks to ``s_axi``, instructions go to ``unit_ld`` … ``unit_sys``.

    ``depth`` instructions of text and ``constants`` words fit; ``queue_depth`` instructions wait in each queue.
    ``memory_fault``: a memory answered with an error; ``unsupported``: a unit was given what it does not carry out;
    both end the run. Of several ``cores`` each has the ports ``OTHERS``, which are those of :class:`Control`.
    ``begins`` and ``ends``: a bit a class, for whoever watches. Cycles: :class:`Sequencer`,
    :class:`Queues`; the sequencer starts the cycle after START is taken, or 9 cycles and one for every instruction and
    constant later, of a memory that answers at once.
    """

    def __init__(self, *, depth: int, queue_depth: int, slot_bytes: Mapping[str, int], port_bits: int = 512,
                 constants: int = CONSTANTS, in_flight: int = 16, cores: int = 1,
                 classes: tuple[str, ...] = CLASSES, text: tuple[int, ...] = ()):  # fmt: skip
        self.cores = cores
        self.control = Control(depth=depth, constants=constants, slot_bytes=slot_bytes, cores=cores)
        self.fetch = TextFetch(port_bits=port_bits, depth=depth, constants=constants)
        self.sequencer = Sequencer(depth=depth, constants=constants, classes=classes, text=text,
                                   several=cores > 1)  # fmt: skip
        self.queues = Queues(depth=queue_depth, in_flight=in_flight, cores=cores, classes=classes)
        others = {name: self.control.signature.members[name] for name in OTHERS} if cores > 1 else {}
        super().__init__({
            "s_axi": In(Axi4Lite(core_registers().address_bits)), "reader": Out(MemoryReader(port_bits)),
            "constants": Out(CoreConstants), "rope": Out(RopeTable), "memory_fault": In(1), "unsupported": In(1),
            "begins": Out(len(CLASSES)), "ends": Out(len(CLASSES)),
            **{f"unit_{kind.lower()}": Out(UnitPort(kind)) for kind in CLASSES}, **others,
        })  # fmt: skip

    def elaborate(self, platform):
        """Wires; and whose error counts first."""
        m = Module()
        control, fetch, sequencer, queues = self.control, self.fetch, self.sequencer, self.queues
        m.submodules.control, m.submodules.fetch = control, fetch
        m.submodules.sequencer, m.submodules.queues = sequencer, queues
        connect(m, flipped(self.s_axi), control.bus)
        connect(m, fetch.reader, flipped(self.reader))
        connect(m, fetch.text, sequencer.text)
        connect(m, control.register, sequencer.register)
        for kind in CLASSES:
            name = kind.lower()
            connect(m, getattr(sequencer, name), getattr(queues, name))
            connect(m, getattr(queues, f"unit_{name}"), flipped(getattr(self, f"unit_{name}")))
        by_host, by_fetch, into = control.constant, fetch.constant, sequencer.constant
        m.d.comb += [
            into.valid.eq(by_host.valid | by_fetch.valid),
            into.index.eq(Mux(by_host.valid, by_host.index, by_fetch.index)),
            into.value.eq(Mux(by_host.valid, by_host.value, by_fetch.value)),
            self.constants.eq(control.constants), self.rope.valid.eq(control.rope.valid),
            self.rope.index.eq(control.rope.index), self.rope.value.eq(control.rope.value),
            fetch.start.eq(control.load), fetch.text_at.eq(control.text_at), fetch.words.eq(control.constant_words),
            fetch.instructions.eq(control.instructions), fetch.constants_at.eq(control.constants_at),
            control.loaded.eq(fetch.done),
            sequencer.start.eq(control.go), sequencer.length.eq(control.instructions), sequencer.halt.eq(control.halt),
            queues.clear.eq(control.go), queues.waiting.eq(sequencer.waits & ~control.go),
            control.executed.eq(sequencer.executed), control.finished.eq(queues.finished),
            control.fault.eq(Mux(sequencer.error != CoreError.NONE, sequencer.error, queues.error)),
            control.fault_at.eq(sequencer.at), control.memory_fault.eq(self.memory_fault),
            control.unsupported.eq(self.unsupported),
            control.busy_units.eq(queues.busy), control.idle.eq(queues.idle),
            self.begins.eq(queues.begins), self.ends.eq(queues.ends),
        ]  # fmt: skip
        for name in OTHERS if self.cores > 1 else ():
            inside, outside = getattr(control, name), getattr(self, name)
            m.d.comb += inside.eq(outside) if self.signature.members[name].flow == In else outside.eq(inside)
        return m
