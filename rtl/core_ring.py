"""The registers between cores: who hears whom, and the links of their ring."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from mixflight.rtl.core_exchange import WORD, ExchangePort, ring_line

_APART = {"shreg_extract": "no"}
"""Registers that are spread over the way between two regions of a device, and are no shift register at one place."""


class CoreRing(wiring.Component):
    """Joins ``cores``: what one says all hear ``meeting`` stages after it was said, itself among them, and a line is at
    the next core ``link`` stages after it left; the first stage of each is the core's own register.

    ``core``   array of :func:`~mixflight.rtl.core_exchange.ExchangePort`, in the order of the ring
    """

    def __init__(self, *, cores: int, meeting: int, link: int):
        self.cores, self.meeting, self.link = cores, meeting, link
        super().__init__({"core": Out(ExchangePort(cores).flip()).array(cores)})

    def elaborate(self, platform):
        """Stages; words begin as silence."""
        m = Module()
        words = [Value.cast(port.says) for port in self.core]
        for stage in range(self.meeting - 1):
            for core in range(self.cores):
                after = Signal(WORD.size, name=f"word_{core}_{stage}", attrs=_APART)
                m.d.sync += after.eq(words[core])
                words[core] = after
        for number, port in enumerate(self.core):
            m.d.comb += [Value.cast(port.heard).eq(Cat(words))]
            sent = port.to_next
            valid, line = sent.valid, Value.cast(sent.p)
            for stage in range(self.link - 1):
                there = Signal(name=f"valid_{number}_{stage}", attrs=_APART)
                after = Signal(ring_line(self.cores).size, name=f"line_{number}_{stage}", reset_less=True,
                               attrs=_APART)  # fmt: skip
                m.d.sync += [there.eq(valid), after.eq(line)]
                valid, line = there, after
            behind = self.core[(number + 1) % self.cores].from_previous
            m.d.comb += [behind.valid.eq(valid), Value.cast(behind.p).eq(line)]
        return m
