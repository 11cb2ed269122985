"""Our models of AMD's primitives: by hand against UG579, and against the DSP48E1 that ships with Yosys where both are."""

import re
from pathlib import Path

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl.dsp48e2 import ATTRIBUTES, ENABLES, RESETS, W, Z, dsp48e2, opmode
from mixflight.rtl.harness import HarnessError
from mixflight.rtl.pe_driver import build_driver, drive
from mixflight.rtl.primitive_models import DSP48E2, MODELS, models_for, primitives_in

DATA = {"a": 30, "b": 18, "c": 48, "d": 27, "acin": 30, "bcin": 18, "pcin": 48, "opmode": 9, "inmode": 5, "alumode": 4,
        "carryin": 1, "ce": len(ENABLES), "reset": len(RESETS)}
_COLUMNS = ("AREG", "BREG", "CREG", "DREG", "ADREG", "MREG", "A_INPUT", "B_INPUT", "AD")
COMMON = [dict(zip(_COLUMNS, row, strict=True)) for row in (
    (1, 2, 1, 1, 1, 1, "DIRECT", "DIRECT", True),
    (2, 2, 1, 1, 0, 1, "CASCADE", "DIRECT", True),
    (2, 1, 0, 0, 1, 0, "DIRECT", "CASCADE", True),
    (0, 0, 1, 1, 1, 1, "DIRECT", "DIRECT", False),
)]
"""Attributes that both blocks have; AD: the multiplier takes the pre-adder's sum."""
RND = 0x123456789A


def _instance(kind, number, settings):
    registers = {name: settings[name] for name in ("AREG", "BREG", "CREG", "DREG", "ADREG", "MREG")}
    registers |= {"ACASCREG": min(settings["AREG"], 1), "BCASCREG": min(settings["BREG"], 1)}
    parameters = [f".{name}({value})" for name, value in registers.items()]
    parameters += [f'.{name}("{settings[name]}")' for name in ("A_INPUT", "B_INPUT")]
    if kind == "DSP48E1":
        parameters.append(f'.USE_DPORT("{str(settings["AD"]).upper()}")')
        narrow = {"d": "d[24:0]", "opmode": "opmode[6:0]"}
    else:
        parameters += [f'.AMULTSEL("{"AD" if settings["AD"] else "A"}")', f".RND(48'd{RND})"]
        narrow = {}
    pins = [f".{name.upper()}({narrow.get(name, name)})" for name in DATA if name not in ("ce", "reset")]
    pins += [f".{name}(ce[{i}])" for i, name in enumerate(ENABLES)]
    pins += [f".{name}(reset[{i}])" for i, name in enumerate(RESETS)]
    pins += [".CLK(clk)", ".CARRYINSEL(3'd0)", ".CARRYCASCIN(1'b0)", ".MULTSIGNIN(1'b0)"]
    pins += [f".{name.upper()}({name}_{kind.lower()}_{number})" for name in ("p", "acout", "bcout")]
    return f"  {kind} #({', '.join(parameters)}) u_{kind}_{number} ({', '.join(pins)});\n"


@pytest.fixture(scope="module")
def both():
    import pyosys

    library = (Path(pyosys.__file__).parent / "share" / "xilinx" / "cells_sim.v").read_text()
    reference = re.search(r"^module DSP48E1 .*?^endmodule", library, re.M | re.S)[0]
    outputs = [(f"{name}_{kind}_{number}", bits) for number in range(len(COMMON)) for kind in ("dsp48e1", "dsp48e2")
               for name, bits in (("p", 48), ("acout", 30), ("bcout", 18))]
    ports = ["input clk", "input rst", *(f"input [{bits - 1}:0] {name}" for name, bits in DATA.items()),
             *(f"output [{bits - 1}:0] {name}" for name, bits in outputs)]
    top = f"module both ({', '.join(ports)});\n" + "".join(
        _instance(kind, number, settings) for number, settings in enumerate(COMMON)
        for kind in ("DSP48E1", "DSP48E2")) + "endmodule\n"
    return build_driver(top + DSP48E2 + reference + "\n", top="both", inputs=tuple(DATA),
                        outputs=tuple(name for name, _ in outputs))


def _rows(steps, **values):
    rows = {name: np.zeros(steps, np.uint64) for name in DATA}
    rows["ce"][:] = (1 << len(ENABLES)) - 1
    for name, value in values.items():
        rows[name][:len(value)] = np.array([v & ((1 << DATA[name]) - 1) for v in value], np.uint64)
    return rows


def _p(both, number, **values):
    """P of the DSP48E2 of that configuration before each edge, as signed numbers."""
    steps = max(len(value) for value in values.values()) + 6
    values = {name: [*value, *[value[-1]] * (steps - len(value))] if name in ("opmode", "inmode", "alumode", "pcin")
              else value for name, value in values.items()}
    p = drive(both, _rows(steps, **values))[f"p_dsp48e2_{number}"].astype(np.int64)
    return np.where(p >> 47 & 1, p - (1 << 48), p).tolist()


def test_packed_product_by_hand(both):
    """(5 * 2**18 + 3) * -7: operand, pre-adder, product and sum registers, so P is there before the fifth edge."""
    p = _p(both, 0, a=[3], d=[5 << 18], b=[-7], inmode=[0b00100], opmode=[opmode()])
    assert p[:6] == [0, 0, 0, 0, (5 * 2**18 + 3) * -7, 0]


def test_constant_and_cascade_by_hand(both):
    """W = RND adds the constant, Z = PCIN the cascade; the mode's register is one edge before the sum's."""
    p = _p(both, 0, pcin=[100], opmode=[opmode(w="RND", z="PCIN"), opmode(z="PCIN"), opmode()])
    assert p[:5] == [0, 0, RND + 100, 100, 0]


def test_c_port_by_hand(both):
    """C waits in its register as the mode does; W = C and Z = PCIN subtract a number and add the cascade."""
    p = _p(both, 0, c=[-1024, 7], pcin=[5000], opmode=[opmode(w="C", z="PCIN"), opmode(z="C"), opmode(z="PCIN>>17")])
    assert p[:5] == [0, 0, 5000 - 1024, 7, 0]


def test_largest_operands_by_hand(both):
    """27 x 18: -2**26 * -2**17 = 2**43, and the pre-adder wraps in 27 bits: 2**26 - 1 + 1 is -2**26."""
    assert _p(both, 0, d=[-(1 << 26)], b=[-(1 << 17)], inmode=[0b00100], opmode=[opmode()])[4] == 1 << 43
    assert _p(both, 0, d=[(1 << 26) - 1], a=[1], b=[1], inmode=[0b00100], opmode=[opmode()])[4] == -(1 << 26)


def test_random_modes_agree_with_the_dsp48e1_of_yosys(both):
    rng = np.random.default_rng(1)
    steps = 20_000

    def signed(bits, keep):
        values = rng.integers(-(1 << bits - 1), 1 << bits - 1, steps)
        return np.where(rng.random(steps) < 0.1, rng.choice([-(1 << bits - 1), (1 << bits - 1) - 1, 0, -1], steps),
                        values) & ((1 << keep) - 1)

    pairs = [(0b01, 0b01), (0, 0), (0b10, 0), (0b11, 0), (0, 0b10), (0, 0b11), (0b10, 0b11), (0b11, 0b11), (0b11, 0b10)]
    x, y = np.array(pairs)[rng.integers(0, len(pairs), steps)].T
    z = rng.choice(list(Z.values()), steps)
    chance = rng.random((steps, len(ENABLES) + len(RESETS)))
    rows = {
        "a": signed(23, 30), "b": signed(18, 18), "c": signed(48, 48), "d": signed(23, 27), "acin": signed(23, 30),
        "bcin": signed(18, 18), "pcin": signed(48, 48), "opmode": z << 4 | y << 2 | x,
        "inmode": rng.integers(0, 16, steps) & ~1, "alumode": rng.choice([0, 1, 2, 3], steps),
        "carryin": rng.integers(0, 2, steps),
        "ce": ((chance[:, :len(ENABLES)] < 0.8) << np.arange(len(ENABLES))).sum(axis=1),
        "reset": ((chance[:, len(ENABLES):] < 0.03) << np.arange(len(RESETS))).sum(axis=1)}
    for inmode, numbers in ((rows["inmode"], range(len(COMMON))), (rng.integers(0, 32, steps), (1,))):
        seen = drive(both, rows | {"inmode": inmode})     # A1 and B1 for A2 and B2 only where there are both
        for number in numbers:
            for name in ("p", "acout", "bcout"):
                ours, theirs = (seen[f"{name}_dsp48e{kind}_{number}"] for kind in (2, 1))
                assert len(np.unique(ours)) > 1000
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} of {COMMON[number]}")


def test_an_attribute_without_a_model_does_not_build():
    text = 'module t(input clk, input rst); DSP48E2 #(.USE_SIMD("FOUR12")) u (.CLK(clk)); endmodule\n'
    with pytest.raises(HarnessError, match="attribute_without_model"):
        build_driver(text + DSP48E2, top="t", inputs=(), outputs=())


def test_only_what_is_instantiated_is_added():
    text = "  RAM32M #(\n"
    assert primitives_in(text) == ["RAM32M"]
    assert models_for(text) == text + MODELS["RAM32M"]


def test_the_instance_names_every_attribute_that_the_model_has():
    body = DSP48E2[:DSP48E2.index(") (")]
    assert set(re.findall(r"\b([A-Z][A-Z_]*[A-Z])\b(?= =)", body)) == set(ATTRIBUTES)


def test_refusals():
    assert opmode(w="C", z="PCIN") == W["C"] << 7 | Z["PCIN"] << 4 | 0b0101
    with pytest.raises(InputError, match="X and Y must both be M or neither, not M and 0"):
        opmode(y="0")
    with pytest.raises(InputError, match="an attribute must be one of .*, not 'ZREG', in a DSP48E2"):
        dsp48e2(enable=1, p=None, pcout=None, inputs={}, attributes={"ZREG": 1})
    with pytest.raises(InputError, match="an input must be one of a, .*, not 'e', in a DSP48E2"):
        dsp48e2(enable=1, p=None, pcout=None, inputs={"e": 1}, attributes={})
