"""A compressed model speaks on the Verilog of a core, or of several: every layer and the head on RTL, a token or a
block a step.

    generate_rtl      prompt to RtlGeneration; the host only tokenises, says which row of the embedding a step takes and
                      which logit is the largest
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.generate import check_request, model_path
from mixflight.rtl.core import core_shape
from mixflight.rtl_session import Moment, RtlSession, TokenRun, context_for, open_core, read_checkpoint
from mixflight.rtl_timeline import rtl_timeline
from mixflight.sim.core_values.decode import machine_from_file
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

DEFAULT_ARCH = "mixpe-mini"
Logits = NDArray[np.float32]


class RtlGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said on a core, and what each of its ``steps`` took: those of the prompt first, a token or a block.

    ``tokens``   the generated ones, an end of text left out; ``text`` is theirs
    ``stopped``  ``end`` where the model ended the text, ``length`` where the wanted number came
    ``logits_sha256``  of each step's logits, as little-endian FP32; None: a block in front of the last has none
    """

    arch: str
    clock_mhz: float
    layers: int
    prompt: str
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    stopped: str
    steps: tuple[TokenRun, ...]
    logits_sha256: tuple[str | None, ...]

    @property
    def positions(self) -> int:
        """Tokens that went through the core."""
        return sum(step.tokens for step in self.steps)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second at the target clock."""
        return self.positions * self.clock_mhz * 1e6 / sum(step.cycles for step in self.steps)

    @property
    def energy_j_per_token(self) -> float:
        """Mean of the tokens, by the price table."""
        return sum(step.energy_j for step in self.steps) / self.positions

    @property
    def recorded_j_per_token(self) -> float | None:
        """Mean of the tokens of steps that were recorded; None where none was."""
        found = [(step.recorded.energy_j, step.tokens) for step in self.steps if step.recorded is not None]
        return sum(energy for energy, _ in found) / sum(tokens for _, tokens in found) if found else None


class Listener:
    """Who watches a generation; every method may be left as it is."""

    def begins(self, machine: CoreMachine, layers: int, prompt_tokens: Sequence[int], wanted: int) -> None:
        """The model is in the core's memories."""

    def progress(self, moment: Moment) -> None:
        """Within a step."""

    def stepped(self, run: TokenRun, logits: Logits | None) -> None:
        """A step has ended; a block of a prompt in front of the last has no logits."""

    def text(self, piece: str) -> None:
        """A piece of the generated text."""


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """Files that a generation writes: ``checkpoint``, a folder; ``timeline`` of its last step; ``waves``, a file, its
    first cycle counted from the first step's START on, and how many."""

    checkpoint: Path | None = None
    timeline: Path | None = None
    waves: tuple[Path, int, int] | None = None


def generate_rtl(
    model: str | Path, prompt: str, tokens: int, *, arch: str = DEFAULT_ARCH, layers: int | None = None,
    chat: bool = False, blocks: bool = False, outputs: Outputs | None = None, listener: Listener | None = None,
) -> RtlGeneration:  # fmt: skip
    """Up to ``tokens`` tokens after ``prompt`` from the compiled Verilog of ``arch``; always the largest logit.

    ``layers``: only so many first layers of the model. ``blocks``: the prompt in blocks on matrices, on a core that
    carries out MM. A checkpoint that is in its folder is gone on from, and written anew after each step.
    """
    outputs, listener = outputs or Outputs(), listener or Listener()
    check_request(prompt, tokens)
    machine = accelerator_named(arch)
    if not isinstance(machine, CoreMachine):
        raise InputError(f"--arch must be a machine of a core with RTL, such as {DEFAULT_ARCH}, not {arch}")
    if "MM" not in core_shape(machine).classes and blocks:
        raise InputError(f"--blocks must come with a core that carries out MM, such as {DEFAULT_ARCH}, not {arch}")
    path = model_path(model)
    tokenizer = tokenizer_of(open_gguf(path))
    asked = tokenizer.encode_chat(prompt) if chat else tokenizer.encode(prompt)
    folder = outputs.checkpoint
    kept = read_checkpoint(folder) if folder is not None and folder.is_dir() and any(folder.iterdir()) else None
    if kept is not None and kept["prompt_tokens"] != asked:
        raise InputError(f"a checkpoint must be of this prompt, not that in {folder}")
    # the last block is filled up
    room = max(tokens, machine.mm_rows if blocks else 0)
    context = int(kept["context"]) if kept is not None else context_for(len(asked) + room)
    if len(asked) + tokens > context:
        raise InputError(f"prompt and tokens must fit the context of the checkpoint, {context}, not "
                         f"{len(asked)} + {tokens}, in {folder}")  # fmt: skip
    with _opened(machine, path, context, layers, outputs, len(asked) if blocks else 0) as session:
        listener.begins(machine, session.made.model.layers, asked, tokens)
        loop = _Loop(session, asked, tokens, tokenizer.eos_ids, folder, context, listener)
        if kept is not None and folder is not None:
            loop.resume(session.load(folder))
        pieces = []
        for piece in tokenizer.decode_stream(loop.run()):
            pieces.append(piece)
            listener.text(piece)
        if outputs.timeline is not None:
            rtl_timeline(session, outputs.timeline)
    return RtlGeneration(
        arch=machine.name, clock_mhz=machine.clock_mhz, layers=session.made.model.layers, prompt=prompt,
        prompt_tokens=tuple(asked), tokens=tuple(loop.tokens), text="".join(pieces), stopped=loop.stopped,
        steps=tuple(loop.steps), logits_sha256=tuple(loop.hashes),
    )  # fmt: skip


def _opened(
    machine: CoreMachine, path: Path, context: int, layers: int | None, outputs: Outputs, prompt: int
) -> RtlSession:  # fmt: skip
    """The session of a file; what no core computes is refused before the Verilog is compiled."""
    made = machine_from_file(machine, path, context, layers=layers)
    return RtlSession(open_core(machine, waves=outputs.waves is not None), made, waves=outputs.waves, prompt=prompt)


class _Loop:
    """The greedy loop; its attributes are what a checkpoint holds beside the memories."""

    def __init__(
        self, session: RtlSession, prompt: list[int], wanted: int, ends: frozenset[int], folder: Path | None,
        context: int, listener: Listener,
    ) -> None:  # fmt: skip
        self.session, self.prompt, self.wanted, self.ends = session, prompt, wanted, ends
        self.folder, self.context, self.listener = folder, context, listener
        self.tokens: list[int] = []
        self.steps: list[TokenRun] = []
        self.hashes: list[str | None] = []
        self.stopped = ""

    def resume(self, facts: dict[str, Any]) -> None:
        """Go on behind the steps of a checkpoint."""
        self.tokens, self.hashes, self.stopped = facts["tokens"], facts["logits_sha256"], facts["stopped"]
        self.steps = msgspec.convert(facts["steps"], list[TokenRun])

    def run(self) -> Iterator[int]:
        """Tokens, those of a checkpoint first, up to the wanted number or an end of text."""
        yield from self.tokens[: self.wanted]
        while self.stopped != "end" and len(self.tokens) < self.wanted:
            known = [*self.prompt, *self.tokens]
            run, logits = self._step(known)
            self.steps.append(run)
            self.hashes.append(None if logits is None else hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest())
            self.listener.stepped(run, logits)
            whole = self.session.position == len(known)
            token = int(np.argmax(logits)) if whole and logits is not None else None
            if token in self.ends:
                self.stopped = "end"
            elif token is not None:
                self.tokens.append(token)
            self._save()
            if token is not None and token not in self.ends:
                yield token
        self.tokens = self.tokens[: self.wanted]
        self.stopped = self.stopped or "length"

    def _step(self, known: Sequence[int]) -> tuple[TokenRun, Logits | None]:
        """The next token, or the next block where several of the prompt are left."""
        session = self.session
        left = self.prompt[session.position :]
        if len(left) > 1 and session.takes_blocks:
            return session.prompt(left[: session.block], self.listener.progress, logits=len(left) <= session.block)
        return session.step(known[session.position], self.listener.progress)

    def _save(self) -> None:
        if self.folder is not None:
            self.session.save(
                self.folder, prompt_tokens=self.prompt, context=self.context, tokens=self.tokens, stopped=self.stopped,
                steps=msgspec.to_builtins(self.steps), logits_sha256=self.hashes,
            )  # fmt: skip
