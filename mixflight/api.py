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

    >>> import mixflight
    >>> llama = mixflight.load_model("llama2-7b", "w4a8g128")
    >>> llama.model.layers, llama.recipe.name
    (32, 'w4a8g128')
    """
    from mixflight.workload import load_workload

    return load_workload(model, recipe)


def simulate(
    arch: str, model: str, *, recipe: str | None = None, prefill: int = 128, decode: int = 128, batch: int = 1
) -> Simulation:
    """Time and energy of ``prefill`` tokens and ``decode`` steps of ``model`` on ``arch`` (``ARCH[:RECIPE]``).

    MODEL, RECIPE and ARCH are what ``mixflight simulate`` takes. Raises InputError for what it refuses.

    >>> import mixflight
    >>> found = mixflight.simulate("mixpe-w4a8:w4a8g32", "smollm2-135m", prefill=16, decode=4)
    >>> found.decode.tokens, found.decode.bound_by
    (4, 'array edge')
    >>> f"{1e3 * found.decode.tokens / found.decode.time_ms:.0f} tokens/s"
    '185 tokens/s'
    """
    return run(Machine.parse(arch, recipe), model, prefill, decode, batch)


def compare(
    archs: Sequence[str], model: str, *, recipe: str | None = None, prefill: int = 128, decode: int = 128,
    batch: int = 1, gpus: Sequence[str] = (),
) -> "pd.DataFrame":  # fmt: skip
    """One row a machine, then one a GPU (``GPU[:RECIPE]``): time, energy with its band, bytes and what binds.

    Units are in the column names.

    >>> import mixflight
    >>> table = mixflight.compare(["mixpe-w4a8:w4a8g32", "int8:w8a8"], "smollm2-135m", prefill=16, decode=4)
    >>> list(table["arch"])
    ['mixpe-w4a8', 'int8']
    >>> bool((table["decode_energy_mj_per_token_low"] < table["decode_energy_mj_per_token"]).all())
    True
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

    >>> import mixflight, pathlib
    >>> text = '''summary = "rows of an array"
    ... arch = "int8"
    ... model = "smollm2-135m"
    ... recipe = "w8a8"
    ... scenario = {prefill = 8, decode = 2}
    ... objectives = {tokens_per_s = "max"}
    ... axes = {"array.rows" = [8, 32]}
    ... '''
    >>> _ = pathlib.Path("space.toml").write_text(text)
    >>> front = mixflight.sweep("space.toml", "out")
    >>> front.attrs["evaluated"], len(front)
    (2, 1)
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

    >>> import mixflight
    >>> built = mixflight.build_rtl("mul4x8-pe", "pe")
    >>> "mul4x8_pe.v" in built.files
    True
    """
    from mixflight.rtl.design import choose_top
    from mixflight.rtl.project import DEFAULT_PART, write_project

    return write_project(choose_top(top, arch=arch, **parameters), Path(folder), part=part or DEFAULT_PART)


def verify(
    *tops: str, arch: str | None = None, model: str | None = "smollm2", seed: int = 0, **parameters: Any
) -> "pd.DataFrame":  # fmt: skip
    """Run emitted tops under Verilator, all of them without a name; one row a top and configuration.

    Columns: ``top``, ``configuration``, ``tests``, ``failures``, ``values`` (compared with golden ones, bit for bit),
    ``cycles_rtl`` and ``cycles_sim`` (of runs that nothing stalls), ``real_tiles``, ``messages`` (what failed, the
    first of them), ``build_s``, ``run_s``. A failed check is counted, not raised.

    ``model`` is whose tiles are run beside random ones, None for none; where it cannot be fetched random ones are run
    alone, and ``attrs["real_tiles_absent_because"]`` says so. ``parameters`` are as of :func:`build_rtl`. Needs the
    extra ``rtl``. Raises InputError for what cannot be built.

    >>> import mixflight
    >>> table = mixflight.verify("mul4x8-pe", model=None)
    >>> int(table["failures"].sum())
    0
    """
    import dataclasses

    import pandas as pd

    from mixflight.rtl.tops import TOPS
    from mixflight.verification import plan, real_source, verify_top

    chosen = [item for top in tops or TOPS for item in plan(top, arch=arch, **parameters)]
    path, absent = real_source(model) if model is not None else (None, "not asked for")
    rows = [verify_top(item, model=path, seed=seed) for item in chosen]
    table = pd.DataFrame([{**dataclasses.asdict(row), "configuration": row.shown} for row in rows])
    table.attrs = {"real_tiles_absent_because": absent}
    return table
