"""What the barriers and exchanges of several cores show of the functional coverage model.

    meetings   of all cores together, with the engine's times of every instruction
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import LINE_BYTES, codes
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_coverage.features import edge, few
from mixflight.sim.core_coverage.model import Sample
from mixflight.sim.core_values.order import clocks_of
from mixflight.sim.core_values.state import Shape

_OPERATION, _BUFFER = tuple(codes("SYS", "operation")), tuple(codes("SYS", "buffer"))
Ends = Mapping[str, NDArray[np.float64]]


def meetings(programs: Sequence[Sequence[Primitive]], ends: Sequence[Ends], shape: Shape) -> Iterator[Sample]:
    """Of every barrier and exchange what each core shows; ``ends`` of each core and class are the times at which the
    instructions that do something ended. A core waits unless its last token came last of all."""
    found = [list(_of_core(program, times)) for program, times in zip(programs, ends, strict=True)]
    for together in zip(*found, strict=True):
        latest = max(ready for _, ready in together)
        for item, ready in together:
            fields, name = item.fields, _OPERATION[item.fields["operation"]]
            bins = {"meeting": name, "taken": few(len(item.wait)), "given": few(len(item.release)),
                    "waits": "for another core" if ready < latest else "others for it"}  # fmt: skip
            if name == "exchange":
                buffer = _BUFFER[fields["buffer"]]
                size = shape.global_lines if buffer == "global" else shape.act_lines
                bins |= {"buffer": buffer, "own": _lines(fields["lines"]),
                         "received": _lines(fields["value"] // LINE_BYTES)}  # fmt: skip
                if fields["lines"]:
                    bins["edge"] = edge(fields["line"], fields["line"] + fields["lines"], size)
            yield Sample("exchange", bins)


def _of_core(program: Sequence[Primitive], ends: Ends) -> Iterator[tuple[Primitive, float]]:
    """Each barrier and exchange, and when its last token was there."""
    works = {kind: [not item.empty for item in program if item.kind == kind] for kind in CLASSES}
    worked = {kind: np.concatenate([[0], np.cumsum(flags)]).astype(int) for kind, flags in works.items()}
    for item, clock in zip(program, clocks_of(program), strict=True):
        if item.kind == "SYS" and _OPERATION[item.fields["operation"]] in ("barrier", "exchange"):
            counts = {kind: int(worked[kind][count]) for kind, count in zip(CLASSES, clock, strict=True)}
            yield item, max((float(ends[kind][count - 1]) for kind, count in counts.items() if count), default=0.0)


def _lines(count: int) -> str:
    return "none" if not count else "1" if count == 1 else "2 to 8" if count <= 8 else "more"
