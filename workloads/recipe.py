"""A recipe: what compression does to a model, as eight tables that never touch the same thing.

weight, act, kv    stored forms, as codecs (``codec``, ``kv_policy``)
attn               which query-key pairs are computed (``attention_pattern``)
ops                operators that are inserted (``inserted``)
topology           edits of the graph (``topology``)
tokens             token counts by site and layer (``token_flow``)
decode             control flow that makes steps (``decoding``)
"""

import fnmatch
import functools
from pathlib import Path
from typing import Annotated

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format, format_named
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.workloads.attention_pattern import Pattern
from mixflight.workloads.check import Check, Confidence
from mixflight.workloads.codec import Codec, Int, check_codec, operand_format
from mixflight.workloads.decoding import Decode, Denoise
from mixflight.workloads.inserted import Op
from mixflight.workloads.kv_policy import Kv
from mixflight.workloads.token_flow import Flow
from mixflight.workloads.topology import Edit
from mixflight.workloads.weight_names import ATTENTION, WEIGHTS, check_pattern

__all__ = ["Kv", "Recipe", "Scenario", "recipe_named", "recipes"]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that the recipe fits, and the lengths at which its trace is shown and checked."""

    model: str
    prefill: Positive = 512
    decode: Positive = 64


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Formats by operator, and what else a method changes.

    ``weight``    glob on the weight's name (``layers.3.q``, ``head``) -> codec; the last match wins.
    ``act``       the same for the input of a linear; ``attention`` is the codec of queries and probabilities.
    ``kv``        how the cache is stored.
    ``embedding`` format of the table of tokens where the head is a weight of its own; a tied one has the head's.
    ``attn``, ``ops``, ``topology``, ``tokens``, ``decode``   see the modules named above; empty: as the model.
    ``id``        the row of the list of methods that it is, ``source`` where it is described, ``confidence`` how its
                  parameters are known, ``note`` what was assumed or left out, ``scenario`` a fitting one.
    ``check``     what is reported about it, recomputed by ``mixflight recipes --check``.
    ``family``    the folder that it stands in (quantisation, structure, experts...); not written in the file.
    """

    name: str
    summary: str
    weight: dict[str, Codec]
    act: dict[str, Codec]
    kv: Kv
    embedding: str = "f16"
    attn: tuple[Pattern, ...] = ()
    ops: tuple[Op, ...] = ()
    topology: tuple[Edit, ...] = ()
    tokens: tuple[Flow, ...] = ()
    decode: Decode | None = None
    id: str = ""
    source: str = ""
    confidence: Confidence | None = None
    note: str = ""
    scenario: Scenario | None = None
    check: tuple[Check, ...] = ()
    family: str = ""

    def __post_init__(self) -> None:
        where = f"recipe {self.name!r}"
        for table in ("weight", "act"):
            names = (*WEIGHTS, ATTENTION) if table == "act" else WEIGHTS
            for pattern, codec in getattr(self, table).items():
                check_pattern(pattern, names, f"{where}, {table}")
                check_codec(codec, f"{where}, {table}.{pattern!r}")
        self.kv.check(where)
        format_named(self.embedding, f"{where}, embedding")
        for pattern in self.attn:
            for scorer in pattern.scorer:
                scorer.check(f"{where}, attn.scorer")
        for op in self.ops:
            if not op.at:
                raise InputError(f"an operator of ops must say its ports in at, not none, in {where}, ops {op.name!r}")
            op.check(where)
        for codec in self.decode.ranges if isinstance(self.decode, Denoise) else ():
            for pattern, name in codec.weight.items():
                check_pattern(pattern, WEIGHTS, f"{where}, decode.ranges.weight")
                check_codec(name, f"{where}, decode.ranges.weight.{pattern!r}")

    @property
    def plain(self) -> bool:
        """Whether the recipe only names formats: all tables after ``kv`` are empty."""
        return not (self.attn or self.ops or self.topology or self.tokens or self.decode) and self.kv.plain

    def weight_codec(self, operator: str) -> Codec:
        """How the weight ``operator`` is stored."""
        return self._match("weight", operator)

    def weight_format(self, operator: str) -> Format:
        """Format in which an array gets the weight ``operator``; as stored where the codec is a name."""
        return operand_format(self._match("weight", operator))

    def embedding_format(self) -> Format:
        """Format of the table of tokens where the head is a weight of its own."""
        return format_named(self.embedding, f"recipe {self.name!r}, embedding")

    def act_codec(self, operator: str) -> Codec:
        """Codec of the input of the linear ``operator``."""
        return self._match("act", operator)

    def act_format(self, operator: str) -> Format:
        """Format of the input of the linear ``operator``; of queries and probabilities for ``attention``."""
        return operand_format(self._match("act", operator))

    def act_static(self, operator: str) -> bool:
        """Whether the scale of that input is known beforehand."""
        codec = self._match("act", operator)
        return isinstance(codec, Int) and codec.static

    def kv_formats(self) -> tuple[Format, Format]:
        """Formats of cached keys and values, decoded; as stored where the codecs are names."""
        return operand_format(self.kv.k), operand_format(self.kv.v)

    def _match(self, table: str, operator: str) -> Codec:
        found: list[Codec] = [
            codec for pattern, codec in getattr(self, table).items() if fnmatch.fnmatchcase(operator, pattern)
        ]
        if not found:
            raise InputError(f"table [{table}] must name a format for {operator!r}, in recipe {self.name!r}")
        return found[-1]


@functools.cache
def preset_paths() -> dict[str, Path]:
    """The files of the preset recipes, by name: general ones, then the methods of each family."""
    folder = Path(__file__).with_name("recipes")
    found: dict[str, Path] = {}
    for path in (*sorted(folder.glob("*.toml")), *sorted(folder.glob("*/*.toml"))):
        if path.name == "tolerances.toml":
            continue
        if path.stem in found:
            raise InputError(f"a preset recipe must have a name of its own, not {path.stem!r} twice, in {path}")
        found[path.stem] = path
    return found


@functools.cache
def _preset(name: str) -> Recipe:
    path, folder = preset_paths()[name], Path(__file__).with_name("recipes")
    family = path.parent.name if path.parent != folder else "general"
    return _recipe(path, path.relative_to(folder).as_posix(), family)


def recipes() -> dict[str, Recipe]:
    """The preset recipes, by name, in the order of ``preset_paths``."""
    return {name: _preset(name) for name in preset_paths()}


def _recipe(path: Path, where: str, family: str = "") -> Recipe:
    table = read_toml(path)
    for key in ("name", "family"):
        if key in table:
            raise InputError(f"{key!r} must not be written in a recipe: the file's place says it, in {where}")
    return convert({"name": path.stem, "family": family, **table}, Recipe, where)


def recipe_named(name: str) -> Recipe:
    """The preset ``name``, or the recipe of the TOML file ``name``; only that file is read."""
    if name in preset_paths():
        return _preset(name)
    if name.endswith(".toml"):
        return _recipe(Path(name), name)
    import difflib

    near = difflib.get_close_matches(name, preset_paths(), n=1, cutoff=0.0)[0]
    raise InputError(
        f"RECIPE must be a .toml file or one of {len(preset_paths())} presets (mixflight recipes lists them; "
        f"nearest: {near}), not {name!r}"
    )
