"""The special-function unit of a core against the reference executor: whole instructions on its buffers."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import codes
from mixflight.arch.control_constants import control_constants
from mixflight.arch.sfu_pipeline import PATHS, misc_cycles, rotation_cycles
from mixflight.rtl.compiled_model import CompiledModel, compile_model, source
from mixflight.rtl.core_ports import primitive
from mixflight.rtl.core_sfu import ROTATIONS, CoreSfu
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import HarnessError
from mixflight.rtl.sfu_plan import CAUSAL
from mixflight.rtl.toolchain import last_lines, run_tool
from mixflight.sim.core_values.state import CoreState, Shape, new_state
from mixflight.sim.core_values.vectors import compute
from mixflight.verify_outcome import StreamOutcome

STALLED = ("instruction", "a", "b", "out", "act")


@dataclass(frozen=True, kw_only=True)
class SfuRun:
    """Buffers after a run, as ``CoreState`` has them, and when each instruction was taken and done."""

    vector: NDArray[np.uint8]
    act: NDArray[np.uint8]
    act_scales: NDArray[np.float16]
    taken: NDArray[np.uint32]
    done: NDArray[np.uint32]
    unsupported: bool


def build_sfu(*, width: int, channels: int = 2, head_max: int = 128) -> CompiledModel:
    """The unit compiled with its buffers."""
    return build_text(emit_verilog(CoreSfu(width=width, channels=channels, head_max=head_max), "core-sfu"))


def build_text(text: str) -> CompiledModel:
    """Verilog of the unit compiled with its buffers."""
    return compile_model(text, top="core_sfu", main=source("core_sfu.cpp"))


def instruction(**fields: int | str) -> dict[str, int]:
    """All operands of a MISC; ``operation`` by its name."""
    given = dict.fromkeys(primitive("MISC").members, 0)
    for name, value in fields.items():
        given[name] = codes("MISC", name)[value] if isinstance(value, str) else int(value)
    return given


def run_sfu(
    model: CompiledModel, state: CoreState, instructions: Sequence[Mapping[str, int]], *,
    stall: Mapping[str, int] | None = None, seed: int = 1,
) -> SfuRun:  # fmt: skip
    """Run instructions on copies of the buffers of ``state``. ``stall``: port → percent of cycles that do not go on.

    Raises
    ------
    HarnessError
        The unit asked for a line that is not there, wrote without an instruction, or did not end.
    """
    layout, constants = primitive("MISC"), state.constants
    stall = stall or {}
    act = np.zeros((len(state.act), 72), np.uint8)
    blocks: NDArray[Any] = act.reshape(-1, 4, 18)
    blocks[..., :16] = state.act.reshape(-1, 4, 16)
    blocks[..., 16:] = state.act_scales.view(np.uint8).reshape(-1, 4, 2)
    words = [layout.const(dict(given)).as_value().value for given in instructions]
    packed = constants.eps | constants.inverse_hidden << 32 | constants.inverse_head << 64
    packed |= constants.inverse_root << 96 | constants.position << 128 | constants.head_elements << 146
    head = [seed, *(stall.get(name, 0) for name in STALLED), len(state.vector), len(act), len(constants.rope_steps),
            len(words), ROTATIONS * rotation_cycles(constants.head_elements)]
    parts = [np.array(head, np.uint32), _split(packed, 5), state.vector.reshape(-1).view(np.uint32),
             act.reshape(-1).view(np.uint32), np.array(constants.rope_steps, np.uint64).view(np.uint32),
             *(_split(word, 3) for word in words)]
    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        given_file, seen_file = Path(name) / "given", Path(name) / "seen"
        np.concatenate(parts).tofile(given_file)
        done = run_tool([str(model.executable), str(given_file), str(seen_file)])
        if done.returncode != 0:
            raise HarnessError(f"the special-function unit must end its instructions: exit status {done.returncode}, "
                               f"{last_lines(done.stdout)}")
        seen = np.fromfile(seen_file, np.uint32)
    sizes = [state.vector.size // 4, act.size // 4, len(words), len(words)]
    vector, blocks, taken, ended, unsupported = np.split(seen, np.cumsum(sizes))
    blocks = blocks.view(np.uint8).reshape(-1, 4, 18)
    return SfuRun(
        vector=vector.view(np.uint8).reshape(-1, 64), act=blocks[..., :16].reshape(-1, 64).copy(),
        act_scales=blocks[..., 16:].copy().view(np.float16)[..., 0], taken=taken, done=ended,
        unsupported=bool(unsupported[0]),
    )  # fmt: skip


def _split(value: int, words: int) -> NDArray[np.uint32]:
    return np.array([value >> 32 * i & 0xFFFFFFFF for i in range(words)], np.uint32)


# -- random instructions --------------------------------------------------------------------------------------------

LINES, ACT_LINES = 16384, 4096
HEAD = 64
STALLS = (0, 30, 80)
"""Percent of cycles in which a port does not go on; in the last one only one port at a time."""

_HALF_SCALES = ("embed", "probability_quantise")
_TO_ACT = ("quantise", "kv_append", "probability_quantise")
_EXPONENTS: Mapping[str, tuple[int, int]] = {
    "residual": (0, 254), "bias": (0, 254), "norm": (0, 187), "layernorm": (0, 180), "rope": (0, 247),
    "quantise": (0, 149), "kv_append": (0, 149), "softmax": (0, 137), "probability_quantise": (0, 127),
    "activation:silu:gated": (0, 140), "activation:silu:plain": (0, 140), "activation:relu:gated": (0, 187),
    "activation:gelu:gated": (0, 140), "activation:gelu:plain": (0, 254), "softcap": (0, 240),
    "activation:relu:plain": (0, 254),
}  # fmt: skip
"""Exponent fields of operands for which every result fits."""


def words(random: np.random.Generator, count: int, low: int, high: int) -> NDArray[np.uint32]:
    """FP32 words with exponent fields from a range around one of their own, so that they meet; zeros among them."""
    centre = int(random.integers(low, high))
    near, far = max(low, centre - int(random.integers(0, 30))), min(high, centre + 1)
    fields = random.integers(near, far, count, np.uint32)
    fractions, signs = random.integers(0, 1 << 23, count, np.uint32), random.integers(0, 2, count, np.uint32)
    found: NDArray[np.uint32] = fields << 23 | fractions | signs << 31
    found[random.random(count) < 0.05] &= 0x80000000
    return found


def random_instruction(
    random: np.random.Generator, state: CoreState, operation: str, line: int, act_line: int
) -> tuple[dict[str, int], int, int]:  # fmt: skip
    """An instruction on operands of its own, written to ``state`` from ``line`` on, and the lines behind all of it."""
    vectors = int(random.choice((1, 1, 2, 3, 9, 17)))
    elements = int(random.choice((1, 2, 15, 16, 17, 63, 64, 65, 100, 127, 128, 129, 200, 576)))
    group = 0
    if operation in ("quantise", "embed"):
        group = int(random.choice((0, 4, 5, 6, 7)))
        elements = max(1, elements >> group) << group if group else elements
    if operation == "rope":
        elements = HEAD
    if operation == "embed":
        elements += elements % 2
    causal = operation in CAUSAL and random.random() < 0.5
    if causal:
        elements = max(elements, vectors)
    if operation == "kv_append":
        vectors = 2 * min(vectors, 5)
    each = -(-elements // 16) * vectors
    b_lines = vectors * (-(-elements // 32) + 1) if operation == "embed" else each
    a, b, out = line, line + each, line + 2 * each
    low, high = _EXPONENTS.get(operation, (1, 2))
    flat = state.vector.reshape(-1).view(np.uint32)
    for part in range(2 * each):     # a range a line: groups of zeros, of subnormals, of large values
        flat[(line + part) * 16:(line + part + 1) * 16] = words(random, 16, low, high)
    if operation == "softcap":
        flat[b * 16:b * 16 + 2] = np.array([2 / 30, 30], np.float32).view(np.uint32)
    if operation in ("norm", "layernorm"):
        flat[b * 16:(b + each) * 16] = words(random, 16 * each, 60, 150)
    if operation in _HALF_SCALES:
        halves = random.integers(0, 0x7C00, 32 * (b_lines + 8), np.uint16)
        if operation == "embed":
            halves |= random.integers(0, 2, len(halves), np.uint16) << 15
        else:
            halves = (halves & 0x3FFF).astype(np.uint16)
            flat[a * 16:b * 16] &= 0x7FFFFFFF
        state.vector.reshape(-1).view(np.uint16)[b * 32:b * 32 + len(halves)] = halves
        out = b + b_lines + 8
    if operation not in _TO_ACT and random.random() < 0.5:
        out = a
    to_act = operation in _TO_ACT
    fields = instruction(
        operation=operation, vectors=vectors, elements=elements, group=group, parts=random.random() < 0.5,
        causal=causal, target="act" if to_act else "global", a_line=a, b_line=b, out_line=act_line if to_act else out,
    )  # fmt: skip
    used = (vectors * (-(-elements // 64) + 1)) if to_act else 0
    return fields, max(out, b + b_lines) + each + 8, act_line + used


def fresh_state(random: np.random.Generator, channels: int) -> CoreState:
    """Buffers with something everywhere."""
    shape = Shape(channels=channels, step=16, global_lines=LINES, act_lines=ACT_LINES, words=1, scale_bytes=1,
                  index_bytes=1)
    constants = control_constants(hidden=576, head=HEAD, epsilon=1e-5, rope_base=10000.0,
                                  position=int(random.integers(1 << 17)))
    state = new_state(shape, constants, [], [])
    state.act[:] = random.integers(0, 256, state.act.shape)
    state.act_scales[:] = random.random(state.act_scales.shape)
    return state


def check_sfu(
    model: CompiledModel, *, width: int, channels: int = 2, seed: int = 0, rounds: int = 4
) -> StreamOutcome:  # fmt: skip
    """Random instructions of every operation, all lines of both buffers compared; cycles of the runs without stalls."""
    random = np.random.default_rng(seed)
    start = time.perf_counter()
    messages: list[str] = []
    tests = failures = values = cycles_rtl = cycles_sim = 0
    for number in range(rounds * len(STALLS)):
        percent = STALLS[number % len(STALLS)]
        state, given, line, act_line = fresh_state(random, channels), [], 0, 0
        operations = list(random.permutation(list(PATHS) * 3))
        for operation in operations:
            fields, line, act_line = random_instruction(random, state, str(operation), line, act_line)
            if line > LINES or act_line > ACT_LINES:
                break
            given.append(fields)
        stall = dict.fromkeys(STALLED, percent)
        if percent == STALLS[-1]:
            stall = {str(random.choice(STALLED)): percent}
        run = run_sfu(model, state, given, stall=stall, seed=seed + number)
        with np.errstate(all="ignore"):
            for fields in given:
                compute(state, fields)
        found = _differences(run, state) + (["an instruction was not supported"] if run.unsupported else [])
        if not percent:
            found += _late(run, given, width, channels)
            cycles_rtl += int((run.done.astype(np.int64) - run.taken + 1).sum())
            cycles_sim += sum(computed_cycles(fields, width) for fields in given)
        messages += [f"round {number}, stalls {stall}: {message}" for message in found]
        tests, failures = tests + len(given), failures + bool(found)
        values += state.vector.size // 4 + state.act.size
    return StreamOutcome(tests=tests, failures=failures, messages=tuple(messages[:20]), cycles_rtl=cycles_rtl,
                         cycles_sim=cycles_sim, values=values, run_s=time.perf_counter() - start)


def computed_cycles(fields: Mapping[str, int], width: int) -> int:
    """What ``arch.sfu_pipeline`` says of an instruction."""
    name = next(name for name, code in codes("MISC", "operation").items() if code == fields["operation"])
    return misc_cycles(name, width=width, vectors=fields["vectors"], elements=fields["elements"],
                       group=1 << fields["group"] if fields["group"] else 0)


def _late(run: SfuRun, given: Sequence[Mapping[str, int]], width: int, channels: int) -> list[str]:
    """Instructions whose cycles are not those computed, or that were not taken behind the one before."""
    found = []
    blocks = codes("MISC", "operation")["probability_quantise"] if channels > 2 else None
    for at, fields in enumerate(given):
        taken, computed = int(run.done[at]) - int(run.taken[at]) + 1, computed_cycles(fields, width)
        if taken != computed and (fields["operation"] != blocks or taken < computed):
            found.append(f"{taken} cycles, computed {computed}, of instruction {at}: {dict(fields)}")
    found += [f"instruction {at + 1} was taken {int(taken) - int(done)} cycles behind the end of the one before"
              for at, (done, taken) in enumerate(zip(run.done[:-1], run.taken[1:], strict=True)) if taken != done + 1]
    return found


def _differences(run: SfuRun, state: CoreState) -> list[str]:
    found = []
    for name in ("vector", "act", "act_scales"):
        seen, truth = getattr(run, name), getattr(state, name)
        wrong = np.argwhere(seen.view(np.uint8) != truth.view(np.uint8))
        if len(wrong):
            line = wrong[0][0]
            found.append(f"{len(wrong)} bytes of {name} differ, first in line {line}: golden "
                         f"{truth[line].tobytes().hex()}, RTL {seen[line].tobytes().hex()}")
    return found
