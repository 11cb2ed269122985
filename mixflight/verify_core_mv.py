"""The matrix engine of a core against the reference executor: every layout and width, several slabs, stalls; cycles."""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS, codes
from mixflight.arch.control_constants import ControlConstants
from mixflight.arch.mm_pipeline import mm_cycles
from mixflight.arch.mv_pipeline import passes
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_ports import primitive
from mixflight.rtl.harness import Build
from mixflight.rtl.unit_harness import UnitJob, UnitResult, run_unit
from mixflight.sim.core_values.products import multiply
from mixflight.sim.core_values.state import CoreState, Shape, new_state
from mixflight.verify_outcome import StreamOutcome

STALLS: tuple[Mapping[str, float], ...] = (
    {}, {"act": 0.3}, {"out": 0.6}, {"act": 0.4, "out": 0.4, "instruction": 0.5})

_ACT_LINES = _GLOBAL_LINES = 512
_ZERO, _LAYOUT = codes("MV", "zero"), codes("LD", "layout")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """A tile of ``slabs`` instructions, each of ``steps`` steps of columns and ``blocks`` of 16 along K; results leave
    with the last one, or with ``every`` one."""

    rows: int = 1
    steps: int = 4
    blocks: int = 4
    bits: int = 4
    group: int = 0
    layout: str = "linear"
    minimum: bool = False
    slabs: int = 1
    every: bool = False


TILES: tuple[Tile, ...] = (
    Tile(group=32), Tile(group=32, minimum=True, blocks=8, steps=3), Tile(group=16, rows=2, steps=2),
    Tile(group=32, steps=1, minimum=True), Tile(group=32, bits=8, steps=2), Tile(group=64, bits=5),
    Tile(layout="keys", bits=8, rows=3), Tile(layout="values", bits=8, rows=3, blocks=3), Tile(),
    Tile(group=32, minimum=True, slabs=4), Tile(bits=8, rows=2, slabs=3),
    Tile(layout="values", bits=8, rows=3, slabs=3), Tile(layout="values", bits=8, rows=2, slabs=3, every=True),
    Tile(group=32, minimum=True, slabs=3, every=True), Tile(group=32, minimum=True, rows=6, blocks=8),
)


def tile_instructions(engine: Any, tile: Tile) -> list[dict[str, int]]:
    """The fields of a tile's instructions: a slot and activations of its own for each slab."""
    found = []
    for slab in range(tile.slabs):
        found.append({
            "rows": tile.rows, "columns": tile.steps * engine.columns, "k_blocks": tile.blocks,
            "weight_bits": tile.bits, "keep": K_BLOCK, "zero": _ZERO["minimum" if tile.minimum else "none"],
            "accumulate": int(slab > 0), "last": int(tile.every or slab == tile.slabs - 1),
            "transpose": int(tile.layout == "values"), "group": tile.group.bit_length() - 1 if tile.group else 0,
            "slot": slab % SLOTS, "in_line": 8 + slab * tile.rows * -(-tile.blocks // 4), "out_line": 40,
        })  # fmt: skip
    return found


def random_state(engine: Any, tile: Tile, random: np.random.Generator) -> CoreState:
    """Buffers full of random codes and finite scales."""
    shape = Shape(
        channels=engine.banks, step=engine.columns, global_lines=_GLOBAL_LINES, act_lines=_ACT_LINES,
        words=engine.weight_depth // SLOTS, index_bytes=0,
        scale_bytes=engine.scale_depth // SLOTS * 4 * engine.columns // engine.banks)
    constants = ControlConstants(eps=0, inverse_hidden=0, inverse_head=0, inverse_root=0, position=0, head_elements=0)
    state = new_state(shape, constants, [], [])
    low, high = (-127, 128) if tile.bits > 5 or tile.layout != "linear" else (0, 1 << tile.bits)
    state.weight[:] = random.integers(low, high, state.weight.shape)
    state.act[:] = random.integers(-127, 128, state.act.shape).astype(np.int8).view(np.uint8)
    scales = np.abs(random.normal(0, 0.05, state.act_scales.shape)).astype(np.float16)
    state.act_scales[:] = scales if tile.group else scales[0, 0]
    wide = random.normal(0, 0.01, state.scale.size // 2).astype(np.float16)
    wide[random.random(wide.shape) < 0.1] = np.float16(3e-7)     # subnormal
    state.scale[:] = wide.view(np.uint8).reshape(state.scale.shape)
    state.layouts[:] = [tile.layout] * SLOTS
    if tile.group > K_BLOCK:        # blocks of a group have one scale
        per = min(4, tile.group // K_BLOCK)
        state.act_scales[:] = state.act_scales[:, np.arange(4) // per * per]
    return state


def engine_reads(engine: Any, state: CoreState) -> dict[str, list[int]]:
    """The words behind the engine's read ports; one of activations is as many lines as rows go together."""
    weight = state.weight.transpose(0, 2, 1, 3, 4).reshape(engine.weight_depth, -1).view(np.uint8)
    scale = state.scale.reshape(SLOTS, engine.banks, engine.scale_depth // SLOTS, -1).transpose(0, 2, 1, 3)
    act = np.concatenate([state.act.reshape(-1, 4, K_BLOCK), state.act_scales[..., None].view(np.uint8)], axis=2)
    act = np.concatenate([np.roll(act, -row, axis=0) for row in range(engine.together)], axis=1)
    return {name: [int.from_bytes(word.tobytes(), "little") for word in part.reshape(rows, -1)]
            for name, part, rows in (("weight", weight, engine.weight_depth), ("scale", scale, engine.scale_depth),
                                     ("act", act, _ACT_LINES))}


def check_core_mv(engine: MatrixVector, build: Build, *, seed: int = 0, tiles: Sequence[Tile] = TILES) -> StreamOutcome:
    """Run a built engine over every tile with each stall."""
    layout, jobs, states, cases = primitive("MV"), [], [], []
    for number, (tile, stall) in enumerate(itertools.product(tiles, STALLS)):
        random = np.random.default_rng([seed, number])
        fields, state = tile_instructions(engine, tile), random_state(engine, tile, random)
        jobs.append(UnitJob(
            instructions=[layout.const(item).as_value().value for item in fields], reads=engine_reads(engine, state),
            writes=["out"], pins={"layouts": _LAYOUT[tile.layout] * 0b01010101}, stall=stall, seed=number))
        state.vector[:] = 0xFF
        for item in fields:
            multiply(state, item)
        states.append(state)
        cases.append((tile, stall, fields))
    start = time.perf_counter()
    results = run_unit(build, jobs)
    seconds = time.perf_counter() - start
    messages: list[str] = []
    failures = cycles_rtl = cycles_sim = values = 0
    for (tile, stall, fields), state, result in zip(cases, states, results, strict=True):
        found = _wrong(state, result, len(fields))
        if not stall and not found:
            taken, computed = _span(engine, result), _computed(engine, tile, len(fields))
            cycles_rtl, cycles_sim = cycles_rtl + taken, cycles_sim + computed
            if taken != computed:
                found = [f"{taken} cycles, computed {computed}"]
        failures += bool(found)
        messages += [f"{tile}, stalls {dict(stall) or 'none'}: {message}" for message in found]
        values += tile.rows * tile.steps * engine.columns
    return StreamOutcome(tests=len(cases), failures=failures, messages=tuple(messages[:20]), cycles_rtl=cycles_rtl,
                         cycles_sim=cycles_sim, values=values, run_s=seconds)


def _span(engine: Any, result: UnitResult) -> int:
    """Cycles from taking the first instruction to the last write."""
    return int(result.write_cycles["out"][-1]) - result.taken[0] + 1


def _computed(engine: Any, tile: Tile, slabs: int) -> int:
    each = [mm_cycles(
        columns=tile.steps * engine.columns, step=engine.columns, k=tile.blocks * K_BLOCK, rows=tile.rows,
        together=engine.together, lanes=engine.lanes, passes=passes(dots=engine.dots, weight_bits=tile.bits),
        group=tile.group, more=slab < slabs - 1) for slab in range(slabs)]
    latency: int = engine.latency
    lines_behind_the_first: int = (tile.rows - 1) % engine.together
    return sum(each) + latency + lines_behind_the_first


def _wrong(state: CoreState, result: UnitResult, instructions: int) -> list[str]:
    if len(result.done) != instructions:
        return [f"stopped: {len(result.done)} of {instructions} instructions done"]
    golden = state.vector.view(np.uint32).reshape(_GLOBAL_LINES, LINE_BYTES // 4)
    seen = result.buffer("out", words=_GLOBAL_LINES, parts=LINE_BYTES // 4, part_bits=32).astype(np.uint32)
    wrong = np.argwhere(golden != seen)
    if not len(wrong):
        return []
    line, word = wrong[0]
    return [(f"{len(wrong)} values differ; first in line {line}, word {word}: golden {golden[line, word]:08x}, "
            f"RTL {seen[line, word]:08x}")]
