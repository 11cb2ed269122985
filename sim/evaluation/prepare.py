"""A model file under a recipe: what golden arithmetic needs, and what had to be done to the weights.

    operators      every linear's name in a recipe and in the file
    prepare        the file's weights in the recipe's formats, re-quantised by rounding where they differ
    requantise     one weight to another format
    rounded        values to a format
"""

import dataclasses
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.sim.evaluation.pack import pack
from mixflight.sim.golden.linear import GroupedWeight, grouped_weight
from mixflight.sim.golden.llama import Llama
from mixflight.sim.golden.quantise import to_f16
from mixflight.workloads.llama_gguf import LINEARS, LlamaWeights
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.tensor import LAYOUTS


def operators(llama: Llama) -> dict[str, str]:
    """Every linear's name in a recipe (``layers.3.q``, ``head``) and in the file."""
    named = {
        f"layers.{layer}.{role}": f"blk.{layer}.{name}.weight"
        for layer in range(llama.model.layers)
        for role, name in LINEARS.items()
    }
    return {**named, "head": llama.head_name}


def prepare(llama: Llama, weights: LlamaWeights, recipe: Recipe) -> tuple[Llama, tuple[str, ...]]:
    """``llama`` with its linears in the recipe's formats, and a sentence for each kind of change.

    Where the stored format differs, the values that the stored codes stand for are rounded to the wanted format: no
    calibration, no error compensation. The embedding stays as stored.
    """
    stored = stored_formats(weights)
    linears, changed = dict(llama.linears), Counter[tuple[str, str]]()
    for operator, name in operators(llama).items():
        wanted = recipe.weight_format(operator)
        if wanted != stored[name]:
            linears[name] = requantise(llama.linears[name], wanted, f"recipe {recipe.name!r}, {operator}")
            changed[stored[name].name, wanted.name] += 1
    sentences = tuple(
        f"{count} weights rounded from the file's {old} to {new}" for (old, new), count in changed.items()
    )
    return dataclasses.replace(llama, linears=linears), sentences


def stored_formats(weights: LlamaWeights) -> dict[str, Format]:
    """The linears' formats by their names in the file."""
    found = [getattr(layer, role) for layer in weights.layers for role in LINEARS] + [weights.head]
    return {tensor.name: tensor.format for tensor in found}


def requantise(weight: GroupedWeight, wanted: Format, where: str) -> GroupedWeight:
    """Round the values of ``weight`` to the format ``wanted``: see ``rounded``."""
    return rounded(weight.values(), wanted, where)


def rounded(values: NDArray[np.float64], wanted: Format, where: str) -> GroupedWeight:
    """``values`` [N, K] rounded to ``wanted``, with FP16 scales from each group's range.

    Symmetric: d = FP16(amax/qmax), q = RNE(w/d). Zero point: the range is widened to hold 0, d = FP16(range/qmax),
    z = RNE(-low/d), q = RNE(w/d) + z. Minimum: d = FP16(range/qmax), m = FP16(low), q = RNE((w - m)/d). q is clamped.
    Table of reals: d = FP16(amax / its largest magnitude), the nearest entry, entries as FP16. GGUF's block formats are
    those of ``pack``.
    """
    if wanted.name in LAYOUTS and (wanted.two_level or wanted.table or wanted.packed_bits or wanted.name == "tq2_0"):
        return grouped_weight(pack(where, values, wanted))
    if wanted.kind == "float" and wanted.table and wanted.scale == "f16":
        return _table_weight(values, wanted)
    plain = wanted.kind == "int" and not wanted.table and wanted.two_level is None and not wanted.packed_bits
    if not plain or wanted.scale != "f16" or (not wanted.signed and wanted.zero == "none" and not wanted.offset):
        raise InputError(
            "weights can be re-quantised to integers with FP16 scales, tables of reals and GGUF blocks, "
            f"not to {wanted.name}, in {where}"
        )
    n, k = values.shape
    group, most = wanted.group or k, 2 ** (wanted.bits - (1 if wanted.signed or wanted.offset else 0)) - 1
    values = values.reshape(n, wanted.groups(k), group)
    low, high = values.min(axis=2), values.max(axis=2)
    zero: NDArray[np.uint8] | NDArray[np.float16] | None = None
    if wanted.zero == "none":
        d = _scale(np.maximum(-low, high) / most)
        codes = np.clip(np.rint(values / _live(d)), -most, most)
    elif wanted.zero == "f16-min":
        d, zero = _scale((high - low) / most), to_f16(low.astype(np.float32), "a minimum")
        codes = np.clip(np.rint((values - zero.astype(np.float64)[..., None]) / _live(d)), 0, most)
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        d = _scale((high - low) / most)
        limit = 2 ** int(wanted.zero.removeprefix("int")) - 1
        zero = np.clip(np.rint(-low / _live(d)[..., 0]), 0, limit).astype(np.uint8)
        codes = np.clip(np.rint(values / _live(d)) + zero[..., None], 0, most)
    codes = codes.reshape(n, k)
    narrow = codes.astype(np.int8) if wanted.zero == "none" else codes.astype(np.uint8)
    return GroupedWeight(codes=narrow, d=d, zero=zero, group=group)


def _table_weight(values: NDArray[np.float64], wanted: Format) -> GroupedWeight:
    """Values [N, K] as the nearest entries of a table of reals, times FP16 scales."""
    n, k = values.shape
    order = np.argsort(wanted.table, kind="stable")
    table = np.array(wanted.table)[order]
    groups = values.reshape(n, wanted.groups(k), wanted.group or k)
    d = _scale(np.abs(groups).max(axis=2) / np.abs(table).max())
    codes = np.searchsorted((table[1:] + table[:-1]) / 2, groups / _live(d))
    entries = table.astype(np.float16).astype(np.float32)
    return GroupedWeight(codes=entries[codes].reshape(n, k), d=d, zero=None, group=wanted.group or k)


def _scale(x: NDArray[np.float64]) -> NDArray[np.float16]:
    return to_f16(x.astype(np.float32), "a weight's scale")


def _live(d: NDArray[np.float16]) -> NDArray[np.float64]:
    """Scales to divide by; a group of zeros keeps zeros."""
    return np.where(d > 0, d, 1).astype(np.float64)[..., None]
