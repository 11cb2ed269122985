"""What constraints and objectives can speak of: quantities of a design, exact ones and ones that a tier estimates."""

import functools
from typing import Literal

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.array_resources import array_resources
from mixflight.arch.core import CoreMachine
from mixflight.sim.mixpe_corrected.array_area import array_area, reference_area
from mixflight.sim.simulate import Phase
from mixflight.sim.table_engine import PhaseResult

Kind = Literal["time", "speed", "energy", "efficiency", "power", "bytes"]

EXACT = {
    "area_um2": "PEs and dequantisation lanes in OSU 0.18 um cells; none for weight-stationary arrays",
    "area_over_int8": "the same over that of the 32 x 32 INT8 array with a lane for 128 PEs",
    "pes": "processing elements",
    "dsp": "DSP blocks of a machine of cores",
    "uram": "URAM blocks of a machine of cores",
    "bram36": "BRAM36 blocks of a machine of cores",
    "lut": "LUTs that a machine of cores configures; of an array those of its PEs and lanes, by a closed form",
    "peak_gmacs_per_s": "10^9 MACs a second of all PEs",
    "sram_kib": "buffers together",
    "weight_bytes": "weights that a decoded token needs, as stored",
    "perplexity": "of SmolLM2 with this recipe, as recorded; none for other models and recipes",
}
ESTIMATED: dict[str, Kind] = {
    "prefill_time_ms": "time", "decode_time_ms": "time", "prefill_tokens_per_s": "speed", "tokens_per_s": "speed",
    "prefill_energy_mj_per_token": "energy", "energy_mj_per_token": "energy", "tokens_per_joule": "efficiency",
    "power_w": "power", "prefill_power_w": "power", "hbm_bytes_per_token": "bytes",
}  # fmt: skip
"""Quantities of the decode, but for those that say prefill."""


class Slack(msgspec.Struct, frozen=True, kw_only=True):
    """How far the engine may be from the closed form: time at most ``time`` longer, energy at most ``energy`` more,
    both at most ``less`` less, bytes ``energy`` either way. The closed form leaves waiting out, so its times err on one
    side, and its energy with them: actions are the engine's own, and who waits leaks longer."""

    time: float = 0.05
    energy: float = 0.01
    less: float = 0.005

    def band(self, kind: Kind, value: float) -> tuple[float, float]:
        """(Least, most) that the engine can say."""
        less, more, up = 1 - self.less, 1 + self.time, 1 + self.energy
        low, high = {
            "time": (less, more), "speed": (1 / more, 1 / less), "energy": (less, up), "bytes": (1 - self.energy, up),
            "efficiency": (1 / up, 1 / less), "power": (less / more, up / less),
        }[kind]  # fmt: skip
        return value * low, value * high


def exact_quantities(accelerator: Accelerator | CoreMachine) -> dict[str, float | None]:
    """Of the machine alone."""
    if isinstance(accelerator, CoreMachine):
        blocks = {name: float(getattr(accelerator, name)) for name in ("dsp", "uram", "bram36")}
        blocks["lut"] = float(accelerator.luts)
        return {**blocks, "peak_gmacs_per_s": accelerator.peak_macs_per_s / 1e9}
    array, buffers = accelerator.array, accelerator.buffers
    area = array_area(array)
    return {
        "area_um2": area,
        "lut": None if array.dataflow == "weight-stationary" else float(array_resources(array).lut),
        "area_over_int8": None if area is None else area / reference_area(),
        "pes": float(array.rows * array.cols),
        "peak_gmacs_per_s": accelerator.peak_macs_per_s / 1e9,
        "sram_kib": float(buffers.weight_kib + buffers.act_kib + buffers.output_kib),
    }


def phase_quantities(prefill: PhaseResult | Phase, decode: PhaseResult | Phase) -> dict[str, float]:
    """The estimated ones, of the two phases."""
    return {
        "prefill_time_ms": prefill.time_ms, "decode_time_ms": decode.time_ms,
        "prefill_tokens_per_s": prefill.tokens / prefill.time_ms * 1e3,
        "tokens_per_s": decode.tokens / decode.time_ms * 1e3,
        "prefill_energy_mj_per_token": prefill.energy.pj * 1e-9 / prefill.tokens,
        "energy_mj_per_token": decode.energy.pj * 1e-9 / decode.tokens,
        "tokens_per_joule": decode.tokens / (decode.energy.pj * 1e-12),
        "power_w": decode.energy.pj * 1e-9 / decode.time_ms,
        "prefill_power_w": prefill.energy.pj * 1e-9 / prefill.time_ms,
        "hbm_bytes_per_token": decode.dram_bytes / decode.tokens,
    }  # fmt: skip


@functools.cache
def recorded_perplexities() -> dict[str, float]:
    """Recipe -> perplexity of SmolLM2, as recorded."""
    from mixflight.record_accuracy import rows

    return {name: row["perplexity"] for name, row in rows().items()}
