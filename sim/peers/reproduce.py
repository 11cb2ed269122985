"""The rows of ``mixflight reproduce peers``."""

import csv
import functools
import math
from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.sim.peers.peers import PEERS
from mixflight.sim.peers.workload import BASE, NO_TILE, PHASES, Machine, layer
from mixflight.sim.reproduction import Row, compare

GEMMS = ("q", "qk", "av", "gate", "down", "layer")
_FIELDS = ("rows", "cols", "dram_bytes_per_cycle", "buffer_kib")


@functools.cache
def published() -> dict[tuple[str, Machine, str, str], tuple[int, str]]:
    """(peer, machine, phase, product) to what was printed, and how it was obtained."""
    found = {}
    with Path(__file__).with_name("published.csv").open(newline="") as lines:
        for line in csv.DictReader(lines):
            machine = Machine(**{field: int(line[field]) for field in _FIELDS})
            for gemm in GEMMS:
                if line[gemm]:
                    found[line["peer"], machine, line["phase"], gemm] = int(line[gemm]), line["kind"]
    return found


def parse_array(text: str) -> tuple[int, int]:
    """Rows and columns of ``ROWSxCOLS``."""
    rows, _, cols = text.partition("x")
    if not (rows.isascii() and rows.isdigit() and cols.isascii() and cols.isdigit()) or len(text) > 9:
        raise InputError(f"--array must be ROWSxCOLS such as 32x32, not {text!r}")
    return int(rows), int(cols)


def rows(mode: str, machine: Machine = BASE) -> list[Row]:
    """Every peer, phase and product on ``machine``, the layer last."""
    if mode != "published":
        raise InputError(f"mode must be one of published, not {mode!r}, for study 'peers'")
    found = []
    for peer in PEERS:
        for phase in PHASES:
            values = {}
            for gemm in layer(phase):
                estimate = peer.gemm(gemm, machine)
                values[gemm.name] = estimate.cycles, estimate.limit
            values["layer"] = peer.layer(phase, machine), peer.layer_limit(phase, machine)
            for name in GEMMS:
                cycles, limit = values[name]
                note = f"bound by {limit}" if math.isfinite(cycles) else NO_TILE
                printed, kind = published().get((peer.name, machine, phase, name), (None, ""))
                found.append(compare(
                    f"{peer.name}/{phase}/{name}", printed, cycles if math.isfinite(cycles) else None, mode,
                    unit="cycles", relative=peer.tolerance, source=f"published.csv: {kind}" if kind else "",
                    note=f"{note}; {peer.assumes}" if name == "layer" else note,
                ))  # fmt: skip
    return found
