import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, Format, format_named


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
