"""Means, speed-ups and energy ratios as the authors form them, the correct means beside them, and the two headlines."""

from collections.abc import Iterator, Sequence
from statistics import fmean, geometric_mean

import msgspec

from mixflight.sim.published_mixpe.energy import PARTS
from mixflight.sim.published_mixpe.printed import published_values
from mixflight.sim.published_mixpe.run import Search, Total

TABLE = ("mixpe-w4a8", "ant", "bitfusion", "int8", "mixpe-w4a16", "fp16")  # columns of the published tables
OVER = ("ant", "olaccel", "bitfusion", "int8", "fp16")
STRIDE = 5  # the published energy means step by 5 over rows of 6 columns
WRONG_ROW = {("core", "mixpe-w4a16"): "buffer", ("core", "fp16"): "buffer"}  # and two of them read another row


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine must have been, for its recorded times."""

    changes: dict[str, int]
    what: str


# The fifth recorded state, found from its times and its core energies; its settings are not public. OLAccel and
# MixPE-W4A16 meet the language models only (NOTES.md).
STATE_5 = {
    "mixpe-w4a8": Setting(changes={"gemm_bits": 8}, what="MixPE-W4A8 at one MAC a PE: 64x64, 8-bit operands"),
    "olaccel": Setting(
        changes={"gemm_act_bits": 8},
        what="OLAccel at two MACs a PE: 32x32, 8-bit activations, 4-bit weights; meets the language models only",
    ),
    "mixpe-w4a16": Setting(
        changes={"gemm_act_bits": 16},
        what="MixPE-W4A16 at two MACs a PE: 32x32, 16-bit activations, 8-bit weights; meets the language models only",
    ),
}

Totals = dict[tuple[str, str], Total]
Item = tuple[str, float, str]  # id, our value, note


def normalised_time(totals: Totals, model: str, machine: str) -> float:
    """Cycles over FP16's."""
    return totals[model, machine].cycles / totals[model, "fp16"].cycles


def normalised_energy(totals: Totals, model: str, machine: str, part: str) -> float:
    """Energy of ``part`` over FP16's total."""
    return totals[model, machine].energy.part(part) / totals[model, "fp16"].energy.total


def means(totals: Totals, models: Sequence[str]) -> Iterator[Item]:
    """The columns that are published as geometric means, with what they are and what they should be."""
    arithmetic = "published as a geometric mean, is an arithmetic one"
    stepped = f"published as a geometric mean; a stride of {STRIDE} over {len(TABLE)} columns mixes the accelerators"
    for name in TABLE:
        times = [normalised_time(totals, model, name) for model in models]
        yield f"mean/time/{name}", fmean(times), arithmetic
        yield f"mean-geometric/time/{name}", geometric_mean(times), ""
    cells = {
        part: [normalised_energy(totals, model, name, part) for model in models for name in TABLE] for part in PARTS
    }
    for part in PARTS:
        for column, name in enumerate(TABLE):
            row = WRONG_ROW.get((part, name), part)
            note = f"{stepped}; this one averages the {row} row" if row != part else stepped
            value = fmean(cells[row][i * STRIDE + column] for i in range(len(models)))
            yield f"mean/energy/{name}/{part}", value, note
            yield f"mean-geometric/energy/{name}/{part}", geometric_mean(cells[part][column :: len(TABLE)]), ""


def ratios(totals: Totals, models: Sequence[str]) -> Iterator[Item]:
    """Speed-up and energy ratio of MixPE-W4A8 over each baseline, and of MixPE-W4A16 over FP16."""
    for name in OVER:
        speed, energy = zip(*(_ratio(totals, model, "mixpe-w4a8", name) for model in models), strict=True)
        for kind, values in (("speedup", speed), ("energy-ratio", energy)):
            yield f"claims/{kind}/mixpe-w4a8/over/{name}", fmean(values), "arithmetic mean over the models"
            yield f"claims-geometric/{kind}/mixpe-w4a8/over/{name}", geometric_mean(values), ""
    for model in models:
        speedup, saving = _ratio(totals, model, "mixpe-w4a16", "fp16")
        yield f"claims/speedup/mixpe-w4a16/over/fp16/{model}", speedup, ""
        yield f"claims/energy-ratio/mixpe-w4a16/over/fp16/{model}", saving, ""


def headlines(search: Search, totals: Totals, models: Sequence[str]) -> Iterator[Item]:
    """1.4x less energy and 2.6x more speed: no single state of the settings gives both over one baseline."""
    speed, energy = zip(*(_ratio(totals, model, "mixpe-w4a8", "olaccel") for model in models), strict=True)
    yield (
        "claims/energy-1.4x", fmean(energy),
        "1.4x is the energy ratio over OLAccel with the final settings, where the speed-up is 3.25x",
    )  # fmt: skip
    for model, ratio in zip(models, energy, strict=True):
        yield f"claims/energy-1.4x/{model}", ratio, ""
    yield (
        "claims/speedup-2.6x/final-settings", fmean(speed),
        "2.6x is not the speed-up of the final settings over OLAccel; see claims/speedup-2.6x",
    )  # fmt: skip
    state = {name: _state_5(search, name) for name in STATE_5}
    mixpe = [state["mixpe-w4a8"][model].cycles / totals[model, "fp16"].cycles for model in models]
    olaccel = [published_values()[f"claims/speedup-2.6x/time/{model}/olaccel"].value for model in models]
    yield (
        "claims/speedup-2.6x", fmean(olaccel) / fmean(mixpe),
        f"fifth of eight recorded states: OLAccel's recorded mean time over ours of {STATE_5['mixpe-w4a8'].what}",
    )  # fmt: skip
    for name, setting in STATE_5.items():
        for model in models:
            ours, fp16 = state[name][model], totals[model, "fp16"]
            yield f"claims/speedup-2.6x/time/{model}/{name}", ours.cycles / fp16.cycles, setting.what
            yield f"claims/speedup-2.6x/core/{model}/{name}", ours.energy.core / fp16.energy.core, setting.what


def _ratio(totals: Totals, model: str, machine: str, baseline: str) -> tuple[float, float]:
    ours, other = totals[model, machine], totals[model, baseline]
    return other.cycles / ours.cycles, other.energy.total / ours.energy.total


def _state_5(search: Search, name: str) -> dict[str, Total]:
    machine = msgspec.structs.replace(search.given.machine(name), **STATE_5[name].changes)
    return {model.name: search.total(model, machine) for model in search.given.model}
