"""This package's own engine on the same machine: the output-stationary array of the preset ``int8``.

Shape, buffers and bandwidth are the machine's; DRAM has no latency and loses nothing; weights and cached values have 8
bits and no scales; attention has no mask; results that exceed the output buffer go to DRAM as FP32. There is no
weight-stationary counterpart.
"""

import math

import msgspec

from mixflight.arch.accelerator import Accelerator, Buffers, Dram, accelerators
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.mapping.matrix import matrix_command
from mixflight.sim.engine import time_command
from mixflight.sim.peers.workload import NO_TILE, Estimate, Gemm, Machine
from mixflight.workloads.operators import MatrixKind, Operator

INT8 = Format(name="int8-unscaled", bits=8)


def accelerator(machine: Machine) -> Accelerator:
    """``machine`` as an accelerator."""
    preset = accelerators()["int8"]
    kib = machine.buffer_kib
    return msgspec.structs.replace(
        preset,
        name=machine.shape,
        array=msgspec.structs.replace(preset.array, rows=machine.rows, cols=machine.cols, lanes=machine.cols),
        buffers=Buffers(weight_kib=kib, act_kib=kib, output_kib=kib),
        dram=Dram(
            standard=preset.dram.standard, peak_gb_s=machine.dram_bytes_per_cycle * preset.clock_mhz / 1000,
            stream_efficiency=1.0, latency_ns=0.0,
        ),
    )  # fmt: skip


def mixflight(gemm: Gemm, machine: Machine) -> Estimate:
    """The engine's time; attention's heads are one command."""
    kinds: dict[str, MatrixKind] = {"qk": "qk", "av": "av"}
    kind = kinds.get(gemm.name, "linear")
    stored = gemm.heads * gemm.k * gemm.n
    operator = Operator(
        name=gemm.name, kind=kind, layers=(0,), m=gemm.m, n=gemm.n, k=gemm.k, count=gemm.heads, weight=INT8, act=INT8,
        weight_bytes=stored if kind == "linear" else 0, kv_read_bytes=0 if kind == "linear" else stored,
    )  # fmt: skip
    host = accelerator(machine)
    try:
        timed = time_command(matrix_command(operator, host), host)
    except InputError:
        return Estimate(cycles=math.nan, limit=NO_TILE)
    limits = {"array": "MACs", "array edge": "idle rows", "dram": "DRAM", "lanes": "dequantisation lanes"}
    return Estimate(cycles=timed.activity.cycles / gemm.heads, limit=limits.get(timed.bound_by, timed.bound_by))
