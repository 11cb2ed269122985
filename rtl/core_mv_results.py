"""Behind the products of a matrix engine: sums of groups, their dequantisation, and lines of results."""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.array_pipeline import loop_latency
from mixflight.arch.mv_pipeline import ROUND_STAGES, results_latency
from mixflight.rtl.core_lane import CoreLane, rounded_integer
from mixflight.rtl.delay import delayed
from mixflight.rtl.placed_copy import place

SUM_BITS = 30
"""Sums of up to 2^14 products of two INT8 codes, and a bit to round into."""
ROW_BITS = 22
"""Sums of up to 2^14 codes."""
TWO_TO_MINUS_12 = 0x0C00
"""In FP16: what the lifted scales of values are lowered by."""


class GroupSums(wiring.Component):
    """Adds the dot products of a group's blocks: ``term`` a step (16 times with ``high``), ``row`` of its codes.

    With ``end`` the sums of the group are in ``sum`` and ``row_sum`` in the next cycle, and only then. Here and behind,
    ``rows`` that go together lie side by side: output i is column i // rows of row i mod rows.
    """

    def __init__(self, *, outputs: int, rows: int, term_bits: int):
        self.outputs, self.rows = outputs, rows
        super().__init__({
            "valid": In(1), "first": In(1), "high": In(1),
            "term": In(data.ArrayLayout(signed(term_bits), outputs)), "row": In(data.ArrayLayout(signed(12), rows)),
            "sum": Out(data.ArrayLayout(signed(SUM_BITS), outputs)),
            "row_sum": Out(data.ArrayLayout(signed(ROW_BITS), rows)),
        })

    def elaborate(self, platform):
        """An accumulator a column and row, and one of each row."""
        m = Module()
        for number, (term, total) in enumerate(zip(self.term, self.sum, strict=True)):
            kept = Signal(signed(SUM_BITS), name=f"sum_{number}", reset_less=True)
            m.d.comb += total.eq(kept)
            with m.If(self.valid):
                m.d.sync += kept.eq(Mux(self.first, 0, kept) + Mux(self.high, term << 4, term))
        for number, (term, total) in enumerate(zip(self.row, self.row_sum, strict=True)):
            row = Signal(signed(ROW_BITS), name=f"row_{number}", reset_less=True)
            m.d.comb += total.eq(row)
            with m.If(self.valid & ~self.high):
                m.d.sync += row.eq(Mux(self.first, 0, row) + term)
        return m


class StoredSums(wiring.Component):
    """Integer sums that go on over the slabs of K: what element ``address`` held is in ``kept`` a cycle later."""

    def __init__(self, *, columns: int, outputs: int):
        self.layout = data.ArrayLayout(signed(SUM_BITS), columns)
        self.outputs = outputs
        super().__init__({
            "read": In(1), "address": In(range(outputs)), "kept": Out(self.layout),
            "write": In(1), "write_address": In(range(outputs)), "sums": In(self.layout),
        })

    def elaborate(self, platform):
        """A block memory."""
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=self.layout, depth=self.outputs, init=[])
        read, write = store.read_port(), store.write_port()
        m.d.comb += [read.en.eq(self.read), read.addr.eq(self.address), self.kept.eq(read.data),
                     write.en.eq(self.write), write.addr.eq(self.write_address), write.data.eq(self.sums)]
        return m


class Lanes(wiring.Component):
    """Takes the group sums of all columns and ``rows`` at once (``event``), serves them ``serial`` cycles long, columns
    times rows over lanes.

    ``emitted``: ``result`` has the results of all columns of one event; a fixed time after the event, in order.
    """

    def __init__(self, *, columns: int, lanes: int, outputs: int, rows: int = 1):
        self.columns, self.lanes, self.outputs, self.rows = columns, lanes, outputs, rows
        self.serial = columns * rows // lanes
        self.loop_latency = loop_latency("f16-min")
        halves = data.ArrayLayout(16, columns)
        super().__init__({
            "event": In(1), "element": In(range(outputs)), "first": In(1), "emit": In(1),
            "sum": In(data.ArrayLayout(signed(SUM_BITS), columns * rows)),
            "row_sum": In(data.ArrayLayout(signed(ROW_BITS), rows)),
            "scale": In(halves), "minimum": In(halves), "scale_a": In(data.ArrayLayout(16, rows)),
            "emitted": Out(1), "result": Out(data.ArrayLayout(32, columns * rows)),
        })

    @property
    def latency(self) -> int:
        """Cycles from the event to ``emitted``."""
        return results_latency(self.serial)

    def elaborate(self, platform):
        """What is held of an event, a column of each lane a cycle, the results gathered again."""
        m = Module()
        held = {name: Signal.like(getattr(self, name).as_value() if hasattr(getattr(self, name), "as_value")
                                  else getattr(self, name), name=f"held_{name}", reset_less=True)
                for name in ("element", "first", "emit", "sum", "row_sum", "scale", "minimum", "scale_a")}
        busy, turn = Signal(), Signal(range(max(2, self.serial)))
        with m.If(self.event):
            m.d.sync += [signal.eq(getattr(self, name)) for name, signal in held.items()]
            m.d.sync += [busy.eq(1), turn.eq(0)]
        with m.Elif(busy):
            m.d.sync += [turn.eq(turn + 1), busy.eq(turn != self.serial - 1)]
        lanes = [CoreLane(elements=self.outputs * self.serial, sum_bits=SUM_BITS, row_bits=ROW_BITS)
                 for _ in range(self.lanes)]
        for number, lane in enumerate(lanes):
            place(m, platform, f"lane_{number}", lane, like="lane_0")
            self._feed(m, number, lane, held, busy, turn)
        self._gather(m, lanes)
        return m

    def _feed(self, m, number, lane, held, busy, turn):
        """This lane's column and row of the turn, its sum rounded on the way."""
        mine = range(number * self.serial, (number + 1) * self.serial)

        def chosen(name, width, of):
            places = [of(output) for output in mine]
            parts = Cat(held[name].word_select(at, width) for at in places)
            return parts[:width] if len(set(places)) == 1 else parts.word_select(turn, width)

        def row_of(output):
            return output % self.rows

        def column_of(output):
            return output // self.rows
        total = Signal(signed(SUM_BITS), name=f"chosen_{number}")
        m.d.comb += total.eq(chosen("sum", SUM_BITS, lambda output: output))
        given = Signal(lane.i.shape(), name=f"given_{number}")
        m.d.comb += [
            given.valid.eq(busy), given.first.eq(held["first"]), given.last.eq(held["emit"]),
            given.element.eq(held["element"] * self.serial + (turn if self.serial > 1 else 0)),
            given.scale_a.eq(chosen("scale_a", 16, row_of)), given.scale.eq(chosen("scale", 16, column_of)),
            given.minimum.eq(chosen("minimum", 16, column_of)),
            given.row_sum.eq(chosen("row_sum", ROW_BITS, row_of)),
            given.sum.eq(rounded_integer(m, total, f"integer_{number}")),
        ]
        m.d.comb += [lane.en.eq(1), lane.out.ready.eq(1),
                     lane.i.eq(delayed(m, Const(1), given, ROUND_STAGES, f"taken_{number}", reset=True))]

    def _gather(self, m, lanes):
        """Every lane offers a result in the same cycle; the last of an event completes it."""
        valid = lanes[0].out.valid
        turn = Signal(range(max(2, self.serial)))
        complete = Signal()
        with m.If(valid):
            m.d.sync += turn.eq(Mux(turn == self.serial - 1, 0, turn + 1))
            for number, lane in enumerate(lanes):
                for at in range(self.serial):
                    with m.If(turn == at):
                        m.d.sync += self.result[number * self.serial + at].eq(lane.out.payload)
        m.d.sync += complete.eq(valid & (turn == self.serial - 1))
        m.d.comb += self.emitted.eq(complete)


def column_scales(m: Module, word, event, lanes: int):
    """(Scale, minimum) of every column from a word of every bank, as ``event`` says; transposed, 2^-12 and none."""
    scales, minima = [], []
    for number, bank in enumerate(word):
        for lane in range(lanes):
            both = bank[32 * lane:32 * lane + 32]
            alone = Mux(event.half, bank[16 * (lanes + lane):][:16], bank[16 * lane:][:16])
            scale = Signal(16, name=f"scale_{number}_{lane}")
            m.d.comb += scale.eq(Mux(event.transpose, TWO_TO_MINUS_12, Mux(event.pair, both[:16], alone)))
            scales.append(scale)
            minima.append(Mux(event.minimum, both[16:], 0))
    return Cat(scales), Cat(minima)


def token_order(columns: int, banks: int) -> list[int]:
    """Column whose result is the i-th of a step of keys: token l banks + c is column c lanes + l."""
    lanes = columns // banks
    return [c * lanes + lane for lane in range(lanes) for c in range(banks)]


def words_mask(m: Module, left, line: int, words: int, name: str):
    """Which words of line ``line`` of a step exist where ``left`` results do."""
    mask = Signal(words, name=name)
    m.d.comb += mask.eq(Cat((left > line * words + i) for i in range(words)))
    return mask
