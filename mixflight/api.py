"""The Python interface: the command line's functions with values in and values or tables out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mixflight.machines import Machine, run, run_gpu
from mixflight.sim.simulate import Simulation

if TYPE_CHECKING:
    import pandas as pd


def simulate(
    arch: str, model: str, *, recipe: str | None = None, prefill: int = 128, decode: int = 128, batch: int = 1
) -> Simulation:
    """Time and energy of ``prefill`` tokens and ``decode`` steps of ``model`` on ``arch`` (``ARCH[:RECIPE]``).

    MODEL, RECIPE and ARCH are what ``mixflight simulate`` takes. Raises InputError for what it refuses.
    """
    return run(Machine.parse(arch, recipe), model, prefill, decode, batch)


def compare(
    archs: Sequence[str], model: str, *, recipe: str | None = None, prefill: int = 128, decode: int = 128,
    batch: int = 1, gpus: Sequence[str] = (),
) -> "pd.DataFrame":  # fmt: skip
    """One row a machine, then one a GPU (``GPU[:RECIPE]``): time, energy with its band, bytes and what binds.

    Units are in the column names.
    """
    import pandas as pd

    from mixflight.results import flat_row

    found = [simulate(a, model, recipe=recipe, prefill=prefill, decode=decode, batch=batch) for a in archs]
    found += [run_gpu(gpu, model, prefill, decode, recipe, batch) for gpu in gpus]
    return pd.DataFrame([flat_row(item) for item in found])
