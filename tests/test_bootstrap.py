"""What the Makefile runs first, on a Python that may be too old."""

import ast
import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent / "bootstrap.py"


def test_a_python_that_is_too_old_can_read_it():
    tree = ast.parse(PATH.read_text(), feature_version=(3, 7))
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert "annotations" in imported  # else builtin types in annotations stop it before it can say anything


def test_a_python_that_is_too_old_is_refused_in_one_line(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("bootstrap", PATH)
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 8, 10))
    with pytest.raises(SystemExit) as stopped:
        bootstrap.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("mixflight: Python must be at least 3.11, not ")
    assert said.count("\n") == 1
