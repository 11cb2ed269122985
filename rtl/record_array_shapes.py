"""Write ``arch/synthesis/array_shapes.toml``: what arrays of several shapes take on xcup, to which
``arch.array_resources`` fits its closed form.

    python -m mixflight.rtl.record_array_shapes

All have shift-add PEs, multipliers in LUTs and 4-bit zero points; other PEs differ by what the PE alone takes.
"""

import argparse
import sys
from typing import Any

from mixflight.arch.array_resources import SHAPES
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.design import choose_top
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import synthesise

RECORDED = (
    (4, 8, 2, 1), (8, 8, 2, 1), (8, 8, 4, 1), (8, 8, 8, 1), (8, 16, 2, 1), (16, 8, 2, 1), (16, 16, 4, 1),
    (8, 8, 2, 2), (8, 8, 2, 8), (16, 16, 8, 4), (16, 16, 16, 16),
)  # fmt: skip
"""Rows, columns, lanes, split."""


def row(rows: int, cols: int, lanes: int, split: int) -> dict[str, Any]:
    """Synthesise one shape."""
    chosen = choose_top("mixpe-array", rows=rows, cols=cols, lanes=lanes, split=split, pe="shift-add", zero="int4")
    counts = synthesise(chosen.emit(), top=chosen.module, dsp=False)
    return {
        "rows": rows, "cols": cols, "lanes": lanes, "split": split, "lut": counts.lut, "ff": counts.ff,
        "text_sha256": counts.text_sha256, "yosys": counts.tools["yosys"],
    }  # fmt: skip


def main() -> None:
    """Synthesise every shape and write the file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = []
    for shape in RECORDED:
        print(f"synthesising {shape}", file=sys.stderr)
        found.append(row(*shape))
    write_atomically(SHAPES, as_toml(found).replace("rtl.record_synthesis", "rtl.record_array_shapes"))


if __name__ == "__main__":
    main()
