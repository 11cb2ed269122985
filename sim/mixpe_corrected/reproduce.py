"""The rows of ``mixflight reproduce mixpe --mode corrected``."""

from collections.abc import Iterator

from mixflight.arch.cell_counts import cell_counts_named
from mixflight.arch.synthesis_counts import counts_named
from mixflight.sim.mixpe_corrected.crossover import TILES, closed_form, counted
from mixflight.sim.mixpe_corrected.design_space import designs, front, gain, noise, perplexity
from mixflight.sim.mixpe_corrected.goals import floor, goals
from mixflight.sim.mixpe_corrected.hardware import hardware
from mixflight.sim.mixpe_corrected.machines import (
    CANDIDATES,
    GROUP,
    REFERENCE,
    ROWS,
    Candidate,
    cells_of,
    lane_of,
    sized,
)
from mixflight.sim.mixpe_corrected.prices import DRAM_PJ_PER_BIT, mac_pj, settled_mac_pj, to_45nm
from mixflight.sim.mixpe_corrected.quality import quality_table
from mixflight.sim.mixpe_corrected.run import MODELS, PHASES, outcome
from mixflight.sim.published_mixpe.printed import SOURCES, published_values
from mixflight.sim.reproduction import Row, compare

MODE = "corrected"
CLOCK_MHZ = 500.0
_PUBLISHED_PHASE = "decode-b64"
_PUBLISHED_MACHINES = ("mixpe-w4a8", "mixpe-w4a16", "fp16")


def rows() -> list[Row]:
    """Published numbers where there are any, and ours in equal area on the same 4-bit model."""
    return [*_areas(), *_speedups(), *_whole_rows(), *_efficiencies(), *_crossover(), *_goals(), *_parts(), *_design()]


def _row(name: str, ours: float | None, unit: str = "", note: str = "") -> Row:
    return compare(name, None, ours, MODE, unit=unit, note=note)


def _areas() -> Iterator[Row]:
    scaling = to_45nm()
    for candidate in CANDIDATES:
        machine, cells = sized(candidate.name), cells_of(candidate)
        name = f"machine/{candidate.name}"
        yield _row(f"{name}/pe-um2", cells.area_um2, "um2")
        yield _row(f"{name}/columns", machine.cols, note=f"{ROWS} rows")
        yield _row(f"{name}/columns-exact", machine.exact_cols)
        yield _row(f"{name}/array-mm2", machine.area_um2 * 1e-6, "mm2")
        yield _row(f"{name}/area-residual", machine.residual)
        lane_um2, lane_pj = lane_of(candidate)
        yield _row(f"{name}/lane-um2-a-pe", lane_um2 / GROUP, "um2", "dequantisation lane and FP32 accumulators")
        yield _row(
            f"{name}/lane-pj-a-mac-45nm", lane_pj / GROUP * scaling.energy, "pJ", "a group sum over its 128 MACs"
        )
        yield _row(f"{name}/mac-pj-45nm", mac_pj(candidate), "pJ")
        yield _row(f"{name}/mac-pj-45nm-settled", settled_mac_pj(candidate), "pJ")
        delay = cells.delay_ns * scaling.delay
        slow = delay > 1e3 / CLOCK_MHZ
        yield _row(f"{name}/delay-ns-45nm", delay, "ns", "above the 2 ns of 500 MHz: granted a pipeline at no area"
                   if slow else "")  # fmt: skip
        yield from _luts(candidate)


def _luts(candidate: Candidate) -> Iterator[Row]:
    if candidate.luts is None:
        return
    with_dsp, without = (counts_named(name) for name in candidate.luts)
    yield _row(f"xcup/{candidate.name}/lut", with_dsp.lut, "LUT", f"beside {with_dsp.dsp} DSP")
    yield _row(f"xcup/{candidate.name}/dsp", with_dsp.dsp, "DSP")
    yield _row(f"xcup/{candidate.name}/lut-alone", without.lut, "LUT")
    reference = counts_named("int8-pe-lut")
    yield _row(f"xcup/{candidate.name}/pes-in-an-int8-pe", reference.lut / without.lut, "", "LUTs alone, no lanes")


def _printed_ratio(family: str, model: str, phase: str, name: str) -> float | None:
    """INT8's printed ``family`` over that of ``name``; it exists for decode at a batch of 64."""
    if phase != _PUBLISHED_PHASE or name not in _PUBLISHED_MACHINES:
        return None
    printed = published_values()
    known = [printed.get(f"{family}/{model}/{each}") for each in (REFERENCE, name)]
    return known[0].value / known[1].value if known[0] and known[1] else None


def _speedups() -> Iterator[Row]:
    for model in MODELS:
        for phase in PHASES:
            reference = outcome(REFERENCE, model, phase)
            for candidate in CANDIDATES:
                found = outcome(candidate.name, model, phase)
                name = f"speedup/{model}/{phase}/{candidate.name}"
                published = _printed_ratio("cycles", model, phase, candidate.name)
                yield compare(
                    name,
                    published,
                    reference.ms / found.ms,
                    MODE,
                    source=SOURCES["run"] if published else "",
                    note=f"bound by {found.bound_by}",
                )


def _whole_rows() -> Iterator[Row]:
    """One token on arrays whose rows cannot split: one row of 32 works."""
    for model in MODELS:
        reference = outcome(REFERENCE, model, "decode-b1", 1)
        for candidate in CANDIDATES:
            found = outcome(candidate.name, model, "decode-b1", 1)
            yield _row(f"speedup-whole-rows/{model}/decode-b1/{candidate.name}", reference.ms / found.ms, "",
                       f"bound by {found.bound_by}")  # fmt: skip


def efficiency(name: str, model: str, phase: str, dram: float, *, anchored: bool = False) -> float:
    """Energy of the INT8 machine over that of ``name``."""
    energies = [outcome(each, model, phase).picojoules(sized(each), dram, anchored=anchored)
                for each in (REFERENCE, name)]  # fmt: skip
    return energies[0] / energies[1]


def _efficiencies() -> Iterator[Row]:
    for model in MODELS:
        for phase in PHASES:
            for candidate in CANDIDATES:
                for dram in DRAM_PJ_PER_BIT:
                    lowest = dram == DRAM_PJ_PER_BIT[0]  # the authors'
                    published = _printed_ratio("energy-mj", model, phase, candidate.name) if lowest else None
                    yield compare(
                        f"efficiency/{model}/{phase}/{candidate.name}/dram-{dram}", published,
                        efficiency(candidate.name, model, phase, dram), MODE,
                        source=SOURCES["run"] if published else "",
                    )  # fmt: skip
                yield _row(f"efficiency-anchored/{model}/{phase}/{candidate.name}/dram-3.9",
                           efficiency(candidate.name, model, phase, 3.9, anchored=True), "",
                           "PEs and lanes scaled to the literature's INT8 MAC")  # fmt: skip


def _crossover() -> Iterator[Row]:
    for tokens in TILES:
        yield _row(f"crossover/before-over-after/mt-{tokens}/closed-form", closed_form(tokens).ratio)
        yield _row(f"crossover/before-over-after/mt-{tokens}/engine", counted(tokens).ratio)


def _goals() -> Iterator[Row]:
    for goal in goals():
        best, ratio = goal.best()
        said = goal.note or "no goal of its own"
        if goal.most is not None:
            said = f"goal {goal.most:.2f}: {'met' if ratio <= goal.most else 'missed'}"
        yield _row(f"goal/{goal.name}", ratio, "", f"{said}, by {best}")


def _parts() -> Iterator[Row]:
    for parts in hardware().parts:
        for part in ("registers", "accumulate", "product"):
            share = getattr(parts, f"{part}_um2") / parts.macs_per_step
            yield _row(f"parts/{parts.name}/{part}", share, "um2 a MAC")
    for pe, against in (
        ("mixpe-w4a8-pe", "int8-pe"),
        ("mixpe-w4a8-dot-pe", "int8-pe"),
        ("mixpe-w4a8-dot-pe", "int8-dot-pe"),
    ):
        yield _row(f"parts/floor/{pe}-over-{against}", floor(pe, against), "", "area ratio if the product were free")


def _design() -> Iterator[Row]:
    printed = published_values()
    for name, pe in (("int4xfp16", "mixpe-w4a16-aligned-pe"), ("int8xint8", "int8-pe"), ("int4xint8", "mixpe-w4a8-pe")):
        known = printed[f"dse/{name}-over-fp16xfp16"]
        yield compare(f"dse/{name}-over-fp16xfp16", known.value, gain(pe), MODE, source=SOURCES[known.source],
                      note="area x energy a MAC, ours by our own synthesis; their PEs are not public")  # fmt: skip
    plotted = printed["dse/int4xint8-over-fp16xfp16"].value / printed["dse/int8xint8-over-fp16xfp16"].value
    yield compare("dse/int4xint8-over-int8xint8", plotted, gain("mixpe-w4a8-pe") / gain("int8-pe"), MODE,
                  source=SOURCES["plot"], note="quotient of two plotted values")  # fmt: skip
    for row in quality_table().rows:
        yield _row(f"quality/{row.name}/snr-blocks-db", row.snr_blocks_db, "dB", _exact(row.snr_blocks_db))
        yield _row(f"quality/{row.name}/snr-head-db", row.snr_head_db, "dB", _exact(row.snr_head_db))
        yield _row(f"quality/{row.name}/perplexity", row.perplexity)
        yield _row(f"quality/{row.name}/ratio", row.ratio, "of FP32 on the stored values")
    for pe in sorted({design.pe for design in designs()}):
        yield _row(f"gain/{pe}", gain(pe), "of FP16", f"{cell_counts_named(pe).macs_per_step} products a step")
    for design in front(designs(), perplexity):
        yield _row(f"pareto/perplexity/{design.name}", design.quality.perplexity, "", f"gain {design.gain:.1f}")
    for design in front(designs(), noise):
        yield _row(f"pareto/snr-head-db/{design.name}", design.quality.snr_head_db, "dB", f"gain {design.gain:.1f}")


def _exact(value: float | None) -> str:
    return "stored so: no error" if value is None else ""
