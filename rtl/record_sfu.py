"""Write ``arch/synthesis/sfu.toml``: what the function units take on UltraScale+, and their longest paths.

    python -m mixflight.rtl.record_sfu
"""

import argparse
import sys
from typing import Any

from mixflight.arch.special_functions import STAGES
from mixflight.arch.synthesis_counts import COUNTS
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.design import choose_top
from mixflight.rtl.lut_levels import lut_levels
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import synthesise

PATH = COUNTS.with_name("sfu.toml")
UNITS = tuple(f"sfu-{function}" for function in STAGES)


def row(name: str) -> dict[str, Any]:
    """Counts and longest path of one unit, with its latency in cycles."""
    chosen = choose_top(name)
    text = chosen.emit()
    counts = synthesise(text, top=chosen.module)
    levels, _ = lut_levels(text, top=chosen.module)
    return {"name": name, "latency": chosen.component.latency,
            **{unit: getattr(counts, unit) for unit in ("lut", "ff", "dsp", "bram", "carry", "muxf")},
            "srl": counts.cells.get("SRL16E", 0), "lut_levels": levels, "text_sha256": counts.text_sha256,
            "yosys": counts.tools["yosys"]}


def main() -> None:
    """Synthesise every unit and write the file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = []
    for name in UNITS:
        print(f"synthesising {name}", file=sys.stderr)
        rows.append(row(name))
    write_atomically(PATH, as_toml(rows).replace("rtl.record_synthesis", "rtl.record_sfu"))


if __name__ == "__main__":
    main()
