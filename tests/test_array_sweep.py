"""The randomised sweep: RTL and engine on a few designs now, on all of them where slow; and what the record says."""

import random

import pytest

from mixflight import array_sweep as subject
from mixflight.sim.array_timing import drain

RECORD = subject.read_record()
DESIGNS = subject.designs()
RERUN = "what is emitted has changed: run python -m mixflight.array_sweep and commit its record"


def check(index: int) -> None:
    """A design's RTL against golden and engine, and against what is recorded of it."""
    swept = subject.sweep_design(DESIGNS[index], subject.points(DESIGNS[index], index))
    assert [outcome for outcome in swept.outcomes if not outcome.holds] == []
    recorded = RECORD.designs[index]
    assert swept.verilog_sha256 == recorded.verilog_sha256, RERUN
    assert swept == recorded


@pytest.mark.parametrize("index", range(subject.FAST_DESIGNS))
def test_first_designs(index):
    check(index)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(subject.FAST_DESIGNS, subject.DESIGNS))
def test_other_designs(index):
    check(index)


def test_the_record_is_of_this_sweep_and_holds():
    assert RECORD.seed == subject.SEED
    assert [swept.design for swept in RECORD.designs] == DESIGNS
    outcomes = [outcome for swept in RECORD.designs for outcome in swept.outcomes]
    assert len(outcomes) >= 200
    assert all(outcome.holds and outcome.cycles_rtl > 0 and outcome.values > 0 for outcome in outcomes)
    for index, swept in enumerate(RECORD.designs):
        assert [outcome.point for outcome in swept.outcomes] == subject.points(swept.design, index)


def test_the_engine_still_computes_what_is_recorded():
    """A random quarter of the points: recorded RTL cycles by the flow rules, unstalled ones by the closed form too."""
    choose = random.Random(5)
    everything = [(swept.design, outcome) for swept in RECORD.designs for outcome in swept.outcomes]
    for design, outcome in choose.sample(everything, len(everything) // 4):
        flow, closed = subject.engine_cycles(design, outcome.point)
        assert flow == outcome.cycles_rtl
        assert closed in (None, outcome.cycles_rtl)


def test_a_few_recorded_texts_are_still_emitted():
    for index in random.Random(7).sample(range(subject.FAST_DESIGNS, subject.DESIGNS), 3):
        recorded = RECORD.designs[index]
        assert subject.sha256_of(subject.verilog_of(recorded.design)) == recorded.verilog_sha256, RERUN


def test_the_sweep_covers_what_it_should():
    """Every PE of both dataflows, every zero point, split rows, groups up to K, every stream stalled."""
    outcomes = [(swept.design, outcome.point) for swept in RECORD.designs for outcome in swept.outcomes]
    for flow, kinds in subject.PES.items():
        assert {design.pe for design in DESIGNS if design.dataflow == flow} == set(kinds)
    assert {design.zero for design in DESIGNS} == {"none", "int4", "f16-min"}
    assert any(point.split > 1 for _, point in outcomes)
    assert any(point.passes == 2 for _, point in outcomes)
    assert {32, 64, 128} <= {point.group for _, point in outcomes}
    assert any(point.group == point.k > 32 for _, point in outcomes)
    assert {name for _, point in outcomes for name in point.stall} == set(subject.STREAMS)
    assert any(design.tokens and point.tokens < design.rows for design, point in outcomes)
    assert any(design.tokens and point.group % design.rows for design, point in outcomes)


def test_full_output_stationary_tiles_take_the_throughput_identity():
    """RTL cycles of unstalled single tiles: groups * max(G, elements a lane) + R + C - 2 + drain(C, lane latency)."""
    seen = 0
    for swept in RECORD.designs:
        design = swept.design
        for outcome in swept.outcomes:
            point = outcome.point
            lane = design.rows * design.cols // design.lanes
            if design.tokens or point.stall or point.tiles > 1 or point.passes > 1 or point.group < max(lane, 9):
                continue
            seen += 1
            assert outcome.cycles_rtl == (-(-point.k // point.group) * max(point.group, lane)
                                          + design.rows + design.cols - 2 + drain(**design.shape))
    assert seen >= 10
