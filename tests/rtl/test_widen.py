# amaranth: UnusedElaboratable=no
"""The widening unit's text and parameters; its values are in ``tests/test_verify_widen.py``."""

import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl.design import choose_top
from mixflight.rtl.lint import lint
from mixflight.rtl.widen import Widen


def test_the_text_is_clean():
    chosen = choose_top("widen")
    assert lint(chosen.emit(), top=chosen.module) == []


@pytest.mark.parametrize(("given", "message"), [
    ({"lanes": 3}, "lanes must be even, so that a word is whole bytes, not 3, in a widening unit"),
    ({"lanes": 0}, "lanes must be even, so that a word is whole bytes, not 0, in a widening unit"),
    ({"beats_max": 0}, "beats_max must be at least 1, not 0, in a widening unit"),
])
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        Widen(**given)
