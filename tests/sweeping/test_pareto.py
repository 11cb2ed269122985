import itertools

import msgspec
import numpy as np
import pytest

from mixflight.sweeping.pareto import Front, front_of, not_beaten
from mixflight.sweeping.quantities import ESTIMATED, Slack
from mixflight.sweeping.space import Space


def space_for(*objectives, by=(), constraints=()):
    return Space(
        summary="", arch="int8", model="llama2-7b", recipe="w8a8", objectives=dict(objectives), by=by,
        constraints=constraints, axes={"array.rows": (8, 16, 32), "scenario.batch": (1, 2)},
    )  # fmt: skip


def naive(points):
    """Indices of the points that no other one equals or beats everywhere and beats somewhere."""
    return [
        place for place, point in enumerate(points)
        if not any((other <= point).all() and (other < point).any() for other in points)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_not_beaten_is_the_definition(seed):
    points = np.random.default_rng(seed).integers(0, 6, (200, 3)).astype(float)
    assert np.flatnonzero(not_beaten(points, points)).tolist() == naive(points)


def rows_of(seed, count=300):
    chance = np.random.default_rng(seed)
    return [
        {"index": place, "array.rows": 8, "scenario.batch": int(chance.integers(1, 3)), "feasible": bool(chance.random() < 0.8),
         "tokens_per_s": float(chance.random() + 0.5), "energy_mj_per_token": float(chance.random() + 0.5), "area_um2": 1.0}
        for place in range(count)
    ]  # fmt: skip


def test_a_front_of_rows_minds_direction_feasibility_and_groups():
    space = space_for(("tokens_per_s", "max"), ("energy_mj_per_token", "min"), by=("scenario.batch",))
    rows = rows_of(1)
    expected = []
    for batch in (1, 2):
        some = [row for row in rows if row["scenario.batch"] == batch and row["feasible"]]
        points = np.array([(-row["tokens_per_s"], row["energy_mj_per_token"]) for row in some])
        expected += [some[place]["index"] for place in naive(points)]
    assert front_of(space, rows) == sorted(expected)
    assert front_of(space, rows[::-1]) == sorted(expected)


@pytest.mark.parametrize("seed", range(8))
def test_no_point_of_the_true_front_is_lost_whatever_the_truth_within_the_slack(seed):
    constraint = "energy_mj_per_token <= 1.3"
    space = space_for(("tokens_per_s", "max"), ("energy_mj_per_token", "min"), constraints=(constraint,))
    slack, chance = Slack(time=0.1, energy=0.02), np.random.default_rng(seed)
    rows = rows_of(seed)
    for row in rows:
        row["feasible"] = row["energy_mj_per_token"] <= 1.3
    screened = Front(space, slack)
    for row in rows:
        screened.add(row)
    truth = []
    for row in rows:
        drawn = {name: chance.uniform(*slack.band(ESTIMATED[name], row[name])) for name in space.objectives}
        truth.append({**row, **drawn, "feasible": drawn["energy_mj_per_token"] <= 1.3})
    assert set(front_of(space, truth)) <= set(screened.indices())
    assert len(screened.indices()) < len(rows)


def test_rows_with_errors_or_without_an_objective_are_not_on_a_front():
    space = space_for(("tokens_per_s", "max"), ("perplexity", "min"))
    base = {"array.rows": 8, "scenario.batch": 1, "feasible": True, "tokens_per_s": 1.0}
    rows = [
        {**base, "index": 0, "perplexity": None},
        {"index": 1, "error": "no"},
        {**base, "index": 2, "perplexity": 9.0},
    ]
    assert front_of(space, rows) == [2]


def test_bands_hold_the_value_and_order_their_ends():
    for kind, value in itertools.product(set(ESTIMATED.values()), (0.1, 10.0)):
        low, high = Slack().band(kind, value)
        assert low < value < high
    assert msgspec.structs.asdict(Slack()) == {"time": 0.05, "energy": 0.01, "less": 0.005}
