"""Text to tokens and back, built from the vocabulary, merges and chat template in a GGUF file.

    tokenizer_of    GgufFile to Tokenizer

Byte-level BPE (``tokenizer.ggml.model`` ``gpt2``): text is split by a regular expression, each piece is
spelled in bytes, and bytes are merged in the order of the file's merges. Control tokens (``<|im_end|>``) are
recognised only in text that comes from the chat template, never in what a user wrote.
"""

import codecs
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import GgufFile

# How text is split before BPE, by `tokenizer.ggml.pre`: whether each digit stands alone before the regular
# expression of GPT-2 is applied.
DIGITS_ALONE = {"smollm": True, "gpt-2": False}

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
END_OF_TEXT = ("<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "</s>")


def _byte_symbols() -> dict[int, str]:
    """The character that stands for each byte (GPT-2): printable Latin-1 itself, others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_SYMBOL_OF = _byte_symbols()
_BYTE_OF = {symbol: byte for byte, symbol in _SYMBOL_OF.items()}


class Tokenizer:
    """Text to token numbers and back. Made by ``tokenizer_of``."""

    def __init__(
        self,
        *,
        tokens: list[str],
        types: list[int],
        merges: list[tuple[str, str]],
        digits_alone: bool,
        bos: int | None = None,
        add_bos: bool = False,
        eos: frozenset[int] = frozenset(),
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        where: str,
    ) -> None:
        self.eos_ids = eos
        self.vocab_size = len(tokens)
        self._tokens, self._types, self._where = tokens, types, where
        self._prefix = [bos] if add_bos and bos is not None else []
        self._template, self._variables = template, dict(variables or {})
        ids = dict(zip(tokens, range(len(tokens)), strict=True))
        if len(ids) != len(tokens):
            raise InputError(f"the tokens of the vocabulary must be unique, in {where}")
        self._missing_bytes = bytes(byte for byte, symbol in _SYMBOL_OF.items() if symbol not in ids)
        try:
            self._bpe = tokenizers.Tokenizer(models.BPE(ids, merges))
        except Exception as error:  # the library raises plain Exception
            raise InputError(f"the merges must join tokens of the vocabulary: {error}, in {where}") from error
        pieces: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits_alone else []
        pieces.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(pieces)
        user = {text: i for i, text in enumerate(tokens) if types[i] == USER_DEFINED and text}
        control = {text: i for i, text in enumerate(tokens) if types[i] == CONTROL and text}
        self._user, self._special = _Finder(user), _Finder(user | control)

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text``; what looks like a control token is plain text."""
        return self._prefix + self._encode(text, self._user)

    def encode_chat(self, text: str) -> list[int]:
        """The tokens of the chat prompt whose user message is ``text``.

        Control tokens are those of the template alone: it is rendered with a mark for the message, and
        the message takes the mark's place after the control tokens have been found.
        """
        mark = f"message-{secrets.token_hex(16)}"
        found: list[int] = []
        for piece in self._special.split(self.chat(mark)):
            if isinstance(piece, int):
                found.append(piece)
            else:
                found += self._encode(piece.replace(mark, text), self._user)
        return found if found[:1] == self._prefix else self._prefix + found

    def chat(self, text: str) -> str:
        """The file's chat template, rendered with one user message and the opening of the answer."""
        import jinja2.sandbox

        if self._template is None:
            raise InputError(f"a chat needs 'tokenizer.chat_template', which is missing, in {self._where}")
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse_in_template
        try:
            return environment.from_string(self._template).render(
                messages=[{"role": "user", "content": text}], add_generation_prompt=True, **self._variables
            )
        except Exception as error:  # a template can fail in any way an expression can
            reason = " ".join(str(error).split())
            raise InputError(f"the chat template must render, but: {reason}, in {self._where}") from error

    def decode(self, ids: Iterable[int], *, control: bool = False) -> str:
        """The text of the tokens; control tokens are left out unless ``control``."""
        return "".join(self.decode_stream(ids, control=control))

    def decode_stream(self, ids: Iterable[int], *, control: bool = False) -> Iterator[str]:
        """The text of each token as it comes; a character spread over tokens comes with its last one.

        One piece a token, empty where a character is not complete, and one more at the end if one never was.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in ids:
            yield decoder.decode(self.token_bytes(token, control=control))
        if rest := decoder.decode(b"", final=True):
            yield rest

    def token_bytes(self, token: int, *, control: bool = False) -> bytes:
        """The bytes that one token stands for."""
        if not 0 <= token < self.vocab_size:
            raise InputError(f"a token must lie in 0..{self.vocab_size - 1}, not {token}, in {self._where}")
        text, kind = self._tokens[token], self._types[token]
        if kind in (CONTROL, UNKNOWN, UNUSED):
            return text.encode() if control else b""
        if kind == USER_DEFINED or any(symbol not in _BYTE_OF for symbol in text):
            return text.encode()
        return bytes(_BYTE_OF[symbol] for symbol in text)

    def _encode(self, text: str, finder: "_Finder") -> list[int]:
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            where = f"character {error.start}"
            raise InputError(f"the text must be valid Unicode, but: {error.reason} at {where}") from None
        if missing := set(raw).intersection(self._missing_bytes):
            raise InputError(
                f"the text must be spelled in bytes of the vocabulary, which has no {min(missing):#04x}"
                f", in {self._where}"
            )
        found: list[int] = []
        for piece in finder.split(text):
            if isinstance(piece, int):
                found.append(piece)
            else:
                found += self._bpe.encode(piece, add_special_tokens=False).ids
        return found


class _Finder:
    """Finds whole tokens in text, the longest first."""

    def __init__(self, tokens: dict[str, int]) -> None:
        self._tokens = tokens
        longest_first = sorted(tokens, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if tokens else None

    def split(self, text: str) -> list[str | int]:
        """Tokens found, as numbers, and the text between them."""
        if self._pattern is None:
            return [text] if text else []
        return [self._tokens.get(piece, piece) for piece in self._pattern.split(text) if piece]


def tokenizer_of(gguf: GgufFile) -> Tokenizer:
    """The tokenizer that the file describes."""
    metadata, where = gguf.metadata, str(gguf.path)
    for key, allowed in (("model", ("gpt2",)), ("pre", tuple(DIGITS_ALONE))):
        value = metadata.text(f"tokenizer.ggml.{key}")
        if value not in allowed:
            wanted = " or ".join(allowed)
            raise InputError(f"tokenizer.ggml.{key} must be {wanted}, not {value!r}, in {where}")
    tokens = metadata.strings("tokenizer.ggml.tokens")
    types = [NORMAL] * len(tokens)
    if "tokenizer.ggml.token_type" in metadata:
        types = metadata.integers("tokenizer.ggml.token_type").tolist()
        if len(types) != len(tokens):
            raise InputError(f"each of {len(tokens)} tokens must have a type, not {len(types)}, in {where}")
    merges = []
    for merge in metadata.strings("tokenizer.ggml.merges"):
        left, space, right = merge.partition(" ")
        if not (left and right) or " " in right:
            raise InputError(f"a merge must be two symbols with a space between, not {merge!r}, in {where}")
        merges.append((left, right))

    def token(key: str) -> int | None:
        key = f"tokenizer.ggml.{key}_token_id"
        return metadata.integer(key, high=len(tokens) - 1) if key in metadata else None

    bos, eos = token("bos"), token("eos")
    ends = {eos, token("eot")}
    ends |= {i for i, kind in enumerate(types) if kind == CONTROL and tokens[i] in END_OF_TEXT}
    add_bos = "tokenizer.ggml.add_bos_token" in metadata and metadata.flag("tokenizer.ggml.add_bos_token")
    has_template = "tokenizer.chat_template" in metadata
    return Tokenizer(
        tokens=tokens,
        types=types,
        merges=merges,
        digits_alone=DIGITS_ALONE[metadata.text("tokenizer.ggml.pre")],
        bos=bos,
        add_bos=add_bos,
        eos=frozenset(end for end in ends if end is not None),
        template=metadata.text("tokenizer.chat_template") if has_template else None,
        variables={
            name: tokens[number]
            for name, number in (("bos_token", bos), ("eos_token", eos))
            if number is not None
        },
        where=where,
    )


def _refuse_in_template(message: str) -> None:
    raise InputError(message)
