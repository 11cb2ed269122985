"""Measured GPU rows: read from CSV, checked, and turned into kernels."""

import csv
import functools
import hashlib
import math
from importlib.resources import files
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.gpu import Gpu, gpus
from mixflight.sim.gpu.kernels import Kernel, Storage, decode_kernels, int4_bytes_per_weight, linear, prefill_kernels
from mixflight.workloads.model import models

COLUMNS = (
    "device", "driver", "cuda", "torch", "date_utc", "model", "precision", "phase", "batch", "context",
    "prompt_length", "m", "n", "k", "latency_ms", "latency_min_ms", "tokens_per_s", "energy_mj_per_token",
    "avg_power_w", "idle_power_w", "power_limit_w", "weight_bytes", "kv_bytes", "flops", "achieved_bandwidth_gb_s",
    "achieved_tflop_s", "datasheet_bandwidth_gb_s", "repeats", "window_s", "energy_window_s", "sm_clock_mhz",
    "temperature_c", "notes",
)  # fmt: skip
PHASES = ("decode", "prefill", "gemm", "copy", "read")
PRECISIONS = ("fp16", "bf16", "w4a16")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One measured row: a decode step, a prefill or a single product. ``context`` is a prefill's prompt too."""

    gpu: str
    model: str
    precision: str
    phase: str
    batch: int
    context: int
    m: int
    n: int
    k: int
    seconds: float
    power_w: float
    idle_w: float
    limit_w: float

    @property
    def kernels(self) -> list[Kernel]:
        """What ran: 16-bit weights and head, or both in 4 bits with the group that the sizes allow."""
        int4 = self.precision == "w4a16"
        if self.phase == "gemm":
            return [linear(self.m, self.n, self.k, int4_bytes_per_weight(128) if int4 else 2.0, int4=int4)]
        model = models()[self.model]
        storage = Storage()
        if int4:
            size = int4_bytes_per_weight(128 if model.hidden % 128 == 0 and model.ffn % 128 == 0 else 64)
            storage = Storage(block=size, head=size, int4_block=True, int4_head=True)
        if self.phase == "decode":
            return decode_kernels(model, storage, self.batch, [self.context])
        return prefill_kernels(model, storage, self.batch, self.context)


def data_folder() -> Path:
    """Where the measurements of this package are."""
    return Path(str(files("mixflight").joinpath("reports", "gpu", "data")))


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_folder(folder: Path) -> list[Point]:
    """The points of every CSV in ``folder``; a CSV is named after its GPU."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise InputError(f"--data must be a folder with measurements named GPU.csv, and {folder} has none")
    return [point for path in paths for point in read_points(path)]


@functools.cache
def packaged_points() -> tuple[Point, ...]:
    """The measurements of this package."""
    return tuple(read_folder(data_folder()))


def read_points(path: Path) -> list[Point]:
    """The points of one CSV; memory tests (copy, read) are checked and left out."""
    if path.stem not in gpus():
        raise InputError(f"a CSV of measurements must be named after one of {', '.join(gpus())}, not {path.name!r}")
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            if columns != COLUMNS:
                raise InputError(_wrong_columns(columns, path))
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} must be a readable CSV file: {error}") from None
    points = [_point(row, gpus()[path.stem], f"{path.name} line {line}") for line, row in enumerate(rows, start=2)]
    found = [point for point in points if point.phase not in ("copy", "read")]
    if not found:
        raise InputError(f"a CSV of measurements must have rows of decode, prefill or gemm, and {path.name} has none")
    return found


def _wrong_columns(columns: tuple[str, ...], path: Path) -> str:
    missing = [name for name in COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    parts = [f"{', '.join(names[:3])} {what}" for names, what in ((missing, "missing"), (unknown, "unknown")) if names]
    return (
        f"the columns must be the {len(COLUMNS)} that reports/gpu/measure.py writes, in its order, not {len(columns)} "
        f"({'; '.join(parts) or 'another order'}), in {path.name}"
    )


def _point(row: dict[str, str], gpu: Gpu, where: str) -> Point:
    def number(column: str, least: float = 0.0) -> float:
        text = row[column]
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = math.nan
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"{column} must be a number of at least {least:g}, not {text!r}, in {where}")
        return value

    def positive(column: str) -> float:
        value = number(column)
        if value == 0:
            raise InputError(f"{column} must be above 0, not {row[column]!r}, in {where}")
        return value

    if None in row:
        raise InputError(f"a row must have {len(COLUMNS)} cells, and there are more in {where}")
    for column, known in (("phase", PHASES), ("precision", PRECISIONS)):
        if row[column] not in known:
            raise InputError(f"{column} must be one of {', '.join(known)}, not {row[column]!r}, in {where}")
    phase = row["phase"]
    if phase in ("decode", "prefill") and row["model"] not in models():
        raise InputError(f"model must be one of {', '.join(models())}, not {row['model']!r}, in {where}")
    sizes = {"decode": ("batch", "context"), "prefill": ("batch", "context"), "gemm": ("m", "n", "k")}.get(phase, ())
    for column in sizes:
        number(column, 1)
    idle, limit = positive("idle_power_w"), positive("power_limit_w")
    if idle >= limit:
        raise InputError(f"idle_power_w must be below power_limit_w, not {idle:g} and {limit:g}, in {where}")
    positive("energy_mj_per_token")
    return Point(
        gpu=gpu.name, model=row["model"], precision=row["precision"], phase=phase, idle_w=idle, limit_w=limit,
        batch=int(number("batch")), context=int(number("context")), m=int(number("m")), n=int(number("n")),
        k=int(number("k")), seconds=positive("latency_ms") / 1e3, power_w=positive("avg_power_w"),
    )  # fmt: skip
