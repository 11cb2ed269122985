"""A recipe as TOML text that reads back as the same recipe."""

import json

import msgspec

from mixflight.workloads.recipe import Recipe

_PLACE = ("name", "family")  # the file's place says these


def to_toml(recipe: Recipe) -> str:
    """The recipe, one key a line; tables are written inline."""
    fields = msgspec.to_builtins(recipe)
    return "".join(
        f"{key} = {_value(value)}\n" for key, value in fields.items() if key not in _PLACE and value is not None
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
