"""Runs texts through a compiled controller; what its units were given, and when."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixflight.arch.core_registers import c_header
from mixflight.arch.isa import CLASSES
from mixflight.rtl.compiled_model import CompiledModel, compile_model, source
from mixflight.rtl.core_ports import primitive
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import HarnessError
from mixflight.rtl.toolchain import last_lines, run_tool

_REGISTERS = 32
_DONE = 8
_STALLS = 256


@dataclass(frozen=True, kw_only=True)
class ControllerJob:
    """A text, 4 words an instruction, and units that take ``latency`` cycles (least, most; at random between).

    ``overlap``: instructions that a unit has at once; ``stall``: how often a unit or the memory does not take or give.
    ``load``: text and constants are read from memory, otherwise the memories keep what the job before left.
    ``reset_at``: the core is reset so many cycles after START, and everything done again; 0: never.
    """

    text: np.ndarray
    constants: Sequence[int] = ()
    registers: Mapping[int, int] = field(default_factory=dict)
    latency: tuple[int, int] = (2, 2)
    overlap: int = 1
    stall: float = 0.0
    seed: int = 1
    load: bool = True
    limit: int = 1_000_000
    reset_at: int = 0


@dataclass(frozen=True, kw_only=True)
class ControllerResult:
    """What was seen. Cycles count from the one in which the host writes START, which the core takes in cycle 0."""

    busy: bool
    done: bool
    idle: bool
    error: int
    error_at: int
    executed: int
    cycles: int
    busy_cycles: dict[str, int]
    given: dict[str, list[dict[str, int]]]
    """Class → operands of each instruction that its unit was given."""
    starts: dict[str, np.ndarray]
    ends: dict[str, np.ndarray]


def build_controller(component) -> CompiledModel:
    """Compile a :class:`~mixflight.rtl.core_controller.Controller` with its bench."""
    header = c_header("controller", values={}, sequencer={})
    return compile_model(
        emit_verilog(component, "controller"), top="controller", main=source("controller_main.cpp"),
        headers={"core_registers.h": header, "control_bus.h": source("control_bus.h")},
    )  # fmt: skip


def run_controller(
    model: CompiledModel, jobs: Sequence[ControllerJob], *, timeout_s: float = 600
) -> list[ControllerResult]:  # fmt: skip
    """Run ``jobs``, each from a reset.

    Raises
    ------
    HarnessError
        The simulation ended without writing its events.
    """
    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        folder = Path(name)
        words = [np.array([len(jobs)], np.uint32), *(_words(job) for job in jobs)]
        np.concatenate(words).tofile(folder / "jobs")
        done = run_tool([str(model.executable), str(folder / "jobs"), str(folder / "events")], timeout_s=timeout_s)
        if done.returncode != 0:
            raise HarnessError(f"the simulation of {model.top} must write its events: {last_lines(done.stdout)}")
        found = np.fromfile(folder / "events", np.uint32)
    results, at = [], 0
    for _ in jobs:
        count = int(found[at + 11])
        results.append(_result(found[at : at + 12], found[at + 12 : at + 12 + 6 * count].reshape(count, 6)))
        at += 12 + 6 * count
    return results


def _words(job: ControllerJob) -> np.ndarray:
    text = np.asarray(job.text, np.uint32).reshape(-1, 4)
    head = [len(text), len(job.constants), job.load, job.seed, *job.latency, job.overlap, round(job.stall * _STALLS),
            job.limit, job.reset_at]  # fmt: skip
    registers = [job.registers.get(number, 0) & 0xFFFFFFFF for number in range(_REGISTERS)]
    return np.concatenate([np.array(part, np.uint32) for part in (head, registers, text.ravel(), list(job.constants))])


def _result(head: np.ndarray, events: np.ndarray) -> ControllerResult:
    status, error_at, executed, cycles, *rest = (int(value) for value in head)
    given, starts, ends = {}, {}, {}
    for index, kind in enumerate(CLASSES):
        rows = events[events[:, 1] == index]
        starts[kind], ends[kind] = rows[:, 0].astype(int), events[events[:, 1] == index + _DONE, 0].astype(int)
        given[kind] = [_operands(kind, row[2:]) for row in rows]
    return ControllerResult(
        busy=bool(status & 1), done=bool(status >> 1 & 1), idle=bool(status >> 2 & 1), error=status >> 8 & 15,
        error_at=error_at, executed=executed, cycles=cycles,
        busy_cycles=dict(zip(CLASSES, rest[:6], strict=True)), given=given, starts=starts, ends=ends,
    )  # fmt: skip


def _operands(kind: str, words: np.ndarray) -> dict[str, int]:
    value = sum(int(word) << 32 * place for place, word in enumerate(words))
    found, at = {}, 0
    for name, bits in primitive(kind).members.items():
        found[name] = value >> at & (1 << bits) - 1
        at += bits
    return found
