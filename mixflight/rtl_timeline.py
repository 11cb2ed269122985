"""What the units of a core's RTL did in a step, beside what the engine says of it, as Chrome trace events."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mixflight.arch.compact import INSTRUCTION_BYTES
from mixflight.arch.isa import CLASSES
from mixflight.files import whole_file
from mixflight.reports.timeline import core_timeline
from mixflight.rtl_session import RtlSession
from mixflight.sim.core.execution import SLICES, Execution, compile_streams, execute
from mixflight.sim.core.units import Units

MEASURED, ENGINE = "RTL", "engine"
WHEN = [SLICES.index("start"), SLICES.index("busy until")]


def rtl_timeline(session: RtlSession, path: Path) -> None:
    """Write the last step of ``session``: one process as the RTL was seen, one as the engine times the same program.

    Tracks, slices and their names are those of ``mixflight simulate --timeline``; a slice of the RTL lies between
    the cycle in which a unit takes its first instruction and that in which it ends its last. Cycles count from START.
    """
    with whole_file(path) as part:
        part.write_bytes(msgspec.json.encode(timeline_of(session)))


def timeline_of(session: RtlSession) -> dict[str, Any]:
    """The document."""
    machine, step = session.machine, session.last
    units, code = Units(machine), step.text.text
    pieces = step.text.sequencer.expand(step.numbered, repeat=False)
    text_bytes, constants = (INSTRUCTION_BYTES * len(code.stream), len(code.constants)) if session.loads else (0, 0)
    engine = execute(units, compile_streams(units, [pieces], [0]), text_bytes=text_bytes, constants=constants,
                     with_slices=True)  # fmt: skip
    both = []
    for number, (what, run) in enumerate(((MEASURED, _measured(session, engine)), (ENGINE, engine))):
        document = core_timeline(machine.name, machine.clock_mhz, [("decode", code.names, run)])
        for event in document["traceEvents"]:
            event["pid"] = number
            if event["name"] == "process_name":
                event["args"] = {"name": f"{machine.name}, {what}"}
        both.append(document)
    return both[0] | {"traceEvents": [event for document in both for event in document["traceEvents"]]}


def _measured(session: RtlSession, engine: Execution) -> Execution:
    """``engine`` with the times at which the RTL's units took and ended the same instructions."""
    instructions, seen = session.made.instructions(session.last), session.units()
    parts = []
    for track, kind in enumerate(CLASSES):
        rows = engine.slices[0][engine.slices[0][:, 0] == track]
        real = np.array([not item.empty for item in instructions if item.kind == kind], bool)
        if not len(seen[kind]):
            continue
        rows = rows[real].copy()
        rows[:, WHEN] = seen[kind] + [0, 1]
        parts.append(rows)
    return msgspec.structs.replace(engine, slices=(np.concatenate(parts),))
