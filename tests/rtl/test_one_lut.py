# amaranth: UnusedElaboratable=no
"""Functions of a few bits: a LUT each."""

import pytest
from amaranth import Cat

from mixflight.arch.errors import InputError
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.one_lut import OneLut
from mixflight.rtl.synthesis import synthesise


def test_six_bits_are_one_lut():
    text = emit_verilog(OneLut(function=lambda *bits: Cat(bits).xor() | Cat(bits).all(), count=6), "one_lut")
    assert synthesise(text, top="one_lut").lut == 1


@pytest.mark.parametrize("count", [0, 7])
def test_other_counts_are_refused(count):
    with pytest.raises(InputError, match=f"a function of one LUT must be of 1 to 6 bits, not {count}"):
        OneLut(function=lambda *bits: Cat(bits).all(), count=count)
