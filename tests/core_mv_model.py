# amaranth: UnusedElaboratable=no
"""Random MV and MM instructions with their buffers as ``arch/core_execution.md`` lays them, and the results it asks for."""

import dataclasses

import numpy as np

from mixflight.arch.compact import codes as code_of
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_ports import primitive
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import build_model
from mixflight.rtl.primitive_models import models_for
from mixflight.rtl.unit_harness import UnitJob

LINE = 64
SCALE_PAD = 32


@dataclasses.dataclass
class Mv:
    """One instruction: sizes, and the operands as matrices."""

    rows: int
    columns: int
    k: int
    group: int = 0
    bits: int = 4
    layout: str = "linear"
    minimum: bool = False
    accumulate: bool = False
    last: bool = True
    slot: int = 0
    in_line: int = 0
    out_line: int = 0
    keep: int = 16

    @property
    def transpose(self) -> bool:
        return self.layout == "values"

    def word(self) -> int:
        """The instruction as its unit gets it."""
        layout = primitive("MV")
        names = {
            "rows": self.rows, "columns": self.columns, "k_blocks": self.k // 16, "weight_bits": self.bits,
            "keep": self.keep,
            "zero": code_of("MV", "zero")["minimum" if self.minimum else "none"], "accumulate": self.accumulate,
            "last": self.last, "transpose": self.transpose, "group": self.group.bit_length() - 1 if self.group else 0,
            "slot": self.slot, "in_line": self.in_line, "out_line": self.out_line,
        }  # fmt: skip
        return layout.const(names).as_value().value


class Machine:
    """The buffers of an engine of S columns in C banks, and FP32 and integer sums between slabs.

    ``sparse``: with index banks.
    """

    def __init__(self, *, columns: int, banks: int, weight_depth: int, scale_depth: int, seed: int,
                 sparse: bool = False) -> None:
        self.s, self.c, self.lanes = columns, banks, columns // banks
        self.random = np.random.default_rng(seed)
        self.weight = np.zeros((weight_depth, banks, self.lanes, 16), np.uint8)
        self.index = np.zeros((weight_depth, banks, self.lanes, 8), np.uint8) if sparse else None
        self.scale = np.zeros((banks, scale_depth * 4 * self.lanes), np.uint8)
        self.codes = np.zeros((1024, LINE), np.int8)
        self.act_scales = np.zeros((1024, 4), np.float16)
        self.out = np.full((1024, 16), -1, np.int64)
        self.layouts = [0, 0, 0, 0]
        self.sums: np.ndarray | None = None
        """Of the tile so far."""

    def prepare(self, mv: Mv, act_group: int, *, extreme: bool = False) -> None:
        """Random operands for ``mv``, in its slot and lines; then its results where they belong.

        ``extreme``: products as large as can be, whose sums pass 2^24.
        """
        random = self.random
        if mv.layout == "values" or mv.bits > 5:
            weights = random.integers(-127, 128, (mv.columns, mv.k))
        else:
            weights = random.integers(0, 1 << mv.bits, (mv.columns, mv.k))
        if random.random() < 0.2:
            weights[:] = weights.max()
        places = np.sort(np.argsort(random.random((mv.columns, mv.k // 16, 16)), axis=-1)[..., :mv.keep], axis=-1)
        kept = np.zeros(weights.shape, np.bool_)
        np.put_along_axis(kept.reshape(places.shape[0], -1, 16), places, True, -1)
        weights = np.where(kept, weights, 0)
        acts = random.integers(-127, 128, (mv.rows, mv.k))
        if extreme:
            weights, acts = random.choice([126, 127], weights.shape), np.full_like(acts, 127)
        groups = mv.k // mv.group if mv.group else 1
        scales = random.normal(0, 0.01, (mv.columns, groups)).astype(np.float16)
        scales[random.random(scales.shape) < 0.1] = np.float16(3e-7)
        minima = random.normal(0, 0.1, (mv.columns, groups)).astype(np.float16)
        act_scales = np.abs(random.normal(0, 0.05, (mv.rows, max(1, mv.k // act_group) if act_group else 1)))
        act_scales = act_scales.astype(np.float16)
        self._place_weights(mv, weights[kept].reshape(mv.columns, -1), places)
        self._place_scales(mv, scales, minima)
        per = act_group or mv.k
        for row in range(mv.rows):
            for k in range(0, mv.k, 16):
                line = mv.in_line + k // LINE * mv.rows + row
                self.codes[line, k % LINE:k % LINE + 16] = acts[row, k:k + 16]
                self.act_scales[line, k % LINE // 16] = act_scales[row, min(k // per, act_scales.shape[1] - 1)]
        self._carry_out(mv, weights, acts, scales, minima, act_scales, per)

    def _place_weights(self, mv: Mv, weights: np.ndarray, places: np.ndarray) -> None:
        """Kept codes [columns, K keep / 16], and their places in each block, of which dense ones have no need."""
        base = mv.slot * len(self.weight) // 4
        self.layouts[mv.slot] = code_of("LD", "layout")[mv.layout]
        steps, blocks = -(-mv.columns // self.s), weights.shape[1] // 16
        places = places.reshape(mv.columns, blocks, 16).astype(np.uint8)
        for column in range(mv.columns):
            step, at = divmod(column, self.s)
            bank, lane = at % self.c if mv.layout == "keys" else at // self.lanes, at // self.c
            lane = lane if mv.layout == "keys" else at % self.lanes
            for block in range(blocks):
                word = block * steps + step if mv.layout == "values" else step * blocks + block
                part = weights[column, 16 * block:16 * block + 16]
                self.weight[base + word, bank, lane] = part.astype(np.int8).view(np.uint8)
                if mv.keep < 16:
                    where = places[column, block]
                    self.index[base + word, bank, lane] = where[0::2] | where[1::2] << 4

    def _place_scales(self, mv: Mv, scales: np.ndarray, minima: np.ndarray) -> None:
        if mv.layout == "values":
            return
        groups, base = scales.shape[1], mv.slot * self.scale.shape[1] // 4
        parts = 2 if mv.minimum or mv.layout == "keys" else 1
        each = 2 * parts
        stride = -(-groups * self.lanes * each // SCALE_PAD) * SCALE_PAD
        for column in range(mv.columns):
            step, at = divmod(column, self.s)
            for group in range(groups):
                value = np.array([scales[column, group], minima[column, group]][:parts]).view(np.uint8)
                if mv.layout == "keys":
                    bank, place = at % self.c, (step * self.lanes + at // self.c) * 4
                else:
                    bank = at // self.lanes
                    place = step * stride + (group * self.lanes + at % self.lanes) * each
                self.scale[bank, base + place:base + place + each] = value

    def _carry_out(self, mv, weights, acts, scales, minima, act_scales, per) -> None:
        """The steps of the numerics' linear, group after group."""
        f32 = np.float32
        with np.errstate(all="raise", under="ignore"):
            if mv.group == 0:
                sums = acts.astype(np.int64) @ weights.T.astype(np.int64)
                if mv.accumulate:
                    sums = sums + self.sums
                self.sums = sums
                if not mv.last:
                    return
                d = np.full(mv.columns, f32(2) ** -12) if mv.transpose else scales[:, -1].astype(f32)
                results = (d[None] * act_scales[:, -1:].astype(f32)) * sums.astype(f32)
                if mv.minimum:
                    total = acts.sum(1)[:, None].astype(f32)
                    results = results + (minima[:, -1][None].astype(f32) * act_scales[:, -1:].astype(f32)) * total
                results = results + f32(0)
            else:
                results = self.sums if mv.accumulate else np.zeros((mv.rows, mv.columns), f32)
                for group in range(mv.k // mv.group):
                    part = slice(group * mv.group, (group + 1) * mv.group)
                    s_a = act_scales[:, [min(group * mv.group // per, act_scales.shape[1] - 1)]].astype(f32)
                    sums = acts[:, part].astype(np.int64) @ weights[:, part].T.astype(np.int64)
                    results = results + (scales[:, group].astype(f32)[None] * s_a) * sums.astype(f32)
                    if mv.minimum:
                        total = acts[:, part].sum(1)[:, None].astype(f32)
                        results = results + (minima[:, group].astype(f32)[None] * s_a) * total
                self.sums = results
                if not mv.last:
                    return
        lines = -(-mv.columns // 16)
        bits = results.view(np.uint32).astype(np.int64)
        for row in range(mv.rows):
            for column in range(mv.columns):
                line = row * lines + column // 16 if mv.transpose else column // 16 * mv.rows + row
                self.out[mv.out_line + line, column % 16] = bits[row, column]

    def reads(self) -> dict[str, list[int]]:
        """Words of the buffers behind the engine's read ports."""
        lines = np.concatenate([self.codes.view(np.uint8).reshape(-1, 4, 16),
                                self.act_scales[..., None].view(np.uint8).reshape(-1, 4, 2)], axis=2)
        scale = self.scale.reshape(self.c, -1, 4 * self.lanes).transpose(1, 0, 2)
        return {name: [int.from_bytes(word.tobytes(), "little") for word in part.reshape(len(part), -1)]
                for name, part in (("weight", self.weight), ("scale", scale), ("act", lines), ("index", self.index))
                if part is not None}

    def pins(self) -> dict[str, int]:
        """The slots' layouts."""
        return {"layouts": sum(layout << 2 * slot for slot, layout in enumerate(self.layouts))}


DEPTHS = {"weight_depth": 256, "scale_depth": 256}
STALLS = [{}, {"act": 0.3}, {"out": 0.6}, {"act": 0.4, "out": 0.4, "instruction": 0.5}]


def engine(**given):
    return MatrixVector(**{"columns": 16, "banks": 2, "lanes": 8, "outputs": 64, **DEPTHS, **given})


def build(top):
    return build_model(models_for(emit_verilog(top, "core-mv")), top="core_mv")


def job(machine, mvs, top, **given):
    """Instructions for the engine ``top``: each read of activations gives as many lines as it takes rows together."""
    reads, bits = machine.reads(), 4 * 144
    lines = [*reads["act"], *[0] * top.together]
    reads["act"] = [sum(lines[at + i] << i * bits for i in range(top.together)) for at in range(len(reads["act"]))]
    if 2 in top.kept:
        reads["act_far"] = reads["act"]
    return UnitJob(instructions=[mv.word() for mv in mvs], reads=reads, writes=["out"], pins=machine.pins(),
                   watch=["multiplying"], **given)


def check(machine, mvs, result):
    assert len(result.done) == len(mvs)
    found = result.buffer("out", words=len(machine.out), parts=16, part_bits=32)
    wrong = np.argwhere(found != machine.out)
    assert not len(wrong), [(line, word, hex(found[line, word]), hex(machine.out[line, word])) for line, word in wrong[:4]]


def tile(machine, *, act_group, slabs=1, extreme=False, **given):
    """One tile of ``slabs`` instructions, each with a slot of its own."""
    mvs = []
    for slab in range(slabs):
        mv = Mv(**{**given, "slot": slab, "in_line": given.get("in_line", 0) + 16 * slab, "accumulate": slab > 0,
                   "last": slab == slabs - 1})
        machine.prepare(mv, act_group, extreme=extreme)
        mvs.append(mv)
    return mvs


CASES = [
    {"rows": 1, "columns": 64, "k": 64, "group": 32, "act_group": 32},
    {"rows": 1, "columns": 48, "k": 128, "group": 32, "act_group": 32, "minimum": True},
    {"rows": 2, "columns": 24, "k": 64, "group": 16, "act_group": 16, "minimum": True},
    {"rows": 1, "columns": 16, "k": 64, "group": 32, "act_group": 32, "minimum": True},
    {"rows": 1, "columns": 32, "k": 128, "group": 32, "act_group": 32, "bits": 8},
    {"rows": 1, "columns": 32, "k": 64, "group": 32, "act_group": 0, "bits": 5},
    {"rows": 3, "columns": 48, "k": 64, "bits": 8, "layout": "keys", "act_group": 0},
    {"rows": 3, "columns": 64, "k": 48, "bits": 8, "layout": "values", "act_group": 0},
    {"rows": 1, "columns": 64, "k": 64, "act_group": 0},
    {"rows": 1, "columns": 32, "k": 64, "group": 32, "act_group": 32, "slabs": 4, "minimum": True},
    {"rows": 2, "columns": 32, "k": 64, "bits": 8, "act_group": 0, "slabs": 4},
    {"rows": 3, "columns": 64, "k": 64, "bits": 8, "layout": "values", "act_group": 0, "slabs": 3},
]
