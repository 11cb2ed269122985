"""Random instructions at the corners of what a core can do: edges of buffers and memories, tails, full slots.

Sizes and places are drawn by kind, every kind alike, where :mod:`random_products` and the others draw numbers.
"""

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS, codes
from mixflight.arch.isa import CLASSES
from mixflight.sim.core_values import random_products as products
from mixflight.sim.core_values.random_maker import ACT_WINDOW, GLOBAL_WINDOW, HEAD, RAW, Maker, Slot, nothing
from mixflight.sim.core_values.random_memory import (
    CELLS,
    CODES,
    EMBEDDING_BYTES,
    EMBEDDING_CODES,
    EMBEDDINGS,
    END,
    OUT,
    SCALES,
    VECTORS,
)
from mixflight.sim.core_values.state import LINE_WORDS

_OPERATIONS = ("norm", "rope", "quantise", "kv_append", "softmax", "residual", "bias", "activation:silu:gated",
               "activation:silu:plain", "activation:gelu:gated", "activation:gelu:plain", "activation:relu:gated",
               "activation:relu:plain", "probability_quantise", "embed", "layernorm", "softcap")  # fmt: skip

# -- products ------------------------------------------------------------------------------------------------------


def slot(maker: Maker) -> None:
    """A slot of any layout whose tile has one column or all that there can be, a block of K or a full slot."""
    layout = str(maker.rng.choice(["linear", "linear", "linear", "keys", "values"]))
    columns = _columns(maker)
    if layout == "keys":
        products.keys(maker, columns, maker.any(0, 1))
    elif layout == "values":
        products.values(maker, maker.any(1, 13, 16, 33, 48, 64, 80, 200, 256), maker.any(0, 1))
    else:
        steps = -(-columns // maker.shape.step)
        blocks = min(_blocks(maker, steps), ACT_WINDOW * LINE_BYTES // K_BLOCK)
        bits, group = maker.any(2, 3, 4, 5, 8), maker.any(0, 16, 32, 64, 128, 256)
        if maker.chance(0.5):  # longer groups need more of K
            blocks = -(-blocks * K_BLOCK // max(group, 1)) * group // K_BLOCK or blocks
        if group and blocks * K_BLOCK % group:
            group = 16
        minimum = bool(group) and maker.chance(0.5)
        way = (_whole_slot, _slot_in_parts, _slot_by_channel)[maker.whole(0, 2)]
        way(maker, Slot("linear", columns, blocks * K_BLOCK, bits, group, minimum))


def _columns(maker: Maker) -> int:
    step, most = maker.shape.step, maker.machine.mv_columns
    above = step + 1, most - 1
    return maker.any(1, maker.whole(2, step - 1), step, maker.whole(*above), maker.whole(*above, step), most)


def _blocks(maker: Maker, steps: int) -> int:
    """Blocks of K by kind, no more than a slot holds for so many steps."""
    line, room = LINE_BYTES // K_BLOCK, maker.shape.words // steps
    above = line + 1, 6 * line
    return min(room, maker.any(1, maker.whole(2, line - 1), line, maker.whole(*above), maker.whole(*above, line), room))


def _sizes(maker: Maker, held: Slot) -> tuple[int, int]:
    """Bytes of codes and of scales in every channel."""
    steps, lanes = -(-held.columns // maker.shape.step), maker.shape.lanes
    groups = held.k // held.group if held.group else 1
    scale_bytes = steps * -(-lanes * groups * (4 if held.minimum else 2) // 32) * 32
    return steps * lanes * held.k * held.bits // 8, scale_bytes


def _whole_slot(maker: Maker, held: Slot) -> None:
    _load_parts(maker, held, [("wide", 0, 1)], cut=False)


def _slot_in_parts(maker: Maker, held: Slot) -> None:
    """Codes and scales each in two loads."""
    _load_parts(maker, held, [("wide", 0, 1)], cut=True)


def _slot_by_channel(maker: Maker, held: Slot) -> None:
    """A load a channel, in any order."""
    channels = maker.rng.permutation(maker.shape.channels).tolist()
    _load_parts(maker, held, [("channel", channel, 0) for channel in channels], cut=False)


def _load_parts(maker: Maker, held: Slot, ways: list[tuple[str, int, int]], *, cut: bool) -> None:
    code_bytes, scale_bytes = _sizes(maker, held)
    lanes = maker.shape.lanes
    if code_bytes > SCALES - CODES or scale_bytes > maker.shape.scale_bytes or code_bytes * 8 // held.bits > (
        maker.shape.words * lanes * K_BLOCK
    ):
        return
    number = maker.whole(0, SLOTS - 1)
    signed = int(maker.chance(0.5)) if held.bits == 8 else int(not held.minimum or maker.chance(0.5))
    into = {"slotted": 1, "slot": number}
    bits = {"code_bits": 0 if held.bits == 8 and maker.chance(0.5) else held.bits, "signed": signed}
    address = maker.whole(CODES, SCALES - code_bytes, maker.any(8, 32, 64))
    scales_at = maker.whole(SCALES, CELLS - scale_bytes, maker.any(8, 32, 64))
    maker.slots[number] = None
    for _, channel, wide in ways:
        place = {"wide": wide, "channel": channel} | into
        lines = code_bytes * 8 // held.bits // LINE_BYTES
        first = maker.whole(1, lines - 1) if cut and lines > 1 else lines
        for begin, end in ((0, first), (first, lines)):
            at, until = (count * LINE_BYTES * held.bits // 8 for count in (begin, end))
            moved = maker.ld("weight", address + at, until - at, line=begin, **bits, **place)
            if end > begin and not maker.try_("LD", moved):
                return
        first = LINE_BYTES if cut and scale_bytes > LINE_BYTES else scale_bytes
        for begin, end in ((0, first), (first, scale_bytes)):
            moved = maker.ld("scale", scales_at + begin, end - begin, line=begin // LINE_BYTES, **place)
            if end > begin and not maker.try_("LD", moved):
                return
    maker.slots[number] = held


def cells_by_channel(maker: Maker) -> None:
    """A slot of keys, a load a channel."""
    tokens, number = _columns(maker), maker.whole(0, SLOTS - 1)
    each = -(-tokens // maker.shape.channels)
    into = {"wide": 0, "slotted": 1, "slot": number}
    bits = {"code_bits": maker.any(0, 8), "signed": maker.any(0, 1), "layout": codes("LD", "layout")["keys"]}
    at, scales_at = maker.whole(CODES, SCALES - each * HEAD, 32), maker.whole(CELLS, OUT - 4 * each, 32)
    maker.slots[number] = None
    for channel in range(maker.shape.channels):
        if not maker.try_("LD", maker.ld("weight", at, each * HEAD, channel=channel, **bits, **into)):
            return
        if not maker.try_("LD", maker.ld("scale", scales_at, 4 * each, channel=channel, **into)):
            return
    maker.slots[number] = Slot("keys", tokens, HEAD, 8, 0, False)


def product(maker: Maker) -> None:
    """An MV, or where there are matrices an MM, of as many rows as there can be or few; results at an edge."""
    known = [(number, held) for number, held in enumerate(maker.slots) if held is not None]
    if not known:
        return
    number, held = known[maker.whole(0, len(known) - 1)]
    kind = "MM" if maker.matrices and maker.chance(0.5) else "MV"
    sums = maker.sums
    goes_on = sums is not None and sums[1:] == (held.columns, held.group > 0, held.layout) and maker.chance(0.6)
    many = (6, 12, maker.machine.mm_rows) if kind == "MM" else ()
    rows = sums[0] if goes_on and sums else maker.any(1, 2, 3, 4, *many)
    if kind == "MV" and rows > 4:
        return
    lines = rows * -(-held.k // LINE_BYTES)
    if lines > ACT_WINDOW:
        return
    in_line = (products.activations(maker, rows, held.k, held.group) if maker.chance(0.5)
               else _codes_at_edge(maker, rows, held.k, lines))  # fmt: skip
    if in_line is None:
        return
    out = rows * -(-held.columns // LINE_WORDS)
    done = maker.try_(kind, {
        "rows": rows, "columns": held.columns, "k_blocks": held.k // K_BLOCK, "weight_bits": held.bits, "slot": number,
        "in_line": in_line, "out_line": _edge_line(maker, "global", out), "keep": K_BLOCK,
        "zero": codes("MV", "zero")["minimum" if held.minimum else "none"], "accumulate": int(goes_on),
        "last": int(maker.chance(0.7)), "transpose": int(held.layout == "values"),
        "group": max(0, held.group.bit_length() - 1),
    })  # fmt: skip
    if done:
        maker.sums = rows, held.columns, held.group > 0, held.layout


def _codes_at_edge(maker: Maker, rows: int, k: int, lines: int) -> int | None:
    """A line at an edge of the window of the act buffer, where codes with one scale a row are put, if there are any."""
    line = maker.windows.act + maker.any(0, ACT_WINDOW - lines)
    made = maker.checked("quantise", rows, k, {"a_line": maker.operand(rows, k), "target": 1, "out_line": line})
    return line if made else None


def _edge_line(maker: Maker, buffer: str, lines: int) -> int:
    """A line from which ``lines`` begin or end the window, or any other."""
    first, size = (maker.windows.vector, GLOBAL_WINDOW) if buffer == "global" else (maker.windows.act, ACT_WINDOW)
    last = max(0, size - lines)
    return first + maker.any(0, last, maker.whole(0, last))


# -- vectors -------------------------------------------------------------------------------------------------------


def vector(maker: Maker) -> None:
    """Any operation, on vectors of part of a line, a line, a tail, or long ones; one vector, a few or many."""
    name = str(maker.rng.choice(_OPERATIONS))
    count, elements = maker.any(1, maker.whole(2, 4), maker.whole(5, 12)), _elements(maker)
    if name in ("rope", "kv_append"):
        elements = HEAD
    if name == "embed":
        _embed(maker)
    elif name == "kv_append":
        heads = maker.any(1, 2, 4)
        lines = heads * (2 * -(-HEAD // LINE_BYTES) + 1)
        maker.checked(name, 2 * heads, HEAD, {
            "a_line": _fp32(maker, heads, HEAD), "b_line": _fp32(maker, heads, HEAD), "target": 1,
            "parts": maker.any(0, 1), "out_line": _edge_line(maker, "act", lines),
        })  # fmt: skip
    elif name == "probability_quantise":
        _probabilities(maker, count, elements)
    elif name == "quantise":
        group = maker.any(0, 4, 5, 6)
        elements = -(-elements >> group) << group if group else elements
        lines = count * -(-elements // LINE_BYTES)
        maker.checked(name, count, elements, {
            "a_line": _fp32(maker, count, elements), "target": 1, "group": group, "parts": maker.any(0, 1),
            "out_line": _edge_line(maker, "act", lines),
        })  # fmt: skip
    else:
        lines, many = count * -(-elements // LINE_WORDS), name == "residual" or name.endswith(":gated")
        a_line = _fp32(maker, count, elements)
        maker.checked(name, count, elements, {
            "a_line": a_line, "b_line": _fp32(maker, count if many else 1, elements), "parts": maker.any(0, 1),
            "out_line": a_line if maker.chance(0.4) else _edge_line(maker, "global", lines),
        })  # fmt: skip


def _elements(maker: Maker) -> int:
    return maker.any(maker.whole(1, LINE_WORDS - 1), LINE_WORDS, maker.whole(17, 511) | 1, maker.whole(32, 512, 16),
                     maker.whole(513, 1400))  # fmt: skip


def _fp32(maker: Maker, count: int, elements: int) -> int:
    """A line of FP32, at an edge if it lies there."""
    if maker.chance(0.6):
        line = _edge_line(maker, "global", count * -(-elements // LINE_WORDS))
        if maker.usable(line, count * -(-elements // LINE_WORDS)):
            return line
    return maker.operand(count, elements)


def _probabilities(maker: Maker, count: int, elements: int, causal: int = 0) -> None:
    each = -(-4 * -(-elements // maker.shape.channels) // 32) * 32
    line = _edge_line(maker, "global", each * maker.shape.channels // LINE_BYTES)
    if maker.try_("LD", maker.ld("global", maker.whole(CELLS, OUT - each, 32), each, line=line)):
        maker.checked("probability_quantise", count, elements, {
            "a_line": _fp32(maker, count, elements), "b_line": line, "target": 1, "causal": causal,
            "parts": maker.any(0, 1), "out_line": _edge_line(maker, "act", count * -(-elements // LINE_BYTES)),
        })  # fmt: skip


def _embed(maker: Maker) -> None:
    """Rows of the embedding: one, which at times is three that lie one behind the other, a few or many short ones."""
    group = maker.any(0, 4, 5, 6)
    if maker.chance(0.3):
        n, count = 2 * EMBEDDING_BYTES - EMBEDDING_CODES, 1  # its scales lie where those of its last row do
    else:
        n, count = maker.whole(64, EMBEDDING_CODES, 64), maker.any(1, maker.whole(2, 4), maker.whole(5, 8))
    scale_bytes = -(-2 * (n >> group if group else 1) // 4) * 4
    stride, first = -(-(n + scale_bytes) // LINE_BYTES), maker.whole(0, EMBEDDINGS - 3 - count) * EMBEDDING_BYTES
    line = _edge_line(maker, "global", count * stride)
    for row in range(count):
        at, to = first + row * EMBEDDING_BYTES, line + row * stride
        scales_at = at + n if n > EMBEDDING_CODES else at + EMBEDDING_CODES
        for source, size, place in ((at, n, to), (scales_at, scale_bytes, to + n // LINE_BYTES)):
            if not maker.try_("LD", maker.ld("global", source, size, line=place, ddr=1, wide=0)):
                return
    maker.checked("embed", count, n, {"b_line": line, "group": group, "parts": maker.any(0, 1),
                                      "out_line": _edge_line(maker, "global", count * n // LINE_WORDS)})  # fmt: skip


def successive(maker: Maker) -> None:
    """Rotation, softmax or probabilities of successive tokens, of any number and length."""
    count, elements = maker.any(1, maker.whole(2, 4), maker.whole(5, 12)), max(_elements(maker), 16)
    way = maker.whole(0, 2)
    if way == 2:
        _probabilities(maker, count, elements, causal=1)
        return
    name, elements = ("rope", HEAD) if way else ("softmax", elements)
    line = _fp32(maker, count, elements)
    lines = count * -(-elements // LINE_WORDS)
    maker.checked(name, count, elements, {
        "a_line": line, "out_line": line if maker.chance(0.5) else _edge_line(maker, "global", lines), "causal": 1,
        "parts": maker.any(0, 1),
    })  # fmt: skip


# -- transfers -----------------------------------------------------------------------------------------------------


def load(maker: Maker) -> None:
    """An LD to the global buffer of any size and alignment, from the first byte of a memory, the last or any other."""
    size, way = _size(maker), maker.whole(0, 4)
    if way == 4:
        size = min(size, 2048)
        at, ways = maker.whole(0, len(maker.ddr[0]) - size, 4), {"wide": 0, "ddr": 1}
    else:
        at = _address(maker, size, maker.any(8, 32, 64))
        ways = {"wide": 1} if way < 2 else {"wide": 0, "channel": maker.whole(0, maker.shape.channels - 1)}
    lines = -(-(-(-size // 32) * 32 * maker.shape.channels if ways["wide"] else size) // LINE_BYTES)
    raw = at >= OUT or "ddr" in ways
    line = maker.vector_line(RAW) if raw and maker.chance(0.8) else _edge_line(maker, "global", lines)
    maker.try_("LD", maker.ld("global", at, size, line=line, **ways))


def _size(maker: Maker) -> int:
    return maker.any(maker.whole(4, 60, 4), 64, maker.whole(68, 508, 4), maker.whole(128, 512, 64),
                     maker.whole(576, 2048, 64), maker.whole(4160, 8192, 64))  # fmt: skip


def _address(maker: Maker, size: int, unit: int) -> int:
    """Of FP32, or the first or last bytes of the memory."""
    way = maker.whole(0, 5)
    if way < 2:
        return 0 if way else (END - size) // unit * unit
    return maker.whole(VECTORS, CODES - size, unit)


def store(maker: Maker) -> None:
    """An ST of either buffer, of any size and alignment, to the first bytes of a memory, the last or any other."""
    buffer = "global" if maker.chance(0.5) else "act"
    wide, size = int(maker.chance(0.5)), _size(maker)
    unit = 64 if wide else maker.any(4, 8, 32, 64)
    address = maker.whole(OUT, END - 0x14000 - size, unit)
    way = maker.whole(0, 5)
    if way == 0:
        address = (END - size) // unit * unit
    elif way == 1 and size <= maker.FIRST_BYTES:
        address = 0
    lines = -(-(-(-size // 32) * 32 * maker.shape.channels if wide else size) // LINE_BYTES)
    place = {"wide": wide, "channel": 0 if wide else maker.whole(0, maker.shape.channels - 1)}
    maker.try_("ST", maker.move(buffer, address, size, line=_edge_line(maker, buffer, lines), **place),
               wait=["LD"] if address == 0 else ())  # fmt: skip


# -- tokens and loops ----------------------------------------------------------------------------------------------


def meeting(maker: Maker) -> None:
    """An instruction that only waits for some of the other classes."""
    used = [kind for kind in CLASSES if kind != "MM" or maker.matrices]
    kind = used[maker.whole(0, len(used) - 1)]
    others = [other for other in used if other != kind and maker.chance(0.6)]
    maker.add(kind, nothing(kind), wait=others)


def repeated(maker: Maker) -> None:
    """The same MISC several times, or loads of what follows in memory to the same lines: a loop of one instruction."""
    times = maker.whole(2, 5)
    if maker.chance(0.5):
        line = maker.operand(2, 48)
        b_line = maker.operand(2, 48)
        if abs(line - b_line) < 6 and line != b_line:
            return
        one = maker.misc("residual", 2, 48, a_line=line, b_line=b_line, out_line=line)
        maker.repeat("MISC", [one] * times)
    else:
        size = maker.whole(64, 512, 64)
        one = maker.ld("global", maker.whole(VECTORS, CODES - times * size, 64), size, line=maker.vector_line(0, 150))
        maker.repeat("LD", [one | {"address": one["address"] + turn * size} for turn in range(times)])


def prologue(maker: Maker) -> None:
    """All of the global buffer at once, the longest vector, the most vectors, the deepest product: before the windows
    are filled."""
    shape, lines = maker.shape, maker.shape.global_lines
    whole, channel = lines * LINE_BYTES, maker.whole(0, maker.shape.channels - 1)
    everywhere = {"anywhere": True}
    maker.must("LD", maker.ld("global", VECTORS, whole // shape.channels), **everywhere)
    operation = "activation:relu:plain"
    maker.must("MISC", maker.misc(operation, min(lines, 4095), LINE_WORDS), **everywhere)
    maker.must("MISC", maker.misc(operation, 1, lines * LINE_WORDS), **everywhere)
    _deepest(maker)
    maker.must("ST", maker.move("global", OUT, whole // shape.channels), **everywhere)
    size = whole - LINE_BYTES * maker.any(0, 1)
    maker.must("LD", maker.ld("global", VECTORS, size, wide=0, channel=channel), **everywhere)
    maker.must("ST", maker.move("global", OUT, size, wide=0, channel=channel), **everywhere)


def _deepest(maker: Maker) -> None:
    """Products over as much of K as a slot of one step holds."""
    shape = maker.shape
    k, bits = shape.words * K_BLOCK, 2
    slot_ = {"slotted": 1, "slot": 3}
    maker.must("LD", maker.ld("weight", CODES, shape.lanes * k * bits // 8, code_bits=bits, signed=1, **slot_))
    maker.must("LD", maker.ld("scale", SCALES, 32, **slot_))
    act = shape.act_lines - k // LINE_BYTES
    maker.must("MISC", maker.misc("quantise", 1, k, a_line=7, target=1, out_line=act), anywhere=True)
    fields = {
        "rows": 1, "columns": shape.step, "k_blocks": shape.words, "weight_bits": bits, "slot": 3, "in_line": act,
        "out_line": shape.global_lines - 1, "keep": K_BLOCK, "zero": 0, "accumulate": 0, "last": 1, "transpose": 0,
        "group": 0,
    }  # fmt: skip
    for kind in ("MM", "MV") if maker.matrices else ("MV",):
        maker.must(kind, fields, anywhere=True)
    maker.slots[3] = None
