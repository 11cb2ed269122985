"""Published studies that can be reproduced: a name and what returns its rows in a mode."""

from collections.abc import Callable

from mixflight.arch.errors import InputError
from mixflight.reproduce_flightllm import rows as flightllm_rows
from mixflight.sim.published_mixpe.reproduce import rows as mixpe_rows
from mixflight.sim.reproduction import Row

# A study refuses a mode that it does not have.
STUDIES: dict[str, Callable[[str], list[Row]]] = {
    "mixpe": mixpe_rows,
    "flightllm": flightllm_rows,
}


def reproduce(study: str, mode: str) -> list[Row]:
    """The rows of ``study`` in ``mode``."""
    if study not in STUDIES:
        raise InputError(f"WHAT must be one of {', '.join(STUDIES)}, not {study!r}")
    return STUDIES[study](mode)
