"""Stored bits and products of codecs, against published figures and by hand."""

import msgspec
import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.codec import Codec, Split
from mixflight.workloads.codec_products import assignment, products
from mixflight.workloads.codec_size import stored


def codec(table):
    return msgspec.convert(table, Codec)


@pytest.mark.parametrize(
    ("table", "shape", "bits"),
    [
        ("q4_1", (8, 64), 5.0),
        ("q4_0", (8, 64), 4.5),
        # PTQ1.61 (arXiv 2502.13179): 1.61 bits with structured 4-bit channels and row scales.
        ({"t": "split", "axis": "in", "side_bits": 0.0002,
          "parts": [[0.2, {"t": "int", "b": 4, "sym": False}], [0.8, {"t": "bin"}]]}, (4096, 4096), 1.605),
        # VPTQ v8-k65536-256: 3 bits of indices and both codebooks on 4096 x 14336.
        ({"t": "sum", "terms": [{"t": "vq", "v": 8, "k": 65536}, {"t": "vq", "v": 8, "k": 256}]}, (4096, 14336), 3.143),
        # LQ-LoRA's 3-bit term: 8-bit scales of 64, FP32 of 256 of them.
        ({"t": "int", "b": 3, "per": "group", "group": 64, "scale": {"b": 8, "group": 256}}, (64, 4096), 3.127),
        # Mustafar at 70 %: 44.9 % of 16 bits.
        ({"t": "float", "sparse": {"kind": "bitmap", "density": 0.3, "tile": 64, "pad": 8, "offset": 32}}, (256, 128), 7.175),
        # 8 of 16 four-bit codes: the four-bit index saves nothing, the rank of C(16, 8) = 12870 takes 14 bits.
        ({"t": "int", "b": 4, "scale": "none", "sparse": {"kind": "nm", "n": 8, "m": 16, "index": "four_bit"}}, (16, 64), 4.0),
        ({"t": "int", "b": 4, "scale": "none", "sparse": {"kind": "nm", "n": 8, "m": 16, "index": "rank"}}, (16, 64), 2.875),
        ({"t": "int", "b": 4, "scale": "none", "sparse": {"kind": "nm", "n": 8, "m": 16, "index": "bitmap"}}, (16, 64), 3.0),
        ({"t": "prod", "rank": 4, "f": ["f16", "f16"]}, (64, 64), 16 * 4 * 128 / 4096),
    ],
)  # fmt: skip
def test_bits_are_the_published_ones(table, shape, bits):
    assert stored(codec(table), *shape).bits / (shape[0] * shape[1]) == pytest.approx(bits, rel=1e-3)


def test_products_of_a_sum_of_terms():
    found = products(codec({"t": "sum", "terms": ["int4", {"t": "prod", "rank": 8, "f": ["f16", "f16"]}]}), 64, 32)
    assert [(item.suffix, item.n, item.k) for item in found] == [
        ("", 64, 32),
        ("term1.down", 8, 32),
        ("term1.up", 64, 8),
    ]
    assert [item.adds for item in found] == [0, 0, 64]


def test_a_split_along_inputs_computes_every_input_once():
    table = {"t": "split", "axis": "in", "parts": [[0.3, "int8"], [0.7, {"t": "bin"}]]}
    found = products(codec(table), 16, 100)
    assert [item.k for item in found] == [30, 70]
    assert [item.adds_only for item in found] == [False, True]


def test_assignment_meets_the_shares_and_repeats():
    split = codec({"t": "split", "axis": "operator", "seed": 3, "parts": [[0.6, "int3"], [0.3, "int4"], [0.1, "int5"]]})
    assert isinstance(split, Split)
    sizes = [7, 3, 5] * 60
    parts = assignment(split, sizes)
    assert parts == assignment(split, sizes)
    for part, (share, _) in enumerate(split.parts):
        held = sum(size for size, index in zip(sizes, parts, strict=True) if index == part)
        assert abs(held - share * sum(sizes)) <= max(sizes)


def test_what_does_not_divide_is_refused():
    with pytest.raises(InputError, match="group must divide K: 64 does not divide 100"):
        stored(codec({"t": "int", "b": 4, "per": "group", "group": 64}), 4, 100)
    with pytest.raises(InputError, match="the m of n:m must divide K: 16 does not divide 100"):
        stored(codec({"t": "int", "b": 4, "sparse": {"kind": "nm", "n": 8, "m": 16}}), 4, 100)
