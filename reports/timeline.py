"""A scenario as Chrome trace events: open the file in https://ui.perfetto.dev.

Tracks are the units (operators, array, DRAM, SFU), slices the operators, time in microseconds. The prefill and the last
decode step are shown, one after the other; within an operator a unit's slice is as long as the unit is busy.
"""

from typing import Any

from mixflight.arch.accelerator import Accelerator
from mixflight.sim.simulate import Engine
from mixflight.workloads.trace import Trace

TRACKS = ("operators", "array", "DRAM", "SFU")


def timeline(accelerator: Accelerator, traces: list[Trace]) -> dict[str, Any]:
    """The trace-event document of ``traces`` run one after the other on ``accelerator``."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": accelerator.name}},
        *(
            {"ph": "M", "pid": 1, "tid": index, "name": "thread_name", "args": {"name": track}}
            for index, track in enumerate(TRACKS)
        ),
    ]
    engine, start = Engine(accelerator), 0.0
    for trace in traces:
        for operator, layer in trace.in_order():
            timed = engine.time(operator)
            name = operator.name if layer < 0 else f"layer {layer} {operator.name}"
            cycles = timed.activity.cycles
            arguments = {
                "phase": trace.phase, "context": trace.context, "cycles": cycles, "bound by": timed.bound_by,
                "MACs": operator.macs, "m": operator.m, "n": operator.n, "k": operator.k,
            }  # fmt: skip
            for track, busy in enumerate((cycles, timed.array_cycles, timed.dram_cycles, timed.sfu_cycles)):
                if busy:
                    events.append({
                        "ph": "X", "pid": 1, "tid": track, "name": name, "cat": operator.kind,
                        "ts": start / accelerator.clock_mhz, "dur": busy / accelerator.clock_mhz,
                        "args": arguments if track == 0 else {"busy cycles": busy},
                    })  # fmt: skip
            start += cycles
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"clock_mhz": accelerator.clock_mhz}}

