"""Write ``sim/mixpe_corrected/hardware.toml``: what an array holds beside its PEs, and where a PE's area goes.

    python -m mixflight.record_mixpe

Lanes are our own RTL in the cells of osu018: area at two numbers of accumulators, from which other numbers follow on a
line, and energy on group sums of real operands of the smallest. A PE's area is split by mapping it once more with its
product as an input.
"""

import inspect
import sys
from typing import Any

import numpy as np
from amaranth import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.cell_counts import cell_counts_named
from mixflight.energy import Operands, real_operands
from mixflight.record_cells import LIBRARY, MODEL
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.cell_activity import energy, run_cells, settled_toggles, timed_toggles
from mixflight.rtl.cell_libraries import library_path
from mixflight.rtl.cell_synthesis import CellSynthesis, synthesise_cells
from mixflight.rtl.dequant_lane import DequantLane
from mixflight.rtl.design import choose_top
from mixflight.rtl.emit import emit_verilog
from mixflight.sim.mixpe_corrected.hardware import HARDWARE
from mixflight.workloads.fetch import fetch_model

LANES: dict[str, dict[str, Any]] = {"w4a8": {"two_pass": True}, "w4a16": {"a_bits": 14, "group_max": 64}}
"""Lane → parameters. That of 8-bit activations takes sums of 8-bit weights too, and so serves INT8 arrays. That of
aligned FP16 is for groups of 64, as sums of 128 less a zero point would not fit the 24 bits that it scales exactly."""

ELEMENTS = (2, 16)
MEASURED = "w4a8"
GROUP = 128
STEPS = 600
PES = (
    "mixpe-w4a8-pe",
    "mixpe-w4a8-centred-pe",
    "mul4x8-pe",
    "int8-pe",
    "mixpe-w4a16-aligned-pe",
    "mixpe-w4a8-dot-pe",
    "int8-dot-pe",
    "mixpe-w4a16-dot-pe",
)
_HEADER = "# Written by `python -m mixflight.record_mixpe`; do not edit. OSU 0.18 um cells; pJ a scaled group sum.\n"


class FlatLane(wiring.Component):  # type: ignore[misc]
    """A lane whose input is one port a field, none wider than 64 bits."""

    def __init__(self, lane: DequantLane):
        self.lane = lane
        fields = {name: In(lane.i.shape()[name].width) for name in lane.i.shape().members}
        super().__init__({"en": In(1), "out": Out(32), "out_valid": Out(1), **fields})

    def elaborate(self, platform: Any) -> Module:
        """Wires."""
        m = Module()
        m.submodules.lane = lane = self.lane
        m.d.comb += [
            lane.en.eq(self.en),
            lane.out.ready.eq(1),
            self.out.eq(lane.out.payload),
            self.out_valid.eq(lane.out.valid),
        ]
        m.d.comb += [
            lane.i.as_value()[field.offset : field.offset + field.width].eq(getattr(self, name))
            for name, field in lane.i.shape()
        ]
        return m


def lane_pins(lane: DequantLane, operands: Operands, a_bits: int) -> dict[str, np.ndarray]:
    """Group sums of real operands, every accumulator in turn, a step each."""
    random = np.random.default_rng(0)
    shape = lane.i.shape()
    starts = random.integers(0, len(operands.a) - GROUP, STEPS)
    a = operands.a << (a_bits - 8)
    sums = np.array([(a[at : at + GROUP] * operands.q[at : at + GROUP]).sum() for at in starts])
    rows = np.array([a[at : at + GROUP].sum() for at in starts])
    step = np.arange(STEPS)

    def scales(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, STEPS).astype(np.float16).view(np.uint16).astype(np.int64)

    values = {
        "valid": step >= 0,
        "first": step < lane.elements,
        "last": step < 0,
        "element": step % lane.elements,
        "scale_a": scales(0.005, 0.05),
        "scale": scales(0.001, 0.02),
        "sum": sums,
        "row_sum": rows,
        "zero": operands.zero[starts],
    }
    return {
        "en": np.ones(STEPS, np.int64),
        **{name: values[name].astype(np.int64) & ((1 << shape[name].width) - 1) for name in shape.members},
    }


def mapped(component: Any, name: str) -> CellSynthesis:
    """``component`` in the cells of the library."""
    return synthesise_cells(emit_verilog(component, name), top=name, liberty=library_path(LIBRARY))


def flat_lane(name: str, elements: int) -> tuple[FlatLane, CellSynthesis]:
    """A lane of ``elements`` accumulators and its cells."""
    lane = FlatLane(DequantLane(elements=elements, zero="int4", **LANES[name]))
    return lane, mapped(lane, f"lane_{name}_{elements}")


def lane_row(name: str, elements: int) -> dict[str, Any]:
    """Area and delay of a lane."""
    _, found = flat_lane(name, elements)
    return {
        "name": name,
        "elements": elements,
        "area_um2": found.area_um2,
        "delay_ns": found.delay_ns,
        "sequential_area_um2": found.sequential_area_um2,
        "flip_flops": found.flip_flops,
    }


def energy_row(operands: Operands) -> dict[str, Any]:
    """Energy of the smallest lane of ``MEASURED``, a group sum in every cycle."""
    flat, found = flat_lane(MEASURED, ELEMENTS[0])
    pins = {pin: values for pin, values in lane_pins(flat.lane, operands, 8).items() if pin in found.netlist.inputs}
    _, bits, nets = run_cells(found.netlist, found.library, pins, ["out"])
    cost, settled = (
        energy(found.netlist, found.library, found.timing, toggles)
        for toggles in (
            timed_toggles(found.netlist, found.library, found.timing, bits, nets),
            settled_toggles(bits, nets),
        )
    )
    return {
        "name": MEASURED,
        "elements": ELEMENTS[0],
        "pj": cost.total,
        "settled_pj": settled.total,
        "clock_pj": cost.clock,
        "steps": len(bits) - 1,
    }


def bare(top: str) -> CellSynthesis:
    """A PE whose product is an input."""
    chosen = choose_top(top)
    kind: Any = type(chosen.component)
    scratch = Module()
    scratch._MustUse__used = True  # only the width is asked for
    width = len(kind.product(chosen.component, scratch))

    class Bare(kind):  # type: ignore[misc]
        def further_ports(self) -> dict[str, Any]:
            return {**super().further_ports(), "given": In(signed(width))}

        def product(self, m: Module) -> Any:
            return self.given

    return mapped(Bare(**_arguments(chosen.component)), f"bare_{chosen.module}")


def _arguments(component: Any) -> dict[str, Any]:
    return {
        name: getattr(component, name)
        for name in inspect.signature(type(component).__init__).parameters
        if name != "self"
    }


def pe_row(top: str) -> dict[str, Any]:
    """Where the area of a PE goes."""
    whole, rest = cell_counts_named(top), bare(top)
    return {
        "name": top,
        "macs_per_step": whole.macs_per_step,
        "area_um2": whole.area_um2,
        "registers_um2": whole.sequential_area_um2,
        "accumulate_um2": rest.area_um2 - rest.sequential_area_um2,
        "product_um2": whole.area_um2 - rest.area_um2,
        "text_sha256": whole.text_sha256,
    }


def _toml(table: str, row: dict[str, Any]) -> str:
    def value(given: Any) -> str:
        return f'"{given}"' if isinstance(given, str) else f"{given:.4f}" if isinstance(given, float) else str(given)

    return f"[[{table}]]\n" + "".join(f"{key} = {value(item)}\n" for key, item in row.items())


def main() -> None:
    """Measure and write."""
    print("energy of a lane", file=sys.stderr)
    parts = [_HEADER, _toml("energy", energy_row(real_operands(fetch_model(MODEL)))).replace("[[energy]]", "[energy]")]
    for name in LANES:
        for elements in ELEMENTS:
            print(f"lane {name} of {elements}", file=sys.stderr)
            parts.append(_toml("lanes", lane_row(name, elements)))
    for top in PES:
        print(f"parts of {top}", file=sys.stderr)
        parts.append(_toml("parts", pe_row(top)))
    write_atomically(HARDWARE, "\n".join(parts))


if __name__ == "__main__":
    main()
