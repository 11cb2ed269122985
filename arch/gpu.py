"""A GPU as its data sheet gives it."""

import functools
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a GPU before anything is measured on it; each number has its source.

    ``bandwidth_gb_s``   peak of the memory, 1e9 B/s; ``memory_gb`` its size, 1e9 B.
    ``tensor_tflop_s``   dense FP16 products with FP32 accumulation, 1e12/s (a multiply-add counts 2).
    ``sms``, ``boost_mhz``  streaming multiprocessors and their clock under load: the rate of instructions.
    ``power_limit_w``    the board's; ``idle_power_w`` with a CUDA context open, None where nobody measured it.
    ``bf16``             the tensor cores multiply BF16 (the measured 4-bit kernel needs that).
    """

    name: str
    summary: str
    memory_gb: float
    bandwidth_gb_s: float
    tensor_tflop_s: float
    sms: int
    boost_mhz: float
    power_limit_w: float
    idle_power_w: float | None = None
    bf16: bool
    sources: dict[str, str]

    def __post_init__(self) -> None:
        for field in ("memory_gb", "bandwidth_gb_s", "tensor_tflop_s", "sms", "boost_mhz", "power_limit_w"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be above 0, not {getattr(self, field)}")
        if self.idle_power_w is not None and not 0 <= self.idle_power_w < self.power_limit_w:
            raise ValueError(f"0 <= idle_power_w < power_limit_w must hold, not {self.idle_power_w}")
        given = {field for field in self.__struct_fields__ if getattr(self, field) is not None}
        missing = given - {"name", "summary", "sources", *self.sources}
        if missing:
            raise ValueError(f"every number must have a source: {', '.join(sorted(missing))} has none")


@functools.cache
def gpus() -> dict[str, Gpu]:
    """The preset GPUs, by name."""
    paths = sorted(Path(__file__).with_name("gpus").glob("*.toml"))
    return {path.stem: convert({"name": path.stem, **read_toml(path)}, Gpu, path.name) for path in paths}


def gpu_named(name: str) -> Gpu:
    """The preset GPU ``name``."""
    if name not in gpus():
        raise InputError(f"GPU must be one of {', '.join(gpus())}, not {name!r}")
    return gpus()[name]
