"""``mixflight reproduce mixpe``: as published, and with equal silicon, memory and model for every machine."""

from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.sim.mixpe_corrected.reproduce import rows as corrected_rows
from mixflight.sim.published_mixpe.reproduce import rows as published_rows
from mixflight.sim.reproduction import Row

MODES = ("published", "corrected")


def rows(mode: str) -> list[Row]:
    """The rows of ``mode``."""
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, not {mode!r}, for study 'mixpe'")
    return corrected_rows() if mode == "corrected" else published_rows(mode)


def write_figures(study: str, mode: str, folder: Path) -> list[Path]:
    """The figures of the corrected study as SVG in ``folder``, which must exist; other studies have none."""
    if (study, mode) != ("mixpe", "corrected"):
        raise InputError(f"--figures goes with study 'mixpe' in mode 'corrected', not {study!r} in {mode!r}")
    from mixflight.reports.mixpe_figures import FIGURES, described

    paths = []
    for name in FIGURES:
        path = folder / f"{name}.svg"
        with whole_file(path) as staged:
            staged.write_text(described(name))
        paths.append(path)
    return paths
