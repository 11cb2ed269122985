"""Processing elements with an FP32 accumulator: exact products of FP16 activations, one rounding a step."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.errors import InputError
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP16, FP32, KEPT, SIGNIFICAND, fp16_integer
from mixflight.rtl.pe import CONTROL

NAN = 0x7FC00000
"""The one NaN these elements produce."""
INFINITE = 255
"""The exponent field of FP32 infinities and NaNs."""


def normalised(m: Module, value, name: str):
    """``(value shifted left until its top bit is 1, by how much)``; a zero stays zero."""
    zeros = []
    for level in reversed(range(ceil_log2(len(value)))):
        empty = Signal(name=f"{name}_empty_{1 << level}")
        moved = Signal(len(value), name=f"{name}_moved_{1 << level}")
        m.d.comb += [
            empty.eq(value[-(1 << level):] == 0),
            moved.eq(Mux(empty, value << (1 << level), value)),
        ]
        zeros.insert(0, empty)
        value = moved
    return value, Cat(zeros)


def fp32_word(m: Module, bits, name: str):
    """A finite FP16 value as an FP32 word; an all-ones exponent is an ordinary one."""
    sign, significand, exponent = fp16_integer(m, bits, name)
    shifted, zeros = normalised(m, significand, name)
    word = Signal(FP32, name=f"{name}_word")
    m.d.comb += [
        word.fraction.eq(shifted[:-1] << (SIGNIFICAND - len(significand))),
        word.exponent.eq(Mux(shifted[-1], exponent + (127 - 25 + len(significand) - 1) - zeros, 0)),
        word.sign.eq(sign),
    ]
    return word.as_value()


def fp32_sum(m: Module, a, b, name: str = "add"):
    """``f32(a + b)`` of two FP32 words in one step, zeros as +0.

    Operands and sum must be zero or normal, as where every value is a multiple of 2**-48 below 2**127.
    """
    a, b = data.View(FP32, a), data.View(FP32, b)
    a_word, b_word = a.as_value(), b.as_value()
    swap = Signal(name=f"{name}_swap")
    large, small = Signal(FP32, name=f"{name}_large"), Signal(FP32, name=f"{name}_small")
    distance = Signal(8, name=f"{name}_distance")
    m.d.comb += [
        swap.eq(a_word[:31] < b_word[:31]),
        large.eq(Mux(swap, b_word, a_word)),
        small.eq(Mux(swap, a_word, b_word)),
        distance.eq(large.exponent - small.exponent),
    ]

    # The smaller significand with two bits below it, moved right by the distance; what falls out is sticky.
    moved = Cat(Const(0, 2), small.fraction, small.exponent != 0)
    sticky = Const(0, 1)
    for level in range(5):
        step = 1 << level
        later = Signal(KEPT, name=f"{name}_aligned_{step}")
        fallen = Signal(name=f"{name}_fallen_{step}")
        m.d.comb += [
            later.eq(Mux(distance[level], moved >> step, moved)),
            fallen.eq(sticky | (distance[level] & moved[:step].any())),
        ]
        moved, sticky = later, fallen
    far = distance[5:].any()
    aligned = Signal(SIGNIFICAND + 3, name=f"{name}_aligned")
    total = Signal(SIGNIFICAND + 4, name=f"{name}_total")
    widened = Signal(SIGNIFICAND + 3, name=f"{name}_widened")
    subtract = Signal(name=f"{name}_subtract")
    m.d.comb += [
        aligned.eq(Mux(far, small.exponent != 0, Cat(sticky, moved))),
        widened.eq(Cat(Const(0, 3), large.fraction, large.exponent != 0)),
        subtract.eq(a.sign ^ b.sign),
        total.eq(widened + (aligned ^ subtract.replicate(SIGNIFICAND + 4)) + subtract),
    ]

    shifted, zeros = normalised(m, total, name)
    up = Signal(name=f"{name}_up")
    rounded = Signal(31, name=f"{name}_rounded")
    result = Signal(FP32, name=f"{name}_result")
    below = len(total) - SIGNIFICAND
    m.d.comb += [
        up.eq(shifted[below - 1] & (shifted[:below - 1].any() | shifted[below])),
        rounded.eq(Cat(shifted[below:-1], (large.exponent + 1 - zeros)[:8]) + up),
        result.sign.eq(large.sign & shifted[-1]),
        Cat(result.fraction, result.exponent).eq(Mux(shifted[-1], rounded, 0)),
    ]
    return result.as_value()


class FloatingPE(wiring.Component):
    """Multiply exactly, accumulate in FP32, hand on the operands. Subclasses say how the product is formed.

    In a step (``en`` = 1) with ``control.valid`` the accumulator S becomes ``f32(S + product)``, rounded to
    nearest, ties to even; with ``control.last`` that sum goes to ``sum`` instead, readable in the next step
    (with ``product_register`` the one after) and kept until the next group ends, and S restarts from +0. A
    step's steps are its order: S is the sequential sum over ascending k of ``arch/numerics.md``. ``a``, ``w``
    and ``control`` appear on the ``_next`` ports in the next step. Without ``en`` nothing changes.
    ``control.signed`` and ``control.high`` are handed on and otherwise ignored.

    Subnormal operands are exact. S is a multiple of 2**-48 (2**-24 with integer weights), so it is never
    subnormal, and it stays below 2**127 for any length of sum that can be run. A sum that is zero is +0.

    **Infinities and NaNs.** The contract refuses them before they come here. Without ``specials`` an
    activation with an all-ones exponent is therefore an ordinary number of the next binade, ``±(1024 +
    fraction) * 2**6``. With ``specials`` they are IEEE 754's: infinity times zero and infinity minus infinity
    are NaN, NaN and infinity stay until the group ends, and every NaN is 0x7FC00000.

    The whole addition is one step: with ``product_register`` the longest path is the addition alone, and no
    register can cut that loop while S is used in the very next step.
    """

    def __init__(self, *, w_bits: int, product_bits: int, specials: bool = False, product_register: bool = False):
        self.w_bits = w_bits
        self.product_bits = product_bits
        self.specials = specials
        self.product_register = product_register
        self.latency = 1 + product_register
        super().__init__({
            "en": In(1),
            "a": In(unsigned(16)),
            "w": In(unsigned(w_bits)),
            "control": In(CONTROL),
            "a_next": Out(unsigned(16)),
            "w_next": Out(unsigned(w_bits)),
            "control_next": Out(CONTROL),
            "sum": Out(unsigned(32)),
        })

    def product(self, m: Module):
        """``(sign, magnitude, exponent, nan, infinite)``: ``magnitude`` of ``product_bits`` bits, its bit 0 worth
        2**(exponent - 127); the last two only read with ``specials``."""
        raise NotImplementedError

    def elaborate(self, platform):
        """The product as an FP32 word, then one addition."""
        m = Module()
        sign, magnitude, exponent, nan, infinite = self.product(m)
        shifted, zeros = normalised(m, magnitude, "product")
        term = Signal(FP32)
        m.d.comb += [
            term.fraction.eq(shifted[:-1] << (SIGNIFICAND - self.product_bits)),
            term.exponent.eq(Mux(shifted[-1], exponent + (self.product_bits - 1) - zeros, 0)),
            term.sign.eq(sign),
        ]
        operand = term.as_value()
        if self.specials:
            special = Signal(FP32)
            m.d.comb += [
                special.exponent.eq(INFINITE), special.fraction.eq(nan << 22), special.sign.eq(sign & ~nan)]
            operand = Mux(nan | infinite, special.as_value(), operand)
        word, control = Signal(32), self.control
        m.d.comb += word.eq(operand)
        if self.product_register:
            word = delayed(m, self.en, word, 1, "product_word")
            control = delayed(m, self.en, control, 1, "product_control", reset=True)

        accumulator = Signal(32)
        total = Signal(32)
        added = fp32_sum(m, accumulator, word)
        m.d.comb += total.eq(self._special_sum(m, accumulator, word, added) if self.specials else added)

        with m.If(self.en):
            m.d.sync += [
                self.a_next.eq(self.a),
                self.w_next.eq(self.w),
                self.control_next.eq(self.control),
            ]
            with m.If(control.valid):
                with m.If(control.last):
                    m.d.sync += [self.sum.eq(total), accumulator.eq(0)]
                with m.Else():
                    m.d.sync += accumulator.eq(total)
        return m

    @staticmethod
    def _special_sum(m, a, b, finite):
        """``finite`` unless an operand is infinite or NaN."""
        a, b = data.View(FP32, a), data.View(FP32, b)
        a_special, b_special, nan = Signal(), Signal(), Signal()
        m.d.comb += [
            a_special.eq(a.exponent == INFINITE),
            b_special.eq(b.exponent == INFINITE),
            nan.eq((a_special & a.fraction[-1]) | (b_special & b.fraction[-1])
                   | (a_special & b_special & (a.sign ^ b.sign))),
        ]
        infinity = Cat(Const(0, 23), Const(INFINITE, 8), Mux(a_special, a.sign, b.sign))
        return Mux(nan, NAN, Mux(a_special | b_special, infinity, finite))


def fp16_kind(bits):
    """``(is zero, is infinite, is NaN)`` of an FP16 value."""
    parts = data.View(FP16, bits)
    top = parts.exponent.all()
    return bits[:15] == 0, top & (parts.fraction == 0), top & (parts.fraction != 0)


class FloatShiftAddPE(FloatingPE):
    """INT4 x FP16 by shift-add: gated copies of the 11-bit significand, sign and exponent as they are.

    ``w`` is a sign (top bit) and a magnitude of ``w_bits - 1`` bits, by default the five bits that hold every
    difference q - z of two 4-bit codes; it is formed once a column at the array's edge. Minus zero is zero.
    A shift of the significand by i would add i to the exponent, so all copies share one exponent and the
    product of ``w_bits + 10`` bits is exact.
    """

    def __init__(self, *, w_bits: int = 5, specials: bool = False, product_register: bool = False):
        if not 2 <= w_bits <= 14:
            raise InputError(f"w_bits must be in 2..14, not {w_bits}, in a PE of FP16 activations")
        super().__init__(w_bits=w_bits, product_bits=w_bits - 1 + 11, specials=specials,
                         product_register=product_register)

    def product(self, m):
        """A balanced tree over the copies."""
        sign, significand, exponent = fp16_integer(m, self.a, "a")
        terms = [Mux(self.w[i], significand << i, 0) for i in range(self.w_bits - 1)]
        level = 0
        while len(terms) > 1:
            pairs = []
            for i in range(0, len(terms) - 1, 2):
                pair = Signal(self.product_bits, name=f"sum_{level}_{i // 2}")
                m.d.comb += pair.eq(terms[i] + terms[i + 1])
                pairs.append(pair)
            terms = pairs + terms[len(pairs) * 2:]
            level += 1
        magnitude = Signal(self.product_bits)
        m.d.comb += magnitude.eq(terms[0])
        _, infinite, nan = fp16_kind(self.a)
        zero = self.w[:-1] == 0
        return (sign ^ self.w[-1], magnitude, (exponent + (127 - 25))[:8],
                nan | (infinite & zero), infinite & ~zero)


class Fp16PE(FloatingPE):
    """FP16 x FP16: an 11 x 11 bit multiplier, the exact 22-bit product, FP32 accumulation over all of K."""

    def __init__(self, *, specials: bool = False, product_register: bool = False):
        super().__init__(w_bits=16, product_bits=22, specials=specials, product_register=product_register)

    def product(self, m):
        """The product of the significands, the sum of the exponents."""
        sign, significand, exponent = fp16_integer(m, self.a, "a")
        w_sign, w_significand, w_exponent = fp16_integer(m, self.w, "w")
        magnitude = Signal(22)
        m.d.comb += magnitude.eq(significand * w_significand)
        a_zero, a_infinite, a_nan = fp16_kind(self.a)
        w_zero, w_infinite, w_nan = fp16_kind(self.w)
        nan = Signal()
        m.d.comb += nan.eq(a_nan | w_nan | (a_infinite & w_zero) | (w_infinite & a_zero))
        return (sign ^ w_sign, magnitude, (exponent + w_exponent + (127 - 50))[:8],
                nan, (a_infinite | w_infinite) & ~nan)
