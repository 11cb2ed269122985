import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.tensor import LAYOUTS, Tensor, pack_tensor

QUANTISED = tuple(name for name in LAYOUTS if FORMATS[name].kind == "int")
BLOCKS = 5


def _random_blocks(name, rng, n=2, blocks=BLOCKS):
    """Valid blocks: any codes and integer scales, finite scales and minima, ternary bytes that a packer can write."""
    layout = LAYOUTS[name]
    raw = rng.integers(0, 256, (n, blocks, layout.block_bytes), dtype=np.uint8)
    for at in (layout.scale_at, layout.minimum_at):
        if at is not None and FORMATS[name].scale == "f16":
            halves = rng.normal(size=(n, blocks, 1)).astype("<f2")
            raw[..., at : at + 2] = halves.view(np.uint8)
    if FORMATS[name].scale == "e8m0-half":
        raw[..., 0] = rng.integers(0, 250, (n, blocks))
    for part in layout.trits:
        step = 3 ** (5 - part.digits)
        numbers = rng.integers(0, 3**part.digits, (n, blocks, part.size)) * step
        raw[..., part.at : part.at + part.size] = -(-numbers * 256 // 243)
    return Tensor(name="w", shape=(n, blocks * layout.codes), format=FORMATS[name], raw=raw.reshape(-1))


# The code of element j of a block and the scale and minimum codes of group g, straight from the description of each
# type (ggml): b is the block's bytes as Python integers.


def _nibble(b, at, j, run):
    byte = b[at + j // (2 * run) * run + j % run]
    return byte >> 4 if j // run % 2 else byte & 15


def _pair(b, at, j):
    return b[at + j // 128 * 32 + j % 32] >> 2 * (j // 32 % 4) & 3


def _trit(b, j):
    at, j, run = (0, j, 32) if j < 160 else (32, j - 160, 16) if j < 240 else (48, j - 240, 4)
    return (b[at + j % run] * 3 ** (j // run) % 256) * 3 >> 8


CODES = {
    "q4_0": lambda b, j: _nibble(b, 2, j, 16),
    "q4_1": lambda b, j: _nibble(b, 4, j, 16),
    "q5_0": lambda b, j: _nibble(b, 6, j, 16) + 16 * (int.from_bytes(b[2:6], "little") >> j & 1),
    "q5_1": lambda b, j: _nibble(b, 8, j, 16) + 16 * (int.from_bytes(b[4:8], "little") >> j & 1),
    "q8_0": lambda b, j: (b[2 + j] ^ 128) - 128,
    "q2_k": lambda b, j: _pair(b, 16, j),
    "q3_k": lambda b, j: _pair(b, 32, j) + 4 * (b[j % 32] >> j // 32 & 1),
    "q4_k": lambda b, j: _nibble(b, 16, j, 32),
    "q5_k": lambda b, j: _nibble(b, 48, j, 32) + 16 * (b[16 + j % 32] >> j // 32 & 1),
    "q6_k": lambda b, j: _nibble(b, 0, j, 64) + 16 * _pair(b, 128, j),
    "iq4_nl": lambda b, j: _nibble(b, 2, j, 16),
    "iq4_xs": lambda b, j: _nibble(b, 8, j, 16),
    "tq1_0": _trit,
    "tq2_0": lambda b, j: _pair(b, 0, j),
    "mxfp4": lambda b, j: _nibble(b, 1, j, 16),
}


def _six_bits(s, g):
    if g < 4:
        return s[g] & 63, s[g + 4] & 63
    return s[g + 4] & 15 | s[g - 4] >> 6 << 4, s[g + 4] >> 4 | s[g] >> 6 << 4


def _q3_k_scale(b, g):
    s = b[96:108]
    return (s[g] & 15 if g < 8 else s[g - 8] >> 4) | (s[8 + g % 4] >> 2 * (g // 4) & 3) << 4


SCALE_CODES = {
    "q2_k": lambda b, g: (b[g] & 15, b[g] >> 4),
    "q3_k": lambda b, g: (_q3_k_scale(b, g), None),
    "q4_k": lambda b, g: _six_bits(b[4:16], g),
    "q5_k": lambda b, g: _six_bits(b[4:16], g),
    "q6_k": lambda b, g: ((b[192 + g] ^ 128) - 128, None),
    "iq4_xs": lambda b, g: (
        b[4 + g // 2] >> 4 * (g % 2) & 15 | (int.from_bytes(b[2:4], "little") >> 2 * g & 3) << 4, None
    ),
    "mxfp4": lambda b, g: (b[0], None),
}


def _tensor(name, block, shape=(1, 32)):
    return Tensor(name="w", shape=shape, format=FORMATS[name], raw=np.frombuffer(block, np.uint8))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_stores_exactly_what_its_format_says(name):
    layout, fmt = LAYOUTS[name], FORMATS[name]
    assert layout.block_bytes * 8 == fmt.row_bits(layout.codes)
    if fmt.kind == "int":
        stored = sum(part.size for part in (*layout.planes, *layout.trits))
        assert stored * 8 == (fmt.packed_bits or layout.codes * fmt.bits)
        assert layout.codes == fmt.block


def test_every_quantised_type_has_its_description_here():
    assert list(CODES) == list(QUANTISED)


@pytest.mark.parametrize("name", QUANTISED)
def test_codes_are_the_ones_of_the_description(name):
    tensor = _random_blocks(name, np.random.default_rng(7))
    layout, fmt = tensor.layout, tensor.format
    blocks = [list(block) for block in tensor.raw.reshape(-1, layout.block_bytes).tolist()]
    expected = [[CODES[name](b, j) for j in range(layout.codes)] for b in blocks]
    assert tensor.codes().reshape(len(blocks), -1).tolist() == expected
    if name not in SCALE_CODES:
        with pytest.raises(InputError, match=f"scale codes need a format of two levels, not {name}"):
            tensor.scale_codes()
        return
    pairs = [[SCALE_CODES[name](b, g) for g in range(layout.codes // fmt.group)] for b in blocks]
    assert tensor.scale_codes().reshape(len(blocks), -1).tolist() == [[scale for scale, _ in row] for row in pairs]
    if fmt.two_level and fmt.two_level.minimum_bits:
        minima = tensor.minimum_codes()
        assert minima.reshape(len(blocks), -1).tolist() == [[minimum for _, minimum in row] for row in pairs]


def _repacked(tensor):
    fmt = tensor.format
    two = fmt.two_level is not None
    return pack_tensor(
        tensor.name, fmt.name, codes=tensor.codes(),
        scales=tensor.scales() if fmt.scale == "f16" else None, minima=tensor.minima(),
        scale_codes=tensor.scale_codes() if two or fmt.scale == "e8m0-half" else None,
        minimum_codes=tensor.minimum_codes() if two else None,
    )


@pytest.mark.parametrize("name", QUANTISED)
def test_repacked_codes_and_scales_give_the_same_bytes(name):
    tensor = _random_blocks(name, np.random.default_rng(8))
    assert _repacked(tensor).raw.tobytes() == tensor.raw.tobytes()


@pytest.mark.parametrize("name", QUANTISED)
def test_values_are_operands_times_scales_plus_minima(name):
    tensor = _random_blocks(name, np.random.default_rng(9))
    fmt, rows = tensor.format, [1, 0, 1]
    groups = tensor.operands(rows).reshape(len(rows), -1, fmt.group).astype(np.float32)
    scales, minima = tensor.group_scales(rows), tensor.group_minima(rows)
    assert scales.shape == (3, tensor.k // fmt.group)
    assert scales.dtype == np.float32
    expected = groups * scales[..., None] + (np.float32(0) if minima is None else minima[..., None])
    assert (tensor.dequantise(rows) == expected.reshape(len(rows), -1)).all()
    assert (tensor.dequantise(rows) == tensor.dequantise()[rows]).all()
    assert tensor.dequantise([]).shape == (0, tensor.k)
    low, high = fmt.code_range()
    assert tensor.operands().min() >= low
    assert tensor.operands().max() <= high


def _half(value):
    return np.array([value], "<f2").tobytes()


# One block of each further type, worked by hand: bytes, and (element, value) pairs.
BY_HAND = {
    # codes 16 * bit + nibble: element 0 has nibble 3 and bit 1: 19 - 16 = 3; element 17 nibble 10 and bit 0: -6
    "q5_0": (_half(2) + bytes.fromhex("01000000") + bytes([0x03, 0xA0]) + bytes(14), [(0, 6), (17, -12), (5, -32)]),
    "q5_1": (
        _half(2) + _half(-1) + bytes.fromhex("00000080") + bytes(15) + bytes([0xF1]), [(15, 1), (31, 61), (0, -1)]
    ),
    # group 0: scale 3, minimum 2; byte 0 of qs = 0b11_10_01_00: elements 0, 32, 64, 96 (groups 0, 2, 4, 6)
    "q2_k": (
        bytes([0x23, 0, 0x01, 0, 0x51, 0, 0x0F]) + bytes(9) + bytes([0b11100100]) + bytes(63) + _half(0.5) + _half(2),
        [(0, -4), (32, 0.5), (64, 0.5 * 2 - 10), (96, 7.5 * 3), (1, -4)],
    ),
    # scale of group 0: nibble 5 and high bits 2: 37 - 32 = 5; element 0: 2 bits 3, hmask bit 1: 3; element 1: 0 - 4
    "q3_k": (
        bytes([1]) + bytes(31) + bytes([3]) + bytes(63) + bytes([5]) + bytes(7) + bytes([2, 0, 0, 0]) + _half(0.5),
        [(0, 7.5), (1, -10), (255, 0.5 * -32 * -4)],
    ),
    # bytes 0, 4, 8: group 0 scale 5, minimum 3; group 4 scale 0x1 | 3 << 4 = 49, minimum 0x2 | 1 << 4 = 18
    "q4_k": (
        _half(1) + _half(0.5) + bytes([0xC5, 0, 0, 0, 0x43, 0, 0, 0, 0x21, 0, 0, 0]) + bytes([0x07]) + bytes(63)
        + bytes([0x02]) + bytes(63),
        [(0, 5 * 7 - 1.5), (1, -1.5), (128, 49 * 2 - 9), (32, 0)],
    ),
    "q5_k": (
        _half(1) + _half(0.5) + bytes([0xC5, 0, 0, 0, 0x43, 0, 0, 0, 0x21, 0, 0, 0]) + bytes([0b00010001])
        + bytes(31) + bytes([0x07]) + bytes(63) + bytes([0x02]) + bytes(63),
        [(0, 5 * 23 - 1.5), (1, -1.5), (128, 49 * 18 - 9), (129, -9)],
    ),
    # element 0: nibble 1, high bits 2: 33 - 32; element 64: high nibble 4 of the same byte, bits 0: 4 - 32
    "q6_k": (
        bytes([0x41]) + bytes(127) + bytes([0b00000010]) + bytes(63) + bytes([3, 0, 0, 0, 0xFE]) + bytes(11) + _half(0.5),
        [(0, 1.5), (64, -1 * -28), (1, -48)],
    ),
    "iq4_nl": (_half(0.5) + bytes([0x80, 0x1F]) + bytes(14), [(0, -63.5), (16, 0.5), (1, 56.5), (17, -52)]),
    # group 0: low nibble 1, high bits 2: 33 - 32; group 1: low nibble 4, high bits 1: 20 - 32
    "iq4_xs": (
        _half(2) + bytes([0b0110, 0]) + bytes([0x41, 0, 0, 0]) + bytes([0x8F]) + bytes(15) + bytes([0x0F]) + bytes(111),
        [(0, 226), (16, 2), (1, -254), (32, 2 * -12 * 113), (64, 2 * -32 * -127)],
    ),
    # byte 0 holds digits 2, 0, 1, 0, 2: 162 + 9 + 2 = 173, ceil(173 * 256 / 243) = 183
    "tq1_0": (
        bytes([183]) + bytes(51) + _half(3), [(0, 3), (32, -3), (64, 0), (96, -3), (128, 3), (1, -3), (240, -3)]
    ),
    "tq2_0": (bytes([0b01_00_10_01]) + bytes(63) + _half(3), [(0, 0), (32, 3), (64, -3), (96, 0), (128, -3)]),
    # exponent 129: 2^2 times E2M1; nibble 7 is 6, nibble 9 is -0.5
    "mxfp4": (bytes([129, 0x97, 0x01]) + bytes(14), [(0, 24), (16, -2), (1, 2), (17, 0)]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_block_by_hand(name):
    block, pairs = BY_HAND[name]
    values = _tensor(name, block, (1, LAYOUTS[name].codes)).dequantise()[0]
    assert [(j, float(values[j])) for j, _ in pairs] == [(j, float(value)) for j, value in pairs]


def test_the_exponents_of_mxfp4():
    raw = np.array([[e] + [0x22] * 16 for e in (0, 1, 127, 252)], np.uint8)
    tensor = Tensor(name="w", shape=(4, 32), format=FORMATS["mxfp4"], raw=raw.reshape(-1))
    assert tensor.group_scales()[:, 0].tolist() == [2.0**-128, 2.0**-127, 0.5, 2.0**124]
    assert tensor.dequantise()[:, 0].tolist() == [2.0**-127, 2.0**-126, 1.0, 2.0**125]
    for exponent, nibbles, message in ((255, 0, "not the E8M0 code 255"), (254, 0x77, "every value must be finite")):
        block = bytes([exponent] + [nibbles] * 16)
        with pytest.raises(InputError, match=message):
            _tensor("mxfp4", block).dequantise()


def test_a_bf16_value_by_hand():
    tensor = _tensor("bf16", bytes.fromhex("c03f 49c0"), (1, 2))
    assert tensor.values().tolist() == [[1.5, -3.140625]]
    assert tensor.values().dtype == np.float32
    packed = pack_tensor("w", "bf16", values=np.array([1 + 2**-8, 1 + 3 * 2**-8, -3.14], np.float32))
    assert packed.values().tolist() == [1.0, 1 + 2**-6, -3.140625]  # ties to even
    with pytest.raises(InputError, match="every value must be finite"):
        _tensor("bf16", bytes.fromhex("807f"), (1, 1)).values()


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
    name = data.draw(st.sampled_from(["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "tq1_0", "tq2_0"]))
    n, groups = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    fmt = FORMATS[name]
    low, high = (value + fmt.offset for value in fmt.code_range())
    if fmt.table or name == "tq1_0":
        low, high = 0, 2 if name == "tq1_0" else 15
    codes = rng.integers(low, high, (n, groups * fmt.group), endpoint=True)
    scales = rng.normal(size=(n, groups)).astype(np.float16)
    minima = rng.normal(size=(n, groups)).astype(np.float16) if fmt.zero == "f16-min" else None
    tensor = pack_tensor("w", name, codes=codes, scales=scales, minima=minima)
    assert (tensor.codes() == codes).all()
    assert (tensor.scales() == scales).all()
    assert tensor.minima() is None if minima is None else (tensor.minima() == minima).all()
    assert tensor.nbytes * 8 == n * fmt.row_bits(groups * fmt.group)
    chosen = data.draw(st.lists(st.integers(0, n - 1), max_size=5))
    assert (tensor.dequantise(chosen) == tensor.dequantise()[chosen]).all()
    assert (tensor.codes(slice(1, None)) == codes[1:]).all()


@pytest.mark.parametrize("name", ["f16", "bf16", "f32"])
def test_values_keep_their_shape(name):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = pack_tensor("w", name, values=values)
    assert (tensor.values() == values).all()
    assert tensor.dequantise([1]).tolist() == [[3.0, 4.0, 5.0]]
    assert pack_tensor("w", name, values=values[0]).values().shape == (3,)
    with pytest.raises(InputError, match="codes need an integer format"):
        tensor.codes()
    with pytest.raises(InputError, match="scales need a format with FP16 scales"):
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
    with pytest.raises(InputError, match="values need f16, bf16, f32"):
        _tensor("q8_0", bytes(34)).values()
    with pytest.raises(InputError, match="must come with values"):
        pack_tensor("w", "f16")
    with pytest.raises(InputError, match="must come with codes, scales, minima, scale codes and minimum codes"):
        pack_tensor("w", "q4_k", codes=np.zeros((1, 256), int), scales=np.ones((1, 1)))
    two = {"codes": np.zeros((1, 256), int), "scales": np.ones((1, 1))}
    with pytest.raises(InputError, match=r"scale codes must be \(1, 16\), not \(1, 8\)"):
        pack_tensor("w", "q3_k", **two, scale_codes=np.zeros((1, 8), int))
    with pytest.raises(InputError, match=r"scale codes must lie in -128\.\.127, not 0\.\.128"):
        pack_tensor("w", "q6_k", **two, scale_codes=np.arange(16)[None] * 128 // 15)
