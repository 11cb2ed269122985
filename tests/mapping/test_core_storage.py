import msgspec
import numpy as np
import pytest

from mixflight.arch.isa import CLASSES, published
from mixflight.compile_program import compile_model
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_compile import prefill_registers, registers_of
from mixflight.mapping.core_storage import _bytes_by_length

GIB = 1 << 30


def counted(text, values):
    """Published bytes of an expanded program, its transfers an instruction a channel."""
    pieces = text.sequencer.expand({Register[name]: value for name, value in values.items()})
    total = 0
    for index, times in zip(*np.unique(pieces.order, return_counts=True), strict=True):
        piece = pieces.pieces[index]
        for kind in CLASSES:
            table, words = piece.tables[kind], published().instructions[kind].words
            number = int((table["operation"] < 3).sum()) if kind == "SYS" else piece.count(kind)
            if kind in ("LD", "ST"):
                number = int(table["channels"].sum())
            total += int(times) * 4 * words * number
    return total


@pytest.fixture(scope="module")
def small():
    return compile_model("flightllm-u280", "smollm2-135m", "w4a8g32", 600)


@pytest.mark.parametrize("length", [1, 15, 128, 129, 300, 600])
@pytest.mark.parametrize("stage", ["decode", "prefill"])
def test_counts_of_every_length_are_those_of_the_unrolled_program(small, stage, length):
    text, network = small.texts[stage][0], small.networks[stage]
    plain, merged = _bytes_by_length(stage, text, network, small.machine, 600)
    field, registers = ("context", registers_of) if stage == "decode" else ("tokens", prefill_registers)
    values = registers(text, msgspec.structs.replace(network, **{field: length}), small.machine)
    assert plain[length] == counted(text, values)
    assert merged[length] < plain[length]


def test_llama2_7b_of_all_lengths_fits_four_megabytes():
    storage = compile_model("flightllm-u280", "llama2-7b", "flightllm", 2048).storage
    assert storage.unshared > storage.bucketed >= storage.shared > storage.merged > storage.compact
    assert storage.compact <= 4e6
    assert 3.25 * GIB / storage.compact >= 800
    # docs/compiler.md prints these
    assert storage.unshared / GIB / 1024 == pytest.approx(2.10, abs=0.005)
    assert storage.bucketed / GIB == pytest.approx(17.9, abs=0.05)
    assert storage.shared / GIB == pytest.approx(17.6, abs=0.05)
    assert storage.merged / GIB == pytest.approx(3.98, abs=0.005)
    assert storage.compact / 1e3 == pytest.approx(244, abs=1)


def test_the_published_figures_follow_from_the_averages_of_a_file():
    """2.9 MB a decode and 282.1 MB a prefill, of 3 cores x 2,048 lengths, then of 128 and 16 files, in binary units."""
    decode, prefill = 2.9 / 1024, 282.1 / 1024
    assert 3 * 2048 * (decode + prefill) / 1024 == pytest.approx(1.67, rel=0.01)
    assert 128 * decode + 16 * prefill == pytest.approx(4.77, rel=0.01)
    assert 1.67 * 1024 / 3.25 == pytest.approx(526, rel=0.01)
