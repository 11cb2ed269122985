import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch import isa
from mixflight.arch.errors import InputError

ENCODING = isa.published()


def one(kind, **fields):
    return isa.stream_of(
        np.array([isa.CLASS_INDEX[kind]], np.uint8), {kind: {name: np.array([value]) for name, value in fields.items()}}
    )


@st.composite
def streams(draw):
    kinds = draw(st.lists(st.sampled_from(isa.CLASSES), max_size=8))
    tables = {
        kind: {
            field.name: np.array([draw(st.integers(0, field.limit - 1)) for item in kinds if item == kind], np.int64)
            for field in ENCODING.instructions[kind].fields.values()
            if field.name != "opcode"
        }
        for kind in isa.CLASSES
    }
    return isa.stream_of(np.array([isa.CLASS_INDEX[kind] for kind in kinds], np.uint8), tables)


def test_published_lengths_opcodes_and_reserved_bits():
    found = {item.name: (item.opcode, item.words, item.reserved_bits) for item in ENCODING.instructions.values()}
    assert found == {
        "LD": (1, 7, 6), "ST": (2, 3, 2), "MM": (3, 4, 24), "MV": (4, 4, 24), "MISC": (5, 3, 26), "SYS": (15, 1, 18),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "widths"),
    [
        ("LD", {"target": 3, "channel": 3, "bank_address": 12, "stride_1": 34, "stride_2": 34, "stride_3": 34, "address": 34,
                "loop_1": 8, "loop_2": 8, "loop_3": 8, "zero_fill": 1, "memory": 2, "length": 23}),
        ("ST", {"bank_address": 12, "loop": 5, "reshape": 1, "address": 34, "memory": 2, "channel": 3, "length": 23}),
        ("MM", {"k_blocks": 14, "output": 1, "bias": 1, "relu": 1, "sparse": 1, "bias_address": 12, "meta_address": 12,
                "fsb_address": 12, "a_address": 12, "b_address": 12, "out_address": 12}),
        ("MISC", {"a_address": 12, "b_address": 12, "out_address": 12, "k_blocks": 14, "operation": 4, "mask": 2}),
        ("SYS", {}),
    ],
)  # fmt: skip
def test_published_field_widths(kind, widths):
    fields = ENCODING.instructions[kind].fields
    assert {name: field.bits for name, field in fields.items()} == {"opcode": 4, "wait": 5, "release": 5, **widths}
    assert all(field.meaning for field in fields.values())


@settings(deadline=None, max_examples=60)
@given(streams())
def test_encoding_and_back(stream):
    data = isa.to_bytes(stream)
    assert len(data) == stream.byte_size()
    back = isa.from_bytes(data)
    assert np.array_equal(back.kinds, stream.kinds)
    for kind in isa.CLASSES:
        for name, column in stream.tables[kind].items():
            assert np.array_equal(back.tables[kind][name], column), (kind, name)
    assert isa.to_bytes(back) == data


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_any_words_are_refused_or_come_back_exactly(words):
    words = np.array(words, np.uint32)
    try:
        stream = isa.decode(words)
    except InputError:
        return
    assert np.array_equal(isa.encode(stream), words)


@settings(deadline=None, max_examples=40)
@given(streams().filter(len), st.data())
def test_a_cut_program_is_refused_or_ends_between_instructions(stream, data):
    words = isa.encode(stream)
    cut = data.draw(st.integers(0, len(words) - 1))
    ends = np.cumsum([ENCODING.instructions[isa.CLASSES[kind]].words for kind in stream.kinds])
    if cut == 0 or cut in ends:
        assert len(isa.decode(words[:cut])) <= len(stream)
    else:
        with pytest.raises(InputError, match="a program must end with a whole instruction"):
            isa.decode(words[:cut])


def test_by_hand():
    """LD: opcode 1, wait SYS (lowest of five bits), release MV (third of ST MM MV MISC SYS), target A = 4, channel 3."""
    stream = one("LD", wait=isa.token_mask("LD", ["SYS"]), release=isa.token_mask("LD", ["MV"]), target=4, channel=3,
                 bank_address=0xABC, stride_1=0x2_8000_0001, length=131072, memory=1, loop_1=1)  # fmt: skip
    assert [hex(word) for word in isa.encode(stream)] == [
        hex(1 << 28 | 1 << 23 | 0b00100 << 18 | 4 << 15 | 3 << 12 | 0xABC),
        "0x80000001", "0x2", "0x0", "0x0", "0x1000000", hex(1 << 23 | 131072),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "field", "value", "text"),
    [
        ("LD", "length", 1 << 23, r"length must be 0 \.\.\. 8388607 \(23 bits\), not 8388608, in LD number 0"),
        ("LD", "target", 6, r"target must be 0 \.\.\. 5"),
        ("MISC", "operation", 6, r"operation must be 0 \.\.\. 5"),
        ("MV", "k_blocks", -1, r"k_blocks must be 0 \.\.\. 16383 \(14 bits\), not -1, in MV number 0"),
        ("SYS", "wait", 32, r"wait must be 0 \.\.\. 31"),
    ],
)
def test_values_out_of_range_are_refused(kind, field, value, text):
    with pytest.raises(InputError, match=text):
        isa.encode(one(kind, **{field: value}))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([0x60000000], r"opcode must be one of 1, 2, 3, 4, 5, 15, not 6, in word 0 of p\.bin"),
        ([0xF0000000, 0xF0000001], r"reserved bits must be 0, not 0x1, in word 1 \(SYS\) of p\.bin"),
        ([0x40000000, 0, 0x10000000, 0], r"reserved bits must be 0, not 0x10000000, in word 2 \(MV\) of p\.bin"),
        ([0x5000000F, 0, 0], r"operation must be 0 \.\.\. 5, not 15, in word 0 \(MISC\) of p\.bin"),
        ([0x20000000, 0], r"a program must end with a whole instruction: ST at word 0 needs 3 words, 2 are left, in p\.bin"),
    ],
)
def test_corrupt_programs_are_refused(words, text):
    with pytest.raises(InputError, match=text):
        isa.decode(np.array(words, np.uint32), "p.bin")
    with pytest.raises(InputError, match="whole words of 4 bytes, not 5 bytes, in p.bin"):
        isa.from_bytes(b"12345", "p.bin")


def test_tokens():
    assert isa.token_mask("LD", ["ST"]) == 0b10000
    assert isa.token_mask("SYS", ["LD"]) == 0b10000
    assert isa.token_mask("MV", ["LD", "MISC"]) == 0b10010
    for kind in isa.CLASSES:
        for mask in range(32):
            assert isa.token_mask(kind, isa.token_classes(kind, mask)) == mask
    with pytest.raises(InputError, match="MM must exchange tokens with one of the other classes, not 'MM'"):
        isa.token_mask("MM", ["MM"])


def test_disassembly():
    stream = isa.join([
        one("LD", target=4, length=64, wait=isa.token_mask("LD", ["SYS"]), release=isa.token_mask("LD", ["MV"])),
        one("MISC", operation=2, k_blocks=32),
        one("LD", target=0, length=1),
        one("SYS", wait=isa.token_mask("SYS", ["ST"])),
    ])  # fmt: skip
    assert [line.split() for line in isa.disassemble(stream)] == [
        ["0", "LD", "wait=SYS", "release=MV", "target=a", "length=64"],
        ["1", "MISC", "operation=softmax", "k_blocks=32"],
        ["2", "LD", "target=b", "length=1"],
        ["3", "SYS", "wait=ST"],
    ]
    assert list(isa.disassemble(stream, 2, 3)) == list(isa.disassemble(stream))[2:3]


def test_a_field_that_overlaps_another_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    text = (isa.Path(isa.__file__).parent / "isa_published.toml").read_text()
    path.write_text(text.replace("3[11:0]", "2[31:20]"))
    with pytest.raises(InputError, match="no bit may belong to two fields, in field 'out_address' of MM"):
        isa.load_encoding(path)
    path.write_text(text.replace("3[11:0]", "4[11:0]"))
    with pytest.raises(InputError, match="at must lie inside 4 words of 32 bits"):
        isa.load_encoding(path)
