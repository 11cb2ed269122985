"""Every figure of a document: what draws it, what it says, its numbers as a table and where they come from."""

from collections.abc import Iterator
from typing import NamedTuple

from mixflight.reports import figures, provenance
from mixflight.reports.component_groups import group_of
from mixflight.reports.document import Document, Sweep
from mixflight.reports.draw import Drawing
from mixflight.reports.figure_tables import (
    ENERGY,
    Rows,
    energy_rows,
    front_rows,
    layer_energy_rows,
    layer_time_rows,
    roofline_rows,
    side_rows,
    text,
    time_rows,
)
from mixflight.reports.front_figure import front_drawing
from mixflight.reports.gpu_figures import gpu_energy_drawing, gpu_speed_drawing
from mixflight.reports.layer_figures import layers_energy_drawing, layers_time_drawing


class ListedFigure(NamedTuple):
    """One figure; ``rows`` under ``columns`` are what it shows."""

    drawing: Drawing
    caption: str
    source: str
    columns: tuple[str, ...]
    rows: Rows

    @property
    def csv(self) -> str:
        """Its numbers as a CSV file's text."""
        return text(self.columns, self.rows)


def listed_figures(document: Document) -> dict[str, ListedFigure]:
    """The figures by name; those of what ``document`` does not have are left out."""
    found = dict(_of_machines(document))
    if document.layers is not None:
        found |= _of_layers(document)
    if document.gpus is not None:
        found |= _of_gpus(document)
    if document.sweep is not None:
        found["sweep-front"] = front_of(document.sweep)
    if document.synthesis is not None:
        found["resources"] = ListedFigure(
            figures.resources_drawing(document), "LUTs and registers by module, all instances together.",
            provenance.resources(document), ("module", "instances", "lut_each", "ff_each", "dsp_each"),
            [(item.name, item.instances, item.lut, item.ff, item.dsp) for item in document.synthesis.modules],
        )
    if document.timeline is not None:
        found["timeline"] = ListedFigure(
            figures.timeline_drawing(document.timeline),
            "What the units are busy with during one layer of a decode step.", provenance.ENGINE,
            ("unit", "operator", "start_us", "duration_us"),
            [(item.track, item.operator, item.start_us, item.duration_us) for item in document.timeline.slices],
        )
    return found


def _of_machines(document: Document) -> Iterator[tuple[str, ListedFigure]]:
    machines = document.machines
    times, energies = provenance.time(machines[0]), provenance.energy(document)
    ms = ("machine", "group", "ms_per_token")
    for phase in ("prefill", "decode"):
        yield f"time-{phase}", ListedFigure(
            figures.time_drawing(machines, phase), f"{phase.capitalize()}: time per token by group of operators.",
            times, ms, time_rows(machines, phase),
        )
    decode = energy_rows(machines, "decode")
    yield "energy-decode", ListedFigure(
        figures.energy_drawing(machines, "decode"),
        "Decode: energy per token by component. The band is the sum of the prices' lowest and highest published "
        "values, all at once.", energies, ENERGY, decode,
    )
    yield "energy-decode-on-chip", ListedFigure(
        figures.energy_drawing(machines, "decode", dram=False), "The same without DRAM, where the machines differ.",
        energies, ENERGY, [row for row in decode if row[1] != group_of("dram")],
    )
    yield "energy-prefill", ListedFigure(
        figures.energy_drawing(machines, "prefill"), "Prefill: energy per token by component, with its band.",
        energies, ENERGY, energy_rows(machines, "prefill"),
    )
    yield "roofline", ListedFigure(
        figures.roofline_drawing(machines),
        "Work reached against work possible. The slope is DRAM bandwidth, a solid roof every PE busy, a dashed one "
        "only the rows that have a token.", f"{times}; roofs: array, clock and DRAM of the parameters below",
        ("machine", "phase", "macs_per_dram_byte", "gmacs_per_s", "peak_gmacs_per_s", "dram_gb_s"),
        roofline_rows(machines),
    )
    yield "energy", ListedFigure(
        figures.energy_picture(machines), "Decode: energy per token by component, with and without DRAM.", energies,
        ENERGY, decode,
    )


def _of_layers(document: Document) -> dict[str, ListedFigure]:
    layers = document.layers
    assert layers is not None
    return {
        "layers-time": ListedFigure(
            layers_time_drawing(layers),
            f"{layers.machine}: time of each layer, and for how long each unit is busy in it.",
            provenance.ENGINE, ("layer", "time_us", "array_busy_us", "dram_busy_us", "sfu_busy_us"),
            layer_time_rows(layers),
        ),
        "layers-energy": ListedFigure(
            layers_energy_drawing(layers), f"{layers.machine}: energy of each layer by component, with its band.",
            provenance.energy(document), ("layer", *ENERGY[1:]), layer_energy_rows(layers),
        ),
    }  # fmt: skip


def _of_gpus(document: Document) -> dict[str, ListedFigure]:
    columns = ("machine", "kind", "tokens_per_s", *ENERGY[2:])
    gpus = document.gpus
    assert gpus is not None
    source = "; ".join(dict.fromkeys((provenance.time(document.machines[0]), *map(provenance.gpu, gpus.gpus))))
    scopes = {gpu.scope for gpu in gpus.gpus}
    return {
        "gpu-speed": ListedFigure(
            gpu_speed_drawing(document), "Decode beside GPUs: tokens per second.", source, columns, side_rows(document)
        ),
        "gpu-energy": ListedFigure(
            gpu_energy_drawing(document),
            f"Decode beside GPUs: energy per token with its band, of a GPU's {' or '.join(sorted(scopes))} and of a "
            f"machine's {gpus.machine_scope}.", source, columns, side_rows(document),
        ),
    }  # fmt: skip


def front_of(sweep: Sweep) -> ListedFigure:
    """The figure of a sweep's front."""
    columns = tuple(sweep.sources)
    ways = " and ".join(f"{name} ({way})" for name, way in sweep.objectives.items())
    return ListedFigure(
        front_drawing(sweep), f"The front of {ways}: no point here is better in all of them than another.",
        provenance.front(sweep), columns, front_rows(sweep, columns),
    )
