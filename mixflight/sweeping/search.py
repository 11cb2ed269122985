"""Which points of a space are looked at: all, some at random, or those that Optuna's samplers ask for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.sweeping.measure import Row
from mixflight.sweeping.space import Space

GENERATION = 48
"""Trials that are asked for together, whatever the number of workers: results do not depend on it."""

Measure = Callable[[Sequence[int]], list[Row]]


def points(space: Space) -> Sequence[int]:
    """Points of ``grid`` and ``random``, in order; the same for the same seed."""
    if space.method == "grid" or space.points >= space.size:
        return range(space.size)
    chosen = np.random.default_rng(space.seed).choice(space.size, space.points, replace=False, shuffle=False)
    found: list[int] = np.sort(chosen).tolist()
    return found


def optimise(space: Space, measure: Measure) -> Iterator[int]:
    """Run ``nsga2`` or ``tpe``; yields the number of trials done. ``measure`` gives the rows of new points."""
    optuna = _optuna()
    values = space.values
    distributions = {
        path: optuna.distributions.IntDistribution(0, len(some) - 1)
        if all(isinstance(value, int | float) for value in some)
        else optuna.distributions.CategoricalDistribution(list(range(len(some))))
        for path, some in values.items()
    }
    directions = [f"{way}imize" for way in space.objectives.values()]
    study = optuna.create_study(directions=directions, sampler=_sampler(optuna, space))
    seen: dict[int, Row] = {}
    done = 0
    while done < space.points:
        trials = [study.ask(distributions) for _ in range(min(GENERATION, space.points - done))]
        asked = [_index(values, trial.params) for trial in trials]
        new = sorted({index for index in asked if index not in seen})
        seen |= {index: {} for index in new} | {row["index"]: row for row in measure(new)}
        for trial, index in zip(trials, asked, strict=True):
            _tell(optuna, study, space, trial, seen[index])
        done += len(trials)
        yield done


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("methods nsga2 and tpe must have Optuna: pip install mixflight[search]") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _sampler(optuna: Any, space: Space) -> Any:
    if space.method == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=GENERATION, seed=space.seed)
    return optuna.samplers.TPESampler(seed=space.seed)


def _tell(optuna: Any, study: Any, space: Space, trial: Any, row: Row) -> None:
    """The outcome of a trial: values where there are all, a violation where the point does not count."""
    found = [row.get(name) for name in space.objectives]
    trial.set_constraint("counts", 0.0 if row.get("feasible") else 1.0)
    if any(value is None for value in found):
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, found)


def _index(values: dict[str, tuple[Any, ...]], params: dict[str, int]) -> int:
    index = 0
    for path, some in values.items():
        index = index * len(some) + params[path]
    return index
