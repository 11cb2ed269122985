"""The weight-stationary array's closed form against an event-by-event schedule, and its bounds. RTL: tests/rtl."""

import itertools
import random

import pytest

from mixflight.arch.array_pipeline import lane_latency
from mixflight.arch.errors import InputError
from mixflight.arch.stationary_pipeline import (
    stationary_banks,
    stationary_gap,
    stationary_params_depth,
    stationary_select,
    visit_steps,
)
from mixflight.sim.stationary_timing import stationary_cycles, stationary_period


def scheduled_cycles(*, rows, cols, lanes, tokens, k, group, passes, tiles, zero):
    """The same by what the streams' rules say, beat by beat: nothing of the closed form is used."""
    gap = stationary_gap(cols=cols, lanes=lanes, tokens=tokens, zero=zero)
    loads = [min(rows, group - first) for first in range(0, group, rows)] * passes
    cycle = 0               # the next one in which an activation may be accepted
    start, group_end = None, None
    for _ in range(tiles * (k // group)):
        for number, load in enumerate(loads):
            loaded = load if start is None else start + load        # the last of its rows is taken the cycle before
            start = max(cycle, loaded)
            final = start + tokens - 1
            if number == len(loads) - 1:
                final = final if group_end is None else max(final, group_end + gap)
                if tokens == 1:
                    start = final       # one activation is first and last: the weights are in use from then on
                group_end = final
            cycle = final + 1
    return group_end + stationary_select(rows=rows, cols=cols, lanes=lanes, tokens=tokens) + lane_latency(zero) + 1


def test_the_closed_form_is_the_schedule():
    choose = random.Random(1)
    for _ in range(3000):
        cols, lanes = choose.choice([(1, 1), (4, 1), (4, 2), (4, 4), (12, 3), (16, 4)])
        group = choose.choice([1, 2, 5, 8, 12, 16, 32, 37])
        given = {"rows": choose.choice([1, 2, 3, 4, 8, 16]), "cols": cols, "lanes": lanes,
                 "tokens": choose.choice([1, 2, 3, 5, 8, 16, 33]), "group": group, "k": group * choose.randint(1, 6),
                 "passes": choose.choice([1, 2]), "tiles": choose.randint(1, 3),
                 "zero": choose.choice(["none", "int4", "f16-min"])}
        assert stationary_cycles(**given) == scheduled_cycles(**given), given


def test_by_hand():
    # 8 tokens on 4 x 4, a lane a column: loads 4; two groups of 4 tiles of 8 tokens; 3 + 4 + 3 + 8 - 1 to the last
    # element after the last token in cycle 4 + 63; the lane's 10.
    shape = {"rows": 4, "cols": 4, "lanes": 4, "zero": "none"}
    assert stationary_cycles(**shape, tokens=8, k=32, group=16, passes=1) == 4 + 63 + 17 + 10 + 1
    # One token: each tile takes the loads of its rows.
    assert visit_steps(10, 4, 1, 1) == 4 + 4 + 2
    assert visit_steps(10, 4, 3, 2) == 2 * (4 + 4 + 3)


def test_macs_bound_the_time():
    for rows, tokens, group, passes in itertools.product((1, 4, 8), (1, 3, 8, 32), (8, 20, 64), (1, 2)):
        period = stationary_period(rows=rows, cols=4, lanes=4, tokens=tokens, group=group, passes=passes, zero="none")
        assert period >= passes * tokens * group / rows
        assert period >= passes * group * (tokens <= rows)      # every weight is loaded, a row a cycle


def test_what_is_kept_between_column_and_lane():
    assert stationary_banks(cols=8, lanes=8) == 1
    assert stationary_banks(cols=8, lanes=4) == 2
    assert stationary_params_depth(rows=32, cols=64, lanes=64, zero="none") == 32      # 1 + 97 / 5
    assert stationary_params_depth(rows=4, cols=4, lanes=1, zero="none") == 4          # 1 + 6 / 5


def test_refusals():
    shape = {"rows": 4, "cols": 4, "lanes": 2, "tokens": 4, "passes": 1, "zero": "none"}
    with pytest.raises(InputError, match="group must divide K: 32 does not divide 100"):
        stationary_cycles(**shape, k=100, group=32)
    with pytest.raises(InputError, match="passes, tiles and tokens must be at least 1, not 1, 0 and 4"):
        stationary_cycles(**shape, k=32, group=32, tiles=0)
