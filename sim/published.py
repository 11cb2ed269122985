"""FlightLLM under its publication's timing rules: a prefill, decode steps and whole requests in milliseconds.

Every instruction's time is its bytes over a share of the channels' peak, or its MACs or elements over the unit's rate,
divided by the publication's correction factor. There is no latency, no row miss, no contention and no dequantisation
cost. Lengths are rounded up to buckets: 128 tokens in prefill, 16 in decode.
"""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import FlightLlmMachine
from mixflight.arch.isa import CLASSES
from mixflight.mapping.block_mask import Mask, block_mask
from mixflight.mapping.published_linear import OPERATIONS
from mixflight.mapping.published_program import Generator, PublishedProgram
from mixflight.mapping.published_recipe import PublishedRecipe
from mixflight.mapping.stream_builder import Emitted
from mixflight.sim.queues import Execution, Floats, Layer, execute, execute_fully
from mixflight.workloads.model import Model
from mixflight.workloads.trace import decode_traces, prefill_trace

PREFILL_BUCKET = 128
DECODE_BUCKET = 16

# Share of 64 x 64 blocks kept within the causal triangle, by tokens: the public masks, measured over all layers.
MASK_DENSITY = {128: 1.0, 512: 0.802, 2048: 0.300}


class PublishedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A request of ``prefill`` tokens and ``decode`` more; ``steps`` are the times of the decode steps."""

    prefill: int
    decode: int
    prefill_ms: float
    steps_ms: tuple[float, ...]

    @property
    def decode_ms(self) -> float:
        """All decode steps."""
        return sum(self.steps_ms)

    @property
    def tokens_per_s(self) -> float:
        """Decode rate."""
        return self.decode / self.decode_ms * 1e3


class PublishedSimulator:
    """One machine, recipe and model; programs and layers are kept between lengths, results are not."""

    def __init__(self, machine: FlightLlmMachine, recipe: PublishedRecipe, model: Model) -> None:
        self.machine, self.recipe, self.model = machine, recipe, model
        self.generator = Generator(machine, recipe)
        self._layers: dict[int, tuple[Emitted, Layer]] = {}

    def decode_program(self, context: int) -> PublishedProgram:
        """The program of a decode step after which the cache holds ``context`` tokens, rounded up to its bucket."""
        return next(self.decode_programs(context, context))[1]

    def decode_programs(self, first: int, last: int) -> Iterator[tuple[int, PublishedProgram]]:
        """(Bucket, program) of the steps after which the cache holds ``first`` ... ``last`` tokens, bucket by
        bucket."""
        first, last = round_up(first, DECODE_BUCKET), round_up(last, DECODE_BUCKET)
        self._fits(last)
        for trace in decode_traces(self.model, self.recipe, first - 1, last - first + 1):
            if trace.context % DECODE_BUCKET == 0:
                yield trace.context, self.generator.program(trace)

    def prefill_program(self, tokens: int, masks: tuple[Mask, ...] = ()) -> PublishedProgram:
        """The program of a prefill, rounded up to its bucket; without ``masks`` those of the published density."""
        bucket = round_up(tokens, PREFILL_BUCKET)
        self._fits(bucket)
        masks = masks or (default_mask(self.model.heads, bucket, self.machine.mask_block),)
        return self.generator.program(prefill_trace(self.model, self.recipe, bucket), masks)

    def execute(self, program: PublishedProgram, with_starts: bool = False) -> Execution:
        """Run ``program``; times in milliseconds."""
        timed = [(item, self._timed(item)) for item in program.layers]
        self._layers = {id(item): (item, layer) for item, layer in timed}
        return execute(tuple(layer for _, layer in timed), program.order, with_starts)

    def run(self, prefill: int, decode: int, masks: tuple[Mask, ...] = ()) -> PublishedRun:
        """A request; contexts prefill + 1 ... prefill + decode, each in its bucket."""
        if prefill < 1 or decode < 1:
            raise InputError(f"prefill and decode must be at least 1 token, not {prefill} and {decode}")
        first = self.execute(self.prefill_program(prefill, masks)).total
        buckets = [round_up(context, DECODE_BUCKET) for context in range(prefill + 1, prefill + decode + 1)]
        programs = self.decode_programs(prefill + 1, prefill + decode)
        times = {bucket: self.execute(program).total for bucket, program in programs}
        steps = tuple(times[bucket] for bucket in buckets)
        return PublishedRun(prefill=prefill, decode=decode, prefill_ms=first, steps_ms=steps)

    def hbm_bytes(self, program: PublishedProgram) -> float:
        """Bytes that ``program`` moves to and from memory, weights as stored."""
        moved = []
        for item in program.layers:
            load, notes = item.stream.tables["LD"], item.notes["LD"]
            read = load["length"] * load["loop_1"] * (1 - load["zero_fill"]) / notes["ratio"]
            store = item.stream.tables["ST"]
            moved.append(float(read.sum() + (store["length"] * store["loop"]).sum()))
        return float(np.array(moved)[program.order].sum())

    def decode_bytes(self, prefill: int, decode: int) -> float:
        """Bytes moved by all decode steps of a request."""
        buckets = [round_up(context, DECODE_BUCKET) for context in range(prefill + 1, prefill + decode + 1)]
        programs = self.decode_programs(prefill + 1, prefill + decode)
        moved = {bucket: self.hbm_bytes(program) for bucket, program in programs}
        return sum(moved[bucket] for bucket in buckets)

    def trace(self, program: PublishedProgram) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Start and duration of every instruction of ``program``, which may be cut after any fused layer."""
        timed = tuple(self._timed(item) for item in program.layers)
        starts = execute_fully(timed, program.order, with_starts=True, whole=False).starts
        durations = {
            kind: np.concatenate([timed[index].duration[c] for index in program.order])
            for c, kind in enumerate(CLASSES)
        }
        return starts, durations

    def _fits(self, context: int) -> None:
        limit = self.machine.max_context
        if context > limit:
            raise InputError(f"context must be at most {limit}, the probabilities in a B buffer, not {context}")

    def _timed(self, item: Emitted) -> Layer:
        """``item`` with its times; layers that the program before had too are not timed again."""
        if id(item) in self._layers:
            return self._layers[id(item)][1]
        times, tables = instruction_times(item, self.machine), item.stream.tables
        return Layer(
            wait=tuple(tables[kind]["wait"].astype(np.uint8) for kind in CLASSES),
            release=tuple(tables[kind]["release"].astype(np.uint8) for kind in CLASSES),
            duration=tuple(times[kind] for kind in CLASSES),
        )


def instruction_times(item: Emitted, machine: FlightLlmMachine) -> dict[str, Floats]:
    """Milliseconds of every instruction, by class."""
    tables, notes, matrix, block = item.stream.tables, item.notes, machine.matrix, machine.block
    cycle_ms = 1e-3 / machine.clock_mhz
    load, store, misc = tables["LD"], tables["ST"], tables["MISC"]
    loaded = (load["length"] * load["loop_1"] * load["loop_2"] * load["loop_3"]).astype(np.float64)
    rate = _channel_rate(machine, notes["LD"]) * notes["LD"]["ratio"]
    zero_rate = machine.buffers["a"].width_bytes * notes["LD"]["channels"] / cycle_ms
    passes = np.array([getattr(machine.sfu.passes, name) for name in OPERATIONS])[misc["operation"]]
    mm_macs = matrix.mm_tile_m * matrix.mm_tile_n * block * tables["MM"]["k_blocks"] * notes["MM"]["density"]
    mv_macs = matrix.mv_tile_n * block * tables["MV"]["k_blocks"] * notes["MV"]["density"]
    times = {
        "LD": loaded / np.where(load["zero_fill"] == 1, zero_rate, rate),
        "ST": (store["length"] * store["loop"]) / _channel_rate(machine, notes["ST"]),
        "MM": mm_macs / matrix.mm_macs_per_cycle * cycle_ms,
        "MV": mv_macs / matrix.mv_macs_per_cycle * cycle_ms,
        "MISC": misc["k_blocks"] * block / machine.sfu.elements_per_cycle * passes * cycle_ms,
        "SYS": np.full(item.stream.count("SYS"), cycle_ms),
    }
    return {kind: np.asarray(value, np.float64) / machine.correction_factor for kind, value in times.items()}


def _channel_rate(machine: FlightLlmMachine, notes: Mapping[str, Floats]) -> Floats:
    """Bytes a millisecond of a transfer over its channels."""
    hbm = machine.hbm
    share = np.where(notes["cross"] == 1, hbm.cross_channel_efficiency, hbm.same_channel_efficiency)
    rate: Floats = hbm.channel_bytes_per_s * 1e-3 * notes["channels"] * share
    return rate


def round_up(tokens: int, bucket: int) -> int:
    """The smallest multiple of ``bucket`` that is at least ``tokens``."""
    return -(-tokens // bucket) * bucket


def mask_density(tokens: int) -> float:
    """Share of causal blocks kept: published at 128, 512 and 2,048 tokens, between them linear in the logarithm."""
    known = sorted(MASK_DENSITY)
    return float(np.interp(np.log2(tokens), np.log2(known), [MASK_DENSITY[item] for item in known]))


def default_mask(heads: int, tokens: int, block: int) -> Mask:
    """A causal mask of the published density: the diagonal and first column, then random blocks, each head its own."""
    return block_mask(heads, tokens, block, mask_density(tokens))
