# amaranth: UnusedElaboratable=no
"""Every PE in emitted Verilog against golden; hardware that is wrong in one place is found."""

import re

import numpy as np
import pytest

from mixflight import verification as subject
from mixflight.rtl.design import choose_top
from mixflight.rtl.tops import TOPS
from mixflight.verify_pe import KINDS, is_element, kind_of, shown_sums

ELEMENTS = [top for top in TOPS if top.endswith("-pe") or top == "fp16-align"]
VARIANTS = [
    ("mixpe-w4a8-centred-pe", {"two_pass": True}),
    ("int8-pe", {"group_max": 1 << 16}),
    ("mixpe-w4a16-pe", {"specials": True}),
    ("mixpe-w4a16-pe", {"product_register": True}),
    ("mixpe-w4a16-aligned-pe", {"extra_bits": 0, "group_max": 32}),
    ("fp16-align", {"extra_bits": 29}),
    ("fp16-pe", {"specials": True, "product_register": True}),
]


def _passes(row):
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim
    return row


WRONG = {
    "a weight without its sign": ("int8-pe", r"\$signed\(w\) \*", "w *"),
    "ties rounded up": ("mixpe-w4a16-pe", r"(assign add_up = [^;&]*) & [^;]*;", r"\1;"),
    "sticky bit lost": ("fp16-pe", r"assign add_fallen_16 = [^;]*;", "assign add_fallen_16 = 1'h0;"),
    "product one place off": ("fp16-pe", r"assign product_empty_1 = [^;]*;", "assign product_empty_1 = 1'h0;"),
    "alignment that truncates": ("fp16-align", r"assign fallen_16 = [^;]*;", "assign fallen_16 = 1'h0;"),
    "a brick without its sign": ("fusible-pe", r"assign brick_3_3 = \$signed", "assign brick_3_3 = $unsigned"),
    "a zero that is ignored": ("dequantise-pe", r"assign distance = [^;]*;", "assign distance = w[3:0];"),
    "a digit that is never negative": (
        "mixpe-w4a8-centred-pe", r"assign low_negative = [^;]*;", "assign low_negative = 1'h0;"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_hardware_is_found(what):
    top, old, new = WRONG[what]

    def mutate(text):
        changed, count = re.subn(old, new, text)
        assert count == 1
        return changed

    assert subject.verify_pe(choose_top(top), mutate=mutate, sample=7).failures >= 1


@pytest.mark.parametrize("top", ELEMENTS)
def test_all_operands_of_every_element(top):
    chosen = choose_top(top)
    assert is_element(chosen.component)
    assert _passes(subject.verify_pe(chosen)).values > 20_000


@pytest.mark.parametrize(("top", "options"), VARIANTS)
def test_all_operands_of_variants(top, options):
    _passes(subject.verify_pe(choose_top(top, **options)))


def test_the_golden_sum_of_a_pe_by_hand():
    vectors = {name: np.array(bits) for name, bits in (
        ("en", [1, 1, 0, 1, 1, 1]), ("valid", [1, 1, 1, 0, 1, 1]), ("last", [0, 1, 1, 1, 1, 0]))}
    terms = np.array([5, 7, 100, 100, -3, 9])
    assert shown_sums(None, terms, vectors).tolist() == [0, 0, 12, 12, 12, -3]
    assert shown_sums(None, terms, vectors, 2).tolist() == [0, 0, 0, 0, 12, 12]


def test_plain_pes_share_a_kind_and_the_others_have_their_own():
    assert kind_of(choose_top("mixpe-w4a8-pe").component) is kind_of(choose_top("mul4x8-pe").component)
    assert len({id(kind) for kind in KINDS.values()}) == len(KINDS)
