"""The folder contract: links, import table, nothing under a generic name."""

import ast
import functools
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


@functools.cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def _imports(path: Path) -> set[str]:
    found = set()
    for node in _nodes(path):
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


LONGEST_FUNCTION, LONGEST_FILE = 80, 600
LONGER = {
    "sim/matrix_kernel.py:matrix_cycles",  # one compiled loop; what it calls would be compiled into it
    "mapping/core_decode.py", "reports/gpu/measure.py",  # the latter runs alone, on machines with GPUs
}  # fmt: skip


def _own_lines(function: ast.AST) -> int:
    """Lines of a function without those of the functions in it."""
    inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef) and node is not function]
    outermost = [node for node in inner if not any(other is not node and node in ast.walk(other) for other in inner)]
    return _lines(function) - sum(_lines(node) for node in outermost)


def _lines(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def test_what_is_long_is_known():
    found = set()
    for folder in (*FOLDERS, "mixflight"):
        for path in _sources(folder):
            name, text = str(path.relative_to(ROOT)), path.read_text()
            found |= {name} if len(text.splitlines()) > LONGEST_FILE else set()
            functions = [node for node in _nodes(path) if isinstance(node, ast.FunctionDef) and _lines(node) > LONGEST_FUNCTION]
            found |= {f"{name}:{node.name}" for node in functions if _own_lines(node) > LONGEST_FUNCTION}
    assert found == LONGER


UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "np.fromstring"}
UNSAFE_MODULES = {"pickle", "shelve", "marshal", "yaml"}


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return f"{function.value.id}.{function.attr}" if isinstance(function.value, ast.Name) else ""
    return function.id if isinstance(function, ast.Name) else ""


def test_no_text_is_run_and_no_shell_started():
    """Models, TOML files and libraries are untrusted: none of them reaches an interpreter, a shell or a pickle."""
    for folder in (*FOLDERS, "mixflight"):
        for path in _sources(folder):
            assert not {name.split(".")[0] for name in _imports(path)} & UNSAFE_MODULES, path
            for node in _nodes(path):
                if isinstance(node, ast.Call):
                    assert _called(node.func) not in UNSAFE_CALLS, f"{path}:{node.lineno}"
                    for item in node.keywords:
                        assert item.arg not in ("shell", "allow_pickle") or ast.unparse(item.value) == "False", path
