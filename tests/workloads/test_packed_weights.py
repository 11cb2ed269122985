"""Packings against plain loops, words worked by hand, and damaged arrays."""

import json

import numpy as np
import pytest
import safetensors_files as files
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FP4_TABLE, NF4_TABLE
from mixflight.workloads.bits import e4m3_values, unpack_codes
from mixflight.workloads.packed_weights import PackedWeight, Quantiser, SparseWeight, weight_at
from mixflight.workloads.safetensors_reader import open_safetensors

GPTQ, AWQ = Quantiser(method="gptq"), Quantiser(method="awq")
N, K, G = 32, 64, 4


def _at(folder, arrays, shape, quantiser=None, dtypes=None):
    named = {f"p.{name}": array for name, array in arrays.items()}
    file = open_safetensors(files.write(folder / "x.safetensors", named, {f"p.{k}": v for k, v in (dtypes or {}).items()}))
    return weight_at(file, "p", shape, quantiser)


def _words(word_bits, *codes):
    """Codes low bits first."""
    return sum(code << word_bits * i for i, code in enumerate(codes))


def _parts(bits, rng, groups=G):
    codes = rng.integers(0, 1 << bits, (K, N))
    zeros = rng.integers(0, 1 << bits, (groups, N))
    scales = rng.normal(size=(groups, N)).astype(np.float16)
    return codes, zeros, scales


def _expected(codes, zeros, scales, order):
    """w[n][k] = s (q - z), element by element."""
    return [
        [float(scales[order[k], n]) * (int(codes[k, n]) - int(zeros[order[k], n])) for k in range(K)] for n in range(N)
    ]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("less_one", [True, False])
@pytest.mark.parametrize("shuffled", [False, True])
def test_gptq(bits, less_one, shuffled, tmp_path):
    rng = np.random.default_rng(bits)
    codes, zeros, scales = _parts(bits, rng)
    runs = np.arange(K) // (K // G)
    order = rng.permutation(runs) if shuffled else runs
    arrays = files.gptq(codes, zeros, scales, bits, less_one=less_one, order=order)
    weight = _at(tmp_path, arrays, (N, K), Quantiser(method="gptq", zero_less_one=less_one))
    assert (weight.codes() == codes.T).all()
    assert (weight.zeros() == zeros.T).all()
    assert (weight.scales() == scales.T).all()
    assert (weight.group_of is not None) == shuffled
    assert weight.dequantise().tolist() == _expected(codes, zeros, scales, order)
    assert (weight.dequantise([5, 0, 5]) == weight.dequantise()[[5, 0, 5]]).all()
    assert weight.format.name == f"uint{bits}-g16-z{bits}"
    assert weight.nbytes * 8 == N * weight.format.row_bits(K) + 32 * K  # and the order


def test_gptq_words_by_hand(tmp_path):
    # 3 bits: element 10 has bits 30, 31 of word 0 and bit 0 of word 1; element 21 bit 31 of word 1, bits 0, 1 of word 2
    words = [0b01 << 30 | 5, 1 << 31 | 0b1, 0b11 << 30 >> 30 | 7 << 29]
    column = unpack_codes(np.array([[files.signed(word) for word in words]], np.int32), 3, 32)[0]
    assert [int(column[i]) for i in (0, 1, 10, 21, 31)] == [5, 0, 0b101, 0b111, 7]
    # 4 bits: element i of a column at bits 4i; a stored zero point of 7 is 8, one of 15 is 0
    arrays = {
        "qweight": np.array([[files.signed(0x87654321), 0x0000000F] + [0] * 6] * 1, np.int32),
        "qzeros": np.array([[files.signed(0xFFFFFFF7)]], np.int32),
        "scales": np.full((1, 8), 0.5, np.float16),
    }
    weight = _at(tmp_path, arrays, (8, 8), GPTQ)
    assert weight.codes()[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert weight.zeros()[:, 0].tolist() == [8, 0, 0, 0, 0, 0, 0, 0]
    assert weight.dequantise()[0].tolist() == [-3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0]
    assert weight.dequantise()[1].tolist() == [7.5, 0, 0, 0, 0, 0, 0, 0]
    assert weight.format.name == "uint4-z4"


def test_awq(tmp_path):
    codes, zeros, scales = _parts(4, np.random.default_rng(1))
    weight = _at(tmp_path, files.awq(codes, zeros, scales), (N, K), AWQ)
    assert (weight.codes() == codes.T).all()
    assert (weight.zeros() == zeros.T).all()
    assert weight.dequantise().tolist() == _expected(codes, zeros, scales, np.arange(K) // (K // G))
    assert (weight.dequantise([31, 3]) == weight.dequantise()[[31, 3]]).all()
    assert weight.nbytes * 8 == N * weight.format.row_bits(K)


def test_awq_words_by_hand(tmp_path):
    # nibbles of a word, low first, are columns 0, 2, 4, 6, 1, 3, 5, 7
    arrays = {
        "qweight": np.array([[files.signed(0xFEDCBA98)]] * 8, np.int32), "qzeros": np.array([[0x00000010]], np.int32),
        "scales": np.ones((1, 8), np.float16),
    }
    weight = _at(tmp_path, arrays, (8, 8), AWQ)
    assert weight.codes()[:, 0].tolist() == [8, 12, 9, 13, 10, 14, 11, 15]
    assert weight.zeros()[:, 0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert weight.dequantise()[2, 0] == 8


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_packed_integers(bits, asymmetric, groups, tmp_path):
    rng = np.random.default_rng(bits)
    half = 1 << (bits - 1)
    codes = rng.integers(-half, half, (N, K))
    zeros = rng.integers(-half, half, (N, groups)) if asymmetric else None
    scales = rng.normal(size=(N, groups)).astype(np.float32)
    weight = _at(tmp_path, files.packed_integers(codes, scales, zeros, bits), (N, K))
    size = K // groups
    expected = [
        [
            float(np.float32(int(codes[n, k]) - (0 if zeros is None else int(zeros[n, k // size]))) * scales[n, k // size])
            for k in range(K)
        ]
        for n in range(N)
    ]
    assert weight.dequantise().tolist() == expected
    assert (weight.codes() == codes + (half if asymmetric else 0)).all()
    group = f"-g{size}" if groups > 1 else ""
    assert weight.format.name == (f"uint{bits}{group}-z{bits}-f32" if asymmetric else f"int{bits}{group}-f32")
    assert (weight.nbytes - 16) * 8 == N * weight.format.row_bits(K)  # 16 bytes of shape


def test_a_packed_integer_by_hand(tmp_path):
    arrays = {
        "weight_packed": np.array([[files.signed(0xF0000978)]], np.int32), "weight_shape": np.array([1, 8]),
        "weight_scale": np.array([[0x4000]], np.uint16),  # BF16 2.0
    }
    weight = _at(tmp_path, arrays, (1, 8), Quantiser(bits=4), {"weight_scale": "BF16"})
    assert weight.codes().tolist() == [[0, -1, 1, -8, -8, -8, -8, 7]]
    assert weight.dequantise().tolist() == [[0, -2, 2, -16, -16, -16, -16, 14]]
    assert weight.format.name == "int4-bf16"
    with pytest.raises(InputError, match="must hold codes of 2, 4 or 8 bits for 1 x 8"):  # 2 and 4 bits need one word
        _at(tmp_path, arrays, (1, 8), dtypes={"weight_scale": "BF16"})


def test_two_of_four(tmp_path):
    rng = np.random.default_rng(2)
    dense = rng.normal(size=(N, K)).astype(np.float16)
    for row in dense.reshape(-1, 4):
        row[rng.permutation(4)[:2]] = 0
    weight = _at(tmp_path, files.sparse(dense), (N, K))
    assert isinstance(weight, SparseWeight)
    assert (weight.dequantise() == dense).all()
    assert (weight.dequantise([3, 1]) == dense[[3, 1]]).all()
    assert (weight.mask() == (dense != 0)).all()
    assert (weight.nbytes - 16) * 8 == N * weight.format.row_bits(K)


def test_a_mask_by_hand_and_one_that_is_not_two_of_four(tmp_path):
    arrays = {
        "weight.compressed": np.array([[1, 2, 3, 4]], np.float32), "weight.shape": np.array([1, 8]),
        "weight.bitmask": np.array([[0b1001_0110]], np.uint8),
    }
    assert _at(tmp_path, arrays, (1, 8)).dequantise().tolist() == [[0, 1, 2, 0, 3, 0, 0, 4]]
    arrays["weight.bitmask"] = np.array([[0b1101_0110]], np.uint8)
    with pytest.raises(InputError, match="2 values in each 4, not 3 at row 0, columns 4 to 7, in weight 'p'"):
        _at(tmp_path, arrays, (1, 8)).dequantise()


@pytest.mark.parametrize(("kind", "table"), [("nf4", NF4_TABLE), ("fp4", FP4_TABLE)])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_four_bits(kind, table, nested, tmp_path):
    rng = np.random.default_rng(3)
    n, k, block = 24, 128, 8
    codes = rng.integers(0, 16, (n, k))
    count = n * k // block
    if nested:
        absmax = rng.integers(0, 256, count).astype(np.uint8)
        outer, outer_map = rng.normal(size=2).astype(np.float32), rng.normal(size=256).astype(np.float32)
        real = [np.float32(outer_map[absmax[i]] * outer[i // 256] + np.float32(0.25)) for i in range(count)]
        more = (0.25, outer, outer_map)
    else:
        absmax = rng.normal(size=count).astype(np.float32)
        real, more = list(absmax), None
    weight = _at(tmp_path, files.four_bits(codes, absmax, table, kind, block, more), (n, k))
    values = np.array(table, np.float32)
    expected = [[float(values[codes[r, c]] * real[(r * k + c) // block]) for c in range(k)] for r in range(n)]
    assert (weight.codes() == codes).all()
    assert weight.dequantise().tolist() == expected
    assert (weight.dequantise([23, 2]) == weight.dequantise()[[23, 2]]).all()
    assert weight.format.name == f"{kind}-g8-{'u8' if nested else 'f32'}"


def test_the_first_element_of_bitsandbytes_is_the_high_nibble(tmp_path):
    arrays = files.four_bits(np.zeros((1, 2), int), np.ones(1, np.float32), NF4_TABLE, block=2)
    arrays["weight"] = np.array([[0xF7]], np.uint8)
    assert _at(tmp_path, arrays, (1, 2)).dequantise().tolist() == [[1.0, 0.0]]


def test_int8(tmp_path):
    codes = np.array([[127, -128], [1, 0]], np.int8)
    weight = _at(tmp_path, {"weight": codes, "SCB": np.array([254, 12.7], np.float32)}, (2, 2))
    assert weight.dequantise()[0].tolist() == [254, -256]
    assert weight.dequantise()[1, 0] == np.float32(12.7) / np.float32(127)
    weight = _at(tmp_path, {"weight": codes, "weight_scale": np.array([[2], [4]], np.float16)}, (2, 2))
    assert weight.dequantise().tolist() == [[254, -256], [4, 0]]
    assert weight.format.name == "int8"


def test_fp8_codes_are_the_format(tmp_path):
    values = e4m3_values()
    # sign, exponent of bias 7, three bits of fraction; code 0x7f is no number
    assert [float(values[code]) for code in (0x00, 0x01, 0x08, 0x38, 0x3C, 0x7E, 0xC1)] == [
        0, 2**-9, 2**-6, 1, 1.5, 448, -2.25,
    ]
    assert np.isnan(values[[0x7F, 0xFF]]).all()
    codes = np.array([[0x38, 0x3C, 0xB8, 0x7E]] * 2, np.uint8)
    fp8 = {"weight": "F8_E4M3"}
    for name, scale, expected in (
        ("weight_scale", np.array([2], np.float32), [[2, 3, -2, 896]] * 2),
        ("weight_scale", np.array([[2], [4]], np.float32), [[2, 3, -2, 896], [4, 6, -4, 1792]]),
        ("weight_scale_inv", np.array([[1, 0.5]], np.float32), [[1, 1.5, -0.5, 224]] * 2),
    ):
        assert _at(tmp_path, {"weight": codes, name: scale}, (2, 4), dtypes=fp8).dequantise().tolist() == expected
    with pytest.raises(InputError, match="every value must be finite"):
        _at(tmp_path, {"weight": codes | 0x7F, "weight_scale": np.ones(1, np.float32)}, (2, 4), dtypes=fp8).dequantise()


@pytest.mark.parametrize(("dtype", "name"), [("F16", "f16"), ("BF16", "bf16"), ("F32", "f32")])
def test_plain_values(dtype, name, tmp_path):
    stored = {
        "F16": np.array([[1.5, -2]], np.float16), "BF16": np.array([[0x3FC0, 0xC000]], np.uint16),
        "F32": np.array([[1.5, -2]], np.float32),
    }[dtype]
    weight = _at(tmp_path, {"weight": stored}, (1, 2), dtypes={"weight": dtype})
    assert weight.format.name == name
    assert weight.dequantise().tolist() == [[1.5, -2.0]]


def _gptq_arrays(**change):
    codes, zeros, scales = _parts(4, np.random.default_rng(0))
    arrays = files.gptq(codes, zeros, scales, 4, order=np.arange(K) // (K // G)) | change
    return {name: array for name, array in arrays.items() if array is not None}


def _state(**change):
    arrays = files.four_bits(np.zeros((2, 8), int), np.ones(4, np.float32), NF4_TABLE, block=4)
    name = "weight.quant_state.bitsandbytes__nf4"
    state = json.loads(arrays[name].tobytes()) | change
    return arrays | {name: np.frombuffer(json.dumps(state).encode(), np.uint8)}


@pytest.mark.parametrize(("arrays", "shape", "quantiser", "message"), [
    (_gptq_arrays(), (N, K), None, "quant_method of gptq or awq"),
    (_gptq_arrays(), (N, 2 * K), GPTQ, "scales must be|qzeros must|2, 3, 4 or 8 bits|g_idx"),
    (_gptq_arrays(), (N, 12), GPTQ, "qweight must hold codes of 2, 3, 4 or 8 bits for 32 x 12"),
    (_gptq_arrays(qzeros=None), (N, K), GPTQ, "must hold array 'p.qzeros', which is missing"),
    (_gptq_arrays(scales=np.ones((5, N), np.float16)), (N, K), GPTQ, "whole number of groups of the 64 inputs"),
    (_gptq_arrays(scales=np.ones((0, N), np.float16)), (N, K), GPTQ, "whole number of groups of the 64 inputs"),
    (_gptq_arrays(scales=np.full((G, N), np.inf, np.float16)), (N, K), GPTQ, "every value must be finite, in array"),
    (_gptq_arrays(g_idx=np.full(K, 4, np.int32)), (N, K), GPTQ, r"g_idx must lie in 0\.\.3, not 4\.\.4"),
    (_gptq_arrays(qweight=np.zeros((8, N), np.int64)), (N, K), GPTQ, "qweight must be I32, not I64"),
    (_gptq_arrays(), (N, K), AWQ, r"qweight must have shape \(64, 4\), not \(8, 32\)"),
    (_state(blocksize=3), (2, 8), None, "the block size must be even and divide the 8 inputs, not 3"),
    (_state(blocksize=0), (2, 8), None, "the block size must be even"),
    (_state(blocksize="4"), (2, 8), None, "Expected `int`, got `str`"),
    (_state(shape=[4, 4]), (2, 8), None, r"quant_state must be nf4 of \(2, 8\), not nf4 of \(4, 4\)"),
    (_state(nested_blocksize=-1), (2, 8), None, "absmax must be U8, not F32"),
    (_state() | {"weight.quant_map": np.zeros(16, np.float32)}, (2, 8), None, "quant_map must be the table of nf4"),
    ({"weight": np.zeros((2, 8), np.int8)}, (2, 8), None, "must hold array 'p.weight_scale', which is missing"),
    ({"weight": np.zeros((2, 8), np.int32)}, (2, 8), None, "weight must be F16, BF16, F32, I8 or F8_E4M3, not I32"),
    ({"weight": np.zeros((2, 8), np.float16)}, (8, 2), None, r"weight must have shape \(8, 2\), not \(2, 8\)"),
    ({}, (8, 2), None, "must hold array 'p.weight', which is missing"),
])
def test_what_does_not_fit_is_one_line(arrays, shape, quantiser, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        _at(tmp_path, arrays | {"other": np.zeros(1, np.int8)}, shape, quantiser).dequantise()
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_codes_of_any_width_are_unpacked(data):
    bits, count = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 70))
    codes = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=count, max_size=count))
    words = np.array([files.pack_words(codes, bits)] * 2, np.int32)
    assert unpack_codes(words, bits, count).tolist() == [codes, codes]


def test_a_packed_weight_says_what_it_is(tmp_path):
    weight = _at(tmp_path, _gptq_arrays(), (N, K), GPTQ)
    assert isinstance(weight, PackedWeight)
    assert (weight.n, weight.k, weight.method) == (N, K, "gptq")
