"""What the units of a core's RTL did in a step, beside what the engine says of it, as Chrome trace events."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mixflight.arch.compact import codes
from mixflight.arch.isa import CLASSES
from mixflight.files import whole_file
from mixflight.mapping.core_primitives import Primitive
from mixflight.reports.timeline import core_timeline
from mixflight.rtl_session import RtlSession
from mixflight.sim.core.execution import SLICES, Execution

_DONE = codes("SYS", "operation")["done"]
MEASURED, ENGINE = "RTL", "engine"
WHEN = [SLICES.index("start"), SLICES.index("busy until")]


def rtl_timeline(session: RtlSession, path: Path) -> None:
    """Write the last step of ``session``: one process as the RTL was seen, one as the engine times the same program.

    Of several cores each has both. Tracks, slices and their names are those of ``mixflight simulate --timeline``; a
    slice of the RTL lies between the cycle in which a unit takes its first instruction and that in which it ends its
    last. Cycles count from START.
    """
    with whole_file(path) as part:
        part.write_bytes(msgspec.json.encode(timeline_of(session)))


def timeline_of(session: RtlSession) -> dict[str, Any]:
    """The document."""
    machine, steps = session.machine, session.last
    engine = session.made.engine(steps, loads=session.loads, with_slices=True)
    names = max((step.text.text.names for step in steps), key=len)
    both = []
    for number, (what, run) in enumerate(((MEASURED, _measured(session, engine)), (ENGINE, engine))):
        document = core_timeline(machine.name, machine.clock_mhz, [("decode", names, run)])
        for event in document["traceEvents"]:
            core = event["pid"]
            event["pid"] = number * machine.cores + core
            if event["name"] == "process_name":
                whose = f"{machine.name} core {core}" if machine.cores > 1 else machine.name
                event["args"] = {"name": f"{whose}, {what}"}
        both.append(document)
    return both[0] | {"traceEvents": [event for document in both for event in document["traceEvents"]]}


def _measured(session: RtlSession, engine: Execution) -> Execution:
    """``engine`` with the times at which the RTL's units took and ended the same instructions."""
    found = []
    for core, instructions in enumerate(session.made.instructions(session.last)):
        slices, seen, parts = engine.slices[core], session.units(core), []
        for track, kind in enumerate(CLASSES):
            if not len(seen[kind]):
                continue
            real = np.array([_in_unit(item) for item in instructions if item.kind == kind], bool)
            rows = slices[slices[:, 0] == track][real].copy()
            rows[:, WHEN] = seen[kind] + [0, 1]
            parts.append(rows)
        found.append(np.concatenate(parts))
    return msgspec.structs.replace(engine, slices=tuple(found))


def _in_unit(item: Primitive) -> bool:
    """Whether a unit is given it: of SYS, what joins cores."""
    return item.fields["operation"] != _DONE if item.kind == "SYS" else not item.empty
