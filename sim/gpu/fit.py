"""Fit of the GPU model to measurements: least squares of relative errors, time first, then power.

    python -m mixflight.sim.gpu.fit > sim/gpu/coefficients.toml

writes the coefficients of all measured points, the hashes of their files, and the error bands that the held-back slices
give.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.gpu import gpus
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.sim.gpu.kernels import Floats, Packed, pack
from mixflight.sim.gpu.measured import Point
from mixflight.sim.gpu.model import (
    SHARES,
    PowerCoefficients,
    Rates,
    TimeCoefficients,
    kernel_terms,
    power_parts,
    utilisations,
)

START_TIME = TimeCoefficients(
    launch_s=2.5e-6, fill_s=4e-10, attention_start_s=3e-6, split_s=2e-6, memory=0.92, attention=0.93, tensor=0.75,
    attention_tensor=0.5, half_inner=400.0, vector=0.6, edge=2.5, int4_bytes=8.0, int4_flops=110.0,
    int4_edge=1.8,
)  # fmt: skip
START_POWER = PowerCoefficients(active=0.1, memory=0.55, tensor=0.6, unpack=0.5, int4=0.4, fp16_factor=1.06)
LEAST_POINTS = 20  # more than there are coefficients of time
ACTIVE_WEIGHT = 5.0  # hardly changes the whole fit; sim/gpu/VALIDATION.md has the effect

C = TypeVar("C", TimeCoefficients, PowerCoefficients)


class Fit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted coefficients; ``idle_share`` is the mean of measured idle power over the power limit."""

    idle_share: float
    time: TimeCoefficients
    power: PowerCoefficients


class Bands(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Relative errors of energy, as :mod:`mixflight.sim.gpu.validate` finds them.

    ``half`` and ``int4``: 95th percentile over the held-back points of the 16-bit and of the 4-bit kernels;
    ``transferred``: the largest error against a published figure of comparable software, for GPUs that nothing was
    measured on.
    """

    half: float
    int4: float
    transferred: float


class Committed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``coefficients.toml`` holds: the fit of all measured points, its bands, and the SHA-256 of each file."""

    fit: Fit
    band: Bands
    sha256: dict[str, str]


@functools.cache
def committed() -> Committed:
    """The committed coefficients."""
    path = Path(__file__).with_name("coefficients.toml")
    return convert(read_toml(path), Committed, path.name)


def pack_points(points: Sequence[Point]) -> tuple[Packed, Rates]:
    """Kernels and rates of ``points``, one pass each; idle power and power limit as measured."""
    def column(values: list[float]) -> Floats:
        return np.array(values, float)

    sheets = [gpus()[point.gpu] for point in points]
    rates = Rates(
        bandwidth=column([gpu.bandwidth_gb_s * 1e9 for gpu in sheets]),
        tensor=column([gpu.tensor_tflop_s * 1e12 for gpu in sheets]),
        sms=column([float(gpu.sms) for gpu in sheets]),
        issue=column([gpu.sms * gpu.boost_mhz * 1e6 for gpu in sheets]),
        idle_w=column([point.idle_w for point in points]), limit_w=column([point.limit_w for point in points]),
        fp16=column([point.precision == "fp16" for point in points]),
    )  # fmt: skip
    return pack([point.kernels for point in points]), rates


def fit(points: Sequence[Point]) -> Fit:
    """The coefficients with the least sum of squared relative errors: of time, then of power at the fitted time.

    ``active`` pays for its size, ACTIVE_WEIGHT times itself as one more error: where all points are busy nothing
    tells a constant from what grows with utilisation, and idle power already holds the constant that was measured.
    """
    if len(points) < LEAST_POINTS:
        raise InputError(f"measurements to fit must be at least {LEAST_POINTS} points, not {len(points)}")
    kernels, rates = pack_points(points)
    seconds = np.array([point.seconds for point in points])
    watts = np.array([point.power_w for point in points])

    def time_errors(x: Floats) -> Floats:
        terms = kernel_terms(kernels, rates, _decoded(x, START_TIME))
        return np.asarray(kernels.per_pass(terms.seconds) / seconds - 1)

    time = _decoded(least_squares(time_errors, _encoded(START_TIME)), START_TIME)
    used = utilisations(kernels, rates, kernel_terms(kernels, rates, time))

    def power_errors(x: Floats) -> Floats:
        c = _decoded(x, START_POWER)
        errors = np.asarray(sum(power_parts(used, rates, c).values())) / watts - 1
        return np.append(errors, ACTIVE_WEIGHT * c.active)

    power = _decoded(least_squares(power_errors, _encoded(START_POWER)), START_POWER)
    return Fit(idle_share=float(np.mean(rates.idle_w / rates.limit_w)), time=time, power=power)


def _encoded(c: TimeCoefficients | PowerCoefficients) -> Floats:
    """Coefficients as unbounded numbers: the logit of shares of the time formulas, else the logarithm."""
    shares = SHARES if isinstance(c, TimeCoefficients) else ()
    values = msgspec.structs.asdict(c)
    return np.array([np.log(v / (1 - v)) if name in shares else np.log(v) for name, v in values.items()])


def _decoded(x: Floats, like: C) -> C:
    shares = SHARES if isinstance(like, TimeCoefficients) else ()
    values = {
        name: float(1 / (1 + np.exp(-v)) if name in shares else np.exp(v))
        for name, v in zip(like.__struct_fields__, x, strict=True)
    }
    return convert(values, type(like), "fit")


def least_squares(errors: Callable[[Floats], Floats], x: Floats, steps: int = 100) -> Floats:
    """A local minimum of the sum of squared ``errors`` from ``x``, by Levenberg and Marquardt's damped steps."""
    damping, width = 1e-2, 1e-6
    now = errors(x)
    for _ in range(steps):
        slopes = np.stack([(errors(x + width * unit) - now) / width for unit in np.eye(len(x))], axis=1)
        square, down = slopes.T @ slopes, -slopes.T @ now
        while True:
            step = np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), down)
            tried = x + np.clip(step, -1, 1)
            after = errors(tried)
            if after @ after < now @ now:
                break
            damping *= 4
            if damping > 1e12:
                return x
        gain = now @ now - after @ after
        x, now, damping = tried, after, max(damping / 5, 1e-9)
        if gain < 1e-12 * (now @ now):
            break
    return x


def main() -> None:
    """Print the TOML of the committed coefficients."""
    from mixflight.sim.gpu.measured import data_folder, fingerprint, read_folder
    from mixflight.sim.gpu.validate import bands

    points = read_folder(data_folder())
    found = fit(points)
    print("# Written by `python -m mixflight.sim.gpu.fit`; a test refits and compares.")
    for title, table in (
        ("sha256", {path.name: fingerprint(path) for path in sorted(data_folder().glob("*.csv"))}),
        ("fit", {"idle_share": found.idle_share}),
        ("fit.time", msgspec.structs.asdict(found.time)),
        ("fit.power", msgspec.structs.asdict(found.power)),
        ("band", msgspec.structs.asdict(bands(points, found))),
    ):
        print(f"\n[{title}]")
        for name, value in table.items():
            print(f'"{name}" = "{value}"' if isinstance(value, str) else f"{name} = {value:.8g}")


if __name__ == "__main__":
    main()
