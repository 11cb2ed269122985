"""A phase of a scenario on a GPU."""

from mixflight.sim.simulate import Phase


class GpuPhase(Phase, frozen=True, kw_only=True):
    """Prefill or decode; ``source`` says whether it is measured or modelled, and how its energy band was found."""

    source: str
