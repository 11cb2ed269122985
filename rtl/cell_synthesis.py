"""What a top takes in the cells of a Liberty file: area, cells and the longest path."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.rtl.cell_libraries import LIBRARIES, library_path
from mixflight.rtl.cell_mapping import SCRIPT, Netlist, map_to_cells
from mixflight.rtl.cell_timing import Timing, time_netlist
from mixflight.rtl.liberty import Library, read_liberty

AREA_UNIT = ("Liberty names no unit of area; um2 by convention, and so in osu018, whose layout of NAND2X1 is "
             "2.4 um x 10 um and whose Liberty area is 24")
DELAY_BASIS = ("longest path by the library's delay tables, transitions handed on, set-up time included; "
               "no wires, no clock tree, no corner but the library's")


@dataclass(frozen=True, kw_only=True)
class CellSynthesis:
    """A design mapped to the cells of a library, not placed."""

    top: str
    library: Library
    netlist: Netlist
    timing: Timing
    area_um2: float
    sequential_area_um2: float
    cells: Mapping[str, int]
    delay_ns: float
    overloaded: int
    """Nets with more load than the largest that the driver's delay table knows: their delays are extrapolated."""
    script: str

    @property
    def flip_flops(self) -> int:
        """Cells that hold a bit."""
        return len(self.timing.flip_flops)


def is_liberty(target: str) -> bool:
    """Whether a target is a library's name or a Liberty file, and no FPGA."""
    return target in LIBRARIES or target.endswith((".lib", ".liberty"))


def liberty_of(target: str) -> Path:
    """The Liberty file of a target, fetched if it is the name of one that can be."""
    if target in LIBRARIES:
        return library_path(target)
    path = Path(target)
    if not path.is_file():
        raise InputError(f"--target must be a Liberty file that exists, not {target}")
    return path


def synthesise_cells(text: str, *, top: str, liberty: Path) -> CellSynthesis:
    """Map, add up areas and find the longest path."""
    library = read_liberty(liberty)
    netlist = map_to_cells(text, top=top, liberty=liberty, library=library)
    timing = time_netlist(netlist, library)
    cells = netlist.counts()
    return CellSynthesis(
        top=top, library=library, netlist=netlist, timing=timing, cells=cells, area_um2=netlist.area(library),
        sequential_area_um2=sum(library.cells[item.cell].area for item in timing.flip_flops),
        delay_ns=timing.longest * library.time_ns, overloaded=_overloaded(netlist, library, timing),
        script="; ".join(line.format(top=top) for line in SCRIPT))


def _overloaded(netlist: Netlist, library: Library, timing: Timing) -> int:
    found = 0
    for item in netlist.instances:
        for pin in library.cells[item.cell].outputs:
            bit = item.pins.get(pin.name)
            tables = [arc.rise for arc in pin.timing if arc.rise]
            if isinstance(bit, int) and tables:
                found += timing.loads[bit] > max(float(table.loads[-1]) for table in tables)
    return found
