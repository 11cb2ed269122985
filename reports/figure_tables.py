"""What each figure of a document shows, as a table that can be computed with."""

import csv
import io
from collections.abc import Sequence

from mixflight.reports.component_groups import group_of
from mixflight.reports.document import Document, Machine
from mixflight.reports.figures import energy_by_group, time_by_group

Rows = list[tuple[object, ...]]


def tables(document: Document) -> dict[str, str]:
    """The CSV text of every figure, by the names of :func:`mixflight.reports.figures.drawings`."""
    machines = document.machines
    decode = energy_rows(machines, "decode")
    found = {
        "time-prefill": text(("machine", "group", "ms_per_token"), time_rows(machines, "prefill")),
        "time-decode": text(("machine", "group", "ms_per_token"), time_rows(machines, "decode")),
        "energy-decode": text(ENERGY, decode),
        "energy-decode-on-chip": text(ENERGY, [row for row in decode if row[1] != group_of("dram")]),
        "energy-prefill": text(ENERGY, energy_rows(machines, "prefill")),
        "energy": text(ENERGY, decode),
        "roofline": text(
            ("machine", "phase", "macs_per_dram_byte", "gmacs_per_s", "peak_gmacs_per_s", "dram_gb_s"),
            roofline_rows(machines),
        ),
    }
    if document.synthesis is not None:
        found["resources"] = text(
            ("module", "instances", "lut_each", "ff_each", "dsp_each"),
            [(item.name, item.instances, item.lut, item.ff, item.dsp) for item in document.synthesis.modules],
        )
    if document.timeline is not None:
        found["timeline"] = text(
            ("unit", "operator", "start_us", "duration_us"),
            [(item.track, item.operator, item.start_us, item.duration_us) for item in document.timeline.slices],
        )
    return found


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


def text(columns: Sequence[str], rows: Rows) -> str:
    """A CSV file's text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
