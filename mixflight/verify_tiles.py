"""Tiles of a systolic array: random ones for every kind of PE, and real ones; with what the array must make of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.array_pipeline import tile_shape
from mixflight.rtl.design import ChosenTop
from mixflight.sim.golden.array import TileBeats, array_outputs, tile_beats
from mixflight.sim.golden.array_float import (
    aligned_outputs,
    digit_groups,
    float_outputs,
    group_exponents,
    sign_magnitude_words,
    weight_integers,
)
from mixflight.sim.golden.pe_integer import dequantised_weights

REAL_TENSORS = ("blk.0.ffn_up.weight", "blk.14.attn_q.weight", "blk.29.ffn_down.weight")
"""Linears of SmolLM2 at the start, in the middle and at the end; the last one has K = 1,536."""

PROMPT = "The capital of France is Paris, and the capital of Italy is"

GROUP = 32
"""Codes that share a scale in a tile that asks for no other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """Operands of one tile of an array of integer PEs, as ``array_outputs`` takes them, and where they come from."""

    source: str
    a: NDArray[Any]
    w: NDArray[Any]
    s_a: NDArray[Any] | None
    d: NDArray[Any]
    z: NDArray[Any] | None
    group: int
    zero: Any
    passes: int = 1
    signed: bool | Sequence[bool] = False
    split: int = 1
    """Into how many blocks the array's rows are split for it: fewer tokens, more channels."""
    w_bits: int = 4
    """Of a weight on the array's stream."""

    def outputs(self) -> NDArray[Any]:
        """Golden outputs, FP32 [M, N]."""
        assert self.s_a is not None
        return array_outputs(a=self.a, w=self.w, s_a=self.s_a, d=self.d, z=self.z, group=self.group, zero=self.zero)

    def beats(self) -> TileBeats:
        """The beats that feed the tile to the array."""
        return tile_beats(a=self.a, w=self.words(), s_a=self.s_a, d=self.d, z=self.z, group=self.group,
                          zero=self.zero, passes=self.passes, signed=self.signed, split=self.split,
                          w_bits=self.w_bits, exponents=self.exponents())

    def words(self) -> NDArray[Any]:
        """The weights as the array gets them."""
        return self.w

    def exponents(self) -> NDArray[Any] | None:
        """To which a group's activations are aligned, where the array does that."""
        return None


class DequantiseTile(Tile):
    """``w`` are words of code, zero point and scale, each of which is an INT8 weight."""

    def outputs(self) -> NDArray[Any]:
        """Golden outputs of the INT8 weights."""
        assert self.s_a is not None
        weights = dequantised_weights(self.w & 15, self.w >> 4 & 15, self.w >> 8)
        return array_outputs(a=self.a, w=weights, s_a=self.s_a, d=self.d, z=None, group=self.group, zero="none")


class AlignedTile(Tile):
    """``a`` is FP16, aligned to its groups' exponents."""

    def outputs(self) -> NDArray[Any]:
        """Golden outputs of the aligned activations."""
        return aligned_outputs(a=self.a, w=self.w, d=self.d, z=self.z, group=self.group, zero=self.zero)

    def exponents(self) -> NDArray[Any]:
        """The largest of each group."""
        return group_exponents(self.a, self.group)


class FloatTile(Tile):
    """``a`` is FP16, ``w`` FP16 or differences of codes and zero points; group sums are FP32."""

    def outputs(self) -> NDArray[Any]:
        """Golden outputs of FP32 group sums."""
        return float_outputs(a=self.a, w=self.w, d=self.d, z=self.z, group=self.group, zero=self.zero)

    def words(self) -> NDArray[Any]:
        """FP16 as it is, integers as sign and magnitude."""
        return self.w if self.w.dtype == np.float16 else sign_magnitude_words(self.w, self.w_bits)


_CODES: Mapping[str, tuple[int, int]] = {
    "unsigned": (0, 15), "signed": (-8, 7), "signed8": (-128, 127), "difference": (-15, 15), "word": (0, (1 << 16) - 1)}


def random_tile(chosen: ChosenTop, random: np.random.Generator, *, k: int, group: int = GROUP,
                extreme: bool = False, codes: str | None = None, split: int = 1) -> Tile:
    """A tile of random operands; ``extreme`` takes only the largest magnitudes, which fill the accumulators.

    ``codes`` is ``unsigned``, ``signed`` or, on an array with two passes, ``signed8``; without it what PE and
    zero point kind go with. ``split``: for rows split into so many blocks.
    """
    array = chosen.component
    zero, element = array.zero, array.element
    tokens, channels = tile_shape(rows=array.rows, cols=array.cols, split=split)
    given = {"int8": "signed8", "dequantise": "word", "float": "difference", "fp16": "fp16"}
    codes = given.get(array.pe) or codes or ("signed" if zero == "none" else "unsigned")

    w = _halves(random, (channels, k), extreme) if codes == "fp16" else _integers(
        random, (channels, k), *_CODES[codes], extreme)
    z: NDArray[Any] | None = None
    if zero == "int4":
        z = _integers(random, (channels, k // group), 0, 15, extreme).astype(np.uint8)
    elif zero == "f16-min":
        z = _scales(random, (channels, k // group), extreme, signs=True)
    fields: dict[str, Any] = {
        "source": "extreme" if extreme else "random", "group": group, "zero": zero, "w": w, "z": z, "split": split,
        "d": _scales(random, (channels, k // group), extreme, signs=True), "w_bits": element.w_bits,
        "passes": 2 if codes == "signed8" and element.two_pass else 1, "signed": codes in ("signed", "signed8"),
    }
    if element.arithmetic != "integer":
        floating: type[Tile] = AlignedTile if element.arithmetic == "aligned" else FloatTile
        return floating(a=_halves(random, (tokens, k), extreme), s_a=None, **fields)
    integer: type[Tile] = DequantiseTile if codes == "word" else Tile
    return integer(a=_integers(random, (tokens, k), -128 if extreme else -127, 127, extreme).astype(np.int8),
                s_a=_scales(random, (tokens, k // group), extreme, signs=False), **fields)


def digits_tile(chosen: ChosenTop, random: np.random.Generator, *, k: int, bits: int, group: int = GROUP) -> Tile:
    """A tile of weights wider than the PE: INT8 ones, or FP16 ones as 12-bit integers, a group for each digit."""
    array = chosen.component
    narrow = random_tile(chosen, random, k=k, group=group)
    d = narrow.d
    if bits == 8:
        w = _integers(random, narrow.w.shape, -128, 127, False)
    else:
        w, d = weight_integers(_halves(random, narrow.w.shape, False), group)
    parts = digit_groups(a=narrow.a, w=w, d=d, z=narrow.z, group=group, bits=bits,
                         magnitudes=array.arithmetic == "float")
    return dataclasses.replace(narrow, source=f"{bits}-bit digits", **parts._asdict())


def _integers(random: np.random.Generator, shape: tuple[int, int], least: int, most: int,
              extreme: bool) -> NDArray[Any]:
    if extreme:
        return random.choice(np.array([least, most], np.int64), shape)
    return random.integers(least, most, shape, endpoint=True)


def _scales(random: np.random.Generator, shape: tuple[int, int], extreme: bool, *, signs: bool) -> NDArray[Any]:
    exponents = random.uniform(-12, 2, shape)
    values = 2.0 ** exponents * (random.choice([-1, 1], shape) if signs else 1)
    values[random.random(shape) < 0.02] = 0
    if extreme:
        values = np.full_like(values, 65504.0)
    return values.astype(np.float16)


def _halves(random: np.random.Generator, shape: tuple[int, int], extreme: bool) -> NDArray[np.float16]:
    """Finite FP16 values. Their exponents lie around one of their row, so that sums cancel and tie; some are zero or
    subnormal. Extreme ones are the largest magnitude, the smallest, and one."""
    if extreme:
        return random.choice(np.array([65504, -65504, 2.0 ** -24, 1], np.float16), shape)
    exponents = np.clip(random.integers(0, 31, (shape[0], 1)) + random.integers(-6, 7, shape), 0, 30)
    fractions = np.where(random.random(shape) < 0.3, 0, random.integers(0, 1024, shape))
    patterns: NDArray[np.uint16] = (exponents << 10 | fractions | random.integers(0, 2, shape) << 15).astype(np.uint16)
    return patterns.view(np.float16)


def real_tiles(path: Path, chosen: ChosenTop, tensors: Sequence[str] = REAL_TENSORS,
               prompt: str = PROMPT) -> list[Tile]:
    """Tiles of a real model's linears: the first tokens of ``prompt`` times the first output channels, whole K.

    For an array that splits its rows also the first token alone, times as many channels as then fit.
    """
    from mixflight.sim.golden.llama import Session, load_llama
    from mixflight.workloads.gguf import open_gguf
    from mixflight.workloads.tokenizer import tokenizer_of

    array = chosen.component
    file = open_gguf(path)
    llama = load_llama(file)
    entering: dict[str, Any] = {}

    def observe(name: str, activation: Any) -> None:
        if name in tensors:
            entering[name] = activation

    # One prefill serves every tensor; a row of the array is a token.
    Session(llama, observe=observe).extend(tokenizer_of(file).encode(prompt)[:array.rows], every=True)
    def tile(name: str, split: int, tokens: int) -> Tile:
        weight, activation = llama.linears[name], entering[name]
        rows, channels = tile_shape(rows=array.rows, cols=array.cols, split=split)
        return Tile(source=name if split == 1 else f"{name}, one token on split rows", split=split,
                    a=_rows(activation.codes[:tokens], rows), s_a=_rows(activation.scales[:tokens], rows),
                    w=weight.codes[:channels].astype(np.int64), d=weight.d[:channels], z=_minima(weight, channels),
                    group=weight.group, zero="f16-min")

    whole = [tile(name, 1, array.rows) for name in tensors]
    return whole if array.split == 1 else [*whole, *(tile(name, array.split, 1) for name in tensors)]


def _minima(weight: Any, columns: int) -> NDArray[Any]:
    """The weight's minima, or zeros, which leave every value as it is, for a format without."""
    scales: NDArray[Any] = weight.d[:columns]
    return np.zeros_like(scales) if weight.zero is None else np.asarray(weight.zero[:columns])


def _rows(values: NDArray[Any], count: int) -> NDArray[Any]:
    """The first ``count`` rows, zeros where there are fewer tokens."""
    missing = max(count - len(values), 0)
    return np.ascontiguousarray(np.pad(values[:count], ((0, missing), (0, 0))))
