"""Any trace on FlightLLM cores: every operator a layer of its own, between two barriers.

The fused texts (``core_compile``) know the layers of a plain decoder. Here each operator becomes primitive instructions
by itself, so that traces with any operators run; the price is that nothing overlaps across operators.

shares    products over pairs (heads, experts) where there are as many as cores, over rows where the columns are too
          few, else over columns; vectors over vectors, and a few of them on every core
matrix    LD of weights (and scales, indices) into one of ``SLOTS`` slots, MV for few rows or MM for many, whichever
          needs fewer cycles; weights are streamed once for every block of rows
attention blocks of rows see the columns up to their last token; sparse attention the mean number of columns
vectors   MISC with the passes of ``mapping.vector``; masked ones are as long as the mean
spilling  FP32 tensors above half the global buffer, and codes above half the weight buffer, lie in memory: their
          operator stores them and each that takes them loads them, in chunks
exchange  each core receives what others computed: all of it, or its rows of a tensor that lies in memory

Equal tiles of an operator run one after the other, as ``Pieces`` that repeat; their order does not change their work.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from mixflight.arch.compact import K_BLOCK, SLOTS
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, token_mask
from mixflight.mapping.core_memory import channel_share
from mixflight.mapping.core_program import BUFFERS, COLUMNS, MEMORIES, OPERATIONS, SYS_OPERATIONS, Piece, Pieces
from mixflight.mapping.core_shares import split
from mixflight.mapping.core_tiles import ceil_div, column_step, round_up, scale_bits, slot_bytes
from mixflight.mapping.homes import FP32_BYTES
from mixflight.mapping.matrix import zero_of
from mixflight.mapping.vector import work_of
from mixflight.workloads.operators import Operator

_CHUNKS = 8
"""Chunks of a spilled vector operator that fit the global buffer: two tensors in, one out, double-buffered."""
_ZEROS = {"none": 0, "f16-min": 2}


class Move(NamedTuple):
    """A transfer over ``channels`` at once: the buffer, one of ``MEMORIES``, bytes of each channel."""

    buffer: str
    memory: str
    bytes: int
    channels: int

    def fields(self, side: str) -> tuple[tuple[str, int], ...]:
        """The columns of LD (``side`` target) or ST (source)."""
        return (
            (side, _BUFFER[self.buffer]), ("memory", MEMORIES.index(self.memory)), ("bytes", self.bytes),
            ("channels", self.channels),
        )  # fmt: skip


def _move(buffer: str, size: int, machine: CoreMachine, memory: str = "hbm") -> Move:
    """``size`` bytes over all channels of a core, or of DDR."""
    channels = machine.hbm.channels_per_core if memory == "hbm" else machine.ddr.channels
    return Move(buffer, memory, channel_share(size, channels), channels)


class Step(NamedTuple):
    """An MM, MV or MISC instruction: its columns but for tokens, operator and addresses."""

    kind: str
    fields: tuple[tuple[str, int], ...]


class Tile(NamedTuple):
    """What runs together: loads into a slot, steps on it, stores of its results."""

    loads: tuple[Move, ...]
    steps: tuple[Step, ...]
    stores: tuple[Move, ...] = ()


class Work(NamedTuple):
    """One core's part of an operator: tiles, each so many times, and the bytes that it receives afterwards."""

    tiles: tuple[tuple[Tile, int], ...]
    received: int = 0


def work_of_cores(operator: Operator, machine: CoreMachine) -> tuple[Work, ...]:
    """The part of every core in one run of ``operator``, the one with most to do first."""
    return _matrix(operator, machine) if operator.is_matrix else _vector(operator, machine)


def pieces_of(work: Work) -> Pieces:
    """The instructions of one core from the barrier before an operator to the exchange behind it."""
    tiles = [tile for tile, _ in work.tiles]
    unit = next((step.kind for tile in tiles for step in tile.steps), "MISC")
    loads, stores = any(tile.loads for tile in tiles), any(tile.stores for tile in tiles)
    used = [*(["LD"] if loads else []), *(["ST"] if stores else []), unit]
    distinct = [_start(unit, used, loads, stores), *(_tile(tile, unit) for tile in tiles),
                _end(unit, used, loads, stores, work.received)]  # fmt: skip
    times = [1, *(count for _, count in work.tiles), 1]
    return Pieces(pieces=tuple(distinct), order=np.repeat(np.arange(len(distinct)), times))


# -- pieces ------------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    kind: str
    wait: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    fields: tuple[tuple[str, int], ...] = ()


def _start(unit: str, used: Sequence[str], loads: bool, stores: bool) -> Piece:
    """A barrier; no class begins before it. The slots are free."""
    rows = [_Row("SYS", (), tuple(used), (("operation", SYS_OPERATIONS.index("barrier")),))]
    rows += [_Row(kind, ("SYS",)) for kind in used]
    rows += [_Row(unit, (), ("LD",))] * (SLOTS if loads else 0)
    rows += [_Row("ST", (), (unit,))] * (SLOTS if stores else 0)
    return _piece(tuple(rows))


def _end(unit: str, used: Sequence[str], loads: bool, stores: bool, received: int) -> Piece:
    """Takes back the tokens of the slots; when all are done, the exchange."""
    rows = [_Row("LD", (unit,))] * (SLOTS if loads else 0) + [_Row(unit, ("ST",))] * (SLOTS if stores else 0)
    rows += [_Row(kind, (), ("SYS",)) for kind in used]
    operation = SYS_OPERATIONS.index("exchange" if received else "done")
    rows.append(_Row("SYS", tuple(used), (), (("operation", operation), ("bytes", received))))
    return _piece(tuple(rows))


@functools.lru_cache(maxsize=1 << 14)
def _tile(tile: Tile, unit: str) -> Piece:
    rows = []
    for at, move in enumerate(tile.loads):
        first, last = at == 0, at == len(tile.loads) - 1
        rows.append(_Row("LD", (unit,) if first else (), (unit,) if last else (), move.fields("target")))
    steps = tile.steps or (Step(unit, ()),)
    for at, step in enumerate(steps):
        first, last = at == 0, at == len(steps) - 1
        wait = (("LD",) if first and tile.loads else ()) + (("ST",) if last and tile.stores else ())
        release = (("LD",) if last and tile.loads else ()) + (("ST",) if last and tile.stores else ())
        rows.append(_Row(step.kind, wait, release, step.fields))
    for at, move in enumerate(tile.stores):
        first, last = at == 0, at == len(tile.stores) - 1
        rows.append(_Row("ST", (unit,) if first else (), (unit,) if last else (), move.fields("source")))
    return _piece(tuple(rows))


@functools.lru_cache(maxsize=1 << 14)
def _piece(rows: tuple[_Row, ...]) -> Piece:
    """Transfers lie behind each other in a region of each buffer, so a lone stream goes on where it ended."""
    tables: dict[str, dict[str, Ints]] = {}
    for kind in CLASSES:
        mine = [row for row in rows if row.kind == kind]
        if not mine:
            tables[kind] = _EMPTY[kind]
            continue
        table = {name: np.zeros(len(mine), np.int64) for name in COLUMNS[kind]}
        ends: Counter[int] = Counter()
        for at, row in enumerate(mine):
            table["wait"][at], table["release"][at] = token_mask(kind, row.wait), token_mask(kind, row.release)
            for name, value in row.fields:
                table[name][at] = value
            if kind in ("LD", "ST"):
                side = int(table["target" if kind == "LD" else "source"][at])
                table["address"][at] = (side << 24) + ends[side]
                ends[side] += int(table["bytes"][at])
        tables[kind] = table
    return Piece(kinds=np.array([CLASS_INDEX[row.kind] for row in rows], np.uint8), tables=tables)


_BUFFER = {name: index for index, name in enumerate(BUFFERS)}
_EMPTY = {kind: {name: np.zeros(0, np.int64) for name in names} for kind, names in COLUMNS.items()}


# -- products ----------------------------------------------------------------------------------------------------------


class _Product(msgspec.Struct, frozen=True, kw_only=True):
    """A core's part of a product: ``pairs``, ``rows`` and ``columns`` of each, and what an operand is in memory."""

    operator: Operator
    machine: CoreMachine
    kind: str
    pairs: int
    rows: int
    columns: int
    keep_n: int
    code_bytes: float
    scale_bytes: float
    index_bytes: float
    slab: int
    tile: int
    results_spill: bool


def _matrix(operator: Operator, machine: CoreMachine) -> tuple[Work, ...]:
    cores, n, m, count = machine.cores, operator.n, operator.m, operator.count
    unit = column_step(machine) if operator.kind == "linear" else K_BLOCK
    if count >= cores:
        shares = [(pairs, m, n) for _, pairs in split(count, cores, 1)]
    elif ceil_div(n, unit) < cores and not operator.causal_step and m >= cores * machine.mm_rows:
        shares = [(count, rows, n) for _, rows in split(m, cores, machine.mm_rows)]
    else:
        shares = [(count, m, columns) for _, columns in split(n, cores, unit)]
    results = FP32_BYTES * count * m * n
    spill = vectors_spill(count * m * n, machine)
    found: dict[tuple[int, int, int], tuple[tuple[Tile, int], ...]] = {}
    for share in shares:
        if share not in found:
            found[share] = _tiles(_product(operator, machine, share, spill)) if min(share) > 0 else ()
    received = [_received(results, results * math.prod(share) // (count * m * n), cores, spill) for share in shares]
    return tuple(Work(found[share], bytes_) for share, bytes_ in zip(shares, received, strict=True))


def vectors_spill(elements: int, machine: CoreMachine) -> bool:
    """Whether so many FP32 values lie in memory."""
    return FP32_BYTES * elements > machine.buffers.vector.bytes // 2


def codes_spill(bytes_: int, machine: CoreMachine) -> bool:
    """Whether so many bytes of quantised rows lie in memory."""
    return bytes_ > machine.buffers.weight.bytes // 2


def _received(total: int, own: int, cores: int, spill: bool) -> int:
    """Bytes that a core receives of ``total``, ``own`` of which it computed."""
    return (total - own) // cores if spill else total - own


def _product(operator: Operator, machine: CoreMachine, share: tuple[int, int, int], spill: bool) -> _Product:
    weight, act = operator.weight, operator.act
    assert weight is not None
    assert act is not None
    for side, given in (("weights", weight), ("activations", act)):
        if given.kind != "int" or given.operand_bits > 8:
            raise InputError(f"{side} must be integers on a FlightLLM core, of at most 8 bits, not {given.name}, in "
                             f"operator {operator.name!r}; --float-operands int8 converts floats")  # fmt: skip
    pairs, rows, columns = share
    keep = _kept(operator, machine)
    elements = operator.count * operator.n * operator.k
    codes, scales = _stored(operator, weight, machine)
    kind = _engine(rows, operator.k, machine)
    item = _Product(
        operator=operator, machine=machine, kind=kind, pairs=pairs, rows=rows, columns=columns, keep_n=keep,
        code_bytes=codes / elements, scale_bytes=scales / elements, index_bytes=operator.index_bytes / elements,
        slab=0, tile=0, results_spill=spill,
    )  # fmt: skip
    slab, tile = _cut(item)
    return msgspec.structs.replace(item, slab=slab, tile=tile)


def _stored(operator: Operator, weight: Format, machine: CoreMachine) -> tuple[float, float]:
    """Bytes of codes and of scales of the streamed operand; cached vectors have a scale of their own each. An operand
    that is neither a weight nor cached comes from memory where it does not stay on chip."""
    total = operator.weight_bytes + operator.kv_read_bytes - operator.index_bytes
    if not total:
        codes = ceil_div(operator.count * operator.n * operator.k * weight.bits, 8)
        return (float(codes) if codes_spill(codes, machine) else 0.0), 0.0
    vectors, length = (operator.k, operator.n) if operator.kind == "av" else (operator.n, operator.k)
    if not weight.overhead_bits_per_group or (weight.block and length % weight.block):
        return float(total), 0.0
    scales = min(operator.count * vectors * scale_bits(weight, length) / 8, total / 2)
    return total - scales, scales


def _kept(operator: Operator, machine: CoreMachine) -> int:
    """Weights kept of each 16 that the engine multiplies: what it has no pattern for it multiplies as zeros."""
    if not operator.keep_m or K_BLOCK % operator.keep_m or not isinstance(machine.mpe, Chains):
        return K_BLOCK
    keep = operator.keep_n * K_BLOCK // operator.keep_m
    return keep if keep in machine.mpe.sparse_n and keep else K_BLOCK


def _engine(rows: int, k: int, machine: CoreMachine) -> str:
    """MV or MM, whichever takes fewer cycles a column; the vectors of an MV lie in the act buffer."""
    engine = machine.mpe
    if rows * k > machine.buffers.act.bytes // 2:
        return "MM"
    if isinstance(engine, Chains):
        vector = ceil_div(rows, engine.packed_rows) * engine.chains_per_mpu
        return "MV" if vector <= ceil_div(rows, engine.row_step) * engine.column_step else "MM"
    return "MV" if rows <= max(1, engine.rows // engine.split) else "MM"


def _cut(item: _Product) -> tuple[int, int]:
    """(K of a slab, columns of a tile) that fit a slot of every buffer."""
    room, machine, k = slot_bytes(item.machine), item.machine, item.operator.k
    narrow = machine.mm_columns if item.kind == "MM" else min(machine.mv_columns, item.columns)
    weight = item.operator.weight
    grain = math.lcm(K_BLOCK, weight.block or 1) if weight and item.operator.kind == "linear" else K_BLOCK
    sizes = ((room["act" if item.kind == "MM" else "weight"], item.keep_n / K_BLOCK),
             (room["scale"], item.scale_bytes), (room["index"], item.index_bytes))  # fmt: skip
    longest = min(size / (round_up(narrow, K_BLOCK) * each) for size, each in sizes if each)
    slab = round_up(k, K_BLOCK)
    if slab > longest:
        slab = max(grain, int(longest) // grain * grain)
    if item.kind == "MV":
        return slab, narrow
    wide = int(min(size / (slab * each) for size, each in sizes if each)) // narrow * narrow
    return slab, max(narrow, min(wide, machine.mv_columns))


def _row_blocks(item: _Product) -> Iterator[tuple[int, int, int, int]]:
    """(Times, rows, columns, k) of the blocks of rows of one pair."""
    operator, machine = item.operator, item.machine
    attention = operator.kind != "linear"
    density = operator.density if attention else 1.0
    wide = operator.n if operator.kind == "qk" else operator.k
    if not operator.causal_step or item.rows <= machine.mm_rows:
        whole, rest = divmod(item.rows, machine.mm_rows) if item.kind == "MM" else (1, 0)
        for times, rows in ((whole, machine.mm_rows if item.kind == "MM" else item.rows), (1, rest)):
            if rows and times:
                yield times, rows, *_seen(item, max(1, round(wide * density)))
        return
    tokens = item.rows // operator.causal_step
    for first in range(0, tokens, machine.mm_rows):
        rows = min(machine.mm_rows, tokens - first)
        seen = wide - tokens + first + rows
        yield operator.causal_step, rows, *_seen(item, max(1, round(seen * density)))


def _seen(item: _Product, wide: int) -> tuple[int, int]:
    """(Columns, K) of a block whose rows see ``wide`` tokens."""
    if item.operator.kind == "qk":
        return min(item.columns, ceil_div(wide * item.columns, item.operator.n)), item.operator.k
    return item.columns, wide if item.operator.kind == "av" else item.operator.k


def _tiles(item: _Product) -> tuple[tuple[Tile, int], ...]:
    found: Counter[Tile] = Counter()
    for times, rows, columns, k in _row_blocks(item):
        load = _act_load(item, rows, k)
        if load is not None:
            found[load] += times * item.pairs
        whole, rest = divmod(columns, item.tile)
        slabs, end = divmod(k, item.slab)
        lengths = [(item.slab, slabs - (not end)), (end or item.slab, 1)]
        for wide, number in ((item.tile, whole), (rest, 1)):
            if not (wide and number):
                continue
            for at, (length, repeats) in enumerate(lengths):
                if repeats:
                    tile = _product_tile(item, rows, wide, length, last=at == 1, k=k)
                    found[tile] += times * number * repeats * item.pairs
    return tuple(found.items())


def _act_load(item: _Product, rows: int, k: int) -> Tile | None:
    """Quantised rows that lie in memory, for one block."""
    act, operator = item.operator.act, item.operator
    assert act is not None
    row = ceil_div(k * act.bits, 8)
    if not codes_spill(operator.count * operator.m * ceil_div(operator.k * act.bits, 8), item.machine):
        return None
    return Tile((_move("weight", rows * row, item.machine),), ())


def _product_tile(item: _Product, rows: int, columns: int, length: int, *, last: bool, k: int) -> Tile:
    operator, machine = item.operator, item.machine
    weight = operator.weight
    assert weight is not None
    grouped = bool(weight.block) or operator.kind != "linear"
    scaled = length if grouped else k * last
    loads = tuple(
        _move(buffer, math.ceil(size), machine)
        for buffer, size in (
            ("weight" if item.kind == "MV" else "act", item.code_bytes * columns * length),
            ("scale", item.scale_bytes * columns * scaled), ("index", item.index_bytes * columns * length),
        )
        if size
    )  # fmt: skip
    common = {
        "rows": rows, "k": round_up(length, K_BLOCK), "keep_n": item.keep_n, "weight_bits": weight.operand_bits,
        "group": weight.group if operator.kind == "linear" else 0, "last": int(last),
        "zero": _ZEROS.get(zero_of(operator), 1), "transpose": int(operator.kind == "av"),
    }  # fmt: skip
    each = columns if item.kind == "MV" else machine.mm_columns
    widths = [min(each, columns - at) for at in range(0, columns, each)]
    steps = tuple(Step(item.kind, tuple({**common, "columns": width}.items())) for width in widths)
    stores = (_move("global", FP32_BYTES * rows * columns, machine),) if last and item.results_spill else ()
    return Tile(loads, steps, stores)


# -- vectors -----------------------------------------------------------------------------------------------------------


_TIMED_AS = {"elementwise": "residual", "lookup": "residual"}
"""Operations that the instruction set does not name, timed as one of the same passes."""


def _vector(operator: Operator, machine: CoreMachine) -> tuple[Work, ...]:
    cores, vectors = machine.cores, operator.count * operator.m
    if vectors < cores:
        work = _vector_tiles(operator, machine, vectors, stores=1.0 / cores)
        return tuple(Work(work) for _ in range(cores))
    shares = [number for _, number in split(vectors, cores, 1)]
    tiles = {number: _vector_tiles(operator, machine, number, stores=number / vectors) for number in set(shares)}
    outputs = work_of(operator).outputs * FP32_BYTES * operator.n
    if operator.kind == "quantise" and operator.act is not None:
        outputs = ceil_div(operator.n * operator.act.bits, 8)
    spill = _outputs_spill(operator, machine)
    return tuple(
        Work(tiles[number], 0 if spill else outputs * (vectors - number)) for number in shares
    )  # fmt: skip


def _outputs_spill(operator: Operator, machine: CoreMachine) -> bool:
    vectors = operator.count * operator.m
    if operator.kind == "quantise" and operator.act is not None:
        return codes_spill(vectors * ceil_div(operator.n * operator.act.bits, 8), machine)
    return bool(work_of(operator).outputs) and vectors_spill(vectors * operator.n, machine)


def _vector_tiles(
    operator: Operator, machine: CoreMachine, vectors: int, *, stores: float
) -> tuple[tuple[Tile, int], ...]:
    """Parameters first, then the vectors in chunks. ``stores``: this core's share of what is written to the cache."""
    whole = operator.count * operator.m
    elements = max(1, ceil_div(operator.vector_elements, whole))
    spilled = vectors_spill(whole * operator.n, machine)
    found: Counter[Tile] = Counter()
    read = operator.parameter_bytes if operator.kind in ("norm", "layernorm", "bias", "elementwise") else (
        math.ceil(operator.parameter_bytes * vectors / whole)
    )  # fmt: skip
    read += math.ceil(operator.kv_read_bytes * stores)
    memory = "ddr" if operator.kind == "embed" else "hbm"
    buffer = "weight" if operator.kind == "lookup" else "global"
    room = slot_bytes(machine)[buffer]
    for times, size in ((read // room, room), (1, read % room)):
        if times and size:
            found[Tile((_move(buffer, size, machine, memory),), ())] += times
    chunk = vectors
    if spilled or _outputs_spill(operator, machine):
        chunk = max(1, machine.buffers.vector.bytes // _CHUNKS // (FP32_BYTES * operator.n))
    written = math.ceil(operator.kv_write_bytes * stores)
    for times, number in ((vectors // chunk, chunk), (1, vectors % chunk)):
        if times and number:
            part = ceil_div(written * number, vectors)
            found[_vector_tile(operator, machine, number, elements, spilled, part)] += times
    return tuple(found.items())


def _vector_tile(
    operator: Operator, machine: CoreMachine, vectors: int, elements: int, spilled: bool, written: int
) -> Tile:
    work, size = work_of(operator), FP32_BYTES * vectors * elements
    loads = (_move("global", size, machine),) * (work.inputs if spilled else 0)
    stores: list[Move] = []
    if operator.kind == "quantise" and operator.act is not None and _outputs_spill(operator, machine):
        stores.append(_move("act", vectors * ceil_div(elements * operator.act.bits, 8), machine))
    elif work.outputs and spilled:
        stores.append(_move("global", size, machine))
    if written:
        stores.append(_move("act", written, machine))
    name = f"{operator.kind}:{operator.variant}" if operator.kind == "activation" else operator.kind
    quantises = operator.kind in ("quantise", "kv_append")
    group = operator.act.group if operator.act else 0
    fields = (
        ("operation", OPERATIONS.index(_TIMED_AS.get(name, name))), ("vectors", vectors), ("elements", elements),
        ("passes", work.passes), ("group", group), ("target", _BUFFER["act" if quantises else "global"]),
    )  # fmt: skip
    return Tile(loads, (Step("MISC", fields),), tuple(stores))
