"""Write ``arch/synthesis/core.toml``: what the small cores take on UltraScale+, part by part, and their longest paths.

    python -m mixflight.rtl.record_core [MACHINE ...]

Machines that are not named keep their rows. What of a core did not change comes from the cache.
"""

import argparse
import sys
from typing import Any

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.core_counts import COUNTS, core_counts
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.core import Core
from mixflight.rtl.core_harness import TOP, core_text
from mixflight.rtl.core_synthesis import CoreSynthesis, synthesise_parts
from mixflight.rtl.path_levels import Path
from mixflight.rtl.record_synthesis import as_toml

MACHINES = ("mixpe-mini", "flightllm-mini")
WHOLE, BUFFERS = "whole", "buffers"
"""Rows beside those of the parts; the buffers are also in the memory side's."""
BUFFER_MODULES = ("weights", "scales", "indices", "vectors", "acts")
UNITS = ("lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf")
_HEADER = """\
# Written by `python -m mixflight.rtl.record_core`; do not edit.
# Mapped by Yosys with the hierarchy kept, not placed. bram in blocks of 36 Kib, carry in units of 4 bits. lut_levels:
# of a part with its ports taken for registers, of the whole from register to register; a carry chain counts one.
"""


def rows(name: str) -> list[dict[str, Any]]:
    """A row a part of the core of the machine ``name``, and one of the whole."""
    machine = accelerator_named(name)
    assert isinstance(machine, CoreMachine)
    core = Core(machine)
    core._MustUse__used = True
    module = TOP.replace("-", "_")
    found = synthesise_parts(core_text(core), top=module, advanced=lambda part: print(part, file=sys.stderr))
    return rows_of(name, found)


def rows_of(name: str, found: CoreSynthesis) -> list[dict[str, Any]]:
    """The rows of what synthesis found."""
    parts = [(part.module.removeprefix(f"{found.top}_"), part.counts, part.longest, part.text_sha256)
             for part in found.parts]
    parts.append((BUFFERS, *_buffers(found)))
    parts.append((WHOLE, found.counts, found.longest, found.text_sha256))
    return [{"machine": name, "part": part, **{unit: counts[unit] for unit in UNITS}, "bram": float(counts["bram"]),
             "lut_levels": path.levels, "text_sha256": text, "yosys": found.tools["yosys"]}
            for part, counts, path, text in parts]


def _buffers(found: CoreSynthesis) -> tuple[dict[str, float], Path, str]:
    """The memories of the memory side with their ports; the rest of it moves data."""
    own = [found.modules[f"{found.top}_memory_{name}"] for name in BUFFER_MODULES]
    [memory] = [part for part in found.parts if part.module == f"{found.top}_memory"]
    return ({unit: sum(item[unit] * item["instances"] for item in own) for unit in UNITS},
            Path(int(max(item["lut_levels"] for item in own)), "", ""), memory.text_sha256)


def main() -> None:
    """Synthesise what is named, or everything, and write the file after each machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("machines", nargs="*", help=f"of {', '.join(MACHINES)}")
    names = parser.parse_args().machines or MACHINES
    known = core_counts() if COUNTS.is_file() else {}
    found = {name: [row.as_dict() for row in known.get(name, {}).values()] for name in MACHINES}
    for name in names:
        print(f"synthesising {name}", file=sys.stderr)
        found[name] = rows(name)
        write_atomically(COUNTS, as_toml([row for own in found.values() for row in own], header=_HEADER))


if __name__ == "__main__":
    main()
