"""A model on the compiled Verilog of a core, or of several that are joined: a token in, its logits and what was
counted out.

    open_core     the Verilog of a machine's cores
    RtlSession    its steps; ``save`` and ``load`` are a checkpoint
"""

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
from mixflight.rtl.core_cluster_harness import ClusterProcess
from mixflight.rtl.core_harness import build_core, read_events
from mixflight.rtl.design import cores_of
from mixflight.rtl_energy import RecordedStep, SeenCore, recorded_step
from mixflight.sim.core_values.decode import MachineModel, Step

EVERY_CYCLES = 4096
"""How often progress is told: a few times a layer of a small model."""
CONTEXTS = (512, 1024, 2048)
"""Contexts that memories and programs are laid out for: the least that is enough."""
SAVED = "checkpoint.npz"
_STEPS, _BLOCKS = 0, 1
"""Texts of a session, by number."""

Progress = Callable[["Moment"], None]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step is: ``layer`` counts those that have written their keys and values."""

    position: int
    layer: int
    layers: int
    cycles: int
    engine_cycles: float


class TokenRun(msgspec.Struct, frozen=True, kw_only=True):
    """One token through the core, or all cores, or a block of a prompt.

    ``tokens``         how many from ``position`` on; ``token`` is the last of them
    ``cycles``         what the core counted, START to DONE; of several the most. The first step of a text fetches it in
                       them
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
    """The compiled cores of ``machine``, from the cache or made now; ``waves``: such that can write them."""
    return build_core(cores_of(machine, generic=True), waves=waves)


def context_for(tokens: int) -> int:
    """The context that memories are laid out for where ``tokens`` are wanted."""
    for context in CONTEXTS:
        if tokens <= context:
            return context
    raise InputError(f"prompt and tokens must be at most {CONTEXTS[-1]:,} on a core, not {tokens:,}")


class RtlSession:
    """One sequence on cores of its own. Use it in a ``with``.

    ``made`` is the model that it was given, but in the memories of the Verilog's process. ``waves``: a file, the first
    cycle, counted from the first step's START on, and how many. ``prompt``: so many tokens come in blocks, of ``block``
    tokens, on a core that carries out MM; 0: none. ``loads``: the last step fetched its text.
    """

    def __init__(
        self, compiled: CompiledModel, made: MachineModel, *, waves: tuple[Path, int, int] | None = None,
        prompt: int = 0,
    ) -> None:  # fmt: skip
        self.machine, self.position, self.loads = made.machine, 0, True
        self.block = made.block_size(prompt) if prompt else 0
        if self.block:
            made = made.with_blocks(self.block)
        self._last: list[Step] = []
        self._selected = -1
        self._folder = tempfile.TemporaryDirectory(prefix="mixflight-events-")
        self._events = Path(self._folder.name) / "events"
        texts = [[(encode(item.text.stream, compact()), item.text.constants.tolist()) for item in items]
                 for items in ([core.text for core in made.cores], [core.blocks for core in made.cores if core.blocks])]
        self._process = ClusterProcess(compiled, hbm=made.hbm, ddr=made.cores[0].ddr[0], texts=texts[_STEPS],
                                       more=texts[_BLOCKS:])  # fmt: skip
        self.made: MachineModel = made.in_memories(self._process.hbm, self._process.ddr)
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
        return self._run(self.made.steps(token, self.position), _STEPS, [token], on_progress), self.made.logits()

    @property
    def takes_blocks(self) -> bool:
        """Whether a block may begin at the next position: with a row of the cache."""
        return bool(self.block) and self.position % self.machine.hbm.channels_per_core == 0

    def prompt(
        self, tokens: Sequence[int], on_progress: Progress | None = None, *, logits: bool = True
    ) -> tuple[TokenRun, NDArray[np.float32] | None]:  # fmt: skip
        """Run a block of at most ``block`` tokens; what was counted, and the last one's ``logits``."""
        steps = self.made.block_steps(tokens, self.position, logits=logits)
        return self._run(steps, _BLOCKS, tokens, on_progress), self.made.logits() if logits else None

    def _run(
        self, steps: list[Step], text: int, tokens: Sequence[int], on_progress: Progress | None
    ) -> TokenRun:  # fmt: skip
        made, position = self.made, self.position
        self.loads = self._selected != text
        if self.loads:
            self._process.select(text)
            self._selected = text
        engine = made.engine(steps, loads=self.loads).total
        instructions = made.instructions(steps)
        ends = _layer_ends(instructions[0], made.model.layers)  # the first core has heads

        def told(cycles: int, taken: Mapping[str, int]) -> None:
            layer = bisect_right(ends, taken["MISC"])
            if on_progress is not None:
                on_progress(Moment(position=position, layer=layer, layers=len(ends), cycles=cycles,
                                   engine_cycles=engine))  # fmt: skip

        self._process.set_constants(steps[0].constants)
        self._process.events(self._events)
        counted = self._process.run_all([step.numbered for step in steps], every=EVERY_CYCLES if on_progress else 0,
                                        on_progress=told)  # fmt: skip
        self._process.events(None)
        self.position, self._last = position + len(tokens), steps
        seen = [
            SeenCore(instructions=mine, ended={kind: len(times) for kind, times in self.units(core).items()},
                     executed=own["executed"], busy=own["busy"])
            for core, (mine, own) in enumerate(zip(instructions, counted["cores"], strict=True))
        ]  # fmt: skip
        recorded = recorded_step(made, steps, seen, counted)
        return TokenRun(
            position=position, token=tokens[-1], tokens=len(tokens), cycles=counted["cycles"], engine_cycles=engine,
            read_bytes=sum(counted["read_bytes"]), written_bytes=sum(counted["written_bytes"]),
            energy_j=recorded.estimated_j, seconds=counted["seconds"], recorded=recorded,
        )  # fmt: skip

    @property
    def last(self) -> list[Step]:
        """The last step that this process ran, core by core."""
        if not self._last:
            raise InputError("a step must have run before its units can be looked at")
        return self._last

    def units(self, core: int = 0) -> dict[str, NDArray[np.int64]]:
        """By class: cycles from START on in which the unit of ``core`` took, and ended, each of the last step's
        instructions."""
        return read_events(self._events, core)

    def save(self, folder: Path, **facts: Any) -> None:
        """Write a checkpoint: ``facts``, the position, and all that steps change of the memories, in one file that is
        there whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        document = json.dumps({"position": self.position, "made_of": self._made_of(), **facts})
        parts: dict[str, Any] = {f"channel{index}": changed for index, changed in enumerate(self._changed())}
        with whole_file(folder / SAVED) as part, part.open("wb") as file:
            np.savez(file, document=np.array(document), **parts)

    def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint; its facts. One of another machine or model is an InputError."""
        facts = read_checkpoint(folder)
        if facts["made_of"] != self._made_of():
            raise InputError(f"a checkpoint must be of this machine, model and context, not that in {folder}")
        with np.load(folder / SAVED) as saved:
            for index, changed in enumerate(self._changed()):
                changed[:] = saved[f"channel{index}"]
        self.position = facts["position"]
        return facts

    def _changed(self) -> list[NDArray[np.uint8]]:
        """What steps change: of each channel what lies from the cache on."""
        return [channel[core.text.memory.cache[0] :] for core in self.made.cores for channel in core.hbm]

    def _made_of(self) -> str:
        """What a checkpoint must agree with: machine, model and where everything lies."""
        made = self.made
        places = (part for core in made.cores for part in (core.text.memory, core.text.cache))
        return repr((made.machine, made.model, *places))


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
