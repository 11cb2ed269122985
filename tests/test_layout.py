"""The folder contract: links, import table, nothing under a generic name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("arch", "workloads", "mapping", "sim", "rtl", "reports")
MAY_IMPORT = {
    "arch": {"arch"},
    "workloads": {"workloads", "arch"},
    "mapping": {"mapping", "arch", "workloads"},
    "sim": {"sim", "arch", "workloads", "mapping"},
    "rtl": {"rtl", "arch"},
    "reports": {"reports", "arch", "workloads", "mapping", "sim", "rtl"},
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not path.is_symlink())


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_a_subpackage_by_link(folder):
    assert (ROOT / "mixflight" / folder).resolve() == ROOT / folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_import_table(folder):
    for path in _sources(folder):
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] == "mixflight":
                allowed = MAY_IMPORT[folder] | {"__version__"}
                assert len(parts) > 1 and parts[1] in allowed, f"{path} imports {name}"


def test_nothing_imports_a_folder_without_the_package_name():
    for folder in (*FOLDERS, "mixflight", "tests"):
        for path in _sources(folder):
            for name in _imports(path):
                assert name.split(".")[0] not in FOLDERS, f"{path} imports {name} without 'mixflight.'"


def test_rtl_does_not_know_the_compiler_or_the_simulator():
    assert MAY_IMPORT["rtl"] == {"rtl", "arch"}


PARAGRAPHS = (*FOLDERS, "mixflight", "mixflight/cli", "mixflight/advising", "mixflight/sweeping")


@pytest.mark.parametrize("folder", PARAGRAPHS)
def test_each_folder_is_explained_in_a_paragraph(folder):
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
    first, *paragraphs = text.split("\n\n")
    assert first.endswith((".", ";"))
    assert len(paragraphs[-1].split()) >= 35
