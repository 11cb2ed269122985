"""Random programs whose tokens suffice and no more, with what they leave behind: to hold a core's RTL against.

    random_program   memories with sensible numbers, instructions whose operands exist, tokens where classes meet
    RandomProgram    text, what the host writes, memories before, the whole core after; ``save`` writes files

Every instruction is executed as it is made, so the next one can ask what lies where: operands are finite, scales exist,
slots hold what is read. A token is put exactly where an instruction touches what an earlier one of another class has
touched (:mod:`~mixflight.sim.core_values.order`), so a unit that ends too early, or begins too early, changes bytes.
The last instructions store the windows that were worked on, so memories alone show everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, REGISTERS, SLOTS, check, codes, compact
from mixflight.arch.control_constants import ControlConstants, control_constants
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream, stream_of, token_mask
from mixflight.mapping.core_image import Octets
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_values.execute import execute
from mixflight.sim.core_values.host_files import save_job
from mixflight.sim.core_values.order import Access, accesses, units_of
from mixflight.sim.core_values.state import BUFFERS, LINE_WORDS, CoreState, Shape, new_state, shape_of
from mixflight.sim.core_values.vectors import OPERATIONS

DECODE_FAMILIES = ("transfer", "linear", "keys", "values", "vector", "attention", "barrier")
FAMILIES = (*DECODE_FAMILIES, "causal", "matrix")
"""What instructions are drawn from: transfers of vectors; loads of a slot and its MV; MISC on vectors; the cache's
quantisation and cells; tokens from everyone to everyone; MISC on successive tokens and MM, which decode steps do not
have."""

ACT_WINDOW = 48
GLOBAL_WINDOW = 4 * ACT_WINDOW
"""Lines that instructions work on: few, so that they meet; the FP32 of one window are the codes of the other."""
RAW = GLOBAL_WINDOW - 32
"""From this line on also bytes that are no FP32 (rows of the embedding, scales of the cache)."""
VECTORS, CODES, SCALES, CELLS, OUT = 0x0, 0x10000, 0x20000, 0x28000, 0x38000
"""First bytes of the regions of every channel: FP32, codes of weights, FP16 scales, scales of the cache, results."""
END = 0x80000
EMBEDDINGS = 16
HEAD = 64
MOST = 1e4
"""Operands are smaller, so that squares and scales fit."""
TRIES = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomProgram:
    """``registers`` by number, ``constants`` of MISC; ``hbm`` and ``ddr`` before the run; ``after`` the core behind it.

    ``instructions`` as the queues get them; tokens are in the text.
    """

    text: Stream
    registers: dict[int, int]
    constants: ControlConstants
    hbm: list[Octets]
    ddr: list[Octets]
    instructions: list[Primitive]
    after: CoreState

    def save(self, folder: Path) -> None:
        """The run as files (``host_files``), and ``after.npz``: the whole core behind it."""
        save_job(folder, text=self.text, words=np.zeros(0, np.int64), registers=self.registers,
                 constants=self.constants, hbm=self.hbm, ddr=self.ddr[0])  # fmt: skip
        after = self.after
        held: dict[str, Any] = {f"channel{number}": data for number, data in enumerate(after.hbm)}
        held |= {name: getattr(after, name) for name in ("vector", "act", "act_scales", "weight", "scale")}
        np.savez_compressed(folder / "after.npz", **held)


@dataclass
class _Slot:
    """What a slot of the weight buffer holds, in the terms of the MV that reads it."""

    layout: str
    columns: int
    k: int
    bits: int
    group: int
    minimum: bool


@dataclass
class _Draft:
    """An instruction with its tokens, which later ones may add to."""

    kind: str
    fields: dict[str, int]
    wait: set[str] = field(default_factory=set)
    release: set[str] = field(default_factory=set)
    clock: list[int] = field(default_factory=list)


def random_program(
    machine: CoreMachine, seed: int, count: int = 60, families: Sequence[str] = DECODE_FAMILIES
) -> RandomProgram:  # fmt: skip
    """A program of about ``count`` instructions that compute or move something, drawn from ``families``."""
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise InputError(f"families must be among {', '.join(FAMILIES)}, not {', '.join(families)}")
    return _Maker(machine, seed, families).make(count)


class _Maker:
    def __init__(self, machine: CoreMachine, seed: int, families: Sequence[str]) -> None:
        self.rng, self.families = np.random.default_rng(seed), tuple(families)
        self.shape: Shape = shape_of(machine)
        self.constants = control_constants(
            hidden=int(self.rng.integers(100, 2000)), head=HEAD, epsilon=1e-5, rope_base=10000.0,
            position=int(self.rng.integers(0, 1 << 17)),
        )  # fmt: skip
        values = self.rng.choice([0, 1, 2, 3, 5, 8, 16, 32, 64, 4096, OUT], REGISTERS).tolist()
        self.registers = dict(enumerate([*range(SLOTS), *values[SLOTS:]]))
        self.hbm, self.ddr = self._memories()
        self.state = new_state(self.shape, self.constants, [item.copy() for item in self.hbm], [self.ddr[0].copy()])
        self.drafts: list[_Draft] = []
        self.of_class: dict[str, list[_Draft]] = {kind: [] for kind in CLASSES}
        self.slots: list[_Slot | None] = [None] * SLOTS
        self.sums: tuple[int, int, bool, str] | None = None
        self.written = {name: np.zeros((len(CLASSES), n), np.int64) for name, n in units_of(self.shape).items()}
        self.read = {name: np.zeros_like(kept) for name, kept in self.written.items()}
        self.stored: list[tuple[int, int]] = []
        self.last_load_of_results = 0

    # -- memories --------------------------------------------------------------------------------------------------

    def _memories(self) -> tuple[list[Octets], list[Octets]]:
        rng, hbm = self.rng, []
        for _ in range(self.shape.channels):
            data = rng.integers(0, 256, END).astype(np.uint8)
            data[VECTORS:CODES].view(np.float32)[:] = self._numbers((CODES - VECTORS) // 4)
            for first, end in ((SCALES, CELLS), (CELLS, OUT)):
                data[first:end].view(np.float16)[:] = 10.0 ** rng.uniform(-4.5, -2, (end - first) // 2)
            hbm.append(data)
        rows = np.zeros((EMBEDDINGS, 1024), np.uint8)
        rows[:, :512] = rng.integers(-127, 128, (EMBEDDINGS, 512)).astype(np.int8).view(np.uint8)
        rows[:, 512:] = rng.uniform(1e-3, 0.1, (EMBEDDINGS, 256)).astype(np.float16).view(np.uint8)
        return hbm, [rows.reshape(-1)]

    def _numbers(self, count: int) -> np.ndarray:
        """FP32 of many magnitudes, zeros among them."""
        rng = self.rng
        found = rng.standard_normal(count) * 10.0 ** rng.uniform(-3, 1.5, count)
        found[rng.random(count) < 0.02] = 0
        return found.astype(np.float32)

    # -- instructions ----------------------------------------------------------------------------------------------

    def make(self, count: int) -> RandomProgram:
        """Fill the windows, draw instructions, store the windows."""
        self._fill()
        drawn = {
            "transfer": (self._load, self._load, self._store), "linear": (self._linear_slot, self._product),
            "keys": (self._keys_slot, self._product), "values": (self._values_slot, self._product),
            "vector": (self._vector, self._vector, self._embed),
            "attention": (self._append, self._probabilities, self._softmax), "barrier": (self._barrier,),
            "causal": (self._causal,),
            "matrix": (self._linear_slot, self._keys_slot, self._values_slot, *[self._matrix_product] * 3),
        }  # fmt: skip
        before = len(self.drafts)
        for _ in range(TRIES * count):
            if len(self.drafts) - before >= count:
                break
            family = self.families[self.rng.integers(len(self.families))]
            if family == "barrier" and self.rng.random() < 0.8:
                continue
            ways = drawn[family]
            ways[self.rng.integers(len(ways))]()
        self._dump()
        self._add("SYS", self._nothing("SYS") | {"operation": codes("SYS", "operation")["done"]},
                  wait=[kind for kind in CLASSES if kind != "SYS" and self.of_class[kind]])  # fmt: skip
        text = self._text()
        return RandomProgram(
            text=text, registers=self.registers, constants=self.constants, hbm=self.hbm, ddr=self.ddr,
            instructions=[self._primitive(item, number) for number, item in enumerate(self.drafts)], after=self.state,
        )  # fmt: skip

    def _primitive(self, item: _Draft, number: int) -> Primitive:
        tokens = [tuple(kind for kind in CLASSES if kind in names) for names in (item.wait, item.release)]
        return Primitive(item.kind, number, tokens[0], tokens[1], item.fields)

    def _try(self, kind: str, fields: dict[str, int]) -> bool:
        """Add an instruction if it can be carried out."""
        lines = {"global": GLOBAL_WINDOW, "act": ACT_WINDOW}
        item = Primitive(kind, len(self.drafts), (), (), fields)
        touched = [] if item.empty else accesses(item, self.shape)
        if any(access.end > lines.get(access.buffer, SLOTS) for access in touched):
            return False
        try:
            execute(self.state, [item])
        except InputError:
            return False
        self._add(kind, fields, touched)
        return True

    def _add(
        self, kind: str, fields: dict[str, int], touched: Sequence[Access] = (), wait: Sequence[str] = ()
    ) -> None:
        """Add an instruction with the tokens that what it touches asks for, and sometimes one more."""
        draft, mine = _Draft(kind, fields), CLASS_INDEX[kind]
        own = self.of_class[kind]
        known = own[-1].clock.copy() if own else [0] * len(CLASSES)
        needed = set(wait)
        for access in touched:
            for kept in (self.written, self.read) if access.write else (self.written,):
                latest = kept[access.buffer][:, access.first : access.end].max(axis=1)
                needed |= {CLASSES[other] for other in np.flatnonzero(latest > known) if other != mine}
        if kind == "ST" and self.last_load_of_results > known[CLASS_INDEX["LD"]]:
            needed.add("LD")
        if kind == "LD" and not fields["ddr"] and fields["address"] >= OUT:
            self.last_load_of_results = len(own) + 1
            if len(self.of_class["ST"]) > known[CLASS_INDEX["ST"]]:
                needed.add("ST")
        if self.rng.random() < 0.1:
            needed.add(CLASSES[self.rng.integers(len(CLASSES))])
        for other in sorted(needed - {kind}):
            giver = self.of_class[other][-1] if self.of_class[other] else None
            if giver is not None and kind not in giver.release:
                giver.release.add(kind)
                draft.wait.add(other)
                known = [max(pair) for pair in zip(known, giver.clock, strict=True)]
        known[mine] = len(own) + 1
        draft.clock = known
        own.append(draft)
        self.drafts.append(draft)
        for access in touched:
            table = self.written if access.write else self.read
            table[access.buffer][mine, access.first : access.end] = len(own)

    def _move(self, buffer: str, address: int, size: int, **others: int) -> dict[str, int]:
        return {
            "buffer": BUFFERS.index(buffer), "ddr": 0, "wide": 1, "channel": 0, "address": address, "bytes": size,
            "slotted": 0, "slot": 0, "line": 0,
        } | others  # fmt: skip

    def _ld(self, buffer: str, address: int, size: int, **others: int) -> dict[str, int]:
        return self._move(buffer, address, size, **{"code_bits": 0, "signed": 0, "layout": 0, **others})

    def _fill(self) -> None:
        """FP32 and codes everywhere in the windows."""
        each = GLOBAL_WINDOW * LINE_BYTES // self.shape.channels
        self._must("LD", self._ld("global", VECTORS, each))
        self._must("MISC", self._misc("quantise", ACT_WINDOW, LINE_BYTES, target=1, group=5))

    def _dump(self) -> None:
        """Store the windows behind the results."""
        for buffer, lines, at in (("global", GLOBAL_WINDOW, 0), ("act", ACT_WINDOW, GLOBAL_WINDOW * LINE_BYTES)):
            self._must("ST", self._move(buffer, END - 0x10000 + at, lines * LINE_BYTES // self.shape.channels))

    def _must(self, kind: str, fields: dict[str, int]) -> None:
        if not self._try(kind, fields):
            raise InputError(f"a core must hold windows of {GLOBAL_WINDOW} and {ACT_WINDOW} lines and slots to work on")

    def _whole(self, low: int, high: int, unit: int = 1) -> int:
        """A multiple of ``unit`` from ``low`` to ``high``."""
        return int(self.rng.integers(-(-low // unit), high // unit + 1)) * unit

    def _any(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    # transfers

    def _load(self) -> None:
        line, wide = self._whole(0, GLOBAL_WINDOW - 1), self.rng.random() < 0.7
        size = self._whole(32, 1024, 32)
        if self.rng.random() < 0.15 and self.stored:
            address, size = self.stored[self.rng.integers(len(self.stored))]
            self._try("LD", self._ld("global", address, size, line=line))
        elif wide:
            self._try("LD", self._ld("global", self._whole(VECTORS, CODES - 2048, 32), size, line=line))
        else:
            self._try("LD", self._ld("global", self._whole(VECTORS, CODES - 2048, 64), size, line=line, wide=0,
                                     channel=self._whole(0, self.shape.channels - 1)))  # fmt: skip

    def _store(self) -> None:
        buffer, lines = ("global", GLOBAL_WINDOW) if self.rng.random() < 0.6 else ("act", ACT_WINDOW)
        line, address = self._whole(0, lines - 1), self._whole(OUT, END - 0x14000, 64)
        if self.rng.random() < 0.5:
            size = self._whole(32, 512, 32)
            if self._try("ST", self._move(buffer, address, size, line=line)) and buffer == "global":
                self.stored.append((address, size))
        else:
            size, address = (self._whole(4, 60, 4), address + self._whole(0, 60, 4)) if self.rng.random() < 0.5 else (
                self._whole(64, 256, 64), address)  # fmt: skip
            self._try("ST", self._move(buffer, address, size, line=line, wide=0,
                                       channel=self._whole(0, self.shape.channels - 1)))  # fmt: skip

    # slots

    def _slot(self, held: _Slot, code_bytes: int, scale_at: int, scale_bytes: int, signed: int) -> None:
        slot = self._whole(0, SLOTS - 1)
        layout = codes("LD", "layout")[held.layout]
        bits = 0 if held.bits == 8 and self.rng.random() < 0.3 else held.bits
        into = {"slotted": 1, "slot": slot, "code_bits": bits, "signed": signed, "layout": layout}
        if not self._try("LD", self._ld("weight", self._whole(CODES, SCALES - code_bytes, 32), code_bytes, **into)):
            return
        self.slots[slot] = None
        if scale_bytes and not self._try("LD", self._ld("scale", scale_at, scale_bytes, slotted=1, slot=slot)):
            return
        self.slots[slot] = held

    def _linear_slot(self) -> None:
        bits, group = self._any(2, 3, 4, 4, 5, 8), self._any(0, 16, 32, 32, 64, 128)
        k = self._whole(64, 320, max(64, group))
        columns = self._whole(16, 128, 16)
        minimum = bool(group) and self.rng.random() < 0.5
        steps, lanes = -(-columns // self.shape.step), self.shape.lanes
        code_bytes = steps * lanes * k * bits // 8
        scale_bytes = steps * -(-lanes * (k // group if group else 1) * (4 if minimum else 2) // 32) * 32
        signed = 1 if bits == 8 or not minimum else 0
        self._slot(_Slot("linear", columns, k, bits, group, minimum), code_bytes,
                   self._whole(SCALES, CELLS - scale_bytes, 32), scale_bytes, signed)  # fmt: skip

    def _keys_slot(self) -> None:
        tokens = self._whole(16, 128, 16)
        each = tokens // self.shape.channels
        self._slot(_Slot("keys", tokens, HEAD, 8, 0, False), each * HEAD, self._whole(CELLS, OUT - 4 * each, 32),
                   4 * each, 1)  # fmt: skip

    def _values_slot(self) -> None:
        tokens = self._whole(16, 128, 16)
        self._slot(_Slot("values", HEAD, tokens, 8, 0, False), tokens // self.shape.channels * HEAD, 0, 0, 1)

    def _matrix_product(self) -> None:
        """An MM, often one that goes on with the sums before."""
        fits = [(number, held) for number, held in enumerate(self.slots) if held is not None and self.sums is not None
                and self.sums[1:] == (held.columns, held.group > 0, held.layout)]  # fmt: skip
        if fits and self.sums is not None and self.rng.random() < 0.5:
            self._product("MM", self.sums[0], self.sums[0], fits)
        else:
            self._product("MM", 1, 12)

    def _product(
        self, kind: str = "MV", least_rows: int = 1, most_rows: int = 4, slots: Sequence[tuple[int, _Slot]] = ()
    ) -> None:
        """A product of one of the ``slots``, or of any."""
        known = slots or [(number, held) for number, held in enumerate(self.slots) if held is not None]
        if not known:
            return
        slot, held = known[int(self.rng.integers(len(known)))]
        rows = self._whole(least_rows, most_rows)
        go_on = self.sums == (rows, held.columns, held.group > 0, held.layout) and self.rng.random() < 0.7
        in_line = self._activations(rows, held.k, held.group)
        last = self.rng.random() < 0.75
        done = self._try(kind, {
            "rows": rows, "columns": held.columns, "k_blocks": held.k // K_BLOCK, "weight_bits": held.bits,
            "slot": slot,
            "in_line": in_line, "out_line": self._whole(0, GLOBAL_WINDOW - 1), "keep": K_BLOCK,
            "zero": codes("MV", "zero")["minimum" if held.minimum else "none"], "accumulate": int(go_on),
            "last": int(last), "transpose": int(held.layout == "values"), "group": max(0, held.group.bit_length() - 1),
        })  # fmt: skip
        if done:
            self.sums = rows, held.columns, held.group > 0, held.layout

    def _activations(self, rows: int, k: int, group: int) -> int:
        """A line from which so many codes lie that have one scale in each ``group`` (0: in all); made if need be."""
        lines = -(-k // LINE_BYTES) * rows
        at = range(max(1, ACT_WINDOW - lines + 1))
        for line in self.rng.permutation(at)[:12].tolist():
            held = self.state.act_scales[line : line + lines].reshape(-1, rows, LINE_BYTES // K_BLOCK)
            scales = held.transpose(1, 0, 2).reshape(rows, -1)[:, : k // K_BLOCK]
            groups = scales.reshape(rows, -1, group // K_BLOCK if group else scales.shape[1])
            if (groups == groups[..., :1]).all():
                return int(line)
        line = self._whole(0, at[-1])
        self._checked("quantise", rows, k, {"a_line": self._operand(rows, k), "target": 1, "out_line": line})
        return line

    # vectors

    def _misc(self, name: str, vectors: int, elements: int, **others: int) -> dict[str, int]:
        return {
            "vectors": vectors, "elements": elements, "a_line": 0, "b_line": 0, "out_line": 0,
            "operation": OPERATIONS.index(name), "group": 0, "causal": 0, "static": 0, "parts": 0, "target": 0,
        } | others  # fmt: skip

    def _operand(self, vectors: int, elements: int) -> int:
        """A line from which so much FP32 lies that every operation can take."""
        lines = vectors * -(-elements // LINE_WORDS)
        for _ in range(40):
            line = self._whole(0, max(0, GLOBAL_WINDOW - lines))
            x = self.state.words()[line : line + lines]
            with np.errstate(invalid="ignore"):
                small = np.abs(x) < MOST
            if small.all() and (x == 0).mean() < 0.9 and (np.abs(x[x != 0]) > 1e-12).all():
                return line
        return GLOBAL_WINDOW

    def _vector(self) -> None:
        name = str(self.rng.choice(["norm", "norm", "rope", "quantise", "quantise", "residual", "bias",
                                    "activation:silu:gated"]))  # fmt: skip
        parts, vectors = self._whole(0, 1), self._whole(1, 6)
        elements = HEAD if name == "rope" or self.rng.random() < 0.3 else self._whole(16, 400)
        others = {"parts": parts, "a_line": self._operand(vectors, elements)}
        if name == "quantise":
            others |= {"target": 1, "group": self._any(0, 4, 5, 5, 6), "out_line": self._whole(0, ACT_WINDOW - 1)}
            elements = -(-elements >> others["group"]) << others["group"] if others["group"] else elements
        else:
            many = name in ("residual", "activation:silu:gated")
            others |= {"b_line": self._operand(vectors if many else 1, elements)}
            in_place = self.rng.random() < 0.4
            others["out_line"] = others["a_line"] if in_place else self._whole(0, GLOBAL_WINDOW - 1)
        self._checked(name, vectors, elements, others)

    def _checked(self, name: str, vectors: int, elements: int, others: dict[str, int]) -> None:
        """Add it unless an operand reaches over results: with these, units of other widths would read other bytes."""
        fields = self._misc(name, vectors, elements, **others)
        touched = accesses(Primitive("MISC", 0, (), (), fields), self.shape)
        out = touched[-1]
        for access in touched[:-1]:
            meets = access.buffer == out.buffer and access.first < out.end and out.first < access.end
            if meets and (access.first, access.end) != (out.first, out.end):
                return
        first = touched[0]
        if first.buffer == "global" and name != "embed":
            x = self.state.words()[first.first : first.end]
            with np.errstate(invalid="ignore"):
                if not (np.abs(x) < MOST).all():
                    return
        self._try("MISC", fields)

    def _embed(self) -> None:
        n, group = self._whole(64, 512, 64), self._any(0, 5, 5, 6)
        line, row = self._whole(RAW, GLOBAL_WINDOW - 20), self._whole(0, EMBEDDINGS - 1)
        size = n + 2 * (n >> group if group else 1)
        # a row whose scales come behind its 512 codes: shorter ones take codes for scales, which must be finite
        stored = self.ddr[0][row * 1024 + n : row * 1024 + size].copy().view(np.float16)
        if not np.isfinite(stored).all() or (np.abs(stored) > 100).any():
            return
        if self._try("LD", self._ld("global", row * 1024, -(-size // 4) * 4, line=line, ddr=1, wide=0)):
            out = self._whole(0, GLOBAL_WINDOW - 1)
            self._checked("embed", 1, n, {"b_line": line, "group": group, "out_line": out})

    def _append(self) -> None:
        heads = self._whole(1, 3)
        self._checked("kv_append", 2 * heads, HEAD, {
            "a_line": self._operand(heads, HEAD), "b_line": self._operand(heads, HEAD), "target": 1,
            "parts": self._whole(0, 1), "out_line": self._whole(0, ACT_WINDOW - 1),
        })  # fmt: skip

    def _softmax(self, causal: int = 0) -> None:
        vectors, elements = self._whole(1, 4), self._whole(4, 300)
        line = self._operand(vectors, elements)
        self._checked("softmax", vectors, elements, {"a_line": line, "out_line": line, "causal": causal})

    def _causal(self) -> None:
        """Rotation, softmax or probabilities of successive tokens."""
        way = (self._turn, self._softmax, self._probabilities)[self._whole(0, 2)]
        way(causal=1)

    def _turn(self, causal: int) -> None:
        vectors = self._whole(1, 6)
        line = self._operand(vectors, HEAD)
        self._checked("rope", vectors, HEAD, {"a_line": line, "out_line": line, "causal": causal})

    def _probabilities(self, causal: int = 0) -> None:
        vectors, elements, line = self._whole(1, 4), self._whole(4, 300), self._whole(RAW, GLOBAL_WINDOW - 20)
        each = -(-4 * -(-elements // self.shape.channels) // 32) * 32
        if self._try("LD", self._ld("global", self._whole(CELLS, OUT - each, 32), each, line=line)):
            self._checked("probability_quantise", vectors, elements, {
                "a_line": self._operand(vectors, elements), "b_line": line, "target": 1, "causal": causal,
                "out_line": self._whole(0, ACT_WINDOW - 1),
            })  # fmt: skip

    def _barrier(self) -> None:
        """Every class waits for every other, by way of a barrier."""
        used = [kind for kind in CLASSES if kind != "SYS" and (kind != "MM" or "matrix" in self.families)]
        for kind in used:
            self._add(kind, self._nothing(kind))
        self._add("SYS", self._nothing("SYS"), wait=used)
        for kind in used:
            self._add(kind, self._nothing(kind), wait=["SYS"])

    def _nothing(self, kind: str) -> dict[str, int]:
        return dict.fromkeys(_NAMES[kind], 0)

    # -- the text --------------------------------------------------------------------------------------------------

    def _text(self) -> Stream:
        """The drafts as a compact text; some operands come partly from registers."""
        rows: dict[str, list[dict[str, int]]] = {kind: [] for kind in CLASSES}
        for item in self.drafts:
            row = _encoded(item.kind, item.fields)
            for name, register in _SPLIT[item.kind]:
                row |= self._split(row, name, register)
            row |= {"wait": token_mask(item.kind, item.wait), "release": token_mask(item.kind, item.release)}
            rows[item.kind].append(row)
        tables: dict[str, dict[str, Ints]] = {
            kind: {name: np.array([row.get(name, 0) for row in held], np.int64) for name in {*sum(map(list, held), [])}}
            for kind, held in rows.items()
        }
        stream = stream_of(np.array([CLASS_INDEX[item.kind] for item in self.drafts], np.uint8), tables, compact())
        check(stream)
        return stream

    def _split(self, row: dict[str, int], name: str, register: str) -> dict[str, int]:
        """``name`` less a register's value, by chance."""
        number = self._whole(1, REGISTERS - 1)
        value = self.registers[number]
        if register not in row and self.rng.random() < 0.3 and value <= row[name]:
            return {name: row[name] - value, register: number}
        return {}


_MOVES = (("offset", "base_register"), ("bytes", "bytes_register"), ("buffer_line", "buffer_register"),
          ("channel", "channel_register"))  # fmt: skip
_PRODUCT = (("rows", "rows_register"), ("columns", "columns_register"), ("k_blocks", "k_register"),
            ("in_line", "in_register"), ("out_line", "out_register"), ("weight_bits", "bits_register"))  # fmt: skip
_SPLIT: dict[str, tuple[tuple[str, str], ...]] = {
    "LD": _MOVES, "ST": _MOVES, "MM": _PRODUCT, "MV": _PRODUCT, "SYS": (),
    "MISC": (("vectors", "vectors_register"), ("elements", "elements_register"), ("a_line", "a_register"),
             ("b_line", "b_register"), ("out_line", "out_register")),
}  # fmt: skip
"""Operands that are an immediate plus a register."""

_RENAMED = {"ddr": "memory", "address": "offset", "line": "buffer_line"}
"""Fields of LD and ST that are named otherwise in the text."""


def _encoded(kind: str, fields: dict[str, int]) -> dict[str, int]:
    """Fields of the compact encoding; slots come from the registers of their number."""
    if kind in ("LD", "ST"):
        found = {_RENAMED.get(name, name): value for name, value in fields.items() if name != "slot"}
        return found | ({"buffer_register": fields["slot"]} if fields["slotted"] else {})
    if kind in ("MM", "MV"):
        return {name: value for name, value in fields.items() if name != "slot"} | {"slot_register": fields["slot"]}
    if kind == "SYS":
        return {name: value for name, value in fields.items() if name != "lines"} | {"limit": fields["lines"]}
    return dict(fields)


_MOVE_NAMES = ("buffer", "ddr", "wide", "channel", "address", "bytes", "slotted", "slot", "line")
_PRODUCT_NAMES = ("rows", "columns", "k_blocks", "weight_bits", "slot", "in_line", "out_line", "keep", "zero",
                  "accumulate", "last", "transpose", "group")  # fmt: skip
_NAMES = {
    "LD": (*_MOVE_NAMES, "code_bits", "signed", "layout"), "ST": _MOVE_NAMES,
    "MM": _PRODUCT_NAMES, "MV": _PRODUCT_NAMES,
    "MISC": ("vectors", "elements", "a_line", "b_line", "out_line", "operation", "group", "causal", "static", "parts",
             "target"),
    "SYS": ("operation", "value", "buffer", "line", "lines"),
}  # fmt: skip
