"""A core on compiled Verilog with its memories: a process that takes control-bus commands, memories as mapped files.

The memory model is that of ``compiled/axi_memory.h``: a fixed latency, then a beat a cycle.
"""

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mixflight import arch, rtl
from mixflight.arch.compact import CONSTANTS, INSTRUCTION_BYTES, LINE_BYTES
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.core_errors import MEANINGS, CoreError
from mixflight.arch.core_registers import c_header, core_registers
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.rtl.cache import cache_folder, digest, write_atomically
from mixflight.rtl.compiled_model import CompiledModel, compile_model, find_model, source
from mixflight.rtl.core import Core
from mixflight.rtl.coverage_data import COVERAGE_MAKE, COVERAGE_OPTIONS, without_unnamed
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import HarnessError
from mixflight.rtl.registered_inputs import registered_inputs, without_zeros
from mixflight.rtl.toolchain import WAVES_HINT, find_toolchain, missing_wave_headers, package_version

TOP = "flightllm-core"
PAGE_BYTES = 4096
LATENCY_CYCLES = 32
"""Cycles from a read's address to its first beat."""
LIMIT_CYCLES = 1 << 32

_QUICK = ("OPT_FAST=-O0", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0")
_FAST = ("OPT_FAST=-O2 -march=native -fno-strict-aliasing", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
_VERILATE = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--output-split", "20000",
             "--output-split-cfuncs", "5000")  # fmt: skip
"""Memories begin as zeros (``--x-initial fast``), as ``without_zeros`` asks; files compile side by side."""
_READ = ("arvalid", "arready", "arlen", "rvalid", "rready", "rlast", "rresp", "araddr", "rdata")
_WRITE = ("awvalid", "awready", "awlen", "wvalid", "wready", "wlast", "bvalid", "bready", "bresp", "awaddr", "wstrb",
          "wdata")  # fmt: skip


def core_text(core: Core) -> str:
    """The Verilog of ``core``, kept by the sources that it is made from: to write it takes a minute."""
    entry = _text_entry(core)
    if not entry.is_file():
        write_atomically(entry, emit_verilog(core, TOP))
    return entry.read_text()


def _text_entry(core: Core) -> Path:
    """Where the Verilog of ``core`` is kept. Where it is there already the core is never elaborated, and Amaranth
    would warn."""
    core._MustUse__used = True
    roots = [Path(package.__file__).parent for package in (arch, rtl)]
    files = sorted(path for root in roots for ending in ("py", "toml") for path in root.rglob(f"*.{ending}"))
    key = digest(repr(core.machine), core.dots, package_version("amaranth"), *(path.read_text() for path in files))
    return cache_folder("verilog") / f"{key}.v"


def built_core(core: Core) -> CompiledModel | None:
    """What :func:`build_core` makes, if it is there already."""
    return find_model(**_job(core)) if _text_entry(core).is_file() else None


def build_core(
    core: Core, *, quick: bool = False, waves: bool = False, coverage: bool = False
) -> CompiledModel:  # fmt: skip
    """Compile ``core`` with its harness; ``quick`` to build, for a few thousand cycles, otherwise quick to run.
    ``waves``: so that it can write them. ``coverage``: so that it counts what is reached (``coverage_data``), which
    takes some minutes to build and runs a hundredth as fast.

    Raises
    ------
    InputError
        Waves are wanted, and a header that their writer needs is not installed.
    """
    if waves and (missing := missing_wave_headers(find_toolchain().compiler)):
        raise InputError(f"waves need {' and '.join(missing)}, which the C++ compiler does not find: {WAVES_HINT}")
    return compile_model(**_job(core, quick=quick, waves=waves, coverage=coverage))


def _job(core: Core, *, quick: bool = False, waves: bool = False, coverage: bool = False) -> dict[str, Any]:
    """What is compiled, and how."""
    top = TOP.replace("-", "_")
    members = {name: getattr(core.signature.members[name].signature, "members", {}) for name in core.memories}
    pins = []
    for name, ports in members.items():
        reads = ", ".join(_pin(name, port) for port in _READ)
        writes = ", ".join(f"&{_pin(name, port)}" if "awvalid" in ports else "nullptr" for port in _WRITE)
        pins.append(f"AxiPins{{{reads}, {writes}}}")
    names = ", ".join(f'"{name}"' for name in members)
    ports_h = (f"#define PORTS {', '.join(pins)}\nstatic const char* const PORT_NAMES[] = {{{names}}};\n"
               f"static const int CLASSES = {len(core.begins)};\n")  # fmt: skip
    text = without_zeros(core_text(core))
    options = (*_VERILATE, *(("--trace-fst",) if waves else ()), *(COVERAGE_OPTIONS if coverage else ()))
    return {
        "text": (without_unnamed(text) if coverage else text) + registered_inputs(core, top), "top": f"{top}_bench",
        "main": source("core_main.cpp"), "headers": {
            "ports.h": ports_h, "core_registers.h": c_header(
                core.machine.name, values={}, sequencer={}, cores=core.machine.cores
            ),
            "registered_bus.h": source("registered_bus.h"), "axi_memory.h": source("axi_memory.h"),
        },
        "make": COVERAGE_MAKE if coverage else _QUICK if quick else _FAST, "verilate": options,
    }  # fmt: skip


def _pin(port: str, member: str) -> str:
    return f"top.{port}___05F{member}"


class CoreProcess:
    """A running core. Its memories are ``hbm``, one array a channel, and ``ddr``: both sides see every change.

    ``ddr`` has the text and the constants behind what was given, and those of ``more`` texts, which ``select`` takes by
    their number from 1 on. Use it in a ``with``.

    Raises
    ------
    HarnessError
        Whatever ends the process: AXI used as it must not be, a command that is none.
    """

    def __init__(
        self, model: CompiledModel, *, hbm: Sequence[NDArray[np.uint8]], ddr: NDArray[np.uint8],
        text: NDArray[np.uint32], constants: Sequence[int] = (), latency: int = LATENCY_CYCLES,
        more: Sequence[tuple[NDArray[np.uint32], Sequence[int]]] = (), cores: int = 1,
    ) -> None:  # fmt: skip
        self._folder = tempfile.TemporaryDirectory(prefix="mixflight-core-")
        folder = Path(self._folder.name)
        whole, self._texts = _with_texts(ddr, [(text, constants), *more])
        self.text_at, self.constants_at, self.instructions, self.constants = self._texts[0]
        paths = [_file(folder / f"channel{index}", channel) for index, channel in enumerate(hbm)]
        paths.append(_file(folder / "ddr", whole))
        self.hbm = [np.memmap(path, np.uint8, "r+") for path in paths[:-1]]
        self.ddr = np.memmap(paths[-1], np.uint8, "r+")
        command = [str(model.executable), str(latency), *map(str, paths[:-1]), *[str(paths[-1])] * (2 * cores)]
        self.window = 0
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._say_where()

    def select(self, number: int) -> None:
        """The next run loads the ``number``-th text, 0 the first, and executes it; buffers keep what they hold."""
        self.text_at, self.constants_at, self.instructions, self.constants = self._texts[number]
        self._say_where()

    def _say_where(self) -> None:
        """Tell the core where its text and constants lie, which it then has to load."""
        self._loaded = False
        self.write("TEXT_ADDRESS_LOW", self.text_at & 0xFFFFFFFF)
        self.write("TEXT_ADDRESS_HIGH", self.text_at >> 32)
        self.write("CONSTANTS_ADDRESS_LOW", self.constants_at & 0xFFFFFFFF)
        self.write("CONSTANTS_ADDRESS_HIGH", self.constants_at >> 32)
        self.write("TEXT_INSTRUCTIONS", self.instructions)
        self.write("CONSTANTS_COUNT", self.constants)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process and remove the files."""
        try:
            self._process.stdin.write("quit\n")
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def write(self, name: str, value: int, number: int = 0) -> None:
        """Write a control register, the ``number``-th of its name."""
        answer = self._ask(f"write {self._address(name, number)} {value & 0xFFFFFFFF}")
        if answer != "0":
            raise HarnessError(f"control register {name} must take a write, but it answers {answer}")

    def _address(self, name: str, number: int) -> int:
        return self.window + core_registers()[name].address + 4 * number

    def read(self, name: str, number: int = 0) -> int:
        """Read a control register."""
        return int(self._ask(f"read {self._address(name, number)}").split()[0])

    def set_constants(self, constants: ControlConstants) -> None:
        """Write what MISC reads."""
        for name in ("eps", "inverse_hidden", "inverse_head", "inverse_root", "position", "head_elements"):
            self.write(name.upper(), getattr(constants, name))
        for index, step in enumerate(constants.rope_steps):
            self.write("ROPE_LOW", step & 0xFFFFFFFF)
            self.write("ROPE", step >> 32 | index << 8)

    def run(
        self, registers: Mapping[int, int], *, limit: int = LIMIT_CYCLES, every: int = 0,
        on_progress: Callable[[int, dict[str, int]], None] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Write the sequencer's ``registers`` (by number, others 0), run the text to its end; what was counted.

        ``on_progress`` is told about each ``every`` cycles: the cycles so far, and how many instructions the unit of
        each class has taken.

        Raises
        ------
        HarnessError
            The core stopped with an error, or was busy after ``limit`` cycles.
        """
        self.write_registers(registers)
        return self._ran(self._until_end(limit, every, on_progress), limit)

    def write_registers(self, registers: Mapping[int, int]) -> None:
        """Write the sequencer's registers by number, others 0."""
        for number in range(1, core_registers()["REGISTER"].count):
            self.write("REGISTER", registers.get(number, 0), number)

    def _until_end(
        self, limit: int, every: int, on_progress: Callable[[int, dict[str, int]], None] | None
    ) -> list[str]:  # fmt: skip
        """Run; the seconds that it took and the cycles that were simulated, as they were answered."""
        self._ask("counts")
        self._ask("seconds")
        answer = self._ask(f"{'run' if self._loaded else 'load'} {limit} {every}")
        while answer.startswith("at "):
            cycles, *taken = map(int, answer.split()[1:])
            if on_progress is not None:
                on_progress(cycles, dict(zip(CLASSES, taken[: len(CLASSES)], strict=True)))  # the first core's
            answer = self._answer("run")
        self._loaded = True
        return self._ask("seconds").split()

    def _ran(self, taken: Sequence[str], limit: int) -> dict[str, Any]:
        """What was counted in a run that took so long; an error if it did not end."""
        self._ended(limit)
        beats = np.array(self._ask("counts").split(), np.int64).reshape(-1, 3)
        return self._counted() | {
            "read_bytes": (LINE_BYTES * beats[:, 0]).tolist(), "written_bytes": (LINE_BYTES * beats[:, 1]).tolist(),
            "seconds": float(taken[0]), "simulated_cycles": int(taken[1]),
        }  # fmt: skip

    def _ended(self, limit: int) -> None:
        """A run that did not reach its end is a HarnessError."""
        status = self.read("STATUS")
        error = status >> 8 & 15
        if error:
            at = self.read("ERROR_AT")
            raise HarnessError(f"a program must run to its end, but the core found {MEANINGS[CoreError(error)]}, at "
                               f"instruction {at}")  # fmt: skip
        if not status >> 1 & 1:
            raise HarnessError(f"a program must end within {limit:,} cycles")

    def _counted(self) -> dict[str, Any]:
        """What the core has counted in its last run."""
        return {
            "cycles": self.read("CYCLES_LOW") | self.read("CYCLES_HIGH") << 32, "executed": self.read("EXECUTED"),
            "busy": {kind: self.read("BUSY", index) for index, kind in enumerate(CLASSES)},
        }  # fmt: skip

    def waves(self, path: Path, first: int, cycles: int) -> None:
        """Write waves (FST) of ``cycles`` cycles to ``path``, from ``first`` cycles after the first run's START on.

        Raises
        ------
        HarnessError
            The model was not built for waves, or ``path`` cannot be written.
        """
        if self._ask(f"dump {first} {cycles} {path.absolute()}") != "1":
            raise HarnessError(f"waves must come from a model that was built for them, to a file that can be written, "
                               f"not {path}")  # fmt: skip

    def stall(self, percent: int, seed: int = 0) -> None:
        """Hold up every channel of every memory port in ``percent`` of all cycles from here on."""
        self._ask(f"stall {seed} {percent}")

    def fail(self, port: int, *, read: bool, burst: int = 1) -> None:
        """Answer the ``burst``-th burst from here on that ``port`` reads, or writes, with an error."""
        self._ask(f"fault {port} {int(read)} {burst}")

    def reset(self) -> None:
        """Reset the core and its memories' ports; memories keep what they hold, registers do not."""
        self._ask("reset")
        self._say_where()

    def coverage(self, path: Path) -> None:
        """Write what lines, branches and signals of the core have done since it was started (``coverage_data``).

        Raises
        ------
        HarnessError
            The model was not built for it, or ``path`` cannot be written.
        """
        if self._ask(f"coverage {path.absolute()}") != "1":
            raise HarnessError("coverage must come from a model that was built for it")

    def events(self, path: Path | None) -> bool:
        """Note in ``path`` (:func:`read_events`) when units take and end instructions, from here on, or stop."""
        return self._ask(f"events {path or 'off'}") == "1"

    def _ask(self, command: str) -> str:
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and so there is no answer
        return self._answer(command.split()[0])

    def _answer(self, asked: str) -> str:
        answer = self._process.stdout.readline()
        if not answer or answer.startswith("?"):
            raise HarnessError(f"the simulation of a core must answer {asked!r}, but it says {answer!r}")
        return str(answer.strip())


def read_events(path: Path, core: int = 0) -> dict[str, NDArray[np.int64]]:
    """By class: cycles of a run, from the write of START on, in which its unit took an instruction, and ended it; of
    the unit of ``core``."""
    words = np.fromfile(path, "<u8").reshape(-1, 2)
    found = {}
    for bit, kind in enumerate(CLASSES, core * len(CLASSES)):
        takes, ends = (words[words[:, 1] >> np.uint64(shift + bit) & np.uint64(1) == 1, 0] for shift in (0, 32))
        found[kind] = np.stack([takes[: len(ends)], ends], axis=1).astype(np.int64)
    return found


def _with_texts(
    ddr: NDArray[np.uint8], texts: Sequence[tuple[NDArray[np.uint32], Sequence[int]]]
) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int]]]:  # fmt: skip
    """``ddr`` with texts and constants behind it; of each the bytes where both lie, its instructions and constants."""
    parts, places, end = [ddr], [], len(ddr)
    for text, constants in texts:
        words = np.asarray(text, "<u4").reshape(-1, INSTRUCTION_BYTES // 4)
        listed = np.array(list(constants), "<u4")
        place = []
        for data, least in ((words, 0), (listed, 4 * CONSTANTS)):
            place.append(_up(end))
            parts += [np.zeros(_up(end) - end, np.uint8), data.ravel().view(np.uint8),
                      np.zeros(max(0, least - data.nbytes), np.uint8)]  # fmt: skip
            end = _up(end) + max(least, data.nbytes)
        places.append((place[0], place[1], len(words), len(listed)))
    return np.concatenate(parts), places


def _up(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def _file(path: Path, content: NDArray[np.uint8]) -> Path:
    whole = np.zeros(max(_up(len(content)), PAGE_BYTES), np.uint8)
    whole[: len(content)] = content
    whole.tofile(path)
    return path
