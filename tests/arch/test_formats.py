import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, Format, TwoLevel, _systematic, format_named


@pytest.mark.parametrize(
    ("name", "k", "bits_per_code"),
    [("q4_0", 4096, 4.5), ("q4_1", 4096, 5.0), ("q8_0", 4096, 8.5), ("f16", 4096, 16), ("uint4-g128-z4", 4096, 4.15625)],
)
def test_stored_bits_include_scales_and_zero_points(name, k, bits_per_code):
    # Q types: ggml block sizes 18, 20 and 34 bytes per 32. Group 128: 20 bits of scale and zero per 512 = 3.9 %.
    assert FORMATS[name].row_bits(k) == bits_per_code * k


def test_a_group_that_does_not_divide_k_is_refused():
    with pytest.raises(InputError, match="group must divide K: 128 does not divide 576"):
        FORMATS["uint4-g128-z4"].row_bits(576)


def test_code_ranges():
    assert FORMATS["q4_0"].code_range() == (-8, 7)
    assert FORMATS["q4_1"].code_range() == (0, 15)
    assert FORMATS["int8"].code_range() == (-128, 127)


@pytest.mark.parametrize("fields", [{"bits": 0}, {"bits": 17}, {"bits": 8, "kind": "float"}, {"bits": 4, "group": -1}])
def test_impossible_formats_are_refused(fields):
    with pytest.raises(InputError):
        Format(name="x", **fields)


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(InputError, match=r"format must be one of .*q4_1.*, not 'q9', in here"):
        format_named("q9", "here")


@pytest.mark.parametrize(
    ("name", "bits_per_code"),
    [("bf16", 16), ("q5_0", 5.5), ("q5_1", 6), ("q2_k", 2.625), ("q3_k", 3.4375), ("q4_k", 4.5), ("q5_k", 5.5),
     ("q6_k", 6.5625), ("iq4_nl", 4.5), ("iq4_xs", 4.25), ("tq1_0", 1.6875), ("tq2_0", 2.0625), ("mxfp4", 4.25)],
)  # fmt: skip
def test_stored_bits_of_blocks(name, bits_per_code):
    assert FORMATS[name].row_bits(4096) == bits_per_code * 4096  # ggml block bytes * 8 / codes


def test_a_block_that_does_not_divide_k_is_refused():
    with pytest.raises(InputError, match="block must divide K: 256 does not divide 576 in 'q4_k'"):
        FORMATS["q4_k"].row_bits(576)


@pytest.mark.parametrize(
    ("name", "bits", "exact"),
    [("q6_k", 6, True), ("iq4_nl", 8, True), ("mxfp4", 5, True), ("f16", 16, True), ("bf16", 16, False),
     ("f32", 32, False)],
)  # fmt: skip
def test_operands_of_a_pe(name, bits, exact):
    # IQ4_NL's table is int8; the FP4 values, doubled, lie in -12..12.
    assert (FORMATS[name].operand_bits, FORMATS[name].exact_in_f16) == (bits, exact)


@pytest.mark.parametrize("fields", [
    {"bits": 2, "table": (0, 1)}, {"bits": 1, "table": (0, 0.5)}, {"bits": 8, "exponent_bits": 4},
    {"bits": 8, "kind": "float", "exponent_bits": 8}, {"bits": 4, "two_level": TwoLevel(block=256, scale_bits=6)},
])
def test_impossible_tables_and_levels_are_refused(fields):
    with pytest.raises(InputError):
        Format(name="x", **fields)


@pytest.mark.parametrize(
    ("name", "bits_per_code"),
    [("int4-g128", 4.125), ("uint4-g64-z4", 4 + 20 / 64), ("uint3-g128-z3", 3 + 19 / 128), ("int4-g32-f32", 5),
     ("nf4-g64-f32", 4.5), ("nf4-g64-u8", 4.125), ("int8-bf16", 8 + 16 / 4096), ("f8_e4m3-f32", 8 + 32 / 4096),
     ("f8_e4m3", 8), ("f16-2of4", 9)],
)  # fmt: skip
def test_systematic_names_say_what_is_stored(name, bits_per_code):
    found = format_named(name, "here")
    assert found.name == name
    assert found.row_bits(4096) == bits_per_code * 4096


@pytest.mark.parametrize("name", ["int9", "int4-g0", "nf4-g64-z4", "int4-z5", "int4-g128-f64", "int4-G128", "float4"])
def test_names_that_are_not_systematic_are_refused(name):
    with pytest.raises(InputError, match="or intB, uintB, nf4, fp4 or f8_e4m3"):
        format_named(name, "here")


def test_a_preset_is_what_its_systematic_name_says():
    for name in ("int8", "int8-g32", "uint4-g128-z4"):
        assert FORMATS[name] == _systematic(name)
