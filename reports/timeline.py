"""A scenario as Chrome trace events: open the file in https://ui.perfetto.dev.

Tracks are the units (operators, array, DRAM, SFU), slices the operators, time in microseconds. The prefill and the last
decode step are shown, one after the other; within an operator a unit's slice is as long as the unit is busy.

A machine of cores has a process for each core and a track for each class of instructions; neighbouring instructions of
an operator are one slice, from the first start to the last end of its unit's work. Where its operators run one by one,
behind barriers, there is one process: a track of operators and, as on an array, one for each class of the busiest core.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.isa import CLASSES
from mixflight.reports.document import Slice, Timeline
from mixflight.sim.core.execution import Execution
from mixflight.sim.core.general import Timed
from mixflight.sim.core.scenario import limits, load_of
from mixflight.sim.core.units import Floats
from mixflight.sim.simulate import Engine
from mixflight.workloads.operators import Operator
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



def layer_of(events: dict[str, Any], file: str, layer: int = 0) -> Timeline:
    """One layer of the decode step in what :func:`timeline` gives, which stands in ``file``."""
    start, name = f"layer {layer} ", events["traceEvents"][0]["args"]["name"]
    whole = [event for event in events["traceEvents"]
             if event["ph"] == "X" and event["tid"] == 0 and event["args"]["phase"] == "decode"]  # fmt: skip
    own = [event for event in whole if event["name"].startswith(start)]
    first, last = own[0]["ts"], own[-1]["ts"] + own[-1]["dur"]
    slices = tuple(
        Slice(track=TRACKS[event["tid"]], operator=event["name"].removeprefix(start), start_us=event["ts"] - first,
              duration_us=event["dur"])
        for event in events["traceEvents"]
        if event["ph"] == "X" and first <= event["ts"] < last and event["name"].startswith(start)
    )  # fmt: skip
    return Timeline(machine=name, layer=layer, context=own[0]["args"]["context"], file=file, slices=slices)


Pass = tuple[str, tuple[str, ...], Execution]
"""What it is, the names of its operators, its run with slices (merged ones take less memory)."""


def core_timeline(name: str, clock_mhz: float, passes: Sequence[Pass]) -> dict[str, Any]:
    """The document of ``passes`` run one after the other."""
    return _document(clock_mhz, list(core_events(name, clock_mhz, passes)))


def encoded_core_timeline(name: str, clock_mhz: float, passes: Sequence[Pass]) -> bytes:
    """:func:`core_timeline` as JSON. A long prefill has a million slices: none is kept as a dict."""
    events = [msgspec.Raw(msgspec.json.encode(event)) for event in core_events(name, clock_mhz, passes)]
    return msgspec.json.encode(_document(clock_mhz, events))


def core_events(name: str, clock_mhz: float, passes: Sequence[Pass]) -> Iterator[dict[str, Any]]:
    """The events of :func:`core_timeline`, one by one."""
    for core in range(len(passes[0][2].slices)):
        yield {"ph": "M", "pid": core, "name": "process_name", "args": {"name": f"{name} core {core}"}}
        for track, kind in enumerate(CLASSES):
            yield {"ph": "M", "pid": core, "tid": track, "name": "thread_name", "args": {"name": kind}}
    before = 0.0
    for phase, names, run in passes:
        for core, slices in enumerate(run.slices):
            for track in range(len(CLASSES)):
                for operator, start, end, count in zip(*_joined(slices[slices[:, 0] == track]), strict=True):
                    yield {
                        "ph": "X", "pid": core, "tid": track, "name": names[int(operator)], "cat": phase,
                        "ts": (before + start) / clock_mhz, "dur": (end - start) / clock_mhz,
                        "args": {"instructions": int(count)},
                    }  # fmt: skip
        before += run.total


def _document(clock_mhz: float, events: Sequence[Any]) -> dict[str, Any]:
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"clock_mhz": clock_mhz}}


def _joined(rows: Floats) -> tuple[list[float], ...]:
    """Operator, start, end and instructions of the slices of one class, neighbours of an operator as one."""
    first = np.flatnonzero(np.diff(rows[:, 1], prepend=-1.0))
    if not len(first):
        return [], [], [], []
    ends, counts = np.maximum.reduceat(rows[:, 3], first), np.add.reduceat(rows[:, 5], first)
    return rows[first, 1].tolist(), rows[first, 2].tolist(), ends.tolist(), counts.tolist()


def general_timeline(
    name: str, clock_mhz: float, traces: Sequence[Trace], time: Callable[[Operator], Timed]
) -> dict[str, Any]:  # fmt: skip
    """The document of ``traces`` run one after the other on cores, each operator alone, as ``time`` says."""
    tracks = ("operators", *CLASSES)
    events: list[dict[str, Any]] = [{"ph": "M", "pid": 0, "name": "process_name", "args": {"name": name}}]
    events += [{"ph": "M", "pid": 0, "tid": track, "name": "thread_name", "args": {"name": what}}
               for track, what in enumerate(tracks)]  # fmt: skip
    start = 0.0
    for trace in traces:
        for operator, layer in trace.in_order():
            timed = time(operator)
            title = operator.name if layer < 0 else f"layer {layer} {operator.name}"
            bound, behind = limits(load_of(timed.spent[None], timed.used[None]))
            arguments = {"phase": trace.phase, "context": trace.context, "cycles": timed.cycles, "bound by": bound,
                         "next": behind, "MACs": operator.macs}  # fmt: skip
            for track, busy in enumerate((timed.cycles, *timed.used.tolist())):
                if busy:
                    events.append({
                        "ph": "X", "pid": 0, "tid": track, "name": title, "cat": operator.kind,
                        "ts": start / clock_mhz, "dur": busy / clock_mhz,
                        "args": arguments if track == 0 else {"busy cycles": busy},
                    })  # fmt: skip
            start += timed.cycles
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"clock_mhz": clock_mhz}}
