"""What a document's numbers say, in sentences. Every number in them is computed from the document."""

import math
from collections.abc import Iterator, Sequence

from mixflight.reports.document import Document, Gpu, GpuComparison, Machine, Sweep

WHY = {
    "array edge": "most rows of the array have no token to work on",
    "array": "the array is busy with useful work",
    "dram": "the memory's bandwidth is used up",
    "lanes": "the dequantisation lanes cannot take group sums as fast as the array makes them",
    "sfu": "the special-function unit works through the vectors",
    "latency": "pipelines fill and first bytes are waited for",
    "launch": "a GPU's kernels are started one after the other",
    "tensor cores": "a GPU's matrix units are busy",
    "int4 kernel": "a GPU unpacks 4-bit weights",
}
"""What each limit of the engine means."""


def number(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and thousands separated, never in exponent form."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(places, 0)}f}"


def share(part: float) -> str:
    """``part`` of one as a percentage of two significant digits."""
    percent = 100 * part
    return f"{percent:.0f} %" if percent >= 10 else f"{number(percent, 2)} %"


def headline(document: Document) -> str:
    """What binds decode, in one sentence."""
    machines = document.machines
    limits = {machine.simulation.decode.bound_by for machine in machines}
    first = machines[0]
    decode = first.simulation.decode
    used = _range([machine.utilisation(machine.simulation.decode) for machine in machines])
    busy = _range([machine.dram_busy(machine.simulation.decode) for machine in machines])
    where = "on every machine here" if len(machines) > 1 else f"on {first.name}"
    if len(limits) > 1:
        parts = [f"{machine.name} by {machine.simulation.decode.bound_by}" for machine in machines]
        return f"What binds decode differs: {', '.join(parts)}; PEs do useful work {used} of the time, DRAM {busy}."
    if decode.bound_by == "array edge":
        tokens = document.scenario.batch
        edges = sorted({machine.rows for machine in machines})
        rows = f"{edges[0]}" if len(edges) == 1 else f"{edges[0]} to {edges[-1]}"
        return (
            f"Decode is bound by the array's shape {where}, not by memory: "
            f"{tokens} token{'s' if tokens > 1 else ''} at a time "
            f"fill{'' if tokens > 1 else 's'} {tokens} of {rows} rows in a linear, so that PEs do useful work "
            f"{used} of the time while DRAM is busy {busy}."
        )
    return (
        f"Decode is bound by {decode.bound_by} {where}: {WHY[decode.bound_by]}. "
        f"PEs do useful work {used} of the time, and DRAM is busy {busy}."
    )


def _range(values: list[float]) -> str:
    low, high = share(min(values)), share(max(values))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def findings(document: Document) -> list[str]:
    """The other things that stand out, most important first."""
    found = [_memory_energy(document)]
    found += [_shift_add(ours, plain) for ours, plain in _pairs(document.machines)]
    checked = document.verification
    if checked is not None:
        found.append(_verified(document))
    if document.gpus is not None:
        found += [_beside(document.machines[0], gpu, document.gpus) for gpu in document.gpus.gpus]
    if document.sweep is not None:
        found.append(_swept(document.sweep))
    return found


def _pairs(machines: Sequence[Machine]) -> Iterator[tuple[Machine, Machine]]:
    """Machines that are one but for their PEs: shift-add and multipliers of the same width."""
    def rest(machine: Machine) -> tuple[object, ...]:
        return (machine.rows, machine.cols, machine.lanes, machine.clock_mhz, machine.dram_gb_s, machine.dram,
                machine.simulation.recipe)

    for ours in machines:
        for plain in machines:
            if (ours.pe, plain.pe) == ("shift-add-4x8", "multiply-4x8") and rest(ours) == rest(plain):
                yield ours, plain


def _beside(machine: Machine, gpu: Gpu, every: GpuComparison) -> str:
    ours, theirs = machine.simulation.decode, gpu.simulation.decode
    low = theirs.energy_mj_per_token_low / ours.energy_mj_per_token_high
    high = theirs.energy_mj_per_token_high / ours.energy_mj_per_token_low
    return (
        f"{gpu.label} decodes {number(theirs.tokens_per_s / ours.tokens_per_s, 2)} times as fast as {machine.name} and "
        f"takes {number(theirs.energy_mj_per_token / ours.energy_mj_per_token, 2)} ({number(low, 2)} to "
        f"{number(high, 2)}) times the energy a token: that of its {gpu.scope}, where {machine.name}'s is of "
        f"{every.machine_scope}."
    )


def _swept(sweep: Sweep) -> str:
    text = f"Of {sweep.evaluated:,} designs of a sweep {len(sweep.front):,} are on the front"
    name, way = next(iter(sweep.objectives.items()))
    best = (max if way == "max" else min)(sweep.front, key=lambda row: row[name])
    values = ", ".join(f"{axis.rpartition('.')[2]} {shown(best[axis])}" for axis in sweep.axes)
    found = f"{text}; the {'highest' if way == 'max' else 'lowest'} {name} there is {shown(best[name])}"
    return f"{found}, of {values}." if values else f"{found}."


def shown(value: object) -> str:
    """A cell of a table: a number with three significant digits, a whole one with all, or a word."""
    if isinstance(value, float) and not value.is_integer():
        return number(value)
    return f"{value:,.0f}" if isinstance(value, int | float) else f"{value}"


def _memory_energy(document: Document) -> str:
    shares = []
    for machine in document.machines:
        decode = machine.simulation.decode
        dram = sum(item.energy_mj_per_token for item in decode.components if item.component == "dram")
        shares.append(dram / decode.energy_mj_per_token)
    decode = document.machines[0].simulation.decode
    width = decode.energy_mj_per_token_high / decode.energy_mj_per_token_low
    return (
        f"Reading weights and cache from DRAM is {_range(shares)} of decode's energy. The price of a DRAM bit is also "
        f"what is known least: published prices span a factor of {number(width, 2)} in the total."
    )


def _shift_add(shift_add: Machine, multiply: Machine) -> str:
    ours, plain = shift_add.simulation.decode, multiply.simulation.decode
    time = ours.time_ms_per_token / plain.time_ms_per_token - 1
    energy = ours.energy_mj_per_token / plain.energy_mj_per_token - 1
    same = "the same time" if abs(time) < 5e-4 else f"{_more(time)} time"
    apart = ours.energy_mj_per_token_low > plain.energy_mj_per_token_high or (
        ours.energy_mj_per_token_high < plain.energy_mj_per_token_low)
    return (
        f"Shift-add PEs ({shift_add.name}) take {same} per decoded token and {_more(energy)} energy than plain "
        f"multipliers of the same width ({multiply.name}); "
        f"{'the bands do not overlap' if apart else 'the bands of the two energies overlap'}."
    ).replace("the same time per decoded token and", "the same time per decoded token, and")


def _more(difference: float) -> str:
    return f"{share(abs(difference))} {'more' if difference >= 0 else 'less'}"


def _verified(document: Document) -> str:
    checked = document.verification
    assert checked is not None
    runs = [run for run in checked.runs if run.cycles_sim]
    if checked.failures:
        return f"{checked.failures} of {checked.tests} runs of the emitted Verilog differ from what was computed."
    kind = "of the real model" if checked.real_tiles else "of random operands"
    rtl, computed = sum(run.cycles_rtl for run in runs), sum(run.cycles_sim for run in runs)
    return (
        f"The emitted array gives all {checked.values:,} values of {checked.tests} tile runs {kind} bit for bit, and "
        f"takes {rtl:,} cycles where {computed:,} were computed."
    )
