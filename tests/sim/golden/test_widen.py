"""Packed codes by hand, against the packing of the memory image, and refusals."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.widen import CODE_BITS
from mixflight.sim.golden.widen import widened


def test_by_hand():
    assert widened(np.array([0b11100100], np.uint8), bits=2, signed=False, codes=4).tolist() == [0, 1, 2, 3]
    assert widened(np.array([0b11100100], np.uint8), bits=2, signed=True, codes=4).tolist() == [0, 1, 254, 255]
    assert widened(np.array([0xB1, 0x02], np.uint8), bits=5, signed=True, codes=2).tolist() == [0xF1, 0xF5]


@pytest.mark.parametrize("bits", CODE_BITS)
def test_the_inverse_of_packing(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, 80)
    packed = sum(int(code) << bits * place for place, code in enumerate(codes))
    words = np.frombuffer(packed.to_bytes(10 * bits, "little"), np.uint8)
    assert widened(words, bits=bits, signed=False, codes=80).tolist() == codes.tolist()
    signed = widened(words, bits=bits, signed=True, codes=80).view(np.int8)
    assert signed.tolist() == [code - (1 << bits) if code >> bits - 1 else code for code in codes.tolist()]


def test_refusals():
    with pytest.raises(InputError, match="packed codes must have 2, 3, 4, 5, 8 bits, not 6"):
        widened(np.zeros(8, np.uint8), bits=6, signed=False, codes=1)
    with pytest.raises(InputError, match="3 codes of 8 bits must lie in 2 bytes"):
        widened(np.zeros(2, np.uint8), bits=8, signed=False, codes=3)
