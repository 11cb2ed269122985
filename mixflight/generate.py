"""A compressed model speaks: greedy decoding in golden arithmetic.

    generate      prompt to Generation
    model_path    preset name or path of a GGUF file to the file
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.sim.golden.llama import KvKind, Session, load_decoder
from mixflight.workloads.fetch import SOURCES, Progress, fetch_model
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a model said.

    ``tokens``         the generated tokens, an end of text left out; ``text`` is theirs.
    ``stopped``        ``end`` where the model ended the text, ``length`` where the wanted number came.
    ``logits_sha256``  of the last logits computed, as little-endian FP32: equal hashes are equal bits.
    """

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    stopped: str
    logits_sha256: str
    prefill_s: float
    decode_s: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens after the first, which the prefill gives, over the time of their decode steps."""
        return (len(self.tokens) - 1) / self.decode_s if len(self.tokens) > 1 else 0.0


def model_path(model: str | Path, progress: Progress | None = None) -> Path:
    """The GGUF file of ``model``: a name that can be fetched, or a path."""
    if str(model) in SOURCES:
        return fetch_model(str(model), progress)
    path = Path(model)
    if path.suffix != ".gguf":
        raise InputError(f"MODEL must be {', '.join(SOURCES)} or a .gguf file to generate, not {str(model)!r}")
    return path


def generate(
    model: str | Path,
    prompt: str,
    tokens: int,
    *,
    chat: bool = False,
    kv: KvKind = "int8",
    layers: int | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    """Up to ``tokens`` tokens after ``prompt``: always the largest logit, the lowest number on a tie.

    The prompt is taken raw; ``chat`` puts it into the file's chat template. ``on_text`` is told each piece of
    text as it comes. ``kv`` chooses the KV cache: ``int8``, or ``fp16``, the reference variant. ``layers``: only
    so many first layers of the model.
    """
    check_request(prompt, tokens)
    file = open_gguf(model_path(model))
    tokenizer = tokenizer_of(file)
    prompt_tokens = tokenizer.encode_chat(prompt) if chat else tokenizer.encode(prompt)
    llama = load_decoder(file)
    if layers is not None:
        if not 1 <= layers <= llama.model.layers:
            raise InputError(f"layers must be 1 ... {llama.model.layers}, not {layers}, of {file.path}")
        llama = replace(llama, model=msgspec.structs.replace(llama.model, layers=layers))
    if len(prompt_tokens) + tokens > llama.model.context_length:
        raise InputError(
            f"prompt and tokens must fit the context of {llama.model.context_length}, "
            f"not {len(prompt_tokens)} + {tokens}, in {file.path}"
        )
    session, steps = Session(llama, kv=kv), _Steps(prompt_tokens, tokens, tokenizer.eos_ids)
    pieces = []
    for piece in tokenizer.decode_stream(steps.run(session)):
        pieces.append(piece)
        if on_text is not None:
            on_text(piece)
    return Generation(
        prompt_tokens=tuple(prompt_tokens),
        tokens=tuple(steps.tokens),
        text="".join(pieces),
        stopped="end" if len(steps.tokens) < tokens else "length",
        logits_sha256=hashlib.sha256(steps.logits.astype("<f4").tobytes()).hexdigest(),
        prefill_s=steps.prefill_s,
        decode_s=steps.decode_s,
    )


def check_request(prompt: str, tokens: int) -> None:
    """Refuse to generate nothing, or from nothing."""
    if tokens < 1:
        raise InputError(f"tokens must be at least 1, not {tokens}")
    if not prompt:
        raise InputError("the prompt must not be empty")


class _Steps:
    """The greedy loop; its attributes hold the tokens, the last logits and the time as it goes on."""

    def __init__(self, prompt: list[int], wanted: int, ends: frozenset[int]) -> None:
        self.prompt, self.wanted, self.ends = prompt, wanted, ends
        self.tokens: list[int] = []
        self.logits = np.empty(0, np.float32)
        self.prefill_s = 0.0
        self.decode_s = 0.0

    def run(self, session: Session) -> Iterator[int]:
        """Tokens as they are found, up to the wanted number or an end of text."""
        start = time.perf_counter()
        self.logits = session.extend(self.prompt)[-1]
        self.prefill_s = time.perf_counter() - start
        while (token := int(np.argmax(self.logits))) not in self.ends:
            self.tokens.append(token)
            yield token
            if len(self.tokens) == self.wanted:
                break
            start = time.perf_counter()
            self.logits = session.extend([token])[-1]
            self.decode_s += time.perf_counter() - start
