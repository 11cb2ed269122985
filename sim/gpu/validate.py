"""Errors of the GPU model: fitted, on held-back whole slices, and against published figures.

    python -m mixflight.sim.gpu.validate

prints the table of VALIDATION.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from mixflight.arch.gpu import gpus
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.sim.gpu.fit import LEAST_POINTS, Bands, Fit, fit, pack_points
from mixflight.sim.gpu.kernels import Floats, decode_kernels, pack
from mixflight.sim.gpu.measured import Point
from mixflight.sim.gpu.model import predict, rates_of
from mixflight.workloads.model import models

GOAL_TIME, GOAL_ENERGY = 0.08, 0.12


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published speed: ``points`` are prefill, decode and tokens/s at batch 1; ``power_w`` where it is published.

    Not ``comparable``: bound by what the model leaves out; its error is shown, and is in no band.
    """

    name: str
    gpu: str
    recipe: str
    model: str
    points: tuple[tuple[int, int, float], ...]
    power_w: float | None = None
    source: str
    note: str
    comparable: bool = True


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of one slice, as shares: of time and of energy, |model - truth| / truth, mean, median and largest.

    ``bias_time`` and ``bias_energy`` are the means with their sign (below 0: the model is too fast, takes too little);
    energies are None where no power was published. ``note`` says what a published figure was measured with.
    """

    name: str
    kind: str
    points: int
    mape_time: float
    mape_energy: float | None
    median_time: float
    median_energy: float | None
    max_time: float
    max_energy: float | None
    bias_time: float
    bias_energy: float | None
    within_goal: bool
    note: str = ""


def errors(points: Sequence[Point], fitted: Fit) -> tuple[Floats, Floats]:
    """Relative errors of time and energy, one a point."""
    kernels, rates = pack_points(points)
    seconds, watts = predict(kernels, rates, fitted.time, fitted.power)
    true_seconds = np.array([point.seconds for point in points])
    true_joules = true_seconds * np.array([point.power_w for point in points])
    return seconds / true_seconds - 1, seconds * watts / true_joules - 1


def slices(points: Sequence[Point]) -> Iterator[tuple[str, list[bool]]]:
    """The slices that are held back in turn, whole.

    Each batch of decode steps and of prefills, each context (a prefill's is its prompt), each model, each GPU. Single
    products belong to no batch, context or model and stay in the fit, but for their GPU's slice.
    """
    for phase in ("decode", "prefill"):
        for batch in sorted({point.batch for point in points if point.phase == phase}):
            yield f"{phase} batch {batch}", [point.phase == phase and point.batch == batch for point in points]
        for context in sorted({point.context for point in points if point.phase == phase}):
            yield f"{phase} context {context}", [point.phase == phase and point.context == context for point in points]
    for model in sorted({point.model for point in points if point.phase != "gemm"}):
        yield f"model {model}", [point.model == model for point in points]
    for gpu in sorted({point.gpu for point in points}):
        yield f"gpu {gpu}", [point.gpu == gpu for point in points]


def held_back(points: Sequence[Point]) -> Iterator[tuple[str, list[Point], Floats, Floats]]:
    """Each slice with its errors by a fit of all other points; none where too few are left to fit."""
    for name, chosen in slices(points):
        out = [point for point, is_out in zip(points, chosen, strict=True) if is_out]
        rest = [point for point, is_out in zip(points, chosen, strict=True) if not is_out]
        if len(rest) < LEAST_POINTS:
            continue
        fitted = fit(rest)
        yield name, out, *errors(out, fitted)


def published_figures() -> tuple[Figure, ...]:
    """The published figures that the model is checked against."""
    path = Path(__file__).with_name("published.toml")
    return convert(read_toml(path)["figure"], tuple[Figure, ...], path.name)


def published_errors(figure: Figure, fitted: Fit) -> tuple[Floats, Floats | None]:
    """Errors of time per token, and of energy where power is published."""
    from mixflight.sim.gpu.scenario import storage_of

    model, gpu = models()[figure.model], gpus()[figure.gpu]
    storage = storage_of(figure.recipe, model)
    rates = rates_of(gpu, fitted.idle_share, fp16=figure.recipe == "fp16", passes=len(figure.points))
    passes = [decode_kernels(model, storage, 1, range(p + 1, p + d + 1)) for p, d, _ in figure.points]
    seconds, watts = predict(pack(passes), rates, fitted.time, fitted.power)
    truth = np.array([decode / tokens_per_s for _, decode, tokens_per_s in figure.points])
    time = seconds / truth - 1
    return time, None if figure.power_w is None else seconds * watts / (truth * figure.power_w) - 1


def validated(points: Sequence[Point]) -> Iterator[Row]:
    """Rows of the fit of all points, of every held-back slice, and of every published figure."""
    whole = fit(points)
    for name, chosen in (("all", list(points)), *_by_kernel(points)):
        yield _row(name, "fitted", *errors(chosen, whole))
    for name, _, time, energy in held_back(points):
        yield _row(name, "held-back", time, energy)
    for figure in published_figures():
        yield _row(figure.name, "published", *published_errors(figure, whole), note=figure.note)


def _by_kernel(points: Sequence[Point]) -> Iterator[tuple[str, list[Point]]]:
    for precision in ("16-bit", "w4a16"):
        for phase in ("decode", "prefill", "gemm"):
            found = [p for p in points if p.phase == phase and (p.precision == "w4a16") == (precision == "w4a16")]
            if found:
                yield f"{precision} {phase}", found


def _row(name: str, kind: str, time: Floats, energy: Floats | None, note: str = "") -> Row:
    size = None if energy is None else np.abs(energy)
    mape_time = float(np.abs(time).mean())
    mape_energy = None if size is None else float(size.mean())
    return Row(
        name=name, kind=kind, points=len(time), mape_time=mape_time, mape_energy=mape_energy,
        median_time=float(np.median(np.abs(time))), median_energy=None if size is None else float(np.median(size)),
        max_time=float(np.abs(time).max()), max_energy=None if size is None else float(size.max()),
        bias_time=float(time.mean()), bias_energy=None if energy is None else float(energy.mean()),
        within_goal=mape_time <= GOAL_TIME and (mape_energy is None or mape_energy <= GOAL_ENERGY), note=note,
    )  # fmt: skip


def bands(points: Sequence[Point], fitted: Fit) -> Bands:
    """The relative errors of energy that results carry as their band."""
    half: list[float] = []
    int4: list[float] = []
    for _, out, _, energy in held_back(points):
        for point, error in zip(out, energy, strict=True):
            (int4 if point.precision == "w4a16" else half).append(abs(float(error)))
    largest = 0.0
    for figure in filter(lambda figure: figure.comparable, published_figures()):
        time, energies = published_errors(figure, fitted)
        largest = max(largest, float(np.abs(time if energies is None else energies).max()))
    return Bands(half=float(np.quantile(half, 0.95)), int4=float(np.quantile(int4, 0.95)), transferred=largest)


def percent_row(row: Row) -> tuple[object, ...]:
    """``row`` for a table: errors in percent with one digit."""
    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    time, energy = (row.mape_time, row.max_time), (row.mape_energy, row.max_energy)
    goal = "met" if row.within_goal else "no"
    return row.name, row.kind, row.points, *map(percent, (*time, *energy)), goal


def markdown_line(row: Row) -> str:
    """``row`` as a line of the table in VALIDATION.md: percent, mean / median / largest / bias."""
    def percent(*values: float | None) -> str:
        return " / ".join("–" if value is None else f"{100 * value:.1f}" for value in values)

    time = percent(row.mape_time, row.median_time, row.max_time, row.bias_time)
    energy = percent(row.mape_energy, row.median_energy, row.max_energy, row.bias_energy)
    energy = "not published" if row.mape_energy is None else energy
    return f"| {row.name} | {row.kind} | {row.points} | {time} | {energy} | {'met' if row.within_goal else 'no'} |"


if __name__ == "__main__":
    from mixflight.sim.gpu.measured import packaged_points

    print("\n".join(map(markdown_line, validated(packaged_points()))))
