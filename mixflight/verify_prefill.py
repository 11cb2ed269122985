"""A prompt in blocks on a core's RTL: every byte of memory as the executor's, what they mean as the golden model's.

Behind each block a text of its own stores the residual vectors that the block left in the global buffer, so every
token's is compared, not only the last one's logits.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import LINE_BYTES, codes, compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import encode
from mixflight.mapping.core_assembler import Assembler, Register
from mixflight.mapping.core_contents import gather
from mixflight.mapping.core_memory import channel_share
from mixflight.mapping.core_primitives import primitives
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.rtl.compiled_model import CompiledModel
from mixflight.rtl.core_harness import CoreProcess
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core_values.decode import CoreModel, Step, from_file
from mixflight.sim.core_values.execute import execute
from mixflight.sim.golden.attention import Int8Cache
from mixflight.sim.golden.llama import Llama, Session, load_llama
from mixflight.sim.golden.numerics import Numerics
from mixflight.verify_compared import Compared
from mixflight.verify_outcome import StreamOutcome
from mixflight.workloads.gguf import open_gguf

PREFILL = "prefill"
"""What these programs are called among those of a core."""
TOKENS, BLOCK, CONTEXT = 32, 8, 512
"""Of the prompt, of a block of it, and for which memories are laid out."""
TOLERANCE = 0.02
"""Most by which a block's cycles may differ from the engine's."""
LIMIT_CYCLES = 10_000_000
FP32 = 4


def check_prefill(
    model: CompiledModel, machine: CoreMachine, path: Path, *, tokens: int = TOKENS, block: int = BLOCK, seed: int = 0,
    head: bool = True,
) -> StreamOutcome:  # fmt: skip
    """Run a prompt of random ``tokens`` through the first layer of the model file ``path``, ``block`` at a time, on a
    core that was built for ``machine``; the last block once more with the ``head``."""
    made = from_file(machine, path, CONTEXT, layers=1, block=block)
    prompt = np.random.default_rng(seed).integers(0, made.model.vocab, tokens).tolist()
    return check_blocks(model, made, first_layer(path), prompt, head=head)


def first_layer(path: Path) -> Llama:
    """The golden model of a file, of its first layer alone."""
    llama = load_llama(open_gguf(path))
    return dataclasses.replace(llama, model=msgspec.structs.replace(llama.model, layers=1))


def check_blocks(
    model: CompiledModel, made: CoreModel, llama: Llama, prompt: Sequence[int], *, past: Sequence[int] = (),
    head: bool = True, numerics: Numerics | None = None,
) -> StreamOutcome:  # fmt: skip
    """As :func:`check_prefill`, of a model with blocks in memories that nothing has run in; behind the ``past`` tokens,
    whole rows of the cache, whose cells the golden model writes. ``numerics`` where they are not the usual ones."""
    checked = _Checked(made, Session(llama, numerics=numerics), past)
    compared = checked.compared
    text, most = made.block_step(prompt[:1], 0).text.text, made.block_tokens
    with CoreProcess(model, hbm=made.hbm, ddr=made.ddr[0], text=encode(text.stream, compact()),
                     constants=text.constants.tolist(),
                     more=[(encode(checked.storing.text, compact()), [])]) as core:  # fmt: skip
        try:
            for first in range(0, len(prompt), most):
                checked.block(core, prompt[first : first + most], len(past) + first)
            if head:
                checked.head(core, prompt[first:], len(past) + first)
        except HarnessError as error:
            compared.found.append(str(error))
    return compared.outcome()


class _Checked:
    """Blocks of a prompt on a core, each compared."""

    def __init__(self, made: CoreModel, session: Session, past: Sequence[int]) -> None:
        self.compared = Compared(TOLERANCE)
        self.made, self.session = made, session
        if past:
            self.session.residuals(past)
            self._put_cells(made)
        self.storing = _storing(made)
        self.residuals = np.zeros(0, np.float32)

    def block(self, core: CoreProcess, tokens: Sequence[int], first: int) -> None:
        """Run a block without logits: every byte, the residual vectors, the cells of the cache."""
        made, name = self.made, f"tokens {first} ... {first + len(tokens) - 1}"
        step = self._run(core, tokens, first, logits=False, name=name)
        state = made.state(step)
        execute(state, made.instructions(step))
        execute(state, primitives(self.storing, step.registers))
        core.select(1)
        core.run(step.numbered, limit=LIMIT_CYCLES)
        self._bytes(core, name)
        self.residuals = self.session.residuals(tokens)
        self.compared.same(self._stored(core)[: len(tokens)], self.residuals, f"{name}: residual vectors")
        self._cells(core, name)

    def head(self, core: CoreProcess, tokens: Sequence[int], first: int) -> None:
        """Run the last block again, now with logits."""
        made = self.made
        step = self._run(core, tokens, first, logits=True, name="with logits")
        execute(made.state(step), made.instructions(step))
        self._bytes(core, "with logits")
        mine = dataclasses.replace(made, hbm=list(core.hbm)).logits()
        self.compared.same(mine, self.session.logits(self.residuals[-1:])[0], "logits")

    def _run(self, core: CoreProcess, tokens: Sequence[int], first: int, *, logits: bool, name: str) -> Step:
        """Run a block on the core; its cycles beside the engine's."""
        made = self.made
        step = made.block_step(tokens, first, logits=logits)
        core.ddr[: len(made.ddr[0])] = made.ddr[0]
        core.select(0)
        core.set_constants(step.constants)
        cycles = int(core.run(step.numbered, limit=LIMIT_CYCLES)["cycles"])
        self.compared.ran(name, cycles, round(made.engine(step).total))
        return step

    def _bytes(self, core: CoreProcess, name: str) -> None:
        """All memory against the executor's."""
        for channel, (mine, other) in enumerate(zip(core.hbm, self.made.hbm, strict=True)):
            self.compared.same(mine[: len(other)], other, f"{name}: channel {channel}")

    def _stored(self, core: CoreProcess) -> NDArray[np.float32]:
        """The residual vectors of a block, which lie interleaved."""
        made = self.made
        rows, hidden = made.block_tokens, made.model.hidden
        lines = gather(core.hbm, made.text.memory.results[0], rows * hidden * FP32).view(np.float32)
        return lines.reshape(-1, rows, LINE_BYTES // FP32).swapaxes(0, 1).reshape(rows, hidden)

    def _cells(self, core: CoreProcess, name: str) -> None:
        """The golden model's cells are there already."""
        first, size = self.made.text.memory.cache
        copy = dataclasses.replace(self.made, hbm=[channel[: first + size].copy() for channel in core.hbm])
        self._put_cells(copy)
        for channel, (mine, golden) in enumerate(zip(core.hbm, copy.hbm, strict=True)):
            self.compared.same(mine[first : first + size], golden[first:], f"{name}: cells in channel {channel}")

    def _put_cells(self, made: CoreModel) -> None:
        """The golden model's cells of all tokens so far."""
        for layer in range(made.model.layers):
            keys, values = self.session.cache(layer)
            assert isinstance(keys, Int8Cache)
            assert isinstance(values, Int8Cache)
            made.put_cache(layer, keys, values, self.session.position)


def _storing(made: CoreModel) -> Sequencer:
    """The text that stores the residual vectors of a block, with its registers, where logits would come."""
    step = made.block_step([0], 0, logits=False)
    embed = codes("MISC", "operation")["embed"]
    line = next(item.fields["out_line"] for item in made.instructions(step)
                if item.kind == "MISC" and not item.empty and item.fields["operation"] == embed)  # fmt: skip
    memory, machine = made.text.memory, made.machine
    channels = machine.hbm.channels_per_core
    asm = Assembler()
    asm.add("ST", buffer="global", wide=1, base_register=Register.CACHE, offset=memory.results[0] - memory.cache[0],
            bytes=channel_share(made.block_tokens * made.model.hidden * FP32, channels), buffer_line=line)  # fmt: skip
    asm.add("SYS", operation="done")
    text = asm.finish()
    return Sequencer(text.stream, text.operators, text.constants, slot_bytes(machine), channels)
