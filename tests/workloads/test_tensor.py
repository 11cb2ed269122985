import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.tensor import LAYOUTS, Tensor, pack_tensor

QUANTISED = ("q4_0", "q4_1", "q8_0")


def _tensor(name, block, shape=(1, 32)):
    return Tensor(name="w", shape=shape, format=FORMATS[name], raw=np.frombuffer(block, np.uint8))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_stores_exactly_what_its_format_says(name):
    layout, fmt = LAYOUTS[name], FORMATS[name]
    assert layout.block_bytes * 8 == fmt.row_bits(layout.codes)
    assert layout.code_bytes * 8 == layout.codes * fmt.bits
    if fmt.kind == "int":
        assert layout.codes == fmt.group


# Low nibbles hold elements 0..15 as 0..15, high nibbles hold elements 16..31 as 15..0.
NIBBLES = bytes(j | (15 - j) << 4 for j in range(16))
NIBBLE_CODES = [*range(16), *range(15, -1, -1)]


def test_a_q4_0_block_by_hand():
    tensor = _tensor("q4_0", bytes.fromhex("003e") + NIBBLES)  # 0x3e00 = 1.5
    assert tensor.codes().tolist() == [NIBBLE_CODES]
    assert tensor.codes().dtype == np.uint8
    assert tensor.scales().tolist() == [[1.5]]
    assert tensor.minima() is None
    assert tensor.packed_codes().tobytes() == NIBBLES
    assert tensor.dequantise()[0, :2].tolist() == [-12.0, -10.5]
    assert tensor.dequantise()[0, 16] == 10.5


def test_a_q4_1_block_by_hand():
    tensor = _tensor("q4_1", bytes.fromhex("0038 00c2") + NIBBLES)  # 0x3800 = 0.5, 0xc200 = -3
    assert tensor.codes().tolist() == [NIBBLE_CODES]
    assert tensor.scales().tolist() == [[0.5]]
    assert tensor.minima().tolist() == [[-3.0]]
    assert tensor.dequantise()[0, :3].tolist() == [-3.0, -2.5, -2.0]
    assert tensor.dequantise()[0, 16] == 4.5


def test_a_q8_0_block_by_hand():
    tensor = _tensor("q8_0", bytes.fromhex("00b4") + bytes([0, 1, 127, 128, 255]) + bytes(27))  # -0.25
    assert tensor.codes().dtype == np.int8
    assert tensor.codes()[0, :5].tolist() == [0, 1, 127, -128, -1]
    assert tensor.scales().tolist() == [[-0.25]]
    assert tensor.dequantise()[0, :5].tolist() == [0.0, -0.25, -31.75, 32.0, 0.25]


@given(st.data())
def test_packing_and_reading_are_inverse(data):
    name = data.draw(st.sampled_from(QUANTISED))
    n, groups = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    fmt = FORMATS[name]
    low, high = (value + fmt.offset for value in fmt.code_range())
    codes = rng.integers(low, high, (n, groups * 32), endpoint=True)
    scales = rng.normal(size=(n, groups)).astype(np.float16)
    minima = rng.normal(size=(n, groups)).astype(np.float16) if name == "q4_1" else None
    tensor = pack_tensor("w", name, codes=codes, scales=scales, minima=minima)
    assert (tensor.codes() == codes).all()
    assert (tensor.scales() == scales).all()
    assert tensor.minima() is None if minima is None else (tensor.minima() == minima).all()
    assert tensor.nbytes * 8 == n * fmt.row_bits(groups * 32)
    chosen = data.draw(st.lists(st.integers(0, n - 1), max_size=5))
    assert (tensor.dequantise(chosen) == tensor.dequantise()[chosen]).all()
    assert (tensor.codes(slice(1, None)) == codes[1:]).all()


@pytest.mark.parametrize("name", ["f16", "f32"])
def test_values_keep_their_shape(name):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = pack_tensor("w", name, values=values)
    assert (tensor.values() == values).all()
    assert tensor.dequantise([1]).tolist() == [[3.0, 4.0, 5.0]]
    assert pack_tensor("w", name, values=values[0]).values().shape == (3,)
    with pytest.raises(InputError, match="codes need an integer format"):
        tensor.codes()
    with pytest.raises(InputError, match="scales need a quantised format"):
        tensor.scales()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scales_minima_and_values_must_be_finite(bad):
    codes = np.zeros((2, 64), int)
    good, broken = np.ones((2, 2)), np.array([[1, 1], [1, bad]])
    with pytest.raises(InputError, match=r"every scale must be finite, not .* at \(1, 1\), in tensor 'w'"):
        pack_tensor("w", "q8_0", codes=codes, scales=broken).scales()
    with pytest.raises(InputError, match="every minimum must be finite"):
        pack_tensor("w", "q4_1", codes=codes, scales=good, minima=broken).minima()
    with pytest.raises(InputError, match="every value must be finite"):
        pack_tensor("w", "f32", values=broken).values()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="K must be a multiple of 32 for q4_1, not 33"):
        _tensor("q4_1", bytes(20), (1, 33))
    with pytest.raises(InputError, match="raw must be 20 bytes"):
        _tensor("q4_1", bytes(19))
    with pytest.raises(InputError, match="every dimension must be at least 1"):
        _tensor("f32", b"", (0, 4))
    with pytest.raises(InputError, match="format must be one of"):
        Tensor(name="w", shape=(1, 32), format=FORMATS["int8"], raw=np.zeros(34, np.uint8))
    with pytest.raises(InputError, match=r"codes must lie in 0\.\.15, not 0\.\.16"):
        pack_tensor("w", "q4_0", codes=np.array([[16] + [0] * 31]), scales=np.ones((1, 1)))
    with pytest.raises(InputError, match="must come with codes and scales"):
        pack_tensor("w", "q4_0", scales=np.ones((1, 1)))
    with pytest.raises(InputError, match="scales and minima must be"):
        pack_tensor("w", "q4_0", codes=np.zeros((1, 32), int), scales=np.ones((1, 2)))
    with pytest.raises(InputError, match="values need f16 or f32"):
        _tensor("q8_0", bytes(34)).values()
    with pytest.raises(InputError, match="must come with values"):
        pack_tensor("w", "f16")
