"""A model on the compiled Verilog of a core: a token in, its logits and what the core counted out.

    open_core     a model file on a machine's core
    RtlSession    its steps; ``save`` and ``load`` are a checkpoint
"""

import dataclasses
import json
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import codes, compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import encode
from mixflight.files import whole_file
from mixflight.mapping.core_primitives import Primitive
from mixflight.rtl.compiled_model import CompiledModel
from mixflight.rtl.core import Core
from mixflight.rtl.core_harness import CoreProcess, build_core, read_events
from mixflight.rtl_energy import RecordedStep, recorded_step
from mixflight.sim.core_values.decode import CoreModel, Step, from_file

EVERY_CYCLES = 4096
"""How often progress is told: a few times a layer of a small model."""
CONTEXTS = (512, 1024, 2048)
"""Contexts that memories and programs are laid out for: the least that is enough."""
SAVED = "checkpoint.npz"

Progress = Callable[["Moment"], None]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step is: ``layer`` counts those that have written their keys and values."""

    position: int
    layer: int
    layers: int
    cycles: int
    engine_cycles: float


class TokenRun(msgspec.Struct, frozen=True, kw_only=True):
    """One token through the core, or a block of a prompt.

    ``tokens``         how many from ``position`` on; ``token`` is the last of them
    ``cycles``         what the core counted, START to DONE; the first step of a text fetches it in them
    ``engine_cycles``  the engine's, for the same step
    ``energy_j``       the price table's, of the engine's actions in the time that the core took
    ``read_bytes``     of all memory ports, ``written_bytes`` likewise; ``seconds`` of simulation
    ``recorded``       what the RTL was seen to do, and its energy; None where a run was kept without it
    """

    position: int
    token: int
    cycles: int
    engine_cycles: float
    read_bytes: int
    written_bytes: int
    energy_j: float
    seconds: float
    recorded: RecordedStep | None = None
    tokens: int = 1


def open_core(machine: CoreMachine, *, waves: bool = False) -> CompiledModel:
    """The compiled core of ``machine``, from the cache or made now; ``waves``: one that can write them."""
    return build_core(Core(machine, generic=True), waves=waves)


def context_for(tokens: int) -> int:
    """The context that memories are laid out for where ``tokens`` are wanted."""
    for context in CONTEXTS:
        if tokens <= context:
            return context
    raise InputError(f"prompt and tokens must be at most {CONTEXTS[-1]:,} on a core, not {tokens:,}")


class RtlSession:
    """One sequence on a core of its own. Use it in a ``with``.

    ``model`` has ``layers`` first layers of the file, all without; contexts up to ``max_context``. ``waves``: a file,
    the first cycle, counted from the first step's START on, and how many. ``prompt``: so many tokens come in blocks,
    of ``block`` tokens, on a core that carries out MM; 0: none. ``loads``: the last step fetched its text.
    """

    def __init__(
        self, compiled: CompiledModel, machine: CoreMachine, path: Path, *, max_context: int, layers: int | None = None,
        waves: tuple[Path, int, int] | None = None, prompt: int = 0,
    ) -> None:  # fmt: skip
        self.machine, self.position, self.loads = machine, 0, True
        made = from_file(machine, path, max_context, layers=layers)
        self.block = made.block_size(prompt) if prompt else 0
        if self.block:
            made = made.with_blocks(self.block)
        self._last: Step | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="mixflight-events-")
        self._events = Path(self._folder.name) / "events"
        self._texts = [made.text] if made.blocks is None else [made.text, made.blocks]
        coded = [(encode(item.text.stream, compact()), item.text.constants.tolist()) for item in self._texts]
        self._process = CoreProcess(compiled, hbm=made.hbm, ddr=made.ddr[0], text=coded[0][0], constants=coded[0][1],
                                    more=coded[1:])  # fmt: skip
        self.made: CoreModel = dataclasses.replace(made, hbm=list(self._process.hbm), ddr=[self._process.ddr])
        if waves is not None:
            self._process.waves(*waves)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._process.__exit__(kind, error, trace)
        self._folder.cleanup()

    def step(self, token: int, on_progress: Progress | None = None) -> tuple[TokenRun, NDArray[np.float32]]:
        """Run ``token`` at the next position; what was counted, and its logits."""
        return self._run(self.made.step(token, self.position), [token], on_progress), self.made.logits()

    @property
    def takes_blocks(self) -> bool:
        """Whether a block may begin at the next position: with a row of the cache."""
        return bool(self.block) and self.position % self.machine.hbm.channels_per_core == 0

    def prompt(
        self, tokens: Sequence[int], on_progress: Progress | None = None, *, logits: bool = True
    ) -> tuple[TokenRun, NDArray[np.float32] | None]:  # fmt: skip
        """Run a block of at most ``block`` tokens; what was counted, and the last one's ``logits``."""
        run = self._run(self.made.block_step(tokens, self.position, logits=logits), tokens, on_progress)
        return run, self.made.logits() if logits else None

    def _run(self, step: Step, tokens: Sequence[int], on_progress: Progress | None) -> TokenRun:
        made, position = self.made, self.position
        self.loads = self._last is None or self._last.text is not step.text
        if self.loads:
            self._process.select(next(at for at, text in enumerate(self._texts) if text is step.text))
        engine = made.engine(step, loads=self.loads).total
        instructions = made.instructions(step)
        ends = _layer_ends(instructions, made.model.layers)

        def told(cycles: int, taken: Mapping[str, int]) -> None:
            layer = bisect_right(ends, taken["MISC"])
            if on_progress is not None:
                on_progress(Moment(position=position, layer=layer, layers=len(ends), cycles=cycles,
                                   engine_cycles=engine))  # fmt: skip

        self._process.set_constants(step.constants)
        self._process.events(self._events)
        counted = self._process.run(step.numbered, every=EVERY_CYCLES if on_progress else 0, on_progress=told)
        self._process.events(None)
        self.position, self._last = position + len(tokens), step
        ended = {kind: len(times) for kind, times in self.units().items()}
        recorded = recorded_step(made, step, instructions, counted, ended)
        return TokenRun(
            position=position, token=tokens[-1], tokens=len(tokens), cycles=counted["cycles"], engine_cycles=engine,
            read_bytes=sum(counted["read_bytes"]), written_bytes=sum(counted["written_bytes"]),
            energy_j=recorded.estimated_j, seconds=counted["seconds"], recorded=recorded,
        )  # fmt: skip

    @property
    def last(self) -> Step:
        """The last step that this process ran."""
        if self._last is None:
            raise InputError("a step must have run before its units can be looked at")
        return self._last

    def units(self) -> dict[str, NDArray[np.int64]]:
        """By class: cycles from START on in which its unit took, and ended, each of the last step's instructions."""
        return read_events(self._events)

    def save(self, folder: Path, **facts: Any) -> None:
        """Write a checkpoint: ``facts``, the position, and all that steps change of the memories, in one file that is
        there whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        first = self.made.text.memory.cache[0]
        document = json.dumps({"position": self.position, "made_of": self._made_of(), **facts})
        parts: dict[str, Any] = {f"channel{index}": channel[first:] for index, channel in enumerate(self.made.hbm)}
        with whole_file(folder / SAVED) as part, part.open("wb") as file:
            np.savez(file, document=np.array(document), **parts)

    def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint; its facts. One of another machine or model is an InputError."""
        facts = read_checkpoint(folder)
        if facts["made_of"] != self._made_of():
            raise InputError(f"a checkpoint must be of this machine, model and context, not that in {folder}")
        first = self.made.text.memory.cache[0]
        with np.load(folder / SAVED) as saved:
            for index, channel in enumerate(self.made.hbm):
                channel[first:] = saved[f"channel{index}"]
        self.position = facts["position"]
        return facts

    def _made_of(self) -> str:
        """What a checkpoint must agree with: machine, model and where everything lies."""
        made = self.made
        return repr((made.machine, made.model, made.text.memory, made.text.cache))


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The facts of the checkpoint in ``folder``."""
    try:
        with np.load(folder / SAVED) as saved:
            return dict(json.loads(str(saved["document"])))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"a checkpoint must be readable, but {folder / SAVED}: {error}") from None


def _layer_ends(instructions: list[Primitive], layers: int) -> list[int]:
    """After how many instructions of the SFU each layer has written its keys and values."""
    append = codes("MISC", "operation")["kv_append"]
    vector = [item for item in instructions if item.kind == "MISC" and not item.empty]
    found = [number for number, item in enumerate(vector, 1) if item.fields["operation"] == append]
    each = len(found) // layers
    return found[each - 1 :: each]
