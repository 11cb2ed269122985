"""The DSP48E2 of AMD UltraScale+ as an instance with every attribute written out, and what its mode words mean.

Yosys infers multipliers but no cascades, so the chain instantiates the primitive. The facts are those of AMD's UG579
(UltraScale Architecture DSP Slice, v1.9), chapter 2: input registers and pre-adder (INMODE), the W, X, Y and Z
multiplexers in front of the four-operand adder (OPMODE), ALUMODE; ports and attributes are those of UG974.
:mod:`mixflight.rtl.primitive_models` is what is simulated in its place.
"""

from collections.abc import Mapping
from typing import Any

from amaranth import *

from mixflight.arch.errors import InputError

W = {"0": 0b00, "P": 0b01, "RND": 0b10, "C": 0b11}
X = {"0": 0b00, "M": 0b01, "P": 0b10, "A:B": 0b11}
Y = {"0": 0b00, "M": 0b01, "-1": 0b10, "C": 0b11}
Z = {"0": 0b000, "PCIN": 0b001, "P": 0b010, "C": 0b011, "PCIN>>17": 0b101, "P>>17": 0b110}
"""Multiplexer inputs and their codes (UG579, tables of OPMODE control bits). The product needs X and Y = M."""

INMODE_D_PLUS_A2 = 0b00100
"""The pre-adder gives D + A2, the multiplier takes B2 (UG579, table of INMODE functions, AMULTSEL = AD)."""

ALUMODE_ADD = 0b0000
"""Z + W + X + Y + carry in (UG579, table of ALUMODE functions)."""

PORT_BITS: Mapping[str, int] = {"a": 30, "b": 18, "c": 48, "d": 27, "pcin": 48, "opmode": 9, "inmode": 5, "alumode": 4}
"""Input ports that callers may drive; the others are tied."""

ATTRIBUTES: Mapping[str, Any] = {
    "AMULTSEL": "A", "A_INPUT": "DIRECT", "BMULTSEL": "B", "B_INPUT": "DIRECT", "PREADDINSEL": "A",
    "RND": Const(0, 48), "USE_MULT": "MULTIPLY", "USE_SIMD": "ONE48", "USE_WIDEXOR": "FALSE",
    "XORSIMD": "XOR24_48_96", "AUTORESET_PATDET": "NO_RESET", "AUTORESET_PRIORITY": "RESET",
    "MASK": Const(0x3FFFFFFFFFFF, 48), "PATTERN": Const(0, 48), "SEL_MASK": "MASK", "SEL_PATTERN": "PATTERN",
    "USE_PATTERN_DETECT": "NO_PATDET", "ACASCREG": 1, "ADREG": 1, "ALUMODEREG": 1, "AREG": 1, "BCASCREG": 1,
    "BREG": 1, "CARRYINREG": 1, "CARRYINSELREG": 1, "CREG": 1, "DREG": 1, "INMODEREG": 1, "MREG": 1,
    "OPMODEREG": 1, "PREG": 1,
}
"""Every attribute with the primitive's own default; those of pins that may be inverted stay at not inverted."""

ENABLES = ("CEA1", "CEA2", "CEAD", "CEALUMODE", "CEB1", "CEB2", "CEC", "CECARRYIN", "CECTRL", "CED", "CEINMODE",
            "CEM", "CEP")
RESETS = ("RSTA", "RSTALLCARRYIN", "RSTALUMODE", "RSTB", "RSTC", "RSTCTRL", "RSTD", "RSTINMODE", "RSTM", "RSTP")
TIED = {"ACIN": 30, "BCIN": 18, "CARRYCASCIN": 1, "CARRYIN": 1, "CARRYINSEL": 3, "MULTSIGNIN": 1}


def opmode(*, w: str = "0", x: str = "M", y: str = "M", z: str = "0") -> int:
    """The nine bits that choose the adder's operands."""
    if (x == "M") != (y == "M"):
        raise InputError(f"X and Y must both be M or neither, not {x} and {y}, in OPMODE")
    return W[w] << 7 | Z[z] << 4 | Y[y] << 2 | X[x]


def dsp48e2(*, enable: Any, p: Any, pcout: Any, inputs: Mapping[str, Any], attributes: Mapping[str, Any]) -> Instance:
    """A DSP48E2 in the ``sync`` domain.

    ``enable``      clock enable of every register
    ``p, pcout``    48-bit outputs; nothing else is connected
    ``inputs``      by the names of ``PORT_BITS``; a port that is absent is 0
    ``attributes``  what differs from ``ATTRIBUTES``; ``RND`` and the like as constants of 48 bits

    Registers keep what they hold through a reset: a chain's valid bits say what counts.
    """
    for name in attributes:
        if name not in ATTRIBUTES:
            raise InputError(f"an attribute must be one of {', '.join(ATTRIBUTES)}, not {name!r}, in a DSP48E2")
    for name in inputs:
        if name not in PORT_BITS:
            raise InputError(f"an input must be one of {', '.join(PORT_BITS)}, not {name!r}, in a DSP48E2")
    pins: dict[str, Any] = {"i_CLK": ClockSignal(), "o_P": p, "o_PCOUT": pcout}
    pins |= {f"i_{name}": enable for name in ENABLES}
    pins |= {f"i_{name}": Const(0, 1) for name in RESETS}
    pins |= {f"i_{name}": Const(0, bits) for name, bits in TIED.items()}
    for name, bits in PORT_BITS.items():
        pins[f"i_{name.upper()}"] = inputs.get(name, Const(0, bits))
    return Instance("DSP48E2", **{f"p_{name}": value for name, value in {**ATTRIBUTES, **attributes}.items()}, **pins)
