"""Coverage of the fields of the compact instruction set by what runs execute.

    FieldCounter   counts executed instructions; ``bins`` says of every field of every class what was reached

Bins of a field: of one with named or listed codes every code; of a mask of tokens every class; of a bit both values;
of a number every bit at 0 and at 1, its smallest and its largest value. What a machine's sizes, or what units refuse,
leave out is excluded with the reason.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mixflight.arch.compact import LINE_BYTES, compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASSES, Field, token_classes
from mixflight.sim.core_coverage.executed import Step
from mixflight.sim.core_coverage.model import Bins
from mixflight.sim.core_values.state import shape_of


class _Reach(NamedTuple):
    """Values of a field that a program can have, all up to ``most`` or those listed; why no others."""

    reason: str
    most: int = 0
    values: tuple[int, ...] = ()

    def has(self, value: int) -> bool:
        """Whether a program can have it."""
        return value in self.values if self.values else value <= self.most

    @property
    def largest(self) -> int:
        """The largest value."""
        return max(self.values, default=self.most)


class FieldCounter:
    """Values that executed instructions of the classes ``classes`` of a core of ``machine`` had, by class and field."""

    def __init__(self, machine: CoreMachine, classes: Iterable[str] = CLASSES) -> None:
        self._classes = tuple(classes)
        self._reach = _reach(machine, self._classes)
        self._seen: dict[tuple[str, str], set[int]] = {
            (kind, name): set() for kind in self._classes for name in compact().instructions[kind].fields
        }

    def add(self, steps: Iterable[Step]) -> None:
        """Count every field of every instruction; tokens alone of those that do nothing else."""
        for step in steps:
            for name in ("wait", "release") if step.empty else step.fields:
                self._seen[step.kind, name].add(step.fields[name])

    def bins(self) -> list[Bins]:
        """Of every field what was reached."""
        return [self._bins(kind, field) for kind in self._classes
                for field in compact().instructions[kind].fields.values() if field.name != "opcode"]  # fmt: skip

    def _bins(self, kind: str, field: Field) -> Bins:
        seen, reach = self._seen[kind, field.name], self._reach.get((kind, field.name))
        if field.tokens:
            found = list(_token_bins(kind, seen, self._classes))
        elif field.values or field.bits == 1 or (reach and reach.values):
            found = list(_code_bins(field, seen, reach))
        else:
            found = list(_number_bins(field, seen, reach or _Reach("", (1 << field.bits) - 1)))
        excluded, unexpected = dict[str, int](), []
        for name, reached, reason in found:
            if reason:
                excluded[reason] = excluded.get(reason, 0) + 1
                unexpected += [name] if reached else []
        kept = [(name, reached) for name, reached, reason in found if not reason]
        return Bins(
            group=kind, name=field.name, reachable=len(kept), covered=sum(reached for _, reached in kept),
            holes=[name for name, reached in kept if not reached], excluded=excluded, unexpected=unexpected,
        )  # fmt: skip


_Bin = tuple[str, bool, str]
"""Its name, whether it was reached, why it cannot be (empty: it can)."""


def _token_bins(kind: str, seen: set[int], classes: tuple[str, ...]) -> Iterator[_Bin]:
    named = {name for mask in seen for name in token_classes(kind, mask)}
    yield "none", 0 in seen, ""
    for name in CLASSES:
        if name != kind:
            yield name, name in named, "" if name in classes else f"the core carries out no {name}"


def _code_bins(field: Field, seen: set[int], reach: _Reach | None) -> Iterator[_Bin]:
    for code in range(len(field.values) or 1 << field.bits):
        name = field.values[code] if field.values else str(code)
        yield name, code in seen, reach.reason if reach and not reach.has(code) else ""


def _number_bins(field: Field, seen: set[int], reach: _Reach) -> Iterator[_Bin]:
    yield "smallest, 0", 0 in seen, ""
    yield f"largest, {reach.largest}", reach.largest in seen, ""
    for bit in range(field.bits):
        out = reach.reason if reach.largest < 1 << bit else ""
        yield f"bit {bit} at 0", any(not value >> bit & 1 for value in seen), ""
        yield f"bit {bit} at 1", any(value >> bit & 1 for value in seen), out



def _reach(machine: CoreMachine, classes: tuple[str, ...]) -> dict[tuple[str, str], _Reach]:
    """What programs of ``machine`` can have in fields whose codes are more."""
    shape = shape_of(machine)
    lines, act, channels = shape.global_lines, shape.act_lines, shape.channels
    dense = not machine.kept
    found = {
        ("LD", "buffer"): _Reach("no LD fills the act buffer, nor, where weights are dense, the index buffer",
                                 values=(0, 1, 4) if dense else (0, 1, 2, 4)),
        ("LD", "code_bits"): _Reach("codes have 2, 3, 4, 5 or 8 bits", values=(0, 2, 3, 4, 5, 8)),
        ("ST", "buffer"): _Reach("nothing reads the weight, scale and index buffers but the engine", values=(3, 4)),
        ("ST", "memory"): _Reach("no ST goes to DDR", values=(0,)),
        ("ST", "slotted"): _Reach("the global and act buffers have no slots", values=(0,)),
        ("ST", "times"): _Reach("a size times a register is that of packed codes", values=(0,)),
        **{("ST", name): _Reach("ST moves bytes as they are", values=(0,))
           for name in ("code_bits", "signed", "layout")},
        ("MISC", "target"): _Reach("no MISC writes the weight buffer", values=(0, 1)),
        ("MISC", "static"): _Reach("no core has scales that are known beforehand", values=(0,)),
        ("MISC", "group"): _Reach("groups are of 16 elements and more, 64 in recipes", values=(0, 4, 5, 6)),
        ("MISC", "vectors"): _Reach("the field is as wide as the global buffer has lines", 4095),
        ("MISC", "elements"): _Reach(f"the global buffer has {lines * LINE_BYTES // 4:,} numbers",
                                     lines * LINE_BYTES // 4),
        **{("MISC", name): _Reach(f"the global buffer has {lines:,} lines", lines - 1)
           for name in ("a_line", "b_line", "out_line")},
        ("SYS", "line"): _Reach(f"the global buffer has {lines:,} lines", lines - 1),
    }  # fmt: skip
    if machine.cores == 1:
        alone = "the core is the only one"
        found |= {("SYS", "operation"): _Reach(alone, values=(0, 2, 3, 4, 5, 6, 7)),
                  ("SYS", "buffer"): _Reach(alone, values=(0,)), ("SYS", "line"): _Reach(alone, 0)}  # fmt: skip
    for kind in ("LD", "ST"):
        found[kind, "channel"] = _Reach(f"the core has {channels} channels", channels - 1)
        found[kind, "buffer_line"] = _Reach(f"the global buffer has {lines:,} lines", lines - 1)
        found[kind, "bytes"] = _Reach(f"the global buffer has {lines * LINE_BYTES:,} bytes", lines * LINE_BYTES)
    keeps = (*machine.kept, 16)
    for kind in ("MM", "MV"):
        found |= {
            (kind, "weight_bits"): _Reach("codes have at most 8 bits", 8),
            (kind, "keep"): _Reach("weights are dense, or keep 2, 4 or 8 of 16", values=keeps),
            (kind, "zero"): _Reach("no core has integer zero points", values=(0, 2)),
            (kind, "columns"): _Reach(f"a tile has at most {machine.mv_columns} columns", machine.mv_columns),
            (kind, "k_blocks"): _Reach(f"a slot has {shape.words} words a bank", shape.words),
            (kind, "group"): _Reach("groups of formats are of 16 to 256", values=(0, 4, 5, 6, 7, 8)),
            (kind, "rows"): _Reach("more rows are another tile", machine.mm_rows if kind == "MM" else 4),
            (kind, "in_line"): _Reach(f"the act buffer has {act} lines", act - 1),
            (kind, "out_line"): _Reach(f"the global buffer has {lines:,} lines", lines - 1),
        }  # fmt: skip
    return {key: reach for key, reach in found.items() if key[0] in classes}
