"""The closed form of an array's LUTs and registers beside what synthesis found."""

import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.array import Array
from mixflight.arch.array_resources import array_resources, fit, shapes
from mixflight.arch.errors import InputError
from mixflight.arch.synthesis_counts import counts_named
from mixflight.rtl.design import choose_top
from mixflight.rtl.record_array_shapes import RECORDED
from mixflight.rtl.synthesis import digest_text


def array(rows, cols, lanes, split=1, pe="shift-add-4x8", **more):
    return Array(dataflow="output-stationary", pe=pe, rows=rows, cols=cols, lanes=lanes, split=split, **more)


def test_every_recorded_shape_is_within_the_stated_error():
    assert [(item.rows, item.cols, item.lanes, item.split) for item in shapes()] == list(RECORDED)
    for item in shapes():
        found = array_resources(array(item.rows, item.cols, item.lanes, item.split))
        assert found.lut == pytest.approx(item.lut, rel=found.lut_error + 1e-4)
        assert found.ff == pytest.approx(item.ff, rel=found.ff_error + 1e-4)
    assert fit("lut").largest_error < 0.02 and fit("ff").largest_error < 0.02


def test_a_pe_and_a_shape_that_were_not_fitted_are_near_their_synthesis():
    centred = counts_named("centred-array-int4-lut")
    found = array_resources(array(8, 8, 2, pe="centred-4x8"))
    assert found.lut == pytest.approx(centred.lut, rel=0.03)
    assert found.ff == pytest.approx(centred.ff, rel=0.03)


def test_counts_grow_with_all_that_is_added():
    base = array_resources(array(16, 32, 16))
    for more in (array(32, 32, 16), array(16, 64, 16), array(16, 32, 32), array(16, 32, 16, split=4)):
        assert array_resources(more).lut > base.lut
    assert array_resources(array(16, 32, 16, pe="multiply-8x8")).lut > base.lut
    large = core_machines()["mixpe-core"].array
    assert array_resources(large).lut == pytest.approx(32 * 10_678, rel=0.1)  # its preset's rougher estimate


@pytest.mark.parametrize("place", [0, 1])
def test_the_recorded_shapes_are_of_the_text_that_is_emitted(place):
    item = shapes()[place]
    chosen = choose_top("mixpe-array", rows=item.rows, cols=item.cols, lanes=item.lanes, split=item.split,
                        pe="shift-add", zero="int4")  # fmt: skip
    assert item.text_sha256 == digest_text(chosen.emit()), "run `python -m mixflight.rtl.record_array_shapes`"


def test_a_weight_stationary_array_is_refused():
    with pytest.raises(InputError, match="output-stationary"):
        array_resources(Array(dataflow="weight-stationary", pe="shift-add-4x8", rows=8, cols=8, lanes=2, tokens=8))
