"""Write ``arch/synthesis/csd_chain.toml``: LUTs per DSP of the sparse chain, by ratios and by how operands are chosen.

    python -m mixflight.rtl.record_csd_chain
"""

import argparse
import sys
from typing import Any

from mixflight.arch.csd_chain import RATIOS, VARIANTS, segment_lengths
from mixflight.arch.synthesis_counts import COUNTS
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.csd_chain import SELECTS, CsdChain
from mixflight.rtl.csd_core import OperandStore
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lut_levels import lut_levels
from mixflight.rtl.operand_mux import OperandMux
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import Synthesis, synthesise

PATH = COUNTS.with_name("csd_chain.toml")
LENGTH = 16
SETS = ("dense", "2:16", "4:16", "8:16", "2:4", "4:8", ",".join(RATIOS))
MODULE = "csd_chain"
MULTIPLEXERS = (4, 8, 16)


def chain(ratios: str, select: str, variant: str = VARIANTS[0]) -> CsdChain:
    """The chain of a row: reduction nodes only where a segment can end."""
    group = segment_lengths(length=LENGTH, ratios=ratios.split(","))[0]
    return CsdChain(length=LENGTH, group=group, ratios=ratios, select=select, variant=variant)


def row(ratios: str, select: str, variant: str = VARIANTS[0]) -> dict[str, Any]:
    """Counts of one chain; the skew's registers are its SRL16E."""
    text = emit_verilog(chain(ratios, select, variant), MODULE)
    counts = synthesise(text, top=MODULE)
    without = counts.lut - counts.cells.get("SRL16E", 0)
    return {"name": f"{variant} {select} {ratios}", "ratios": ratios, "select": select, "variant": variant,
            **{unit: getattr(counts, unit) for unit in ("lut", "ff", "dsp", "lutram", "carry", "muxf")},
            "srl": counts.cells.get("SRL16E", 0), "lut_per_dsp": round(counts.lut / counts.dsp, 2),
            "lut_per_dsp_without_srl": round(without / counts.dsp, 2), **_facts(counts)}


def choice_row(name: str, component: Any) -> dict[str, Any]:
    """Counts of what chooses one operand."""
    counts = synthesise(emit_verilog(component, "choice"), top="choice")
    return {"name": name, "lut": counts.lut, "lutram": counts.lutram, "muxf": counts.muxf, **_facts(counts)}


def _facts(counts: Synthesis) -> dict[str, Any]:
    return {"text_sha256": counts.text_sha256, "yosys": counts.tools["yosys"]}


def main() -> None:
    """Synthesise every row and write the file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = []
    for select in SELECTS:
        for ratios in SETS:
            print(f"synthesising {select} {ratios}", file=sys.stderr)
            rows.append(row(ratios, select))
    rows.append(row(SETS[-1], SELECTS[0], "generic"))
    levels, _ = lut_levels(emit_verilog(chain(SETS[-1], SELECTS[0]), MODULE), top=MODULE)
    rows[len(SETS) - 1] |= {"lut_levels": levels}
    choices = [choice_row("store of 2 x 16 entries", OperandStore(entries=16))]
    choices += [choice_row(f"multiplexer of {n}", OperandMux(candidates=n)) for n in MULTIPLEXERS]
    text = as_toml(rows) + "\n" + as_toml(choices).replace("[[rows]]", "[[choices]]").split("\n\n", 1)[1]
    write_atomically(PATH, text.replace("rtl.record_synthesis", "rtl.record_csd_chain"))


if __name__ == "__main__":
    main()
