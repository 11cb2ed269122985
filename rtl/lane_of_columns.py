"""A dequantisation lane inside an array: its columns' scales and what a token brings to it."""

from amaranth import *
from amaranth.lib import data, memory

from mixflight.arch.formats import ZERO_BITS
from mixflight.rtl.placed_copy import place


def lane_of_columns(m: Module, platform, array, number: int, lane, *, advance, written, token, slot, depth: int):
    """Make ``lane`` the lane ``number`` of ``array``, with a memory of the scales d and z of its ``lane_cols`` columns.

    ``written`` is the place in that memory of the beat of ``array.params`` and whether it is taken, ``slot`` the place
    that ``token`` wants, ``depth`` the number of places. ``token`` has ``valid``, ``first``, ``last``, ``row``,
    ``column`` within the lane, with zero points ``row_sum`` and, for a lane that takes one, ``scale_a``. The caller
    drives ``lane.i.sum``, the group sum of the token's element, and connects ``lane.out``.
    """
    columns = range(number * array.lane_cols, (number + 1) * array.lane_cols)
    layout = {"d": data.ArrayLayout(16, array.lane_cols)}
    if array.zero != "none":
        layout["z"] = data.ArrayLayout(ZERO_BITS[array.zero], array.lane_cols)
    params = memory.Memory(shape=data.StructLayout(layout), depth=depth, init=[])
    m.submodules[f"params_{number}"] = params
    write = params.write_port()
    read = params.read_port(domain="comb")
    m.d.comb += [write.addr.eq(written[0]), write.en.eq(written[1]), read.addr.eq(slot)]
    for field in layout:
        m.d.comb += [write.data[field][j].eq(array.params.p[field][c]) for j, c in enumerate(columns)]

    place(m, platform, f"lane_{number}", lane, like="lane_0")
    m.d.comb += [
        lane.en.eq(advance),
        lane.i.valid.eq(token.valid),
        lane.i.first.eq(token.first),
        lane.i.last.eq(token.last),
        lane.i.element.eq(Cat(token.row, token.column)),
        *([lane.i.scale_a.eq(token.scale_a)] if "scale_a" in token.shape().members else []),
        lane.i.scale.eq(read.data.d[token.column]),
    ]
    if array.zero != "none":
        m.d.comb += [lane.i.zero.eq(read.data.z[token.column]), lane.i.row_sum.eq(token.row_sum)]
