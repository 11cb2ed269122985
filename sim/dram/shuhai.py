"""Measured DRAM figures beside the model: Shuhai's on the U280, and others of the same kind.

One figure calibrates: the row-hit latency gives ``path_clocks`` of ``hbm2``. Everything else is predicted.
"""

import numpy as np

from mixflight.arch.dram_standard import DramStandard, dram_standard_named
from mixflight.arch.errors import InputError
from mixflight.sim.dram import Requests, serve, stream
from mixflight.sim.reproduction import Row, compare

MODES = ("published", "corrected")

_SHUHAI = "Shuhai (FCCM 2020), Alveo U280"
_LONG = 1 << 25


def rows(mode: str) -> list[Row]:
    """The rows of ``mixflight reproduce shuhai``; the two modes are one, there is nothing to correct."""
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, not {mode!r}, for study 'shuhai'")
    hbm, ddr = dram_standard_named("hbm2"), dram_standard_named("ddr4-2400")
    closed, hit, conflict = _read_latencies(hbm)
    local = hbm.channels * stream(hbm, bytes=_LONG, request_bytes=512, outstanding=64).gb_s
    write = stream(hbm, bytes=_LONG, request_bytes=512, outstanding=64, write=True).gb_s
    kv260 = stream(ddr, bytes=_LONG, request_bytes=8192, outstanding=8).gb_s / ddr.peak_gb_s
    return [
        compare(
            "latency/row-hit", 106.7, hit, mode, unit="ns", rounding=0.05, source=_SHUHAI,
            note="calibrates the constant path of hbm2: 80 clocks of 1.11 ns outside the DRAM",
        ),
        compare("latency/closed-row", 122.2, closed, mode, unit="ns", rounding=0.05, source=_SHUHAI, note="predicted"),
        compare(
            "latency/row-conflict", 137.8, conflict, mode, unit="ns", rounding=0.05, source=_SHUHAI, note="predicted"
        ),
        compare(
            "difference/closed-less-hit", 15.5, closed - hit, mode, unit="ns", rounding=0.1, source=_SHUHAI,
            note="nRCDRD of the table: 13 clocks, on the controller's 450 MHz clock 14",
        ),
        compare(
            "difference/conflict-less-closed", 15.6, conflict - closed, mode, unit="ns", rounding=0.1, source=_SHUHAI,
            note="nRP of the table: 13 clocks, on the controller's 450 MHz clock 14",
        ),
        compare(
            "bandwidth/linear-read-32-channels", 425.0, local, mode, unit="GB/s", relative=0.01, source=_SHUHAI,
            note="predicted: 512-byte requests, 64 outstanding; refresh and reopened rows take the rest",
        ),
        compare(
            "bandwidth/write-one-channel", 12.94, write, mode, unit="GB/s", relative=0.01,
            source="Electronics 2025, 14(3) 466, U280",
            note="predicted, higher: write responses, the kernel's port and its burst gaps are not modelled",
        ),
        compare(
            "bandwidth/ddr4-linear-share", 0.95, kv260, mode, unit="of peak", rounding=0.005,
            source="Hummingbird, KV260: 8-16 KiB transactions about 95 %",
            note="predicted with x8 chips; the KV260's are x16, which changes groups and nFAW, not refresh",
        ),
    ]  # fmt: skip


def _read_latencies(standard: DramStandard) -> tuple[float, float, float]:
    """Nanoseconds of lone reads: of a closed row, of the row that is then open, of another row of that bank."""
    addresses = np.array([0, 2 * standard.burst_bytes, standard.stripe_bytes], np.int64)
    requests = Requests(
        address=addresses, bytes=np.full(3, standard.burst_bytes), write=np.zeros(3, np.bool_),
        arrival_clock=np.zeros(3, np.int64),
    )  # fmt: skip
    closed, hit, conflict = serve(standard, requests, outstanding=1).latency_ns.tolist()
    return closed, hit, conflict
