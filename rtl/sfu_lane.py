"""One lane of the special-function unit: three multipliers, an adder, exp and reciprocal, and who feeds whom."""

from amaranth import *
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import ADD_STAGES, MULTIPLY_STAGES
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

MOST_STEPS = SIGMOID_STEPS + MULTIPLY_STAGES
"""The longest time that an operand waits for the other one of a multiplication."""

ONE, MINUS_ZERO = 0x3F800000, 0x80000000


class First(enum.Enum, shape=3):
    """Second operand of the first multiplier; its first one is x, but for SIGMOID 1, or e^-|x| of a negative x."""

    SCALAR = 0
    Y = 1
    COSINE = 2
    SIGMOID = 3


class Adds(enum.Enum, shape=2):
    """First operand of the adder."""

    X = 0
    FIRST = 1
    EXP = 2


class Added(enum.Enum, shape=2):
    """Second operand of the adder."""

    Y = 0
    SCALAR = 1
    THIRD = 2


class Second(enum.Enum, shape=2):
    """Second operand of the second multiplier."""

    SCALAR = 0
    Y = 1
    X = 2


class Result(enum.Enum, shape=2):
    """What the lane's result is."""

    SUM = 0
    SECOND = 1
    THIRD = 2
    FIRST = 3


ROUTE = data.StructLayout({
    "first": First, "adds": Adds, "added": Added,
    "exp_of_sum": 1,        # else of x
    "second_exp": 1,        # the second multiplier's first operand is exp's result; else the first's product
    "second": Second,
    "third_y": 1,           # the third multiplier takes the second's product and y; else partner and sine
    "y_steps": range(MOST_STEPS + 1),
    "rectify": 1,           # 0 for an x with a sign
    "rsqrt": 1,             # of the sum, in a lane that can; else reciprocal
    "result": Result,
})  # fmt: skip
"""Who feeds whom. It does not change while the lanes hold anything."""


class SfuLane(wiring.Component):
    """Elements through the operators that ``route`` chains; an element a step.

    ``x``, ``partner``, ``y``, ``cosine``, ``sine`` come together, ``square`` with them: x in place of the first
    multiplier's second operand. The scalars come with whatever they meet. Outputs come as many steps later as the
    operators on their way take (``arch.sfu_pipeline``). A lane with ``rsqrt`` can also find 1/sqrt, and shows both it
    and the reciprocal as ``reciprocal``.
    """

    def __init__(self, *, rsqrt: bool):
        self.rsqrt = rsqrt
        super().__init__({
            "en": In(1), "route": In(ROUTE), "x": In(32), "partner": In(32), "y": In(32), "cosine": In(32),
            "sine": In(32), "square": In(1),
            "first_scalar": In(32), "added_scalar": In(32), "second_scalar": In(32),
            "first": Out(32), "second": Out(32), "exp": Out(32), "result": Out(32),
            **({"reciprocal": Out(32)} if rsqrt else {}),
        })  # fmt: skip

    def elaborate(self, platform):
        """The operators, and the multiplexers in front of each."""
        m = Module()
        route, x = self.route, Signal(32)
        m.d.comb += x.eq(Mux(route.rectify & self.x[31], 0, self.x))
        first, second, third = (Fp32Multiply() for _ in range(3))
        for name, part in (("first", first), ("second", second), ("third", third)):
            place(m, platform, f"{name}_product", part, like="first_product")
        m.submodules.adder = adder = Fp32Sum()
        y_later = self._later(m, "y", self.y, route.y_steps)
        x_later = self._later(m, "x", self.x, Const(SIGMOID_STEPS))
        exp = self._exp(m, Mux(route.exp_of_sum, adder.sum, self.x))
        reciprocal = self._reciprocal(m, adder.sum)

        negative = delayed(m, self.en, self.x[31], STAGES["exp"], "negative")
        power = self._later(m, "power", Cat(exp[:31], negative), Const(ADD_STAGES + STAGES["reciprocal"]))
        for part in (first, second, third, adder):
            m.d.comb += part.en.eq(self.en)
        m.d.comb += [
            first.a.eq(Mux(route.first == First.SIGMOID, Mux(power[31], power[:31], ONE), x)),
            third.a.eq(Mux(route.third_y, second.product, self.partner)),
            third.b.eq(Mux(route.third_y, y_later, self.sine)),
            second.a.eq(Mux(route.second_exp, exp, first.product)),
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
            with m.Default():
                m.d.comb += first.b.eq(Mux(self.square, self.x, self.first_scalar))
        choices = [
            (adder.a, route.adds, {Adds.X: x, Adds.FIRST: first.product, Adds.EXP: exp}),
            (adder.b, route.added, {Added.Y: self.y, Added.SCALAR: self.added_scalar, Added.THIRD: third.product}),
            (second.b, route.second, {Second.SCALAR: self.second_scalar, Second.Y: y_later, Second.X: x_later}),
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

    def _later(self, m: Module, name: str, value, steps):
        m.submodules[f"{name}_later"] = memory = DelayMemory(bits=32, most=MOST_STEPS)
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
