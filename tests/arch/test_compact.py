import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch import isa
from mixflight.arch.compact import INSTRUCTION_BYTES, LOOP_DEPTH, check, codes, compact, listing, read_program
from mixflight.arch.errors import InputError

SYS = codes("SYS", "operation")


@st.composite
def streams(draw):
    kinds = draw(st.lists(st.sampled_from(isa.CLASSES), max_size=8))
    tables = {
        kind: {
            field.name: np.array([draw(st.integers(0, field.limit - 1)) for item in kinds if item == kind], np.int64)
            for field in compact().instructions[kind].fields.values()
            if field.name != "opcode"
        }
        for kind in isa.CLASSES
    }
    return isa.stream_of(np.array([isa.CLASS_INDEX[kind] for kind in kinds], np.uint8), tables, compact())


def sys_program(*rows):
    """SYS instructions alone, each a dictionary of fields."""
    names = {name for row in rows for name in row}
    table = {name: np.array([row.get(name, 0) for row in rows], np.int64) for name in names}
    return isa.stream_of(np.full(len(rows), isa.CLASS_INDEX["SYS"], np.uint8), {"SYS": table}, compact())


def test_every_instruction_has_the_same_length():
    assert {item.words * 4 for item in compact().instructions.values()} == {INSTRUCTION_BYTES}
    assert all(field.meaning for item in compact().instructions.values() for field in item.fields.values())


def test_every_operand_register_names_one_of_32():
    for item in compact().instructions.values():
        for field in item.fields.values():
            if field.name.endswith("_register") or field.name in ("source", "destination"):
                assert field.bits == 5, (item.name, field.name)


@settings(deadline=None, max_examples=80)
@given(streams())
def test_encoding_and_back(stream):
    data = isa.to_bytes(stream, compact())
    assert len(data) == INSTRUCTION_BYTES * len(stream)
    back = isa.from_bytes(data, encoding=compact())
    assert np.array_equal(back.kinds, stream.kinds)
    for kind in isa.CLASSES:
        for name, column in stream.tables[kind].items():
            assert np.array_equal(back.tables[kind][name], column), (kind, name)
    assert isa.to_bytes(back, compact()) == data


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=32))
def test_any_words_are_refused_or_come_back_exactly(words):
    words = np.array(words, np.uint32)
    try:
        stream = isa.decode(words, encoding=compact())
    except InputError:
        return
    assert np.array_equal(isa.encode(stream, compact()), words)


@pytest.mark.parametrize("kind", isa.CLASSES)
def test_every_reserved_bit_is_refused(kind):
    item = compact().instructions[kind]
    for word, mask in enumerate(item.reserved):
        for bit in range(32):
            if not mask >> bit & 1:
                continue
            words = np.zeros(item.words, np.uint32)
            words[0] = item.opcode << 28
            words[word] |= 1 << bit
            with pytest.raises(InputError, match=r"^reserved bits must be 0"):
                isa.decode(words, encoding=compact())


LOOP, END, DONE = (
    {"operation": SYS["loop"], "limit": 1, "value": 3},
    {"operation": SYS["end"]},
    {"operation": SYS["done"]},
)


def test_whole_loops_are_accepted_and_read_well():
    program = sys_program({**LOOP, "limit": 2}, {"operation": SYS["set"], "destination": 3, "value": 5}, END, DONE)
    assert len(read_program(isa.to_bytes(program, compact()))) == 4
    lines = list(listing(program))
    assert lines[0].split() == ["0", "SYS", "operation=loop", "buffer=global", "value=3", "limit=2"]
    assert lines[1][9:].startswith("  SYS") and lines[2][9:].startswith("SYS")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "must end with SYS done"),
        ((LOOP, END), "must end with SYS done"),
        ((LOOP, DONE), "every loop must end, but 1 do not"),
        ((END, DONE), "END must end the loop that says so, at instruction 0"),
        (({**LOOP, "limit": 2}, END, DONE), "END must end the loop that says so, at instruction 1"),
        (({"operation": SYS["set"]}, DONE), "must not be R0, at instruction 0"),
        (({"operation": SYS["rotate"]}, DONE), "must not be R0, at instruction 0"),
        (({**LOOP, "wait": 1}, END, DONE), "must have no tokens, at instruction 0"),
        (
            (*[{**LOOP, "limit": 2 * n + 1} for n in range(LOOP_DEPTH, -1, -1)], *[END] * (LOOP_DEPTH + 1), DONE),
            "at most 8 deep",
        ),
    ],
)
def test_damaged_programs_are_one_line(rows, message):
    with pytest.raises(InputError, match=message) as error:
        check(sys_program(*rows), "f.bin")
    assert "f.bin" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cut_file_is_refused():
    data = isa.to_bytes(sys_program(LOOP, END, DONE), compact())
    with pytest.raises(InputError, match="whole instruction"):
        read_program(data[:-4])
    with pytest.raises(InputError, match="whole words"):
        read_program(data[:-1])
