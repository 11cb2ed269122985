"""Write ``arch/synthesis/counts.toml``: what the presets of the RTL take, and the hash of the text that was counted.

    python -m mixflight.rtl.record_synthesis

A change of hardware or tool that changes a row is committed together with the new row, and the commit message
says why.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mixflight.arch.synthesis_counts import COUNTS
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.design import choose_top
from mixflight.rtl.synthesis import synthesise

_HEADER = """\
# Written by `python -m mixflight.rtl.record_synthesis`; do not edit.
# Mapped by Yosys with the hierarchy kept, not placed. bram in blocks of 36 Kib, carry in units of 4 bits.
"""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A top whose counts are recorded."""

    top: str
    given: Mapping[str, Any] = field(default_factory=dict)
    dsp: bool = True


PRESETS: Mapping[str, Preset] = {
    "mixpe-w4a8-pe": Preset(top="mixpe-w4a8-pe"),
    "mul4x8-pe": Preset(top="mul4x8-pe"),
    "mul4x8-pe-lut": Preset(top="mul4x8-pe", dsp=False),
    "mixpe-w4a8-centred-pe": Preset(top="mixpe-w4a8-centred-pe"),
    "int8-pe": Preset(top="int8-pe"),
    "int8-pe-lut": Preset(top="int8-pe", dsp=False),
    "mixpe-w4a16-pe": Preset(top="mixpe-w4a16-pe"),
    "mixpe-w4a16-aligned-pe": Preset(top="mixpe-w4a16-aligned-pe"),
    "fp16-pe": Preset(top="fp16-pe"),
    "fp16-pe-lut": Preset(top="fp16-pe", dsp=False),
    "mixpe-array": Preset(top="mixpe-array"),
    "mixpe-array-q4_1": Preset(top="mixpe-array", given={"zero": "f16-min"}),
    "mixpe-array-lut": Preset(top="mixpe-array", dsp=False),
    "mixpe-array-split-lut": Preset(top="mixpe-array", given={"split": 4}, dsp=False),
    "mul4x8-array-lut": Preset(top="mixpe-array", given={"pe": "multiply"}, dsp=False),
    "centred-array-int4-lut": Preset(top="mixpe-array", given={"pe": "centred", "zero": "int4"}, dsp=False),
    "int8-array-lut": Preset(top="mixpe-array", given={"pe": "int8"}, dsp=False),
    "dequantise-array-lut": Preset(top="mixpe-array", given={"pe": "dequantise"}, dsp=False),
    "aligned-array-lut": Preset(top="mixpe-array", given={"pe": "aligned"}, dsp=False),
    "float-array-lut": Preset(top="mixpe-array", given={"pe": "float"}, dsp=False),
    "fp16-array-lut": Preset(top="mixpe-array", given={"pe": "fp16"}, dsp=False),
    "widen-lut": Preset(top="widen", dsp=False),
    "mixpe-w4a8-dot16-lut": Preset(top="mixpe-w4a8-dot-pe", given={"products": 16}, dsp=False),
    "stationary-array-lut": Preset(top="mixpe-array", given={"dataflow": "weight-stationary"}, dsp=False),
}
"""Name → what is synthesised. The ``-lut`` rows keep multipliers in LUTs, so that PEs can be compared in one unit."""


def row(name: str) -> dict[str, Any]:
    """Synthesise one preset and return its row."""
    preset = PRESETS[name]
    chosen = choose_top(preset.top, **preset.given)
    counts = synthesise(chosen.emit(), top=chosen.module, dsp=preset.dsp)
    return {
        "name": name, "top": preset.top, "parameters": dict(chosen.parameters), "target": counts.target,
        "dsp_allowed": preset.dsp,
        **{unit: getattr(counts, unit)
           for unit in ("lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf")},
        "text_sha256": counts.text_sha256, "script": counts.script, "yosys": counts.tools["yosys"],
    }


def as_toml(rows: list[dict[str, Any]], *, header: str = _HEADER) -> str:
    """The file's text."""
    parts = [header]
    for values in rows:
        parts.append("[[rows]]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items()))
    return "\n".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> None:
    """Synthesise every preset and write the file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = []
    for name in PRESETS:
        print(f"synthesising {name}", file=sys.stderr)
        rows.append(row(name))
    COUNTS.parent.mkdir(exist_ok=True)
    write_atomically(COUNTS, as_toml(rows))


if __name__ == "__main__":
    main()
