"""Random loads of a slot of weights, keys or values, and MV and MM on what lies in the slots."""

from collections.abc import Sequence

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS, codes
from mixflight.sim.core_values.random_maker import ACT_WINDOW, HEAD, Maker, Slot
from mixflight.sim.core_values.random_memory import CELLS, CODES, OUT, SCALES

LONGEST_GROUP = 256


def slot(maker: Maker, held: Slot, code_bytes: int, scale_at: int, scale_bytes: int, signed: int) -> None:
    """Load any slot with ``held``: its codes, then its scales, then the places of N:M weights, whatever bytes."""
    number = maker.whole(0, SLOTS - 1)
    layout = codes("LD", "layout")[held.layout]
    bits = 0 if held.bits == 8 and maker.chance(0.3) else held.bits
    into = {"slotted": 1, "slot": number, "code_bits": bits, "signed": signed, "layout": layout}
    if not maker.try_("LD", maker.ld("weight", maker.whole(CODES, SCALES - code_bytes, 32), code_bytes, **into)):
        return
    maker.slots[number] = None
    if scale_bytes and not maker.try_("LD", maker.ld("scale", scale_at, scale_bytes, slotted=1, slot=number)):
        return
    if held.keep < K_BLOCK:
        size = -(-held.columns // maker.shape.step) * maker.shape.lanes * held.k * held.keep // K_BLOCK // 2
        if not maker.try_("LD", maker.ld("index", maker.whole(CODES, SCALES - size, 32), size, slotted=1, slot=number)):
            return
    maker.slots[number] = held


def linear(
    maker: Maker, columns: int, k: int, bits: int, group: int, minimum: bool, keep: int = K_BLOCK
) -> None:  # fmt: skip
    """A slot of a linear's weights in groups of ``group`` along K (0: one), of which 16 are kept or ``keep``."""
    steps, lanes = -(-columns // maker.shape.step), maker.shape.lanes
    code_bytes = steps * lanes * k * keep // K_BLOCK * bits // 8
    scale_bytes = steps * -(-lanes * (k // group if group else 1) * (4 if minimum else 2) // 32) * 32
    signed = 1 if bits == 8 or not minimum else 0
    slot(maker, Slot("linear", columns, k, bits, group, minimum, keep), code_bytes,
         maker.whole(SCALES, CELLS - scale_bytes, 32), scale_bytes, signed)  # fmt: skip


def linear_slot(maker: Maker) -> None:
    """Weights of any width and group in whole steps of columns."""
    bits, group = maker.any(2, 3, 4, 4, 5, 8), maker.any(0, 16, 32, 32, 64, 128)
    k = maker.whole(64, 320, max(64, group))
    columns = maker.whole(16, _most_columns(maker), 16)
    minimum = bool(group) and maker.chance(0.5)
    linear(maker, columns, k, bits, group, minimum)


def _most_columns(maker: Maker) -> int:
    return min(128, maker.machine.mv_columns)


def sparse_slot(maker: Maker) -> None:
    """N:M weights of any width in groups of whole words, the longest that formats have."""
    keep = maker.any(*maker.machine.kept)
    word = K_BLOCK * K_BLOCK // keep
    group = maker.any(0, word, word, 2 * word, min(4 * word, LONGEST_GROUP))
    linear(maker, maker.whole(16, 256, 16), maker.whole(64, 512, max(64, group)), maker.any(2, 3, 4, 4, 5, 8), group,
           False, keep)  # fmt: skip


def keys(maker: Maker, tokens: int, signed: int = 1) -> None:
    """A slot of the keys of ``tokens`` tokens."""
    each = -(-tokens // maker.shape.channels)
    slot(maker, Slot("keys", tokens, HEAD, 8, 0, False), each * HEAD, maker.whole(CELLS, OUT - 4 * each, 32),
         4 * each, signed)  # fmt: skip


def keys_slot(maker: Maker) -> None:
    """Keys of whole steps of tokens."""
    keys(maker, maker.whole(16, _most_columns(maker), 16))


def values(maker: Maker, tokens: int, signed: int = 1) -> None:
    """A slot of the values of ``tokens`` tokens; products read whole blocks of them."""
    code_bytes = -(-tokens // maker.shape.channels) * HEAD
    slot(maker, Slot("values", HEAD, -(-tokens // K_BLOCK) * K_BLOCK, 8, 0, False), code_bytes, 0, 0, signed)


def values_slot(maker: Maker) -> None:
    """Values of whole blocks of tokens."""
    values(maker, maker.whole(16, 128, 16))


def matrix_product(maker: Maker) -> None:
    """An MM, often one that goes on with the sums before."""
    sums = maker.sums
    fits = [(number, held) for number, held in enumerate(maker.slots) if held is not None and sums is not None
            and sums[1:] == (held.columns, held.group > 0, held.layout)]  # fmt: skip
    if fits and sums is not None and maker.chance(0.5):
        product(maker, "MM", sums[0], sums[0], fits)
    else:
        product(maker, "MM", 1, 12)


def product(
    maker: Maker, kind: str = "MV", least_rows: int = 1, most_rows: int = 4, slots: Sequence[tuple[int, Slot]] = ()
) -> None:
    """A product of one of the ``slots``, or of any."""
    known = slots or [(number, held) for number, held in enumerate(maker.slots) if held is not None]
    if not known:
        return
    number, held = known[int(maker.rng.integers(len(known)))]
    rows = maker.whole(least_rows, most_rows)
    go_on = maker.sums == (rows, held.columns, held.group > 0, held.layout) and maker.chance(0.7)
    if rows * -(-held.k // LINE_BYTES) > ACT_WINDOW:
        return
    in_line = activations(maker, rows, held.k, held.group)
    if in_line is None:
        return
    last = maker.chance(0.75)
    done = maker.try_(kind, {
        "rows": rows, "columns": held.columns, "k_blocks": held.k // K_BLOCK, "weight_bits": held.bits,
        "slot": number,
        "in_line": in_line, "out_line": maker.vector_line(), "keep": held.keep,
        "zero": codes("MV", "zero")["minimum" if held.minimum else "none"], "accumulate": int(go_on),
        "last": int(last), "transpose": int(held.layout == "values"), "group": max(0, held.group.bit_length() - 1),
    })  # fmt: skip
    if done:
        maker.sums = rows, held.columns, held.group > 0, held.layout


def activations(maker: Maker, rows: int, k: int, group: int) -> int | None:
    """A line from which so many codes lie that have one scale in each ``group`` (0: in all); made if need be, None
    where nothing can be made codes of."""
    lines = -(-k // LINE_BYTES) * rows
    at = range(maker.windows.act, maker.windows.act + max(1, ACT_WINDOW - lines + 1))
    for line in maker.rng.permutation(at)[:12].tolist():
        held = maker.state.act_scales[line : line + lines].reshape(-1, rows, LINE_BYTES // K_BLOCK)
        scales = held.transpose(1, 0, 2).reshape(rows, -1)[:, : k // K_BLOCK]
        groups = scales.reshape(rows, -1, group // K_BLOCK if group else scales.shape[1])
        if (groups == groups[..., :1]).all():
            return int(line)
    line = maker.whole(at[0], at[-1])
    made = maker.checked("quantise", rows, k, {"a_line": maker.operand(rows, k), "target": 1, "out_line": line})
    return line if made else None
