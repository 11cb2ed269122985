"""MISC: vectors through the special-function unit, in the steps of ``arch/numerics.md``."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, codes
from mixflight.arch.control_constants import PHASE_BITS, f32_of
from mixflight.arch.errors import InputError
from mixflight.sim.core_values.products import read_rows, write_rows
from mixflight.sim.core_values.state import LINE_BLOCKS, CoreState
from mixflight.sim.golden import kernels
from mixflight.sim.golden.attention import LIFT, softmax
from mixflight.sim.golden.functions import cosine_of_phase, gelu, rsqrt, silu, sine_of_phase, softcap
from mixflight.sim.golden.reduce import reduce_sum
from mixflight.sim.golden.rope import rotate

F32 = NDArray[np.float32]

OPERATIONS = tuple(codes("MISC", "operation"))
TARGETS = tuple(codes("MISC", "target"))
PIECE = 32
"""Bytes of a channel's scales that lie together."""


def _relu(x: F32) -> F32:
    return np.maximum(x, np.float32(0))


_ACTIVATIONS: dict[str, Callable[[F32], F32]] = {"silu": silu, "gelu": gelu, "relu": _relu}


def compute(state: CoreState, fields: dict[str, int]) -> None:
    """Carry out a MISC."""
    operation = OPERATIONS[fields["operation"]]
    if operation in ("quantise", "probability_quantise", "kv_append"):
        if TARGETS[fields["target"]] != "act" or fields["static"]:
            raise InputError(f"{operation} must go to the act buffer with a scale of its own")
        {"quantise": _quantise, "probability_quantise": _probabilities, "kv_append": _append}[operation](state, fields)
        return
    if TARGETS[fields["target"]] != "global":
        raise InputError(f"{operation} must go to the global buffer")
    if operation == "embed":
        result = _embed(state, fields)
    else:
        result = _operator(state, operation, fields, _operand(state, fields, "a_line"))
    write_rows(state, fields["out_line"], result, apart=bool(fields["parts"]))


def _operand(state: CoreState, fields: dict[str, int], name: str) -> F32:
    return read_rows(state, fields[name], fields["vectors"], fields["elements"], apart=bool(fields["parts"]))


def _shared(state: CoreState, fields: dict[str, int]) -> F32:
    """The second input as one vector for all."""
    return read_rows(state, fields["b_line"], 1, fields["elements"], apart=True)


def _operator(state: CoreState, operation: str, fields: dict[str, int], x: F32) -> F32:
    constants = state.constants
    if operation in ("norm", "layernorm"):
        is_head = fields["elements"] == constants.head_elements
        over_n = f32_of(constants.inverse_head if is_head else constants.inverse_hidden)
        if operation == "layernorm":
            x = x - (reduce_sum(x) * over_n)[:, None]
        mean = reduce_sum(x * x) * over_n
        return (x * rsqrt(mean + f32_of(constants.eps))[:, None]) * _shared(state, fields)
    if operation == "rope":
        steps = np.array(constants.rope_steps[: fields["elements"] // 2], np.int64)
        positions = constants.position + np.arange(len(x) if fields["causal"] else 1)[:, None]
        phase = (positions * steps) & ((1 << PHASE_BITS) - 1)
        return rotate(x, cosine_of_phase(phase), sine_of_phase(phase))
    if operation == "softmax":
        scores = x * f32_of(constants.inverse_root)
        found = read_rows(state, fields["out_line"], *x.shape, apart=bool(fields["parts"]))
        for row, own in enumerate(_own(fields)):
            found[row, :own] = softmax(scores[row, :own])
        return found
    if operation == "residual":
        return x + _operand(state, fields, "b_line")
    if operation == "bias":
        return x + _shared(state, fields)
    if operation == "softcap":
        return softcap(x, *read_rows(state, fields["b_line"], 1, 2, apart=True)[0])
    kind, name, *gate = operation.split(":")
    if kind != "activation":
        raise InputError(f"{operation} has no values here")
    y: F32 = _ACTIVATIONS[name](x)
    return y * _operand(state, fields, "b_line") if gate == ["gated"] else y


def _embed(state: CoreState, fields: dict[str, int]) -> F32:
    """Rows of INT8 codes, each with an FP16 scale for every group behind them; every row from a line on."""
    rows, n = fields["vectors"], fields["elements"]
    group = 1 << fields["group"] if fields["group"] else n
    if n % group:
        raise InputError(f"a row of the embedding must be whole groups, not {n} codes in groups of {group}")
    size = n + 2 * (n // group)
    stride = -(-size // LINE_BYTES) * LINE_BYTES
    flat, found = state.vector.reshape(-1), np.empty((rows, n), np.float32)
    for row in range(rows):
        at = fields["b_line"] * LINE_BYTES + row * stride
        stored = flat[at : at + n].view(np.int8).astype(np.float32)
        scales = flat[at + n : at + size].copy().view(np.float16).astype(np.float32)
        found[row] = np.repeat(scales, group) * stored
    return found


def _quantise(state: CoreState, fields: dict[str, int]) -> None:
    x = _operand(state, fields, "a_line")
    group = 1 << fields["group"] if fields["group"] else fields["elements"]
    _write_codes(state, fields["out_line"], x, group)


def _probabilities(state: CoreState, fields: dict[str, int]) -> None:
    p, n, channels = _operand(state, fields, "a_line"), fields["elements"], state.shape.channels
    token = np.arange(n)
    at = 4 * (token // channels) + 2
    place = (at // PIECE * channels + token % channels) * PIECE + at % PIECE
    scales = state.vector.reshape(-1)[fields["b_line"] * LINE_BYTES :].view(np.float16)[place // 2].astype(np.float32)
    past = np.arange(n) < np.array(_own(fields))[:, None]
    _write_codes(state, fields["out_line"], np.where(past, p, np.float32(0)) * (scales * LIFT), n)


def _own(fields: dict[str, int]) -> list[int]:
    """Elements of each vector: all, or with ``causal`` those up to its own place among the last ``vectors``."""
    vectors, n = fields["vectors"], fields["elements"]
    return [n - vectors + 1 + row if fields["causal"] else n for row in range(vectors)]


def _write_codes(state: CoreState, line: int, x: F32, group: int) -> None:
    """Codes of interleaved rows and their scales, a scale in every block of its group; to the line's end zeros with
    the scale of the last group."""
    rows, n = x.shape
    if group % K_BLOCK and group != n:
        raise InputError(f"a group must be whole blocks of {K_BLOCK}, not {group}")
    found = kernels.quantise(x, group)
    lines = -(-n // LINE_BYTES)
    end = line + lines * rows
    if end > len(state.act):
        raise InputError(f"codes must end inside the act buffer of {len(state.act):,} lines, not at {end:,}")
    padded = np.zeros((rows, lines * LINE_BYTES), np.int8)
    padded[:, :n] = found.codes
    scales = np.repeat(found.scales[:, -1:], lines * LINE_BLOCKS, axis=1)
    if group != n:
        each = np.repeat(found.scales, group // K_BLOCK, axis=1)
        scales[:, : each.shape[1]] = each
    state.act[line:end] = padded.view(np.uint8).reshape(rows, lines, LINE_BYTES).swapaxes(0, 1).reshape(-1, LINE_BYTES)
    state.act_scales[line:end] = scales.reshape(rows, lines, LINE_BLOCKS).swapaxes(0, 1).reshape(-1, LINE_BLOCKS)


def _append(state: CoreState, fields: dict[str, int]) -> None:
    """Cells of the cache: a head's key, its value, then a line with both scales; zeros where nothing lies."""
    heads, n = fields["vectors"] // 2, fields["elements"]
    each = -(-n // LINE_BYTES)
    cell = 2 * each + 1
    found = np.zeros((heads, cell, LINE_BYTES), np.uint8)
    for number, name in enumerate(("a_line", "b_line")):
        x = read_rows(state, fields[name], heads, n, apart=bool(fields["parts"]))
        stored = kernels.quantise(x, n)
        part = found[:, number * each : (number + 1) * each].reshape(heads, -1)
        part[:, :n] = stored.codes.view(np.uint8)
        found[:, number * each : (number + 1) * each] = part.reshape(heads, each, LINE_BYTES)
        found[:, -1, 2 * number : 2 * number + 2] = stored.scales.view(np.uint8).reshape(heads, 2)
    line, end = fields["out_line"], fields["out_line"] + heads * cell
    if end > len(state.act):
        raise InputError(f"cells must end inside the act buffer of {len(state.act):,} lines, not at {end:,}")
    state.act[line:end] = found.reshape(-1, LINE_BYTES)
    state.act_scales[line:end] = 0
