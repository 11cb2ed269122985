"""The operands of N:M weights: of a line of activations the code that each weight's place names."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import K_BLOCK, LINE_BYTES
from mixflight.rtl.core_ports import bank_read

BLOCKS = LINE_BYTES // K_BLOCK
PLACE_BITS = 4
_CODES = data.ArrayLayout(8, K_BLOCK)


def index_read(banks: int, lanes: int, depth: int) -> wiring.Signature:
    """The places of a word of weights: of each bank sixteen of four bits for each of its ``lanes``."""
    return bank_read(banks, PLACE_BITS * K_BLOCK * lanes, depth)


class OperandSelect(wiring.Component):
    """For every one of ``columns`` and its 16 weights the operand, a register behind the buffers.

    ``valid``   ``lines`` (the 64 codes of each row's line) and ``places`` [column][weight] are those of a word
    ``wider``   0: dense, the operands are those of ``block``; 1, 2: weights i are of block i / 8 of the two from
                ``block`` on, of block i / 4 of all four, at their places
    ``codes``   [row][column][weight], from the next cycle on until the next word
    ``block_codes``  [row] codes of ``block``, where weights are dense, at the same time

    A weight's block is chosen before the register, once for all columns; its code behind it, by a multiplexer of 16.
    """

    def __init__(self, *, columns: int, rows: int = 1):
        self.columns, self.rows = columns, rows
        super().__init__({
            "valid": In(1), "wider": In(2), "block": In(range(BLOCKS)),
            "lines": In(data.ArrayLayout(8 * LINE_BYTES, rows)),
            "places": In(data.ArrayLayout(data.ArrayLayout(PLACE_BITS, K_BLOCK), columns)),
            "codes": Out(data.ArrayLayout(data.ArrayLayout(_CODES, columns), rows)),
            "block_codes": Out(data.ArrayLayout(_CODES, rows)),
        })

    def elaborate(self, platform):
        """Blocks and places in registers, then the multiplexers."""
        m = Module()
        places = Signal(self.places.shape(), reset_less=True)
        with m.If(self.valid):
            with m.If(self.wider == 0):
                m.d.sync += places.eq(Cat(Cat(Const(i, PLACE_BITS) for i in range(K_BLOCK))
                                          for _ in range(self.columns)))
            with m.Else():
                m.d.sync += places.eq(self.places)
        for row in range(self.rows):
            blocks = self._blocks(m, row)
            m.d.comb += self.block_codes[row].as_value().eq(blocks[0])
            m.d.comb += [
                self.codes[row][column][i].eq(blocks[i * BLOCKS // K_BLOCK].word_select(places[column][i], 8))
                for column in range(self.columns) for i in range(K_BLOCK)
            ]
        return m

    def _blocks(self, m, row):
        """The block of every quarter of a word's weights."""
        line, found = self.lines[row], []
        for quarter in range(BLOCKS):
            block = Signal(8 * K_BLOCK, name=f"row_{row}_block_{quarter}", reset_less=True)
            number = Mux(self.wider == 2, quarter, self.block | Mux(self.wider == 1, quarter >> 1, 0))
            with m.If(self.valid):
                m.d.sync += block.eq(line.word_select(number, 8 * K_BLOCK))
            found.append(block)
        return found
