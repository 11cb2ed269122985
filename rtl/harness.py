"""Build emitted Verilog with Verilator once, then run jobs of stream beats through it under cocotb.

A *job* offers prepared beats to input streams and collects beats from output streams, both with a given
probability of stalling each cycle; it works for every component whose ports are streams. Values and cycles
come back as they were seen at the pins; comparing them is the caller's.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.rtl.cache import cache_folder, digest, folder_once
from mixflight.rtl.toolchain import Toolchain, find_toolchain, last_lines, run_tool

VERILATE = ("-cc", "--exe", "--vpi", "--public-depth", "1", "--prefix", "Vtop", "-o", "simulation",
            "--timescale", "1ns/1ps", "-Wno-fatal", "-Wno-WIDTH", "--output-split", "0")
"""``--public-depth 1`` shows the top's ports only, so Verilator optimises everything below them. One C++ file for the
whole model costs less than several and the header that Verilator would precompile for them."""

MAKE = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0")
"""The least build time: of a tile's thousands of cycles the model's own code is the smaller part.
"""

_RUNTIME_OBJECTS = ("verilated.o", "verilated_vpi.o", "verilated_threads.o")
_STREAMS = "mixflight.rtl.bench_streams"
_VECTORS = "mixflight.rtl.bench_vectors"


class HarnessError(RuntimeError):
    """The model did not build, or the simulation ended without a result."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """A built model; ``seconds`` is 0 when it came from the cache."""

    top: str
    executable: Path
    key: str
    seconds: float
    toolchain: Toolchain = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one run offers and expects.

    Beats are unsigned integers as wide as the payload. A stall probability of 0 offers, or takes, in every
    cycle.
    """

    beats: Mapping[str, Sequence[int]]
    """Input stream → its payloads in order."""
    counts: Mapping[str, int]
    """Output stream → how many payloads must come."""
    stall: Mapping[str, float] = field(default_factory=dict)
    """Stream → probability that a cycle is not offered (input) or not taken (output)."""
    seed: int = 0
    patience: int = 2000
    """Cycles without any transfer after which the run is given up."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was seen at the pins. Cycle numbers count clock edges from the end of reset."""

    finished: bool
    """Every beat was taken and every expected payload came."""
    outputs: Mapping[str, tuple[int, ...]]
    output_cycles: Mapping[str, np.ndarray]
    input_cycles: Mapping[str, np.ndarray]
    protocol_errors: tuple[str, ...]
    """Payloads withdrawn or changed before they were taken, and payloads beyond the expected count."""
    cycles: int
    seconds: float

    def span(self, first: str, last: Sequence[str]) -> int:
        """Cycles from the first beat taken on ``first`` to the last payload on any of ``last``, inclusive."""
        return int(max(self.output_cycles[name][-1] for name in last) - self.input_cycles[first][0] + 1)


def build_model(text: str, *, top: str, toolchain: Toolchain | None = None) -> Build:
    """Compile ``text`` to a cocotb simulation of module ``top``, or take it from the cache.

    Raises
    ------
    HarnessError
        With the last lines that Verilator or the compiler said.
    """
    tools = toolchain or find_toolchain()
    key = digest(text, top, _flavour(tools), _layout())
    folder = cache_folder("verilator") / key
    start = time.perf_counter()
    made = folder_once(folder, lambda working: _build(working, text, top, tools))
    return Build(top=top, executable=folder / "simulation", key=key, toolchain=tools,
                 seconds=time.perf_counter() - start if made else 0.0)


def _flavour(tools: Toolchain) -> str:
    """What the compiled objects depend on besides their source."""
    return json.dumps([dict(tools.versions), VERILATE, MAKE], sort_keys=True)


def _layout() -> str:
    """The interpreter and cocotb that a simulation is linked to by absolute path."""
    import cocotb_tools.config

    return f"{sys.prefix} {cocotb_tools.config.libs_dir}"


def _build(folder: Path, text: str, top: str, tools: Toolchain) -> None:
    import cocotb_tools.config

    source = folder / f"{top}.v"
    source.write_text(text)
    libraries = cocotb_tools.config.libs_dir
    work = folder / "work"
    work.mkdir()
    verilate = run_tool(
        ["perl", str(tools.verilator), *VERILATE, "-Mdir", str(work), "--top-module", top,
         "-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator",
         str(cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"), str(source)],
        environment=tools.environment)
    if verilate.returncode != 0:
        raise HarnessError(f"Verilator must accept {top}: {last_lines(verilate.stdout)}")
    runtime = cache_folder("verilator") / f"runtime-{digest(_flavour(tools), str(tools.verilator_root))}"
    if runtime.is_dir():
        for name in _RUNTIME_OBJECTS:       # newer than their sources, so make keeps them
            shutil.copyfile(runtime / name, work / name)
    make = run_tool([tools.make, "-s", f"-j{os.cpu_count() or 1}", "-C", str(work), "-f", "Vtop.mk",
                     f"CXX={tools.compiler}", f"LINK={tools.compiler}", *MAKE], environment=tools.environment)
    if make.returncode != 0:
        raise HarnessError(f"the Verilator model of {top} must compile: {last_lines(make.stdout)}")
    folder_once(runtime, lambda target: _copy(work, target, _RUNTIME_OBJECTS))
    shutil.move(work / "simulation", folder / "simulation")
    shutil.rmtree(work)


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        shutil.copyfile(source / name, target / name)


def run_jobs(build: Build, jobs: Sequence[Job], *, timeout_s: float = 600) -> list[Result]:
    """Run the jobs one after another in one simulation, each after a reset.

    Raises
    ------
    HarnessError
        The simulation ended without writing its result.
    """
    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        folder = Path(name)
        _write_jobs(folder / "jobs.npz", jobs)
        return _read_results(simulate(build, folder, _STREAMS, timeout_s), jobs)


def run_vectors(build: Build, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], *,
                timeout_s: float = 600) -> dict[str, np.ndarray]:
    """Set the input pins to one row a cycle after a reset; return the output pins' unsigned values.

    All values are unsigned and at most 64 bits wide. Row ``t`` of the result is what the pins showed just
    before the clock edge that saw row ``t`` of the inputs.

    Raises
    ------
    HarnessError
        The simulation ended without writing its result.
    """
    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        folder = Path(name)
        np.savez(folder / "jobs.npz", outputs=np.array(list(outputs)),
                 **{f"in/{pin}": np.asarray(values, np.uint64) for pin, values in inputs.items()})
        with np.load(simulate(build, folder, _VECTORS, timeout_s)) as stored:
            return {pin: stored[f"out/{pin}"] for pin in outputs}


def simulate(build: Build, folder: Path, bench: str, timeout_s: float) -> Path:
    """Run the bench over ``jobs.npz`` in ``folder`` and return the path of what it wrote."""
    done = run_tool([str(build.executable)], folder=folder, timeout_s=timeout_s,
                    environment=_environment(build, folder, bench))
    result = folder / "results.npz"
    if not result.is_file():
        said = last_lines(done.stdout)
        raise HarnessError(f"the simulation of {build.top} must write a result: {said}")
    return result


def _environment(build: Build, folder: Path, bench: str) -> dict[str, str]:
    import cocotb_tools.config
    import find_libpython

    library = os.environ.get("LIBPYTHON_LOC") or find_libpython.find_libpython()
    if library is None:
        raise InputError("a shared libpython must exist for cocotb to run emitted Verilog: "
                         "use a Python built with --enable-shared (Debian, Ubuntu: apt install python3-dev)")
    libraries = str(cocotb_tools.config.libs_dir)
    base = {name: value for name, value in os.environ.items()
            if not name.startswith(("COCOTB_", "GPI_", "PYGPI_"))}
    return {
        **base,
        "PATH": base.get("PATH", os.defpath) + os.pathsep + libraries,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{library};{cocotb_tools.config.pygpi_entry_point()}",
        "COCOTB_TOPLEVEL": build.top, "COCOTB_TEST_MODULES": bench, "TOPLEVEL_LANG": "verilog",
        "COCOTB_TRUST_INERTIAL_WRITES": "1", "COCOTB_RANDOM_SEED": "1", "COCOTB_LOG_LEVEL": "WARNING",
        "COCOTB_ANSI_OUTPUT": "0", "COCOTB_RESULTS_FILE": str(folder / "results.xml"),
        "MIXFLIGHT_JOBS": str(folder / "jobs.npz"), "MIXFLIGHT_RESULTS": str(folder / "results.npz"),
    }


def to_words(values: Sequence[int]) -> np.ndarray:
    """Pack unsigned integers of any width into rows of bytes, little end first."""
    width = max((max(values, default=0).bit_length() + 7) // 8, 1)
    packed = b"".join(value.to_bytes(width, "little") for value in values)
    return np.frombuffer(packed, np.uint8).reshape(-1, width)


def from_words(words: np.ndarray) -> tuple[int, ...]:
    """Undo :func:`to_words`."""
    return tuple(int.from_bytes(row.tobytes(), "little") for row in words)


def _write_jobs(path: Path, jobs: Sequence[Job]) -> None:
    arrays, described = {}, []
    for index, job in enumerate(jobs):
        for stream, values in job.beats.items():
            arrays[f"{index}/{stream}"] = to_words(values)
        described.append({"inputs": list(job.beats), "counts": dict(job.counts), "stall": dict(job.stall),
                          "seed": job.seed, "patience": job.patience})
    np.savez(path, jobs=np.array(json.dumps(described)), **arrays)


def _read_results(path: Path, jobs: Sequence[Job]) -> list[Result]:
    with np.load(path) as stored:
        described = json.loads(str(stored["results"]))
        return [Result(
            finished=row["finished"], cycles=row["cycles"], seconds=row["seconds"],
            protocol_errors=tuple(row["protocol_errors"]),
            outputs={name: from_words(stored[f"{index}/{name}"]) for name in job.counts},
            output_cycles={name: stored[f"{index}/{name}/cycles"] for name in job.counts},
            input_cycles={name: stored[f"{index}/{name}/cycles"] for name in job.beats},
        ) for index, (job, row) in enumerate(zip(jobs, described, strict=True))]
