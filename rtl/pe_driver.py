"""Emitted Verilog of small parts driven by a compiled loop: millions of vectors where a cocotb bench has thousands.

What :func:`mixflight.rtl.harness.run_vectors` does, without an interpreter in the loop: for a processing element whose
operands are all to be tried. The model is built once and kept by content.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixflight.rtl.compiled_model import compile_model
from mixflight.rtl.harness import HarnessError
from mixflight.rtl.toolchain import last_lines, run_tool

_RESET_CYCLES = 3

_MAIN = """\
#include <cstdint>
#include <cstdio>
#include <vector>
#include "Vtop.h"

static void edge(Vtop& top) {
    top.clk = 1;
    top.eval();
    top.clk = 0;
    top.eval();
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    if (!in || !out) return 3;
    Vtop top;
    top.clk = 0;
@CLEAR@
    top.rst = 1;
    for (int i = 0; i < @RESET@; ++i) edge(top);
    top.rst = 0;
    uint64_t row[@INPUTS@];
    uint64_t seen[@OUTPUTS@];
    while (std::fread(row, sizeof row, 1, in) == 1) {
@SET@
        top.eval();
@GET@
        if (std::fwrite(seen, sizeof seen, 1, out) != 1) return 4;
        edge(top);
    }
    return std::fclose(out) ? 5 : 0;
}
"""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A built loop around a top; ``seconds`` is 0 when it came from the cache."""

    top: str
    executable: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seconds: float


def build_driver(text: str, *, top: str, inputs: Sequence[str], outputs: Sequence[str]) -> Driver:
    """Compile ``text`` with a loop over its pins ``inputs`` and ``outputs``, each at most 64 bits wide.

    The top has ``clk`` and ``rst``.

    Raises
    ------
    HarnessError
        With the last lines that Verilator or the compiler said.
    """
    built = compile_model(text, top=top, main=_program(inputs, outputs))
    return Driver(top=top, executable=built.executable, inputs=tuple(inputs), outputs=tuple(outputs),
                  seconds=built.seconds)


def _program(inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """The loop with the pins' names in it."""
    sets = (f"        top.{_member(pin)} = row[{i}];" for i, pin in enumerate(inputs))
    gets = (f"        seen[{i}] = top.{_member(pin)};" for i, pin in enumerate(outputs))
    return (_MAIN
            .replace("@CLEAR@", "\n".join(f"    top.{_member(pin)} = 0;" for pin in inputs))
            .replace("@SET@", "\n".join(sets))
            .replace("@GET@", "\n".join(gets))
            .replace("@RESET@", str(_RESET_CYCLES))
            .replace("@INPUTS@", str(len(inputs))).replace("@OUTPUTS@", str(len(outputs))))


def _member(pin: str) -> str:
    """What Verilator calls a pin: a second underscore in a row by its code."""
    return pin.replace("__", "___05F")


def drive(driver: Driver, vectors: Mapping[str, np.ndarray], *, timeout_s: float = 600) -> dict[str, np.ndarray]:
    """Set the input pins to one row a cycle after a reset; return the output pins' unsigned values.

    Row ``t`` of the result is what the pins showed just before the clock edge that saw row ``t`` of the inputs.

    Raises
    ------
    HarnessError
        The simulation ended without a value for every row.
    """
    table = np.stack([np.asarray(vectors[pin], np.uint64) for pin in driver.inputs], axis=1)
    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        rows, seen = Path(name) / "rows", Path(name) / "seen"
        table.tofile(rows)
        done = run_tool([str(driver.executable), str(rows), str(seen)], timeout_s=timeout_s)
        values = np.fromfile(seen, np.uint64) if seen.is_file() else np.empty(0, np.uint64)
    if done.returncode != 0 or len(values) != len(table) * len(driver.outputs):
        raise HarnessError(f"the simulation of {driver.top} must give {len(table)} rows: {last_lines(done.stdout)}")
    columns = values.reshape(len(table), len(driver.outputs))
    return {pin: columns[:, i].copy() for i, pin in enumerate(driver.outputs)}
