"""The longest path of a mapped design in LUT levels: LUTs between two registers, ports taken for registers.

How levels count: :func:`mixflight.rtl.path_levels.design_paths`. Nothing is placed, so this is no frequency: at 225 MHz
a level and its routing have about 0.5 ns in a budget of 8.
"""

from mixflight.rtl.path_levels import design_paths
from mixflight.rtl.synthesis import run_yosys, script_of


def lut_levels(text: str, *, top: str) -> tuple[int, str]:
    """Levels of the longest path of ``text`` on UltraScale+, flattened, and the name of a net at its end."""
    _, netlist, _ = run_yosys(text, script_of(text, top, "xcup", flatten=True), top, netlist=True)
    longest = design_paths(netlist)[top].longest
    return longest.levels, longest.ends
