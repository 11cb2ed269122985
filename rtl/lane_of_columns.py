"""A dequantisation lane inside an array: its columns' scales and what a token brings to it."""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.utils import ceil_log2

from mixflight.arch.formats import ZERO_BITS
from mixflight.rtl.dequant_lane import DequantLane


def lane_of_columns(m: Module, array, number: int, *, advance, write, token, read_slot, depth: int, rows: int,
                    w_bits: int, a_bits: int = 8) -> DequantLane:
    """Build lane ``number`` of ``array`` with a memory of the scales d and z of its ``lane_cols`` columns.

    ``write`` is the place in that memory of the beat of ``array.params`` and whether it is written; ``read_slot`` the
    place that ``token`` wants, ``depth`` the number of places. ``token`` has ``valid``, ``first``, ``last``, ``row``
    (of ``rows``), ``column`` within the lane, ``scale_a`` and with zero points ``row_sum``. The caller drives
    ``i.sum``, the group sum of the token's element.
    """
    columns = range(number * array.lane_cols, (number + 1) * array.lane_cols)
    layout = {"d": data.ArrayLayout(16, array.lane_cols)}
    if array.zero != "none":
        layout["z"] = data.ArrayLayout(ZERO_BITS[array.zero], array.lane_cols)
    params = memory.Memory(shape=data.StructLayout(layout), depth=depth, init=[])
    m.submodules[f"params_{number}"] = params
    write_port, read = params.write_port(), params.read_port(domain="comb")
    m.d.comb += [write_port.addr.eq(write[0]), write_port.en.eq(write[1]), read.addr.eq(read_slot)]
    for field in layout:
        m.d.comb += [write_port.data[field][j].eq(array.params.p[field][c]) for j, c in enumerate(columns)]

    lane = DequantLane(elements=array.lane_cols << ceil_log2(rows), group_max=array.group_max, zero=array.zero,
                       two_pass=array.two_pass, w_bits=w_bits, a_bits=a_bits, centred=array.pe == "centred")
    m.submodules[f"lane_{number}"] = lane
    m.d.comb += [
        lane.en.eq(advance),
        lane.i.valid.eq(token.valid),
        lane.i.first.eq(token.first),
        lane.i.last.eq(token.last),
        lane.i.element.eq(Cat(token.row, token.column)),
        lane.i.scale_a.eq(token.scale_a),
        lane.i.scale.eq(read.data.d[token.column]),
    ]
    if array.zero != "none":
        m.d.comb += [lane.i.zero.eq(read.data.z[token.column]), lane.i.row_sum.eq(token.row_sum)]
    wiring.connect(m, lane.out, wiring.flipped(array.out[number]))
    return lane
