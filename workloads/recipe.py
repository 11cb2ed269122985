"""A recipe: what compression does to a model's weights, activations and KV cache."""

import fnmatch
import functools
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format, format_named
from mixflight.arch.strict_toml import convert, read_toml


class Kv(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of the formats in which keys and values are cached, per token and head."""

    k: str
    v: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Formats by operator.

    ``weight``  glob on the weight's name (``layers.3.q``, ``head``) -> format name; the last match wins.
    ``act``     the same for the input of a linear; ``attention`` is the name of queries and probabilities.
    ``kv``      formats of the cache.
    """

    name: str
    summary: str
    weight: dict[str, str]
    act: dict[str, str]
    kv: Kv

    def __post_init__(self) -> None:
        for table in ("weight", "act"):
            for pattern, name in getattr(self, table).items():
                format_named(name, f"recipe {self.name!r}, {table}.{pattern!r}")
        for field in ("k", "v"):
            format_named(getattr(self.kv, field), f"recipe {self.name!r}, kv.{field}")

    def weight_format(self, operator: str) -> Format:
        """Stored format of the weight ``operator``."""
        return self._match("weight", operator)

    def act_format(self, operator: str) -> Format:
        """Format of the input of the linear ``operator``; of queries and probabilities for ``attention``."""
        return self._match("act", operator)

    def kv_formats(self) -> tuple[Format, Format]:
        """Formats of cached keys and values."""
        return format_named(self.kv.k, f"recipe {self.name!r}"), format_named(self.kv.v, f"recipe {self.name!r}")

    def _match(self, table: str, operator: str) -> Format:
        found = [name for pattern, name in getattr(self, table).items() if fnmatch.fnmatchcase(operator, pattern)]
        if not found:
            raise InputError(f"table [{table}] must name a format for {operator!r}, in recipe {self.name!r}")
        return format_named(found[-1], f"recipe {self.name!r}")


@functools.cache
def recipes() -> dict[str, Recipe]:
    """The preset recipes, by name."""
    folder = Path(__file__).with_name("recipes")
    return {p.stem: convert({"name": p.stem, **read_toml(p)}, Recipe, p.name) for p in sorted(folder.glob("*.toml"))}


def recipe_named(name: str) -> Recipe:
    """The preset ``name``, or the recipe of the TOML file ``name``."""
    if name in recipes():
        return recipes()[name]
    if name.endswith(".toml"):
        path = Path(name)
        return convert({"name": path.stem, **read_toml(path)}, Recipe, name)
    raise InputError(f"RECIPE must be a .toml file or one of {', '.join(recipes())}, not {name!r}")
