"""TOML into typed values, strictly: an unknown key, a missing key or a wrong type is one line that says where."""

import math
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.toml_shape import first_departure

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of the TOML file ``path``; an unreadable file or bad syntax is an InputError."""
    try:
        return tomllib.loads(path.read_text(), parse_float=_finite)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be a readable TOML file: {error}") from None
    except RecursionError:
        raise InputError(f"{path} must be TOML: its values lie too deep in one another") from None
    except ValueError as error:  # of the syntax, or a number of more digits than Python reads
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
    """What is wrong with ``table``: msgspec's own words where it is no unknown key, tag or choice."""
    if not message.startswith(
        ("Object contains unknown field", "Invalid value", "Invalid enum value", "Object missing")
    ):
        return message
    return first_departure(table, into) or message
