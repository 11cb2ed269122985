"""A space of designs: what is fixed, what varies, which points count and what is sought in them.

space_named     a shipped study or a TOML file
Space.size      points of the grid; Space.assignment   the values of one of them
"""

import difflib
import functools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mixflight.arch.accelerator import Accelerator, accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.sweeping.axes import Range, Value, axis_values
from mixflight.sweeping.comparison import Comparison
from mixflight.sweeping.fields import FREE, SCENARIO, WHOLE, check_path, symbol
from mixflight.sweeping.quantities import ESTIMATED, EXACT
from mixflight.workloads.expression import Expression, parse
from mixflight.workloads.recipe import Recipe

STUDIES = Path(__file__).resolve().parent.parent / "reports" / "studies"
Method = Literal["grid", "random", "nsga2", "tpe"]
Fidelity = Literal["screened", "engine", "closed-form"]
Assignment = dict[str, Value]
Positive = Annotated[int, msgspec.Meta(ge=1)]
CAP = 100_000


class Lengths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens of the prompt, decoded tokens, sequences together."""

    prefill: Positive = 512
    decode: Positive = 512
    batch: Positive = 1


class Space(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A space, as its TOML file has it.

    ``arch``, ``model``, ``recipe``, ``scenario``, ``float_operands``   the base, as ``mixflight simulate`` takes them
    ``path``         how cores map a trace: auto, fused or general; arrays have one way
    ``axes``         field by dotted path -> its values: a list, or ``{from, to, step}`` or ``{from, to, factor}``.
                     Fields of the machine stand as they are (``array.rows``), others as ``scenario.batch``,
                     ``recipe.weight.*``; ``arch``, ``model`` and ``recipe`` are wholes; ``free.NAME`` is a number that
                     only expressions see
    ``derived``      field of machine, recipe or scenario -> expression over fields and axes, set after the axes
    ``constraints``  comparisons of expressions over quantities, fields and axes
    ``objectives``   quantity -> ``min`` or ``max``; ``by``: axes for each of whose values there is a front of its own
    ``method``       ``grid`` (every point), ``random`` (``points`` of them), ``nsga2`` or ``tpe`` (``points`` trials)
    ``points``       most points without ``--yes`` for a grid, else how many; ``seed`` of random choices
    ``fidelity``     ``screened``: closed form for all, the engine for what can be on the front; or one tier for all
    ``finding``      a sentence that the study's results support, tested
    """

    summary: str
    arch: str
    model: str
    recipe: str
    objectives: dict[str, Literal["min", "max"]]
    axes: dict[str, tuple[Value, ...] | Range]
    scenario: Lengths = Lengths()
    float_operands: str = "refuse"
    path: str = "auto"
    derived: dict[str, str] = {}
    constraints: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    method: Method = "grid"
    points: Positive = CAP
    seed: int = 0
    fidelity: Fidelity = "screened"
    finding: str = ""

    @property
    def values(self) -> dict[str, tuple[Value, ...]]:
        """Axis -> its values: axes of the workload first, so that they change last."""
        ordered = sorted(self.axes, key=lambda path: not is_workload(path))
        return {path: axis_values(self.axes[path], path) for path in ordered}

    @property
    def size(self) -> int:
        """Points of the whole grid."""
        return math.prod(len(values) for values in self.values.values())

    def digest_text(self) -> bytes:
        """The space as JSON, axes in their order, which numbers the points."""
        return msgspec.json.encode(self)

    def base_machine(self) -> Accelerator | CoreMachine:
        """The machine that axes change; of an axis ``arch`` its first value."""
        return accelerator_named(str(self.values["arch"][0]) if "arch" in self.axes else self.arch)

    def comparisons(self) -> tuple[Comparison, ...]:
        """The constraints, parsed."""
        return tuple(Comparison.parse(text) for text in self.constraints)

    def formulas(self) -> dict[str, Expression]:
        """The derived fields, parsed."""
        return {path: parse(text) for path, text in self.derived.items()}

    def check(self) -> None:
        """Refuse unknown fields, quantities and axes, each with the nearest known name."""
        machine = type(self.base_machine())
        if machine is CoreMachine and self.float_operands != "refuse":
            raise InputError("a machine of cores must have no float_operands in a sweep")
        if not self.axes:
            raise InputError("a space must have at least one axis")
        if not self.objectives:
            raise InputError("a space must have at least one objective")
        for path in (*self.values, *self.derived):
            check_path(path, machine, Recipe)
        for path in self.derived:
            if path in self.axes or path.startswith(FREE) or path in WHOLE:
                raise InputError(f"a derived field must be a number of a field and no axis, not {path!r}")
        for name in self.objectives:
            if name not in (*EXACT, *ESTIMATED):
                raise InputError(f"an objective must be a quantity, not {name!r}: the nearest is {_near(name)!r}")
        for path in self.by:
            if path not in self.axes:
                raise InputError(f"by must name axes, not {path!r}")
        if self.by and self.method not in ("grid", "random"):
            raise InputError("by must come with method grid or random: samplers look for one front")
        self.formulas()
        self.comparisons()


def is_workload(path: str) -> bool:
    """Whether the field changes what is computed, not the machine."""
    first = path.partition(".")[0]
    return first in ("model", "recipe", "scenario", "float_operands", "path") or path in SCENARIO


def _near(name: str) -> str:
    return difflib.get_close_matches(name, (*EXACT, *ESTIMATED), n=1, cutoff=0.0)[0]


def assignment(values: dict[str, tuple[Value, ...]], index: int) -> Assignment:
    """The values of point ``index`` of the grid, the last axis changing first."""
    found: Assignment = {}
    for path in reversed(values):
        index, place = divmod(index, len(values[path]))
        found[path] = values[path][place]
    return {path: found[path] for path in values}


def column(path: str) -> str:
    """The column of a field in tables of results."""
    return symbol(path) if path.startswith(FREE) else path


@functools.cache
def studies() -> dict[str, Path]:
    """The shipped studies, by name."""
    return {path.stem: path for path in sorted(STUDIES.glob("*.toml"))}


def space_named(name: str) -> Space:
    """The shipped study ``name``, or the space of the TOML file ``name``, checked."""
    if name not in studies() and not name.endswith(".toml"):
        near = difflib.get_close_matches(name, studies(), n=1, cutoff=0.0)
        hint = f" (nearest: {near[0]})" if near else ""
        raise InputError(f"SPACE must be a .toml file or one of {', '.join(studies())}{hint}, not {name!r}")
    path = studies().get(name, Path(name))
    table: dict[str, Any] = read_toml(path)
    space: Space = convert(table, Space, path.name)
    try:
        space.check()
    except InputError as error:
        raise InputError(f"{error}, in {path.name}") from None
    return space
