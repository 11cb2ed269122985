"""What each figure of a document shows, as rows of a table that can be computed with."""

import csv
import io
from collections.abc import Sequence

from mixflight.reports.document import Document, Layers, Machine, Sweep
from mixflight.reports.figures import energy_by_group, time_by_group
from mixflight.reports.gpu_figures import sides
from mixflight.reports.layer_figures import name_of

Rows = list[tuple[object, ...]]


ENERGY = ("machine", "component", "mj_per_token", "mj_per_token_low", "mj_per_token_high")


def time_rows(machines: Sequence[Machine], phase: str) -> Rows:
    """Machine, group of operators, milliseconds a token."""
    return [
        (machine.name, group, time)
        for machine in machines for group, time in time_by_group(getattr(machine.simulation, phase)).items()
    ]  # fmt: skip


def energy_rows(machines: Sequence[Machine], phase: str) -> Rows:
    """Machine, group of components, millijoules a token with their band."""
    return [
        (machine.name, group, item.energy_mj_per_token, item.energy_mj_per_token_low, item.energy_mj_per_token_high)
        for machine in machines
        for group, item in energy_by_group(getattr(machine.simulation, phase).components).items()
    ]


def roofline_rows(machines: Sequence[Machine]) -> Rows:
    """Machine, phase, what was reached and its roofs."""
    return [
        (machine.name, name, phase.macs / (phase.hbm_bytes_per_token * phase.tokens), phase.macs / phase.time_ms * 1e-6,
         machine.peak_gmacs, machine.dram_gb_s)
        for machine in machines
        for name, phase in (("prefill", machine.simulation.prefill), ("decode", machine.simulation.decode))
    ]  # fmt: skip


def layer_time_rows(layers: Layers) -> Rows:
    """Layer, its time, and for how long each unit is busy."""
    return [(name_of(item), item.time_us, *(item.busy_us[unit] for unit in ("array", "dram", "sfu")))
            for item in layers.layers]  # fmt: skip


def layer_energy_rows(layers: Layers) -> Rows:
    """Layer, group of components, millijoules a token with their band."""
    return [
        (name_of(item), group, part.energy_mj_per_token, part.energy_mj_per_token_low, part.energy_mj_per_token_high)
        for item in layers.layers for group, part in energy_by_group(item.components).items()
    ]  # fmt: skip


def side_rows(document: Document) -> Rows:
    """Machine or GPU, which of them, decode's speed and energy with its band."""
    return [
        (item.name, "GPU" if item.gpu else "machine", item.decode.tokens_per_s, item.decode.energy_mj_per_token,
         item.decode.energy_mj_per_token_low, item.decode.energy_mj_per_token_high)
        for item in sides(document)
    ]  # fmt: skip


def front_rows(sweep: Sweep, columns: Sequence[str]) -> Rows:
    """The points of the front."""
    return [tuple(row[name] for name in columns) for row in sweep.front]


def text(columns: Sequence[str], rows: Rows) -> str:
    """A CSV file's text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
