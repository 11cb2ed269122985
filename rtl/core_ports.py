"""Interfaces between the units of a core: instructions, buffers, memories, control. Every port is one of these.

A *unit* takes evaluated instructions (:func:`unit`) and gives one ``done`` pulse for each, in order, in or after the
cycle in which its last write has been accepted by its buffer. It may take the next instruction before the one before is
done. Instructions of no bytes, columns or vectors never reach a unit.

A *read port* answers in order, ``READ_LATENCY`` cycles after a request is accepted, and cannot be held up: a client
asks only for what it can take. A *write port* is accepted or not in the cycle in which it is valid; what was accepted
is seen by every read that is accepted later.

``mixflight.arch.core_execution`` says what lies where.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import LINE_BYTES, SLOTS
from mixflight.arch.core_memory_pipeline import READ_LATENCY as READ_LATENCY

ADDRESS_BITS = 64
LINE_BITS = 8 * LINE_BYTES
LINE_WORDS = LINE_BYTES // 4
GLOBAL_LINE = 14
"""Bits of the number of a line of the global buffer."""
ACT_LINE = 17
"""Bits of the number of a line of the act buffer."""

BLOCK = data.StructLayout({"codes": data.ArrayLayout(8, 16), "scale": 16})
"""A block of the act buffer: 16 codes of a byte and the FP16 scale that they share."""
ACT_WORD = data.ArrayLayout(BLOCK, 4)
"""A line of the act buffer."""

_MOVE = {
    "buffer": 3, "ddr": 1, "wide": 1, "channel": 5, "address": 32, "bytes": 24, "slotted": 1, "slot": 2, "line": 18,
}  # fmt: skip
_MATRIX = {
    "rows": 8, "columns": 10, "k_blocks": 12, "weight_bits": 4, "keep": 5, "zero": 2, "accumulate": 1, "last": 1,
    "transpose": 1, "group": 4, "slot": 2, "in_line": ACT_LINE, "out_line": GLOBAL_LINE,
}  # fmt: skip
_FIELDS = {
    "LD": _MOVE | {"code_bits": 4, "signed": 1, "layout": 2},
    "ST": _MOVE,
    "MM": _MATRIX,
    "MV": _MATRIX,
    "MISC": {
        "operation": 5, "vectors": 12, "elements": 18, "group": 4, "causal": 1, "static": 1, "parts": 1, "target": 2,
        "a_line": GLOBAL_LINE, "b_line": GLOBAL_LINE, "out_line": ACT_LINE,
    },
    "SYS": {"operation": 4, "value": 32, "buffer": 1, "line": GLOBAL_LINE},
}  # fmt: skip


def primitive(kind: str) -> data.StructLayout:
    """Evaluated operands of an instruction of class ``kind``: no registers, no tokens.

    Names are those of ``arch/isa_compact.toml`` with their registers added, modulo 2^width. LD, ST: ``ddr`` is the code
    of ``memory``; with ``slotted`` the buffer register is ``slot`` and not in ``line``. SYS on one of several cores: no
    one needs the bytes that an exchange receives, and ``value`` is ``limit``, the lines of the core's own part.
    """
    return data.StructLayout(_FIELDS[kind])


TOKENS = 5
"""Bits of a mask over the other classes; bit 4 - p is the p-th of them."""


def queued(kind: str) -> data.StructLayout:
    """An instruction of class ``kind`` on its way to its queue: evaluated operands and token masks."""
    return data.StructLayout({"wait": TOKENS, "release": TOKENS, "operands": primitive(kind)})


def dispatch() -> dict:
    """Members of what hands instructions to the queues: a stream a class, in small letters, one valid at a time."""
    return {kind.lower(): Out(stream.Signature(queued(kind))) for kind in _FIELDS}


def UnitPort(kind: str) -> wiring.Signature:
    """A unit as whoever gives it instructions sees it."""
    return wiring.Signature({"instruction": Out(stream.Signature(primitive(kind))), "done": In(1)})


def unit(kind: str) -> dict:
    """Members of a unit of class ``kind``, as the unit sees them: ``instruction``, and ``done`` pulses in order."""
    return {"instruction": In(stream.Signature(primitive(kind))), "done": Out(1)}


def ReadPort(address_bits: int, shape) -> wiring.Signature:
    """A buffer's read port, as the client sees it. ``data`` is valid with ``data_valid`` only."""
    return wiring.Signature({
        "valid": Out(1), "address": Out(address_bits), "ready": In(1), "data": In(shape), "data_valid": In(1),
    })  # fmt: skip


def WritePort(address_bits: int, shape, mask_bits: int) -> wiring.Signature:
    """A buffer's write port, as the client sees it. Bit i of ``mask`` writes the i-th equal part of ``data``."""
    return wiring.Signature({
        "valid": Out(1), "address": Out(address_bits), "data": Out(shape), "mask": Out(mask_bits), "ready": In(1),
    })  # fmt: skip


def global_read() -> wiring.Signature:
    """Lines of the global buffer."""
    return ReadPort(GLOBAL_LINE, LINE_BITS)


def global_write() -> wiring.Signature:
    """Lines of the global buffer, word by word."""
    return WritePort(GLOBAL_LINE, LINE_BITS, LINE_WORDS)


def act_read() -> wiring.Signature:
    """Lines of the act buffer."""
    return ReadPort(ACT_LINE, ACT_WORD)


def act_write() -> wiring.Signature:
    """Lines of the act buffer, block by block."""
    return WritePort(ACT_LINE, ACT_WORD, 4)


def weight_word(channels: int, lanes: int) -> data.ArrayLayout:
    """One word of every bank of the weight buffer: [bank][lane][position] codes of a byte."""
    return data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(8, 16), lanes), channels)


SLOT_LAYOUTS = data.ArrayLayout(2, SLOTS)
"""The layout (code of ``layout`` of LD) in which each slot of the weight buffer was filled last: from LD to MV."""


def weight_read(channels: int, lanes: int, depth: int) -> wiring.Signature:
    """The same word of every bank of the weight buffer; slot s begins at word s ``depth`` / 4."""
    return ReadPort(range(depth), weight_word(channels, lanes))


def bank_read(channels: int, word_bits: int, depth: int) -> wiring.Signature:
    """The same word of every bank of the scale or index buffer: [bank] words as they lie in memory; slots likewise."""
    return ReadPort(range(depth), data.ArrayLayout(word_bits, channels))


CoreConstants = data.StructLayout({
    "eps": 32, "inverse_hidden": 32, "inverse_head": 32, "inverse_root": 32, "position": 18, "head_elements": 10,
})  # fmt: skip
"""Control registers that MISC reads; the first four FP32. They do not change during a run."""

ROPE_STEP_BITS = 40
RopeTable = wiring.Signature({"valid": Out(1), "index": Out(8), "value": Out(ROPE_STEP_BITS)})
"""Writes of RoPE's steps, as the control unit sees them: step ``index`` in turns of 2^-40, before a run."""


def MemoryReader(port_bits: int) -> wiring.Signature:
    """One memory, as a client that reads runs of whole beats sees it.

    ``request``: ``address`` (bytes, a multiple of the beat) and ``beats`` (at least 1); ``data``: the beats in order,
    ``last`` with the last one of a request.
    """
    return wiring.Signature({
        "request": Out(stream.Signature(data.StructLayout({"address": ADDRESS_BITS, "beats": 20}))),
        "data": In(stream.Signature(data.StructLayout({"data": port_bits, "last": 1}))),
    })  # fmt: skip


def Axi4Read(data_bits: int, id_bits: int = 1) -> wiring.Signature:
    """AR and R of AXI4, as the master sees them; members are called as the standard calls them."""
    return wiring.Signature({
        "arid": Out(id_bits), "araddr": Out(ADDRESS_BITS), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2),
        "arvalid": Out(1), "arready": In(1),
        "rid": In(id_bits), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
    })  # fmt: skip


def Axi4Write(data_bits: int, id_bits: int = 1) -> wiring.Signature:
    """AW, W and B of AXI4, as the master sees them."""
    return wiring.Signature({
        "awid": Out(id_bits), "awaddr": Out(ADDRESS_BITS), "awlen": Out(8), "awsize": Out(3), "awburst": Out(2),
        "awvalid": Out(1), "awready": In(1),
        "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
        "bid": In(id_bits), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    })  # fmt: skip


def Axi4(data_bits: int, id_bits: int = 1) -> wiring.Signature:
    """All five channels of AXI4, as the master sees them."""
    both = (Axi4Read(data_bits, id_bits), Axi4Write(data_bits, id_bits))
    return wiring.Signature({name: member for part in both for name, member in part.members.items()})


def Axi4Lite(address_bits: int) -> wiring.Signature:
    """AXI4-Lite of 32 bits, as the master sees it."""
    return wiring.Signature({
        "awaddr": Out(address_bits), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
        "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
        "bresp": In(2), "bvalid": In(1), "bready": Out(1),
        "araddr": Out(address_bits), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
        "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
    })  # fmt: skip
