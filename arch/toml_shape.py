"""Where a table departs from the type it is read into: unknown keys, tags and choices, with the nearest valid one."""

import difflib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec


def first_departure(value: object, into: Any, path: str = "") -> str | None:
    """One line on the first key, tag or choice of ``value`` that the type ``into`` does not have, or None."""
    return next(_departures(value, into, path), None)


def _departures(value: object, into: Any, path: str) -> Iterator[str]:
    if get_origin(into) is Annotated:
        into = get_args(into)[0]
    if get_origin(into) is Literal:
        if isinstance(value, str) and value not in get_args(into):
            yield _wrong("value", value, [str(item) for item in get_args(into)], path)
    elif get_origin(into) in (Union, types.UnionType):
        yield from _in_union(value, [item for item in get_args(into) if item is not type(None)], path)
    elif isinstance(into, type) and issubclass(into, msgspec.Struct) and isinstance(value, dict):
        yield from _in_struct(value, into, path)
    elif get_origin(into) in (tuple, list) and isinstance(value, list | tuple):
        inner = get_args(into)
        for place, item in enumerate(value):
            kind = inner[0] if len(inner) == 1 or inner[-1] is ... else inner[min(place, len(inner) - 1)]
            yield from _departures(item, kind, f"{path}[{place}]")
    elif get_origin(into) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _departures(item, get_args(into)[1], _join(path, repr(key)))


def _in_struct(value: dict[str, object], into: type[msgspec.Struct], path: str) -> Iterator[str]:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(into)}
    config = into.__struct_config__
    valid = [*fields, *([config.tag_field] if config.tag_field else [])]
    for key, item in value.items():
        if key not in valid:
            yield _wrong("key", key, valid, path)
        elif key in fields:
            yield from _departures(item, fields[key], _join(path, key))


def _in_union(value: object, options: list[Any], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        plain = [option for option in options if get_origin(option) in (tuple, list, Literal, Annotated)]
        if isinstance(value, list | tuple):
            plain = [option for option in plain if get_origin(option) in (tuple, list)]
        elif str in options:
            return
        if len(plain) == 1:
            yield from _departures(value, plain[0], path)
        return
    structs = [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    tagged = {option.__struct_config__.tag: option for option in structs if option.__struct_config__.tag_field}
    field = next((option.__struct_config__.tag_field for option in structs if option.__struct_config__.tag_field), None)
    if field and field in value:
        if value[field] in tagged:
            yield from _in_struct(value, tagged[value[field]], path)
        else:
            yield _wrong("value", str(value[field]), [str(tag) for tag in tagged], _join(path, field))
    elif len(structs) == 1 and not tagged:
        yield from _in_struct(value, structs[0], path)
    elif field:
        yield f"key {field!r} must be given, one of {', '.join(map(str, tagged))}{_place(path)}"


def _wrong(what: str, found: str, valid: list[str], path: str) -> str:
    near = difflib.get_close_matches(found, valid, n=1, cutoff=0.0)
    hint = f"; the nearest valid {what} is {near[0]!r}" if near else ""
    return f"unknown {what} {found!r}{_place(path)}{hint}"


def _place(path: str) -> str:
    return f" in table [{path}]" if path else ""


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
