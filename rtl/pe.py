"""The processing element of the output-stationary array: what every integer PE has in common."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.array_pipeline import sum_bits
from mixflight.arch.errors import InputError

CONTROL = data.StructLayout({"valid": 1, "last": 1, "signed": 1, "high": 1})
"""What travels with an activation: ``valid``, this is a step and no bubble; ``last``, it ends a group;
``signed``, its weights are two's complement; ``high``, it is the high pass of two (its products count
``2**w_bits`` fold)."""


class ProcessingElement(wiring.Component):
    """Multiply, accumulate a group, hand on the operands. Subclasses say how the product is formed.

    In a step (``en`` = 1) with ``control.valid`` the product of ``a`` (two's complement) and ``w`` (two's
    complement if ``control.signed``) is added to the group accumulator; with ``control.last`` the total goes
    to ``sum`` instead, readable in the next step and kept until the next group ends, and the accumulator
    restarts from 0. So groups follow each other without a gap, and a reader has a whole group's time. ``a``,
    ``control`` and ``w`` appear on the ``_next`` ports in the next step. Without ``en`` nothing changes.

    Width of accumulator and ``sum``: ``group_max`` products of at most ``(2**(passes * w_bits) - 1) *
    2**(a_bits - 1)`` and a sign, :func:`mixflight.arch.array_pipeline.sum_bits`: 19 bits for 128 products 4 x
    8 in one pass, 23 in two. No sum of that many products overflows. ``two_pass`` = False leaves the high
    pass out; ``control.high`` is then handed on and otherwise ignored.
    """

    def __init__(self, *, group_max: int = 128, w_bits: int = 4, a_bits: int = 8, two_pass: bool = False):
        for name, value, low in (("group_max", group_max, 1), ("w_bits", w_bits, 2), ("a_bits", a_bits, 2)):
            if value < low:
                raise InputError(f"{name} must be at least {low}, not {value}, in a PE")
        self.group_max = group_max
        self.w_bits = w_bits
        self.a_bits = a_bits
        self.two_pass = two_pass
        self.sum_bits = self.bits_of_sum()
        super().__init__({
            "en": In(1),
            "a": In(signed(a_bits)),
            "w": In(unsigned(w_bits)),
            "control": In(CONTROL),
            "a_next": Out(signed(a_bits)),
            "w_next": Out(unsigned(w_bits)),
            "control_next": Out(CONTROL),
            "sum": Out(signed(self.sum_bits)),
            **self.further_ports(),
        })

    def bits_of_sum(self) -> int:
        """Width of accumulator and ``sum``; kinds that take fewer weights may need less."""
        return sum_bits(group_max=self.group_max, w_bits=self.w_bits, a_bits=self.a_bits, passes=1 + self.two_pass)

    def further_ports(self) -> dict:
        """Ports of one kind only."""
        return {}

    def product(self, m: Module) -> Signal:
        """The signed product of ``w_bits + a_bits`` bits of ``a`` and ``w``, for both kinds of weight."""
        raise NotImplementedError

    def elaborate(self, platform):
        """One product, one accumulation, one hand-over a step."""
        m = Module()
        product = self.product(m)
        term = Signal(signed(self.sum_bits))
        if self.two_pass:
            m.d.comb += term.eq(Mux(self.control.high, product << self.w_bits, product))
        else:
            m.d.comb += term.eq(product)

        accumulator = Signal(signed(self.sum_bits))
        total = Signal(signed(self.sum_bits))
        m.d.comb += total.eq(accumulator + term)

        with m.If(self.en):
            m.d.sync += [
                self.a_next.eq(self.a),
                self.w_next.eq(self.w),
                self.control_next.eq(self.control),
            ]
            with m.If(self.control.valid):
                with m.If(self.control.last):
                    m.d.sync += [self.sum.eq(total), accumulator.eq(0)]
                with m.Else():
                    m.d.sync += accumulator.eq(total)
        return m
