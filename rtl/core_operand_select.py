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
                ``block`` on, of block i / 4 of all four, at their places; 3, with ``far``: of block i / 2 of the eight
                of ``lines`` and ``far_lines``, each row's line behind
    ``codes``   [row][column][weight], from the next cycle on until the next word
    ``block_codes``  [row] codes of ``block``, where weights are dense, at the same time

    A weight's block is chosen before the register, once for all columns; its code behind it, by a multiplexer of 16.
    """

    def __init__(self, *, columns: int, rows: int = 1, far: bool = False):
        self.columns, self.rows, self.far = columns, rows, far
        self.parts = 2 * BLOCKS if far else BLOCKS
        lines = data.ArrayLayout(8 * LINE_BYTES, rows)
        super().__init__({
            "valid": In(1), "wider": In(2), "block": In(range(BLOCKS)),
            "lines": In(lines), **({"far_lines": In(lines)} if far else {}),
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
                self.codes[row][column][i].eq(blocks[i * self.parts // K_BLOCK].word_select(places[column][i], 8))
                for column in range(self.columns) for i in range(K_BLOCK)
            ]
        return m

    def _blocks(self, m, row):
        """The block of every quarter of a word's weights, or of every eighth."""
        line, found, bits = self.lines[row], [], 8 * K_BLOCK
        for part in range(self.parts):
            block = Signal(bits, name=f"row_{row}_block_{part}", reset_less=True)
            number = Mux(self.wider == 2, part * BLOCKS // self.parts,
                         self.block | Mux(self.wider == 1, 2 * part // self.parts, 0))
            chosen = line.word_select(number, bits)
            if self.far:
                eighth = (self.far_lines[row] if part >= BLOCKS else line).word_select(part % BLOCKS, bits)
                chosen = Mux(self.wider == 3, eighth, chosen)
            with m.If(self.valid):
                m.d.sync += block.eq(chosen)
            found.append(block)
        return found
