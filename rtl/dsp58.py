"""The DSP58 of AMD Versal in its INT8 mode: three signed products 9 x 8 summed, into a 58-bit cascade.

Facts of AMD's AM004 (Versal DSP Engine Architecture Manual), "Dot Product Unit": ``a`` has three 9-bit, ``b`` three
8-bit two's complement elements; but for pre-adder and multiplier everything works as in the scalar mode, so OPMODE is
:func:`mixflight.rtl.dsp48e2.opmode`'s. Element i of ``a`` is in bits 9 i ... 9 i + 8 of port A, of ``b`` in bits
8 i ... 8 i + 7 of port B. No tool of this project knows the primitive: it is emitted and simulated, never synthesised.
"""

from typing import Any

from amaranth import *

from mixflight.rtl.dsp48e2 import ATTRIBUTES, ENABLES, RESETS, TIED

ELEMENTS = 3
A_BITS, B_BITS, P_BITS = 9, 8, 58

INT8_ATTRIBUTES = {
    **ATTRIBUTES, "DSP_MODE": "INT8", "RESET_MODE": "SYNC", "AREG": 2, "BREG": 2, "MASK": Const((1 << 56) - 1, 58),
    "PATTERN": Const(0, 58), "RND": Const(0, 58), "USE_SIMD": "ONE58", "XORSIMD": "XOR24_34_58_116",
}
"""Two input registers, so that product and sum come as many cycles after the operands as those of a pre-adding
DSP48E2."""


def dsp58_dot(*, enable: Any, a: Any, b: Any, opmode: Any, pcin: Any, p: Any, pcout: Any) -> Instance:
    """A DSP58 in INT8 mode in the ``sync`` domain: ``a`` of 27, ``b`` of 24, ``pcin`` and outputs of 58 bits."""
    tied = {**TIED, "ACIN": 34, "BCIN": 24, "C": 58, "D": 27, "INMODE": 5, "ALUMODE": 4, "NEGATE": 3, "ASYNC_RST": 1}
    pins: dict[str, Any] = {"i_CLK": ClockSignal(), "i_A": Cat(a, Const(0, 7)), "i_B": b, "i_OPMODE": opmode,
                            "i_PCIN": pcin, "o_P": p, "o_PCOUT": pcout}
    pins |= {f"i_{name}": enable for name in ENABLES}
    pins |= {f"i_{name}": Const(0, 1) for name in RESETS}
    pins |= {f"i_{name}": Const(0, bits) for name, bits in tied.items()}
    return Instance("DSP58", **{f"p_{name}": value for name, value in INT8_ATTRIBUTES.items()}, **pins)
