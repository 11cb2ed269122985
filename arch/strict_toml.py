"""TOML into typed values, strictly: an unknown key, a missing key or a wrong type is one line that says where."""

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from mixflight.arch.errors import InputError

T = TypeVar("T")

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`(?: - at `\$\.?(?P<path>.*)`)?")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of the TOML file ``path``; an unreadable file or bad syntax is an InputError."""
    try:
        return tomllib.loads(path.read_text(), parse_float=_finite)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be a readable TOML file: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} must be TOML: {error}") from None
    except _NotFiniteError as error:
        raise InputError(f"{path} must hold finite numbers only, not {error}") from None


class _NotFiniteError(Exception):
    """A TOML float that is nan or infinite; no quantity here may be."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotFiniteError(text)
    return value


def convert(table: object, into: type[T], where: str) -> T:
    """``table`` as a value of the msgspec type ``into``; ``where`` names the file or preset in errors."""
    try:
        return msgspec.convert(table, into)
    except msgspec.ValidationError as error:
        raise InputError(f"{_explain(str(error), table, into)}, in {where}") from None


def _explain(message: str, table: object, into: Any) -> str:
    match = _UNKNOWN.match(message)
    if not match:
        return message
    key, path = match["key"], match["path"] or ""
    place = into
    for part in filter(None, path.split(".")):
        name, *indices = part.split("[")
        place = next((field.type for field in msgspec.structs.fields(place) if field.encode_name == name), None)
        for _ in indices:
            place = (get_args(place) or (None,))[0]
        if not (isinstance(place, type) and issubclass(place, msgspec.Struct)):
            return message
    valid = [field.encode_name for field in msgspec.structs.fields(place)]
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.0)
    hint = f"; the nearest valid key is {near[0]!r}" if near else ""
    return f"unknown key {key!r}{f' in table [{path}]' if path else ''}{hint}"
