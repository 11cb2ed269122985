"""What a verification of a stream component against golden found."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOutcome:
    """What was compared, what was wrong (the first messages), and the cycles of the runs without stalls."""

    tests: int
    failures: int
    messages: tuple[str, ...]
    cycles_rtl: int
    cycles_sim: int
    values: int
    run_s: float


NOTHING = StreamOutcome(tests=0, failures=0, messages=(), cycles_rtl=0, cycles_sim=0, values=0, run_s=0.0)
"""What is found where there is nothing to run."""
