"""A scenario on FlightLLM cores: each distinct pass compiled and run, and what it took by operator.

A decode of many tokens visits one context after the other. Contexts that make equal programs (but for where in memory
the new token goes) are run once, as the longest of them: those in the same block of ``K_BLOCK`` tokens. Nothing is
interpolated.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASS_INDEX
from mixflight.mapping.block_mask import Mask
from mixflight.mapping.core_compile import CoreCompiler
from mixflight.mapping.core_program import CompiledProgram
from mixflight.sim.core.activity import program_counts
from mixflight.sim.core.execution import Execution, compile_streams, execute
from mixflight.sim.core.units import LIMIT, LIMITS, Floats, Units
from mixflight.workloads.model import Model
from mixflight.workloads.trace import Formats, Trace, decode_traces, prefill_trace


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What is modelled: switched off one by one to measure what each costs. ``exchange`` False makes barriers and
    exchanges free, ``ports`` False the buffers as wide as need be; ``hbm_speed`` makes HBM faster."""

    rows: bool = True
    refresh: bool = True
    fill: bool = True
    exchange: bool = True
    ports: bool = True
    on_chip: bool = True
    sparse: bool = True
    hbm_speed: float = 1.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Passes of one phase added up; arrays by operator (``names``), times in cycles of the core that has most to do.

    ``spent`` is (operator, limit), ``load`` what each resource was busy for, in the same columns; ``busy`` the shares
    of the classes' units.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    cycles: float
    instructions: int
    instruction_bytes: int
    spent: Floats
    load: Floats
    busy: dict[str, float]
    counts: dict[tuple[str, str], Floats]


class Cores:
    """Compiles and runs passes of one model on one machine; ``masks``: blocks of attention that a prefill computes."""

    def __init__(
        self, machine: CoreMachine, model: Model, formats: Formats, *, max_context: int, batch: int = 1,
        effects: Effects | None = None, masks: Sequence[Mask] = (),
    ) -> None:  # fmt: skip
        effects = effects or Effects()
        self.machine, self.model, self.formats, self.batch = without(machine, effects), model, formats, batch
        self.compiler = CoreCompiler(
            machine, max_context=max_context, on_chip=effects.on_chip, sparse=effects.sparse, masks=masks
        )  # fmt: skip
        self.units = Units(
            self.machine, rows=effects.rows, refresh=effects.refresh, fill=effects.fill, hbm_speed=effects.hbm_speed
        )

    def program(self, trace: Trace) -> CompiledProgram:
        """The compiled pass."""
        return self.compiler.compile(trace)

    def execute(
        self, program: CompiledProgram, *, with_slices: bool = False, merged: bool = False, repeat: bool = True
    ) -> Execution:
        """The pass, run; the options are :func:`execute`'s."""
        compiled = compile_streams(self.units, program.streams, program.core_of)
        text = max(16 * len(item) for item in program.texts)
        return execute(self.units, compiled, text_bytes=text, with_slices=with_slices, merged=merged, repeat=repeat)

    def run(self, trace: Trace) -> Run:
        """One pass, by operator."""
        program = self.program(trace)
        done = self.execute(program)
        counts = program_counts(self.machine, program.streams, program.core_of, len(program.names))
        operators = len(program.names)
        waits = [LIMIT["exchange"], LIMIT["barrier"]]
        core = int((done.spent.sum(axis=(1, 2)) - done.spent[:, :, waits].sum(axis=(1, 2))).argmax())
        spent, used = _padded(done.spent[core], operators), _padded(done.used[core], operators)
        return Run(
            names=program.names, kinds=program.kinds, cycles=done.total, instructions=done.instructions,
            instruction_bytes=program.instruction_bytes, spent=spent, load=load_of(spent, used), busy=done.shares,
            counts=counts,
        )  # fmt: skip

    def prefill(self, tokens: int, decode: int = 0) -> Run:
        """The prefill of ``tokens``, before a decode of so many."""
        return self.run(prefill_trace(self.model, self.formats, tokens, self.batch, decode))

    def step(self, context: int) -> Run:
        """The decode step that makes the cache ``context`` long."""
        return self.run(next(iter(decode_traces(self.model, self.formats, context - 1, 1, self.batch))))

    def decode(self, prefill: int, decode: int) -> Run:
        """Steps at contexts prefill + 1 ... prefill + decode."""
        longest: dict[int, int] = {}
        times: dict[int, int] = defaultdict(int)
        for context in range(prefill + 1, prefill + decode + 1):
            block = -(-context // K_BLOCK)
            longest[block] = context
            times[block] += 1
        return total([(self.step(longest[block]), count) for block, count in times.items()])


def without(machine: CoreMachine, effects: Effects) -> CoreMachine:
    """``machine`` without the effects that are parameters of it."""
    change = msgspec.structs.replace
    if not effects.exchange:
        exchange = change(machine.exchange, bytes_per_cycle=1 << 40, latency_cycles=0)
        controller = change(machine.controller, barrier_cycles=0)
        machine = change(machine, exchange=exchange, controller=controller)
    if not effects.ports:
        wide = {
            name: change(getattr(machine.buffers, name), width_bytes=1 << 30, depth=1, kind="bram")
            for name in ("index", "scale", "act", "vector")
        }
        free = change(machine.device, bram36=0)
        machine = change(machine, buffers=change(machine.buffers, **wide), device=free)
    return machine


def total(parts: list[tuple[Run, int]]) -> Run:
    """Passes of equal texts, each so many times."""
    first = parts[0][0]
    cycles = sum(run.cycles * count for run, count in parts)
    return Run(
        names=first.names, kinds=first.kinds, cycles=cycles,
        instructions=sum(run.instructions * count for run, count in parts),
        instruction_bytes=max(run.instruction_bytes for run, _ in parts),
        spent=np.sum([run.spent * count for run, count in parts], axis=0),
        load=np.sum([run.load * count for run, count in parts], axis=0),
        busy={kind: sum(run.busy[kind] * run.cycles * count for run, count in parts) / cycles for kind in first.busy},
        counts={
            key: np.sum([run.counts[key] * count for run, count in parts], axis=0) for key in first.counts
        },
    )  # fmt: skip


def limits(load: Floats) -> tuple[str, str]:
    """(The limit, the one behind it) of rows of operators: what is busy, or waited for, longest, and next longest."""
    first, second = np.argsort(-load.sum(axis=0), kind="stable")[:2]
    return LIMITS[int(first)], LIMITS[int(second)]


_ENGINE = [LIMIT[name] for name in ("compute", "array edge", "lanes", "widening")]


def load_of(spent: Floats, used: Floats) -> Floats:
    """How long each resource was busy for each operator, or waited for; the matrix engine under its main limit."""
    load = spent.copy()
    for limit, kinds in (("dram", ("LD", "ST")), ("sfu", ("MISC",))):
        busy = used[:, [CLASS_INDEX[kind] for kind in kinds]].sum(axis=1)
        load[:, LIMIT[limit]] = np.maximum(load[:, LIMIT[limit]], busy)
    engine = np.array(_ENGINE)[spent[:, _ENGINE].argmax(axis=1)]
    busy = used[:, CLASS_INDEX["MM"]] + used[:, CLASS_INDEX["MV"]]
    rows = np.arange(len(spent))
    load[:, _ENGINE] = 0.0
    load[rows, engine] = busy
    return load


def _padded(values: Floats, operators: int) -> Floats:
    found = np.zeros((operators, values.shape[1]))
    found[: len(values)] = values
    return found
