"""Fields of machine, recipe and scenario by dotted path: which there are, and a table with one changed."""

import difflib
import functools
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import msgspec

from mixflight.arch.errors import InputError

SCENARIO = ("prefill", "decode", "batch")
WHOLE = ("arch", "model", "recipe", "float_operands", "path")
FREE = "free."


@functools.cache
def symbol(path: str) -> str:
    """The name of a field in expressions: ``array.rows`` is ``array_rows``, ``free.width`` is ``width``."""
    return "".join(sign if sign.isalnum() else "_" for sign in path.removeprefix(FREE))


def check_path(path: str, machine: type[msgspec.Struct], recipe: type[msgspec.Struct]) -> None:
    """Refuse a path that names no field, with the nearest one that does."""
    if path in WHOLE or (path.startswith(FREE) and path.removeprefix(FREE).isidentifier()):
        return
    known = [*WHOLE, *(f"scenario.{name}" for name in SCENARIO), *_leaves(machine, "")]
    known = [name for name in known if name not in ("name", "summary", "sources")]
    if path in known:
        return
    first, _, rest = path.partition(".")
    if first == "recipe" and rest.partition(".")[0] in recipe.__struct_fields__:
        return
    known += [f"recipe.{name}" for name in recipe.__struct_fields__ if name not in ("name", "summary", "family")]
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.0)[0]
    raise InputError(f"an axis must be a field, not {path!r}: the nearest is {near!r}")


def _leaves(into: Any, path: str) -> Iterator[str]:
    for field in msgspec.structs.fields(into):
        here = f"{path}{field.encode_name}"
        kind = field.type
        if get_origin(kind) in (Union, types.UnionType):
            kind = next((item for item in get_args(kind) if item is not type(None)), kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from _leaves(kind, f"{here}.")
        else:
            yield here


def with_value(table: dict[str, Any], path: str, value: object, plain: bool = False) -> None:
    """Set ``path`` in ``table`` in place; tables on the way are copied, so that what shares them keeps its own.

    Keys may have dots (``weight.layers.3.*``): the longest that the table has goes first, a new key is the whole rest.
    ``plain`` keys have none: tables on the way that are not there are made.
    """
    parts = path.split(".")
    while len(parts) > 1:
        ends = [1] if plain else range(len(parts) - 1, 0, -1)
        key = next((key for end in ends if isinstance(table.get(key := ".".join(parts[:end])), dict)), None)
        if key is None and not plain:
            break
        key = key or parts[0]
        table[key] = dict(table.get(key) or {})
        table, parts = table[key], parts[key.count(".") + 1 :]
    table[".".join(parts)] = value


def numbers(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, int | float]]:
    """(symbol, value) of every number in ``table``."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield symbol(f"{path}{key}"), value
