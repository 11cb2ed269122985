"""The rows of ``mixflight reproduce mixpe``."""

from collections.abc import Iterator

from mixflight.arch.errors import InputError
from mixflight.sim.published_mixpe.claims import (
    Item,
    headlines,
    means,
    normalised_energy,
    normalised_time,
    ratios,
)
from mixflight.sim.published_mixpe.corrections import int8_cycles, speedups
from mixflight.sim.published_mixpe.energy import PARTS
from mixflight.sim.published_mixpe.printed import SOURCES, published_values
from mixflight.sim.published_mixpe.run import Search
from mixflight.sim.reproduction import Row, compare

MODES = ("published",)

TOLERANCE = {"cycles": 0.001, "energy": 0.01, "energy-mj": 0.01}  # relative; rounding alone elsewhere
UNITS = {"cycles": "cycles", "time": "of FP16", "energy": "of FP16", "energy-mj": "mJ"}

_PE_UNKNOWN = (
    "area and power of the authors' PEs are not public (their simulator gives MixPE-W4A8 the PE power of INT8); ours "
    "take our own synthesis"
)


def rows(mode: str) -> list[Row]:
    """Every published number of MixPE beside ours."""
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, not {mode!r}, for study 'mixpe'")
    printed = published_values()
    found = []
    for name, ours, note in _ours():
        family = name.split("/")[0]
        known = printed.get(name)
        found.append(
            compare(
                name, known.value if known else None, ours, mode, unit=UNITS.get(family, ""),
                rounding=known.rounding if known else 0.0, relative=TOLERANCE.get(family, 0.0),
                source=SOURCES[known.source] if known else "", note=note,
            )
        )  # fmt: skip
    seen = {row.id for row in found}
    for name, known in printed.items():
        if name not in seen:
            found.append(compare(name, known.value, None, mode, source=SOURCES[known.source], note=_PE_UNKNOWN))
    return found


def _ours() -> Iterator[Item]:
    search = Search()
    models = [item.name for item in search.given.model]
    totals = search.totals()
    for model, machine in totals:
        yield f"cycles/{model}/{machine}", totals[model, machine].cycles, ""
    for model, machine in totals:
        yield f"time/{model}/{machine}", normalised_time(totals, model, machine), ""
    for model, machine in totals:
        for part in (*PARTS, "total"):
            yield f"energy/{model}/{machine}/{part}", normalised_energy(totals, model, machine, part), ""
        yield f"energy-mj/{model}/{machine}", totals[model, machine].energy.total * 1e-6, ""
    yield from means(totals, models)
    yield from ratios(totals, models)
    yield from headlines(search, totals, models)
    plotted = published_values()
    yield (
        "dse/int4xint8-over-int8xint8",
        plotted["dse/int4xint8-over-fp16xfp16"].value / plotted["dse/int8xint8-over-fp16xfp16"].value,
        "quotient of two plotted values, no measurement",
    )  # fmt: skip
    baseline = int8_cycles(search)
    for tokens, cycles in baseline.items():
        yield f"corrections/int8-cycles/m{tokens}", cycles, ""
    for variant, tokens, speedup in speedups(search, baseline):
        yield f"corrections/{variant}/m{tokens}", speedup, ""
