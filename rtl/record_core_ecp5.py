"""Write ``arch/synthesis/core_ecp5.toml``: the core of mixpe-small and its parts, placed and routed on ECP5.

    python -m mixflight.rtl.record_core_ecp5 [PART ...]

Parts that are not named keep their rows.
"""

import argparse
import sys
import tomllib
from collections.abc import Callable
from typing import Any

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.synthesis_counts import COUNTS
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_controller import Controller
from mixflight.rtl.core_memory import CoreMemory
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_sfu import CoreSfu
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.place_ecp5 import place_large
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import digest_text

PATH = COUNTS.with_name("core_ecp5.toml")
_UNITS = {"lut4": "TRELLIS_COMB", "ff": "TRELLIS_FF", "mult18": "MULT18X18D", "ebr": "DP16KD"}
_CROWDED = ("core",)
"""Parts whose lines of 64 bytes want most of the wires where they are placed."""
_HEADER = """\
# Written by `python -m mixflight.rtl.record_core_ecp5`; do not edit.
# LFE5UM-85F, speed grade 6: mapped by Yosys, placed and routed by nextpnr; with the registers that feed its ports.
"""


def parts() -> dict[str, Callable[[], Any]]:
    """Part → what builds it as the small core has it; the last is the whole core."""
    machine = accelerator_named("mixpe-small")
    assert isinstance(machine, CoreMachine)
    shape = core_shape(machine)
    lanes = shape.columns // shape.channels
    return {
        "controller": lambda: Controller(
            depth=shape.instructions, queue_depth=shape.queue_depth, slot_bytes=shape.slot_bytes,
            classes=shape.classes),
        "sfu": lambda: CoreSfu(width=shape.sfu_width, channels=shape.channels),
        "engine": lambda: MatrixVector(
            columns=shape.columns, banks=shape.channels, dots=shape.dots, lanes=shape.lanes, outputs=shape.outputs,
            weight_depth=shape.weight_depth, scale_depth=shape.scale_depth),
        "memory": lambda: CoreMemory(
            channels=shape.channels, lanes=lanes, weight_depth=shape.weight_depth, scale_depth=shape.scale_depth,
            index_depth=shape.index_depth, vector_depth=shape.global_lines, act_depth=shape.act_lines,
            burst_bytes=shape.burst_bytes, outstanding=shape.outstanding),
        "core": lambda: Core(machine),
    }  # fmt: skip


def row(name: str) -> dict[str, Any]:
    """Clock rate and resources of one part."""
    text = emit_verilog(parts()[name](), f"small_{name}")
    placed = place_large(text, top=f"small_{name}", crowded=name in _CROWDED)
    return {"name": name, "fmax_mhz": placed.fmax_mhz,
            **{unit: placed.used[cell] for unit, cell in _UNITS.items()}, "text_sha256": digest_text(text)}


def main() -> None:
    """Place what is named, or everything, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts(), []])
    names = parser.parse_args().parts or list(parts())
    known = {item["name"]: item for item in tomllib.loads(PATH.read_text())["rows"]} if PATH.is_file() else {}
    for name in names:
        print(f"placing {name}", file=sys.stderr)
        known[name] = row(name)
        rows = [known[part] for part in parts() if part in known]
        write_atomically(PATH, as_toml(rows, header=_HEADER))


if __name__ == "__main__":
    main()
