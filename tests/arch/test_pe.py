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
        ("centred-4x8", "q8_0", "int8", 2),
        ("shift-add-4x16-aligned", "uint4-g128-z4", "f16", 1),
        ("shift-add-4x16-aligned", "int8", "f16", 2),
        ("shift-add-4x16-aligned", "f16", "f16", 3),  # 11 bits of significand and a sign in digits of 4
        ("shift-add-4x16-float", "f16", "f16", 3),
        ("shift-add-4x16-float", "q4_1", "int8", 1),  # INT8 activations are FP16 values
    ],
)
def test_promotion(pe, weight, act, expected):
    assert passes(PES[pe], FORMATS[weight], FORMATS[act], "q") == expected


@pytest.mark.parametrize(
    ("pe", "weight", "act"),
    [
        ("multiply-8x8", "q4_1", "f16"),
        ("shift-add-4x8", "f16", "int8"),
        ("fp16-mac", "f32", "f16"),
        ("shift-add-4x16-aligned", "bf16", "f16"),
        ("shift-add-4x16-float", "f8_e4m3", "f16"),
        ("shift-add-4x16-aligned", "uint4-g128-z4", "bf16"),
        ("fp16-mac", "bf16", "f16"),
    ],  # fmt: skip
)
def test_what_cannot_be_promoted_names_operator_and_formats(pe, weight, act):
    with pytest.raises(InputError, match=f"{weight} weights with {act} activations, in operator 'layers.3.q'"):
        passes(PES[pe], FORMATS[weight], FORMATS[act], "layers.3.q")


@pytest.mark.parametrize(
    ("pe", "weight", "k", "group", "digit_groups"),
    [
        ("shift-add-4x16-aligned", "f16", 4096, 128, 3),
        ("shift-add-4x16-aligned", "f16", 64, 64, 3),
        ("shift-add-4x16-float", "uint4-g128-z4", 4096, 128, 1),
        ("shift-add-4x16-float", "int8-g32", 4096, 32, 2),
        ("shift-add-4x8", "int8", 4096, 4096, 1),  # two passes of one group
        ("fp16-mac", "f16", 4096, 4096, 1),
    ],
)
def test_groups_of_a_pe(pe, weight, k, group, digit_groups):
    assert PES[pe].group_of(FORMATS[weight], k) == group
    assert PES[pe].digit_groups(FORMATS[weight]) == digit_groups


@pytest.mark.parametrize(("pe", "weight", "action"), [
    ("multiply-8x8", "uint4-g128-z4", "mac_4bit"), ("multiply-8x8", "q4_1", "mac_4bit"), ("multiply-8x8", "int8", "mac"),
    ("multiply-8x8", "q4_0", "mac_4bit"), ("multiply-8x8", "iq4_nl", "mac"), ("multiply-4x8", "q4_1", "mac"),
    ("shift-add-4x8", "q4_1", "mac"), ("fp16-mac", "q4_1", "mac"),
])  # fmt: skip
def test_still_bits_of_a_multiplier_are_charged_apart(pe, weight, action):
    """Signed codes toggle the upper bits with their sign, and values of tables are wider than their codes."""
    assert PES[pe].mac_action(FORMATS[weight]) == action
