"""Reads a text and its constants from memory into the memories of the sequencer."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.errors import InputError
from mixflight.rtl.core_operands import INSTRUCTION_BITS
from mixflight.rtl.core_ports import ADDRESS_BITS, MemoryReader
from mixflight.rtl.core_sequencer import memory_write

_CONSTANT_BITS = 32


class TextFetch(wiring.Component):
    """With ``start`` reads ``instructions`` from ``text_at`` and ``words`` constants from ``constants_at``.

    Both begin at a multiple of the port's bytes. ``done`` is a pulse when the last word has been written; 0 of both is
    done at once. An instruction or a constant is written a cycle, the first two cycles after its beat came, so a
    fetch takes instructions + words cycles, and what memory takes to answer two requests.
    """

    def __init__(self, *, port_bits: int, depth: int, constants: int):
        if port_bits % INSTRUCTION_BITS:
            raise InputError(f"port_bits must be a multiple of {INSTRUCTION_BITS}, not {port_bits}, to read a text")
        self.port_bits, self.depth, self.constants = port_bits, depth, constants
        super().__init__({
            "start": In(1), "text_at": In(ADDRESS_BITS), "instructions": In(range(depth + 1)),
            "constants_at": In(ADDRESS_BITS), "words": In(range(constants + 1)),
            "reader": Out(MemoryReader(port_bits)), "text": Out(memory_write(depth, INSTRUCTION_BITS)),
            "constant": Out(memory_write(constants, _CONSTANT_BITS)), "done": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """One beat at a time, shifted out."""
        m = Module()
        beat = Signal(self.port_bits)
        index = Signal(range(max(self.depth, self.constants) + 1))
        left = Signal(range(self.port_bits // _CONSTANT_BITS + 1))
        more = Signal.like(index)                   # items that are in no beat yet
        request, coming = self.reader.request, self.reader.data

        def run(name: str, following: str, address, count, write, bits: int) -> None:
            """States that read ``count`` items of ``bits``."""
            each = self.port_bits // bits
            with m.State(f"{name}-ask"):
                m.d.comb += [request.valid.eq(count != 0), request.p.address.eq(address),
                             request.p.beats.eq((count + (each - 1)) // each)]  # fmt: skip
                m.d.sync += [index.eq(0), left.eq(0), more.eq(count)]
                with m.If(count == 0):
                    m.next = following
                with m.Elif(request.ready):
                    m.next = name
            with m.State(name):
                m.d.comb += [
                    coming.ready.eq((left <= 1) & (more != 0)),
                    write.valid.eq(left != 0), write.index.eq(index), write.value.eq(beat[:bits]),
                ]  # fmt: skip
                with m.If(left != 0):
                    m.d.sync += [left.eq(left - 1), index.eq(index + 1), beat.eq(beat >> bits)]
                with m.If(coming.valid & coming.ready):
                    m.d.sync += [beat.eq(coming.p.data), left.eq(Mux(more < each, more[: len(left)], each)),
                                 more.eq(Mux(more < each, 0, more - each))]  # fmt: skip
                with m.If((left == 0) & (more == 0)):
                    m.next = following

        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.next = "text-ask"
            run("text", "constants-ask", self.text_at, self.instructions, self.text, INSTRUCTION_BITS)
            run("constants", "done", self.constants_at, self.words, self.constant, _CONSTANT_BITS)
            with m.State("done"):
                m.d.comb += self.done.eq(1)
                m.next = "idle"
        return m
