"""The processing element of the weight-stationary array, with the product of any integer PE."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

STATIONARY_CONTROL = data.StructLayout({"signed": 1, "swap": 1, "load": 1})
"""What travels right from PE to PE: ``signed``, with an activation, its products' weights are two's complement;
``swap``, a step before an activation, it is the first one of the next weight; ``load``, the weight from above is this
row's."""


class StationaryPE(wiring.Component):
    """Keep a weight, add its product with each activation to the sum that comes from above.

    In a step (``en`` = 1) ``sum_next`` becomes ``sum`` + weight * ``a``; ``a``, ``control`` and ``w`` appear on the
    ``_next`` ports in the next step. With ``control.load`` the weight from above is kept as the next one, with
    ``control.swap`` the next one (as it was before this step) becomes the weight of the steps that follow. Without
    ``en`` nothing changes. Where nothing is to be added the sender gives an activation of 0.

    ``element``: an output-stationary PE (:class:`mixflight.rtl.pe.ProcessingElement`) of ``group_max`` = the array's
    rows; its ``product`` is used and its widths, it is not elaborated itself. ``sum`` has the bits of its group sum.
    Two weights, three controls and the operands in passing make ``3 * w_bits + a_bits + 3`` register bits beside
    the sum.
    """

    def __init__(self, element):
        self.element = element
        a, w, total = signed(element.a_bits), unsigned(element.w_bits), signed(element.sum_bits)
        super().__init__({
            "en": In(1), "a": In(a), "w": In(w), "control": In(STATIONARY_CONTROL), "sum": In(total),
            "a_next": Out(a), "w_next": Out(w), "control_next": Out(STATIONARY_CONTROL), "sum_next": Out(total),
        })

    def elaborate(self, platform):
        """One product, one addition, one hand-over a step."""
        m = Module()
        following = Signal(self.element.w_bits)
        weight = Signal(self.element.w_bits)
        m.d.comb += [
            self.element.a.eq(self.a),
            self.element.w.eq(weight),
            self.element.control.signed.eq(self.control.signed),
        ]
        product = self.element.product(m)
        with m.If(self.en):
            m.d.sync += [
                self.a_next.eq(self.a),
                self.w_next.eq(self.w),
                self.control_next.eq(self.control),
                self.sum_next.eq(self.sum + product),
            ]
            with m.If(self.control.swap):
                m.d.sync += weight.eq(following)
            with m.If(self.control.load):
                m.d.sync += following.eq(self.w)
        return m
