"""One lane of the special-function unit: three multipliers, an adder, exp and reciprocal, and who feeds whom."""

from amaranth import *
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import (
    ADD_STAGES,
    GELU_ARGUMENT_STEPS,
    GELU_STEPS,
    MULTIPLY_STAGES,
)
from mixflight.arch.special_functions import EXP2, RECIPROCAL, RSQRT_EVEN, RSQRT_ODD, STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.delay_memory import DelayMemory
from mixflight.rtl.fp32 import FP32
from mixflight.rtl.fp32_multiply import Fp32Multiply
from mixflight.rtl.fp32_sum import Fp32Sum
from mixflight.rtl.placed_copy import place
from mixflight.rtl.sfu_functions import EXP_REST, SIGNIFICAND_REST, PowerOfTwo
from mixflight.rtl.sfu_tables import TableInterpolation

SIGMOID_STEPS = STAGES["exp"] + ADD_STAGES + STAGES["reciprocal"] + MULTIPLY_STAGES
"""From an operand to its sigmoid."""

MOST_STEPS = GELU_STEPS
"""The longest time that an operand waits for the other one of a multiplication."""

POWER_STEPS = ADD_STAGES + STAGES["reciprocal"]
"""From an exponential to the reciprocal of what it was added to."""

ONE, MINUS_ZERO = 0x3F800000, 0x80000000
SIXTEEN = 0x41800000


class First(enum.Enum, shape=3):
    """Second operand of the first multiplier; its first one is x, but for SIGMOID 1, or e^-|x| of a negative x.

    SQUARE: x, on every other step SIGMOID's, which comes a step later.
    """

    SCALAR = 0
    Y = 1
    COSINE = 2
    SIGMOID = 3
    SQUARE = 4


class Adds(enum.Enum, shape=3):
    """First operand of the adder. SECOND, REST: the second product, what exp had before, less than zero, and on every
    other step exp's result."""

    X = 0
    FIRST = 1
    EXP = 2
    SECOND = 3
    REST = 4


class Exp(enum.Enum, shape=2):
    """Operand of exp."""

    X = 0
    SUM = 1
    FIRST = 2
    THIRD = 3


class Scaled(enum.Enum, shape=2):
    """First operand of the second multiplier."""

    FIRST = 0
    EXP = 1
    SUM = 2


class Added(enum.Enum, shape=2):
    """Second operand of the adder."""

    Y = 0
    SCALAR = 1
    THIRD = 2


class Second(enum.Enum, shape=2):
    """Second operand of the second multiplier. X: on every other step, if the lane takes turns, the scalar."""

    SCALAR = 0
    Y = 1
    X = 2
    RECIPROCAL = 3


class Third(enum.Enum, shape=2):
    """Operands of the third multiplier. CUBIC: the sum and x, on every other step Y's."""

    PARTNER_SINE = 0
    Y = 1
    CUBIC = 2


class Result(enum.Enum, shape=2):
    """What the lane's result is."""

    SUM = 0
    SECOND = 1
    THIRD = 2
    FIRST = 3


ROUTE = data.StructLayout({
    "first": First, "adds": Adds, "added": Added,
    "exp": Exp,
    "scaled": Scaled, "second": Second,
    "third": Third,         # Y: the second's product and y
    "x_steps": range(MOST_STEPS + 1), "y_steps": range(MOST_STEPS + 1),
    "power_steps": range(POWER_STEPS + 2),
    "rsqrt": 1,             # of the sum, in a lane that can; else reciprocal
    "result": Result,
})  # fmt: skip
"""Who feeds whom. It does not change while the lanes hold anything."""


class SfuLane(wiring.Component):
    """Elements through the operators that ``route`` chains; an element a step.

    ``x``, ``partner``, ``y``, ``cosine``, ``sine`` come together, with them ``far``: 16 with x's sign where x would be
    multiplied, and ``square``: x in place of the first multiplier's second operand. ``square_sum`` comes with a sum:
    the second one takes it twice. The scalars come with whatever they meet. Routes on which an operator has an element
    twice take one on every other step, in which ``other`` is 0; on the steps between it is 1. For the rest it is 0.
    Outputs come as many steps later as the operators on their way take (``arch.sfu_pipeline``). A lane with ``rsqrt``
    can also find 1/sqrt, and shows both it and the reciprocal as ``reciprocal``.
    """

    def __init__(self, *, rsqrt: bool):
        self.rsqrt = rsqrt
        super().__init__({
            "en": In(1), "route": In(ROUTE), "x": In(32), "far": In(1), "partner": In(32), "y": In(32),
            "cosine": In(32), "sine": In(32), "square": In(1), "square_sum": In(1), "other": In(1),
            "first_scalar": In(32), "added_scalar": In(32), "second_scalar": In(32),
            "first": Out(32), "second": Out(32), "exp": Out(32), "result": Out(32),
            **({"reciprocal": Out(32)} if rsqrt else {}),
        })  # fmt: skip

    def elaborate(self, platform):
        """The operators, and the multiplexers in front of each."""
        m = Module()
        route, x, other = self.route, self.x, self.other
        bounded = Signal(32)
        m.d.comb += bounded.eq(Cat(Mux(self.far, SIXTEEN, x)[:31], x[31]))
        first, second, third = (Fp32Multiply() for _ in range(3))
        for name, part in (("first", first), ("second", second), ("third", third)):
            place(m, platform, f"{name}_product", part, like="first_product")
        m.submodules.adder = adder = Fp32Sum()
        y_later = self._later(m, "y", self.y, route.y_steps)
        x_later = self._later(m, "x", self.x, route.x_steps)
        cubed = self._later(m, "cubed", bounded, Const(GELU_ARGUMENT_STEPS - MULTIPLY_STAGES), GELU_ARGUMENT_STEPS)
        power_of = Signal(32)
        exp = self._exp(m, power_of)
        reciprocal = self._reciprocal(m, adder.sum)
        reciprocal_later = delayed(m, self.en, reciprocal, 1, "reciprocal")

        negative = delayed(m, self.en, power_of[31], STAGES["exp"], "negative")
        power = self._later(m, "power", Cat(exp[:31], negative), route.power_steps, POWER_STEPS + 1)
        sigmoid = (route.first == First.SIGMOID) | ((route.first == First.SQUARE) & other)
        by_y = (route.third == Third.Y) | ((route.third == Third.CUBIC) & other)
        for part in (first, second, third, adder):
            m.d.comb += part.en.eq(self.en)
        m.d.comb += [
            first.a.eq(Mux(sigmoid, Mux(power[31], power[:31], ONE), bounded)),
            third.a.eq(Mux(by_y, second.product, Mux(route.third == Third.CUBIC, adder.sum, self.partner))),
            third.b.eq(Mux(by_y, y_later, Mux(route.third == Third.CUBIC, cubed, self.sine))),
            self.first.eq(first.product), self.second.eq(second.product), self.exp.eq(exp),
        ]
        if self.rsqrt:
            m.d.comb += self.reciprocal.eq(reciprocal)
        with m.Switch(route.first):
            with m.Case(First.Y):
                m.d.comb += first.b.eq(self.y)
            with m.Case(First.COSINE):
                m.d.comb += first.b.eq(self.cosine)
            with m.Case(First.SIGMOID):
                m.d.comb += first.b.eq(reciprocal)
            with m.Case(First.SQUARE):
                m.d.comb += first.b.eq(Mux(other, reciprocal_later, bounded))
            with m.Default():
                m.d.comb += first.b.eq(Mux(self.square, x, self.first_scalar))
        choices = [
            (adder.a, route.adds, {
                Adds.X: x, Adds.FIRST: first.product, Adds.EXP: exp, Adds.SECOND: Mux(other, exp, second.product),
                Adds.REST: Mux(other, exp, power | 1 << 31),
            }),
            (power_of, route.exp, {
                Exp.X: x, Exp.SUM: adder.sum, Exp.FIRST: first.product, Exp.THIRD: third.product,
            }),
            (second.a, route.scaled, {Scaled.FIRST: first.product, Scaled.EXP: exp, Scaled.SUM: adder.sum}),
            (adder.b, route.added, {Added.Y: self.y, Added.SCALAR: self.added_scalar, Added.THIRD: third.product}),
            (second.b, route.second, {
                Second.SCALAR: Mux(self.square_sum, adder.sum, self.second_scalar), Second.Y: y_later,
                Second.X: Mux(other, self.second_scalar, x_later), Second.RECIPROCAL: reciprocal,
            }),
            (self.result, route.result,
             {Result.SUM: adder.sum, Result.FIRST: first.product, Result.SECOND: second.product,
              Result.THIRD: third.product}),
        ]
        for target, choice, values in choices:
            with m.Switch(choice):
                for case, value in values.items():
                    with m.Case(case):
                        m.d.comb += target.eq(value)
        return m

    def _later(self, m: Module, name: str, value, steps, most: int = MOST_STEPS):
        m.submodules[f"{name}_later"] = memory = DelayMemory(bits=32, most=most)
        m.d.comb += [memory.en.eq(self.en), memory.value.eq(value), memory.steps.eq(steps)]
        return memory.later

    def _exp(self, m: Module, x):
        m.submodules.power_of_two = fixed = PowerOfTwo()
        m.submodules.exp_table = table = TableInterpolation(tables=[EXP2], rest_bits=EXP_REST)
        m.d.comb += [
            fixed.en.eq(self.en), Value.cast(fixed.x).eq(x), table.en.eq(self.en),
            Cat(table.rest, table.index).eq(fixed.fraction), table.exponent.eq(fixed.exponent),
        ]
        return Value.cast(table.value)

    def _reciprocal(self, m: Module, word):
        x = data.View(FP32, word)
        tables = [RECIPROCAL, RSQRT_EVEN, RSQRT_ODD] if self.rsqrt else [RECIPROCAL]
        m.submodules.reciprocal_table = table = TableInterpolation(tables=tables, rest_bits=SIGNIFICAND_REST)
        m.d.comb += [table.en.eq(self.en), Cat(table.rest, table.index[:8]).eq(x.fraction),
                     table.exponent.eq(253 - x.exponent)]
        if self.rsqrt:
            with m.If(self.route.rsqrt):
                m.d.comb += [table.index[8:].eq(Mux(x.exponent[0], 1, 2)),
                             table.exponent.eq(190 - x.exponent[1:] - x.exponent[0])]
        return Value.cast(table.value)
