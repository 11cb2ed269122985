"""A model in the memories of a machine's cores, and its decode steps: what a host writes, what cores then compute.

    core_model      a model on a machine of one core; ``from_file`` takes it from a GGUF file
    machine_model   on a machine of several; ``machine_from_file``
    CoreModel       text and memory image; ``step(token, position)`` is what the host writes before a step; ``decode``
                    runs it here, ``prompt`` a prompt in blocks on matrices
    MachineModel    its cores; ``decode`` runs them together
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import INSTRUCTION_BYTES, K_BLOCK, LINE_BYTES
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_chunk import chunk_registers, chunk_texts
from mixflight.mapping.core_compile import CoreCompiler, CoreText, registers_of
from mixflight.mapping.core_contents import (
    channel_bytes,
    control_of,
    embedding_rows,
    fill_channels,
    gather,
    position_rows,
    vectors_of,
)  # fmt: skip
from mixflight.mapping.core_image import Octets
from mixflight.mapping.core_network import Network, network_of
from mixflight.mapping.core_prefill_block import block_registers, block_texts, block_tokens
from mixflight.mapping.core_primitives import Primitive, primitives
from mixflight.mapping.core_tiles import ceil_div, round_up
from mixflight.sim.core.execution import Execution, compile_streams
from mixflight.sim.core.execution import execute as run_engine
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.execute import execute, execute_together
from mixflight.sim.core_values.host_files import save_job
from mixflight.sim.core_values.state import CoreState, new_state, shape_of
from mixflight.sim.golden.attention import Int8Cache
from mixflight.workloads.model import Model
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.tensor import Tensor
from mixflight.workloads.trace import decode_traces

FP32 = 4


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the host writes before a step: ``text``, the sequencer's ``registers`` by name, MISC's ``constants``."""

    text: CoreText
    registers: dict[str, int]
    constants: ControlConstants

    @property
    def numbered(self) -> dict[int, int]:
        """The registers by number."""
        return {int(Register[name]): value for name, value in self.registers.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class CoreModel:
    """A core's part of a model, all of it on a machine of one: its ``text``, and the bytes of its channels (``hbm``),
    which steps change, and of ``ddr``."""

    machine: CoreMachine
    model: Model
    network: Network
    text: CoreText
    hbm: list[Octets]
    ddr: list[Octets]
    chunks: CoreText | None = None
    chunk_tokens: int = 0
    blocks: CoreText | None = None
    block_tokens: int = 0

    def step(self, token: int, position: int) -> Step:
        """What the host writes before the step of ``token`` at ``position`` (0: the first)."""
        model = self.model
        if not 0 <= token < model.vocab:
            raise InputError(f"a token must be a number below {model.vocab}, not {token}")
        at = msgspec.structs.replace(self.network, context=position + 1)
        return Step(text=self.text, registers=registers_of(self.text, at, self.machine, token),
                    constants=control_of(model, position))  # fmt: skip

    def chunk_step(self, tokens: Sequence[int], position: int) -> Step:
        """What the host writes before a chunk of ``chunk_tokens`` tokens, the first at ``position``; their rows of the
        embedding are copied to the end of DDR here."""
        if self.chunks is None or len(tokens) != self.chunk_tokens:
            raise InputError(f"a chunk must be {self.chunk_tokens} tokens of a model with chunks, not {len(tokens)}")
        at = self._gather(tokens, position)
        registers = chunk_registers(self.chunks, self.network, self.machine, position, len(tokens), at)
        return Step(text=self.chunks, registers=registers, constants=control_of(self.model, position))

    def block_step(self, tokens: Sequence[int], position: int, *, logits: bool = True) -> Step:
        """What the host writes before a block of at most ``block_tokens`` tokens on matrices, as ``chunk_step``; fewer
        are filled up with the last one. Without ``logits`` the last token's are not computed."""
        most = self.block_tokens
        if self.blocks is None or not 0 < len(tokens) <= most:
            raise InputError(f"a block must be 1 ... {most} tokens of a model with blocks, not {len(tokens)}")
        at = self._gather([*tokens, *[tokens[-1]] * (most - len(tokens))], position)
        registers = block_registers(
            self.blocks, self.network, self.machine, position, most, at, len(tokens) if logits else 0
        )
        return Step(text=self.blocks, registers=registers, constants=control_of(self.model, position))

    def _gather(self, tokens: Sequence[int], position: int) -> int:
        """Copy the rows of the embedding, and learned positions, behind the tables; the byte of the first."""
        stride, size = self.network.embedding_stride, self.network.embedding_bytes
        table = self.text.memory.embedding_bytes
        for number, token in enumerate(tokens):
            row = self.ddr[0][token * stride : token * stride + size]
            self.ddr[0][table + number * stride : table + number * stride + size] = row
        if self.network.positions:
            rows = self._positions(len(tokens), position)
            at = table + len(tokens) * stride
            self.ddr[0][at : at + rows.size] = rows
        return table

    def _positions(self, tokens: int, position: int) -> Octets:
        """Learned positions of ``tokens`` from ``position`` on, interleaved; the last one again behind the end."""
        first, size = self.network.table_bytes(0), self.network.position_bytes
        whole = self.ddr[0][first : self.text.memory.embedding_bytes].reshape(-1, size)
        rows = whole[np.minimum(np.arange(position, position + tokens), len(whole) - 1)]
        return rows.reshape(tokens, -1, LINE_BYTES).swapaxes(0, 1).reshape(-1)

    def with_blocks(self, tokens: int) -> "CoreModel":
        """The only core of a machine with a program for blocks of ``tokens`` of a prompt, in the same memories but for
        a longer DDR."""
        _one_core(self.machine)
        return MachineModel(cores=(self,)).with_blocks(tokens).cores[0]

    def instructions(self, step: Step) -> list[Primitive]:
        """What the queues get in ``step``, in program order."""
        return primitives(step.text.sequencer, step.registers)

    def state(self, step: Step) -> CoreState:
        """The core before ``step``: buffers are zeros, memories are this model's own."""
        return new_state(shape_of(self.machine), step.constants, self.hbm, self.ddr)

    def engine(self, step: Step, *, loads: bool = True) -> Execution:
        """What the engine says that ``step`` takes on a machine of this core alone, every instruction at its own
        addresses; ``loads``: the text first, which a step before may have left there."""
        units, code = Units(self.machine), step.text.text
        pieces = step.text.sequencer.expand(step.numbered, repeat=False)
        text_bytes, constants = (INSTRUCTION_BYTES * len(code.stream), len(code.constants)) if loads else (0, 0)
        return run_engine(units, compile_streams(units, [pieces], [0]), text_bytes=text_bytes, constants=constants)

    def save(self, folder: Path, step: Step) -> None:
        """What the host writes before ``step``, as files (``host_files``); the memories are as they are now."""
        save_job(folder, text=step.text.text.stream, words=step.text.text.constants, registers=step.numbered,
                 constants=step.constants, hbm=self.hbm, ddr=self.ddr[0])  # fmt: skip

    def decode(self, token: int, position: int) -> NDArray[np.float32]:
        """Run a step of a core that is alone; its logits. The cache in ``hbm`` has one token more."""
        return self._run(self.step(token, position))

    def prefill(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Run a chunk of a core that is alone; the logits behind its last token."""
        return self._run(self.chunk_step(tokens, position))

    def prompt(self, tokens: Sequence[int], position: int = 0) -> NDArray[np.float32]:
        """Run a prompt in blocks on matrices; the logits behind its last token."""
        for part, at, last in _blocks(tokens, position, self.block_tokens):
            step = self.block_step(part, at, logits=last)
            execute(self.state(step), self.instructions(step))
        return self.logits()

    def _run(self, step: Step) -> NDArray[np.float32]:
        execute(self.state(step), self.instructions(step))
        return self.logits()

    def logits(self) -> NDArray[np.float32]:
        """The logits that the last step left in memory: those of this core's part of the vocabulary."""
        return gather(self.hbm, self.text.memory.results[0], FP32 * self.text.share.vocab[1]).view(np.float32)

    def put_cache(self, layer: int, keys: Int8Cache, values: Int8Cache, tokens: int) -> None:
        """Write the first ``tokens`` cells of a layer, as steps of these tokens would have left them.

        ``keys`` and ``values`` have all heads of the model.
        """
        cache, (first_head, heads) = self.text.cache, self.text.share.heads
        t = np.arange(tokens)
        for number in range(heads):
            head = first_head + number
            base = self.text.memory.cache[0] + (layer * heads + number) * cache.stride
            parts = (
                (0, cache.key_bytes, keys.codes[head, :tokens].view(np.uint8)),
                (cache.value_at, cache.value_bytes, values.codes[head, :tokens].view(np.uint8)),
                (cache.scale_at, cache.scale_bytes, np.stack(
                    [part.scales[head, :tokens] for part in (keys, values)], axis=1
                ).astype("<f2").view(np.uint8)),
            )  # fmt: skip
            for at, size, cells in parts:
                for channel in range(cache.channels):
                    mine = t[t % cache.channels == channel]
                    first = base + at
                    self.hbm[channel][first : first + len(mine) * size] = cells[mine].reshape(-1)


def _blocks(tokens: Sequence[int], position: int, most: int) -> Iterator[tuple[Sequence[int], int, bool]]:
    """(Tokens, position of the first, whether it is the last) of every block of a prompt."""
    if not tokens or not most:
        raise InputError(f"a prompt must be at least 1 token for a model with blocks, not {len(tokens)}")
    for first in range(0, len(tokens), most):
        yield tokens[first : first + most], position + first, first + most >= len(tokens)


def zeros(name: str, size: int) -> Octets:
    """A memory of zeros; ``core_model`` takes another function to map files instead."""
    del name
    return np.zeros(size, np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class MachineModel:
    """A model on all ``cores`` of a ``machine``; ``hbm`` has the channels of the first core, then of the second, …"""

    cores: tuple[CoreModel, ...]

    @property
    def machine(self) -> CoreMachine:
        """That all are cores of."""
        return self.cores[0].machine

    @property
    def model(self) -> Model:
        """All of it."""
        return self.cores[0].model

    @property
    def hbm(self) -> list[Octets]:
        """The memories of all cores."""
        return [channel for core in self.cores for channel in core.hbm]

    def in_memories(self, hbm: Sequence[Octets], ddr: Octets) -> "MachineModel":
        """The same with other memories, which hold what its own do."""
        channels = self.machine.hbm.channels_per_core
        return MachineModel(cores=tuple(
            replace(core, hbm=list(hbm[number * channels : (number + 1) * channels]), ddr=[ddr])
            for number, core in enumerate(self.cores)
        ))  # fmt: skip

    def with_blocks(self, tokens: int) -> "MachineModel":
        """The same with programs for blocks of ``tokens`` of a prompt, in the same memories but for a longer DDR."""
        first = self.cores[0]
        texts = block_texts([core.text for core in self.cores], first.network, self.machine, tokens)
        table = first.ddr[0][: first.text.memory.embedding_bytes]
        room = np.zeros(first.network.embedded_bytes(tokens), np.uint8)
        ddr = [np.concatenate([table, room])]
        return MachineModel(cores=tuple(
            replace(core, ddr=ddr, blocks=text, block_tokens=tokens)
            for core, text in zip(self.cores, texts, strict=True)
        ))  # fmt: skip

    def block_size(self, prompt: int) -> int:
        """Tokens of a block where a prompt comes in as few of one size as buffers hold; an InputError if none."""
        channels = self.machine.hbm.channels_per_core
        most = block_tokens([core.text for core in self.cores], self.cores[0].network, self.machine)
        return round_up(ceil_div(prompt, ceil_div(prompt, most)), channels)

    def steps(self, token: int, position: int) -> list[Step]:
        """What the host writes before a step of ``token``, core by core."""
        return [core.step(token, position) for core in self.cores]

    def block_steps(self, tokens: Sequence[int], position: int, *, logits: bool = True) -> list[Step]:
        """As :meth:`CoreModel.block_step`, core by core."""
        return [core.block_step(tokens, position, logits=logits) for core in self.cores]

    def instructions(self, steps: Sequence[Step]) -> list[list[Primitive]]:
        """What the queues of each core get, in program order."""
        return [core.instructions(step) for core, step in zip(self.cores, steps, strict=True)]

    def logits(self) -> NDArray[np.float32]:
        """The logits that the last step left in the cores' memories."""
        return np.concatenate([core.logits() for core in self.cores])

    def decode(self, token: int, position: int) -> NDArray[np.float32]:
        """Run a step on all cores; its logits."""
        return self.execute(self.steps(token, position))

    def prefill(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Run a chunk on all cores; the logits behind its last token."""
        return self.execute([core.chunk_step(tokens, position) for core in self.cores])

    def prompt(self, tokens: Sequence[int], position: int = 0) -> NDArray[np.float32]:
        """Run a prompt in blocks on matrices on all cores; the logits behind its last token."""
        found = np.zeros(0, np.float32)
        for part, at, last in _blocks(tokens, position, self.cores[0].block_tokens):
            found = self.execute(self.block_steps(part, at, logits=last))
        return found

    def engine(self, steps: Sequence[Step], *, loads: bool = True, with_slices: bool = False) -> Execution:
        """What the engine says that the ``steps`` of all cores take together, as ``CoreModel.engine``; of the texts the
        longest is what all wait for. ``with_slices`` notes each instruction."""
        units = Units(self.cores[0].machine)
        pieces = [step.text.sequencer.expand(step.numbered, repeat=False) for step in steps]
        size = max(INSTRUCTION_BYTES * len(step.text.text.stream) for step in steps) if loads else 0
        constants = max(len(step.text.text.constants) for step in steps) if loads else 0
        return run_engine(units, compile_streams(units, pieces, range(len(pieces))), text_bytes=size,
                          constants=constants, with_slices=with_slices)  # fmt: skip

    def execute(self, steps: Sequence[Step]) -> NDArray[np.float32]:
        """Run the ``steps`` of all cores; the logits that are in their memories then."""
        execute_together(
            [core.state(step) for core, step in zip(self.cores, steps, strict=True)], self.instructions(steps)
        )
        return self.logits()

    def put_cache(self, layer: int, keys: Int8Cache, values: Int8Cache, tokens: int) -> None:
        """As ``CoreModel.put_cache``, every core its heads."""
        for core in self.cores:
            core.put_cache(layer, keys, values, tokens)


Memory = Callable[[str, int], Octets]


def machine_model(
    machine: CoreMachine, model: Model, recipe: Recipe, *, linears: Mapping[str, Tensor],
    vectors: Mapping[str, Tensor], embedding: Tensor, max_context: int, memory: Memory = zeros, chunk: int = 0,
    block: int = 0, positions: Tensor | None = None,
) -> MachineModel:  # fmt: skip
    """``model`` in the memories of a machine, for contexts up to ``max_context``; with programs for chunks of ``chunk``
    tokens of a prompt on vectors and blocks of ``block`` on matrices, if there are any.

    ``linears`` by operator (``layers.0.q``, ..., ``head``), ``vectors`` by their name in a GGUF file in which nothing
    is fused; ``positions``: learned ones. ``memory`` makes the bytes, all zeros, of ``core0.channel0`` ..., ``ddr``.
    """
    network = network_of(next(iter(decode_traces(model, recipe, 0, 1))))
    _check_parts(network)
    if model.window and max_context > model.window:
        raise InputError(f"contexts must be at most the {model.window} tokens that a token of {model.name} sees, not "
                         f"{max_context}")  # fmt: skip
    rows = np.concatenate([embedding_rows(network, embedding, model.embedding_scale),
                           position_rows(network, positions, max_context)])  # fmt: skip
    most = max(chunk, block)
    ddr = memory("ddr", rows.size + (network.embedded_bytes(most) if most else 0))
    ddr[: rows.size] = rows
    cores = []
    texts = CoreCompiler(machine).texts(network, max_context)
    none = (None,) * len(texts)
    chunks = chunk_texts(texts, network, machine, max_context, chunk) if chunk else none
    blocks = block_texts(texts, network, machine, block) if block else none
    for core, (text, chunked, blocked) in enumerate(zip(texts, chunks, blocks, strict=True)):
        size = channel_bytes(text.memory)
        hbm = [memory(f"core{core}.channel{channel}", size) for channel in range(machine.hbm.channels_per_core)]
        fill_channels(hbm, text, network, machine, linears, vectors_of(network, machine, text.share, model, vectors))
        cores.append(CoreModel(machine=machine, model=model, network=network, text=text, hbm=hbm, ddr=[ddr],
                               chunks=chunked, chunk_tokens=chunk, blocks=blocked, block_tokens=block))  # fmt: skip
    return MachineModel(cores=tuple(cores))


def _check_parts(network: Network) -> None:
    width = network.head_dim * network.queries
    if network.head_dim % K_BLOCK or width % LINE_BYTES:
        raise InputError(
            f"heads must be blocks of {K_BLOCK} elements, those of a KV head together lines of {LINE_BYTES}, not "
            f"{network.queries} of {network.head_dim}, in {network.model}"
        )


def core_model(
    machine: CoreMachine, model: Model, recipe: Recipe, *, linears: Mapping[str, Tensor],
    vectors: Mapping[str, Tensor], embedding: Tensor, max_context: int, memory: Memory = zeros, chunk: int = 0,
    block: int = 0, positions: Tensor | None = None,
) -> CoreModel:  # fmt: skip
    """As :func:`machine_model`, the only core of a machine."""
    _one_core(machine)
    return machine_model(machine, model, recipe, linears=linears, vectors=vectors, embedding=embedding,
                         max_context=max_context, memory=memory, chunk=chunk, block=block,
                         positions=positions).cores[0]  # fmt: skip


def _one_core(machine: CoreMachine) -> None:
    if machine.cores != 1:
        raise InputError(f"values of a core alone are those of a machine of one, not of the {machine.cores} cores of "
                         f"{machine.name}")  # fmt: skip


def machine_from_file(
    machine: CoreMachine, path: Path, max_context: int, memory: Memory = zeros, layers: int | None = None,
    chunk: int = 0, block: int = 0,
) -> MachineModel:  # fmt: skip
    """The model in a GGUF file in its own formats; with ``layers`` only so many of its first ones."""
    from mixflight.workloads.file_recipe import recipe_of
    from mixflight.workloads.gguf import open_gguf
    from mixflight.workloads.plain_decoder import plain_decoder

    stored = plain_decoder(open_gguf(path))
    if layers is not None:
        if not 1 <= layers <= stored.model.layers:
            raise InputError(f"layers must be 1 ... {stored.model.layers}, not {layers}, of {path}")
        stored = replace(
            stored, model=msgspec.structs.replace(stored.model, layers=layers),
            linears={name: item for name, item in stored.linears.items() if _layer_of(name, "layers.") < layers},
            vectors={name: item for name, item in stored.vectors.items() if _layer_of(name, "blk.") < layers},
        )  # fmt: skip
    return machine_model(machine, stored.model, recipe_of("as-stored", stored), linears=stored.linears,
                         vectors=stored.vectors, embedding=stored.embedding, max_context=max_context, memory=memory,
                         chunk=chunk, block=block, positions=stored.positions)  # fmt: skip


def _layer_of(name: str, prefix: str) -> int:
    """The layer that a weight's name says; -1: none."""
    return int(name.removeprefix(prefix).partition(".")[0]) if name.startswith(prefix) else -1


def from_file(
    machine: CoreMachine, path: Path, max_context: int, memory: Memory = zeros, layers: int | None = None,
    chunk: int = 0, block: int = 0,
) -> CoreModel:  # fmt: skip
    """As :func:`machine_from_file`, the only core of a machine."""
    _one_core(machine)
    return machine_from_file(machine, path, max_context, memory, layers, chunk, block).cores[0]
