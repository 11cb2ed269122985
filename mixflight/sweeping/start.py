"""A sweep as the command line and the Python interface ask for it."""

import os
from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.sweeping.run import OnProgress, Outcome, sweep
from mixflight.sweeping.space import Space
from mixflight.sweeping.workers import workers


def run_sweep(
    space: Space, folder: Path, jobs: int | None = None, scheduler: str | None = None, *, resume: bool = False,
    yes: bool = False, on_progress: OnProgress | None = None,
) -> Outcome:  # fmt: skip
    """Run ``space`` into ``folder``; a grid above its cap must come with ``yes``."""
    if space.method == "grid" and space.size > space.points and not yes:
        raise InputError(f"a grid must have at most {space.points:,} points, not {space.size:,}: --yes runs it")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {jobs}")
    if jobs is not None and scheduler is not None:
        raise InputError("--jobs must come without --scheduler, which has workers of its own")
    with workers(jobs or len(os.sched_getaffinity(0)), scheduler) as hands:
        return sweep(space, folder, hands, resume, on_progress)
