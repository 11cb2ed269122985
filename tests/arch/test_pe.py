import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.arch.pe import PES, passes


@pytest.mark.parametrize(
    ("pe", "weight", "act", "expected"),
    [
        ("shift-add-4x8", "q4_1", "int8", 1),
        ("shift-add-4x8", "q8_0", "int8", 2),  # the Q8_0 head and INT8 keys: two nibble passes
        ("multiply-4x8", "int8", "int8", 2),
        ("multiply-8x8", "q4_1", "int8", 1),  # extended at full cost
        ("multiply-8x8", "int8", "int8", 1),
        ("fp16-mac", "f16", "f16", 1),
        ("fp16-mac", "q4_1", "int8", 1),
        ("fp16-mac", "uint4-g128-z4", "f16", 1),
        ("shift-add-4x8", "q4_k", "int8", 1),
        ("shift-add-4x8", "q6_k", "int8", 2),
        ("shift-add-4x8", "iq4_nl", "int8", 2),  # the table's values are INT8
        ("multiply-8x8", "mxfp4", "int8", 1),
        ("fp16-mac", "mxfp4", "f16", 1),
    ],
)
def test_promotion(pe, weight, act, expected):
    assert passes(PES[pe], FORMATS[weight], FORMATS[act], "q") == expected


@pytest.mark.parametrize(
    ("pe", "weight", "act"),
    [("multiply-8x8", "q4_1", "f16"), ("shift-add-4x8", "f16", "int8"), ("fp16-mac", "f32", "f16"),
     ("fp16-mac", "bf16", "f16")],  # fmt: skip
)
def test_what_cannot_be_promoted_names_operator_and_formats(pe, weight, act):
    with pytest.raises(InputError, match=f"{weight} weights with {act} activations, in operator 'layers.3.q'"):
        passes(PES[pe], FORMATS[weight], FORMATS[act], "layers.3.q")
