"""docs/licences.md names every package that is required, with the licence that its metadata states."""

import importlib.metadata
import re
from email.message import Message
from pathlib import Path

import pytest

from mixflight import licences

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "licences.md").read_text()
DECLARED = licences.declared(ROOT / "pyproject.toml")


def test_every_required_package_is_listed_with_what_needs_it():
    rows = re.findall(r"^\| ([\w-]+) \| ([\w, ]+) \| (.+) \|$", TEXT, re.MULTILINE)
    listed = {name: groups for name, groups, _ in rows if name != "package"}
    assert listed == DECLARED
    assert not [name for name, _, said in rows if said == "not stated"]


def test_what_is_required_in_turn_has_a_licence():
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
    found = dict(rows)
    assert {"llvmlite", "markupsafe", "python-dateutil"} <= set(found)  # of numba, jinja2 and pandas
    assert not [name for name, said in found.items() if said == "not stated"]


@pytest.mark.parametrize(("fields", "said"), [
    ([("License-Expression", "MIT"), ("License", "the text")], "MIT"),
    ([("License", "BSD")], "BSD"),
    ([("License", "UNKNOWN"), ("Classifier", "License :: OSI Approved :: MIT License")], "MIT License"),
    ([("License", "Permission is\nhereby granted"), ("Classifier", "License :: OSI Approved :: MIT License")], "MIT License"),
    ([("Classifier", "Topic :: Software")], "not stated"),
])  # fmt: skip
def test_the_licence_is_read_from_what_a_package_states(fields, said, monkeypatch):
    data = Message()
    for key, value in fields:
        data[key] = value
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: data)
    assert licences.licence("x") == said
