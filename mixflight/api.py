"""The Python interface: the command line's functions with values in and values or tables out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixflight.machines import Machine, run, run_gpu
from mixflight.sim.simulate import Simulation

if TYPE_CHECKING:
    import pandas as pd

    from mixflight.rtl.project import Project
    from mixflight.workload import Workload


def load_model(model: str, recipe: str | None = None) -> "Workload":
    """What a model must compute, and in which formats: MODEL and RECIPE as on the command line.

    Raises InputError for a file that cannot be read or a name that is none.
    """
    from mixflight.workload import load_workload

    return load_workload(model, recipe)


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


def sweep(
    space: str, folder: str | Path, *, jobs: int = 1, scheduler: str | None = None, resume: bool = False,
    yes: bool = False,
) -> "pd.DataFrame":  # fmt: skip
    """Run the space (a shipped study or a TOML file) into ``folder``; one row a point of the front, best first.

    ``attrs`` of the table has the rest of what ``mixflight sweep --json`` prints. More than one of ``jobs`` needs a
    main module that can be imported, as all process pools do. Raises InputError for what cannot be used.
    """
    import msgspec
    import pandas as pd

    from mixflight.sweeping.space import space_named
    from mixflight.sweeping.start import run_sweep

    count = None if scheduler else jobs
    outcome = run_sweep(space_named(space), Path(folder), count, scheduler, resume=resume, yes=yes)
    table = pd.DataFrame(list(outcome.pareto))
    table.attrs = {key: value for key, value in msgspec.to_builtins(outcome).items() if key != "pareto"}
    return table


def build_rtl(
    top: str, folder: str | Path, *, arch: str | None = None, part: str | None = None, **parameters: Any
) -> "Project":  # fmt: skip
    """Write Verilog, file list, FuseSoC core, Vivado project and manifest of TOP into ``folder``.

    ``parameters`` are the options of ``mixflight rtl`` with ``_`` for ``-`` (``rows=4``). Needs the extra ``rtl``.
    Raises InputError for what cannot be built.
    """
    from mixflight.rtl.design import choose_top
    from mixflight.rtl.project import DEFAULT_PART, write_project

    return write_project(choose_top(top, arch=arch, **parameters), Path(folder), part=part or DEFAULT_PART)
