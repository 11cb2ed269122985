"""What joins cores: barriers, and the exchange of lines of their buffers over a ring.

A *meeting* is what all cores wait at: each says that it has begun, all hear it after the same number of cycles, their
own word too, and so go on in the same cycle. In an exchange each then reads its own lines and puts them on its link to
the next core; a line goes on from core to core until all others have it. Nothing on the ring is ever held up: writes
come first in every buffer, and a line that passes through goes before a core's own.
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import codes
from mixflight.arch.errors import InputError
from mixflight.rtl.core_ports import (
    ACT_WORD,
    GLOBAL_LINE,
    LINE_BITS,
    LINE_WORDS,
    act_read,
    act_write,
    global_read,
    global_write,
    primitive,
    unit,
)
from mixflight.rtl.small_fifo import SmallFifo

WORD = data.StructLayout({"barrier": 1, "exchange": 1, "failed": 1, "stopped": 1})
"""What a core says to all: pulses, it has begun a barrier or an exchange; levels, its run ended with an error, and none
is on."""
_ACT_BITS = Shape.cast(ACT_WORD).width
_LINES = GLOBAL_LINE + 1
"""Bits of a number of lines."""
_ON_THEIR_WAY = 4
"""Own lines between the buffer and the link: the cycles of a read, of the queue and of what says that it has room."""


def ring_line(cores: int) -> data.StructLayout:
    """A line on its way: ``hops`` links to go, this one counted; ``last`` of its core's in this exchange; ``write``:
    not the word of a core without lines."""
    return data.StructLayout({
        "hops": range(cores), "last": 1, "write": 1, "act": 1, "line": GLOBAL_LINE, "data": _ACT_BITS,
    })  # fmt: skip


def RingLink(cores: int) -> wiring.Signature:
    """A link of the ring, as the sender sees it; what is valid is taken."""
    return wiring.Signature({"valid": Out(1), "p": Out(ring_line(cores))})


def ExchangePort(cores: int) -> wiring.Signature:
    """A core as what joins it with the others sees it from inside: ``says`` is heard by all, ``heard`` what each says;
    ``to_next`` and ``from_previous`` in the ring."""
    return wiring.Signature({
        "says": Out(WORD), "heard": In(data.ArrayLayout(WORD, cores)),
        "to_next": Out(RingLink(cores)), "from_previous": In(RingLink(cores)),
    })  # fmt: skip


class CoreExchange(wiring.Component):
    """Carries out barriers and exchanges of one of ``cores``.

    ======================  ========================================================================================
    instruction, done       :func:`mixflight.rtl.core_ports.unit` of SYS; of an exchange ``value`` are the core's lines
    failed, stopped         the core's run ended with an error; none is on
    port                    to the other cores
    vector_read, act_read   own lines; may be held up
    vector_write, act_write lines of others; must always be accepted
    other_failed            another core's run ended with an error
    missing                 a core has no run on that this one waits for
    unsupported             sticky: an exchange of more lines than the buffer, or another core is at a meeting of the
                            other kind
    ======================  ========================================================================================

    An exchange writes the lines of others as soon as they come, which is after this core has begun, and is done when
    all of them and its own have passed. Cycles: :mod:`mixflight.arch.exchange_pipeline`; ``link_stages`` there asks for
    links on which lines of several cores never meet. If reads are held up they may, and then a core's own waits.
    """

    def __init__(self, *, cores: int):
        if cores < 2:
            raise InputError(f"cores that exchange must be 2 at least, not {cores}")
        self.cores = cores
        super().__init__({
            **unit("SYS"), "failed": In(1), "stopped": In(1), "port": Out(ExchangePort(cores)),
            "vector_read": Out(global_read()), "act_read": Out(act_read()),
            "vector_write": Out(global_write()), "act_write": Out(act_write()),
            "other_failed": Out(1), "missing": Out(1), "unsupported": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """Meet; read and send own lines, write and pass on those of others."""
        m = Module()
        order, here, exchanging = Signal(primitive("SYS"), reset_less=True), Signal(), Signal()
        into, is_exchange, bad = self.instruction, Signal(), Signal()
        m.d.comb += [
            into.ready.eq(~here), is_exchange.eq(into.p.operation == codes("SYS", "operation")["exchange"]),
            bad.eq(is_exchange & (into.p.value > 1 << GLOBAL_LINE)),
        ]  # fmt: skip
        taken = Signal()
        m.d.comb += taken.eq(into.valid & into.ready)
        says = self.port.says
        m.d.sync += [says.barrier.eq(taken & ~is_exchange), says.exchange.eq(taken & is_exchange),
                     says.failed.eq(self.failed), says.stopped.eq(self.stopped)]  # fmt: skip
        with m.If(taken):
            m.d.sync += [order.eq(into.p), exchanging.eq(is_exchange), here.eq(1)]
        with m.If(taken & bad):
            m.d.sync += self.unsupported.eq(1)
        met, moving = Signal(), Signal()
        self._meet(m, here & ~moving, exchanging, met)
        read = self._send(m, order, met & exchanging)
        came = self._receive(m, met & exchanging)
        m.d.comb += self.done.eq((met & ~exchanging) | (moving & read & came))
        with m.If(met & exchanging):
            m.d.sync += moving.eq(1)
        with m.If(self.done):
            m.d.sync += [here.eq(0), moving.eq(0)]
        return m

    def _meet(self, m, waits, exchanging, met) -> None:
        """``met`` while this core waits and all have begun what it has; who is there is forgotten then."""
        heard = [self.port.heard[core] for core in range(self.cores)]
        there = {kind: Signal(self.cores, name=f"at_{kind}") for kind in ("barrier", "exchange")}
        for kind, cores in there.items():
            for core, word in enumerate(heard):
                with m.If(getattr(word, kind)):
                    m.d.sync += cores[core].eq(1)
                with m.Elif(met):
                    m.d.sync += cores[core].eq(0)
        mine = Mux(exchanging, there["exchange"], there["barrier"])
        other = Mux(exchanging, there["barrier"], there["exchange"])
        m.d.comb += [
            met.eq(waits & mine.all()),
            self.missing.eq(waits & Cat(word.stopped & ~mine[core] for core, word in enumerate(heard)).any()),
            self.other_failed.eq(Cat(word.failed for word in heard).any()),
        ]  # fmt: skip
        with m.If(waits & other.any()):
            m.d.sync += self.unsupported.eq(1)

    def _send(self, m, order, begins):
        """Own lines to the next core; whether all have been read."""
        line = ring_line(self.cores)
        m.submodules.own = own = SmallFifo(shape=line, depth=_ON_THEIR_WAY)
        act, none = order.buffer, Signal()
        asking, read, room = Signal(), Signal(), Signal(range(_ON_THEIR_WAY + 1), init=_ON_THEIR_WAY)
        at, left, answer, behind = (Signal(GLOBAL_LINE, name="at", reset_less=True), Signal(_LINES, reset_less=True),
                                    Signal(GLOBAL_LINE, name="answer", reset_less=True),
                                    Signal(_LINES, name="behind", reset_less=True))  # fmt: skip
        pause = Signal(range(self.cores))
        asks, asked = Signal(), Signal()
        m.d.comb += [
            asks.eq(asking & (room != 0) & (pause == 0)),
            self.vector_read.valid.eq(asks & ~act), self.act_read.valid.eq(asks & act),
            self.vector_read.address.eq(at), self.act_read.address.eq(at),
            asked.eq(asks & Mux(act, self.act_read.ready, self.vector_read.ready)),
        ]  # fmt: skip
        with m.If(begins):     # a core without lines reads one that no one writes
            m.d.sync += [asking.eq(1), read.eq(0), at.eq(order.line), answer.eq(order.line),
                         left.eq(Mux(order.value == 0, 1, order.value)), none.eq(order.value == 0),
                         behind.eq(Mux(order.value == 0, 1, order.value))]  # fmt: skip
        with m.Elif(asked):
            m.d.sync += [at.eq(at + 1), left.eq(left - 1), asking.eq(left != 1), read.eq(left == 1)]
        with m.If(asked):
            m.d.sync += pause.eq(self.cores - 2)
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        answered = Mux(act, self.act_read.data_valid, self.vector_read.data_valid)
        m.d.comb += [
            own.push.eq(answered), own.word.hops.eq(self.cores - 1), own.word.last.eq(behind == 1),
            own.word.write.eq(~none), own.word.act.eq(act), own.word.line.eq(answer),
            own.word.data.eq(Mux(act, Value.cast(self.act_read.data), self.vector_read.data)),
        ]  # fmt: skip
        with m.If(answered):
            m.d.sync += [answer.eq(answer + 1), behind.eq(behind - 1)]
        passes, out = self._passes(), self.port.to_next
        m.d.comb += own.pop.eq(own.some & ~passes)
        with m.If(asked & ~own.pop):
            m.d.sync += room.eq(room - 1)
        with m.Elif(own.pop & ~asked):
            m.d.sync += room.eq(room + 1)
        came = self.port.from_previous.p
        m.d.sync += out.valid.eq(passes | own.some)
        with m.If(passes):
            m.d.sync += [out.p.eq(came), out.p.hops.eq(came.hops - 1)]
        with m.Elif(own.some):
            m.d.sync += out.p.eq(own.head)
        return read

    def _passes(self):
        """Whether what comes has a link more to go."""
        came = self.port.from_previous
        return came.valid & came.p.hops[1:].any()     # 2 or more

    def _receive(self, m, begins):
        """Lines of others to their places; whether the last ones of all have come."""
        came = self.port.from_previous
        wanted, lasts = Signal(), Signal(range(self.cores))
        m.d.comb += [
            wanted.eq(came.valid & came.p.write),
            self.vector_write.valid.eq(wanted & ~came.p.act), self.act_write.valid.eq(wanted & came.p.act),
            self.vector_write.address.eq(came.p.line), self.act_write.address.eq(came.p.line),
            self.vector_write.data.eq(came.p.data[:LINE_BITS]), Value.cast(self.act_write.data).eq(came.p.data),
            self.vector_write.mask.eq((1 << LINE_WORDS) - 1), self.act_write.mask.eq(0xF),
        ]  # fmt: skip
        with m.If(begins):
            m.d.sync += lasts.eq(0)
        with m.Elif(came.valid & came.p.last):
            m.d.sync += lasts.eq(lasts + 1)
        return lasts == self.cores - 1
