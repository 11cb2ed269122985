# amaranth: UnusedElaboratable=no
"""The matrix engine of a core on vectors: MV instructions, from the buffers' words to lines of FP32 results."""

from amaranth import *
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import codes
from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import SELECT_STAGES, mv_latency
from mixflight.rtl.core_dots import dots_named, row_sum
from mixflight.rtl.core_mv_issue import OUT_WORDS, PLACE, MvIssue
from mixflight.rtl.core_mv_results import GroupSums, Lanes, StoredSums, column_scales, token_order, words_mask
from mixflight.rtl.core_ports import READ_LATENCY, SLOT_LAYOUTS, act_read, bank_read, global_write, unit, weight_read
from mixflight.rtl.delay import delayed

ALWAYS = Const(1)
PENDING = 4
"""Instructions that may be on their way."""


class MatrixVector(wiring.Component):
    """Carries out MV as ``arch/core_execution.md`` says, dense, with FP16 scales and minima or without.

    **Parameters.** ``columns`` S that advance together, in ``banks`` C; ``dots`` a kind of
    :func:`mixflight.rtl.core_dots.dots_named`; ``lanes`` dequantisation lanes, which divide S; ``outputs``: most rows
    times steps of columns of a tile (its sums are kept in the lanes); depths of the banks in words; ``queue`` places
    for events' results that wait for the global buffer.

    **Ports.** The weight and scale banks are read by nobody else: their ``ready`` is taken for granted. A word of the
    scale banks is 4 S / C bytes.

    **Cycles.** :func:`mixflight.arch.mv_pipeline.mv_cycles`: as a rule 1 + passes x blocks of 16 x rows x steps, with
    two passes for codes of more than 4 bits on shift-add. A tile's last results are offered ``latency`` cycles after
    its last block is read, and ``done`` comes the cycle after the last is written.

    **Range.** Integer sums over all slabs of a tile are exact up to 2^14 products of two INT8 codes, which bounds K
    where ``group`` is 0, and with it the context of a head.

    ``unsupported`` stays 1 from an instruction with integer zero points or N:M weights on; its results mean nothing.
    """

    def __init__(self, *, columns: int = 16, banks: int = 2, dots: str = "shift-add", lanes: int = 8,
                 outputs: int = 128, weight_depth: int = 4096, scale_depth: int = 1024, queue: int = 16):
        if lanes < 1 or columns % lanes:
            raise InputError(f"lanes must divide the columns: {lanes} does not divide {columns}, in a matrix engine")
        self.columns, self.banks, self.dots, self.lanes, self.queue = columns, banks, dots, lanes, queue
        self.weight_depth, self.scale_depth = weight_depth, scale_depth
        self.products = dots_named(dots, columns=columns)
        self.dequantise = Lanes(columns=columns, lanes=lanes, outputs=outputs)
        self.issue = MvIssue(
            columns=columns, banks=banks, outputs=outputs, weight_depth=weight_depth, scale_depth=scale_depth,
            passes=self.products.passes_of_wide, serial=self.dequantise.serial, loop=self.dequantise.loop_latency)
        self.sums = GroupSums(columns=columns, term_bits=self.products.sum_bits)
        self.stored = StoredSums(columns=columns, outputs=outputs)
        self.to_term = READ_LATENCY + SELECT_STAGES + self.products.latency
        super().__init__({
            **unit("MV"), "layouts": In(SLOT_LAYOUTS), "unsupported": Out(1),
            "weight": Out(weight_read(banks, columns // banks, weight_depth)),
            "scale": Out(bank_read(banks, 32 * columns // banks, scale_depth)),
            "act": Out(act_read()), "out": Out(global_write()),
        })

    @property
    def latency(self) -> int:
        """Cycles from reading the last block of a tile to offering its last results."""
        return mv_latency(dots=self.dots, serial=self.dequantise.serial, read_latency=READ_LATENCY)

    def elaborate(self, platform):
        """Issue, products, group sums, lanes, results, ends."""
        m = Module()
        issue, dots, sums = self.issue, self.products, self.sums
        m.submodules.issue, m.submodules.dots, m.submodules.sums = issue, dots, sums
        wiring.connect(m, wiring.flipped(self.instruction), issue.instruction)
        m.d.comb += [
            issue.layouts.eq(self.layouts), issue.may_read.eq(self.act.ready),
            self.act.valid.eq(issue.wants), self.act.address.eq(issue.act_line),
            self.weight.valid.eq(issue.issued), self.weight.address.eq(issue.weight_word),
        ]
        self._products(m, issue, dots)
        tag_layout = data.StructLayout({"valid": 1, "first": 1, "high": 1, "end": 1, "event": issue.event_layout})
        tag = Signal(tag_layout)
        m.d.comb += [tag.valid.eq(issue.issued), tag.first.eq(issue.first), tag.high.eq(issue.high),
                     tag.end.eq(issue.end & issue.issued), tag.event.eq(issue.event)]
        term = delayed(m, ALWAYS, tag, self.to_term, "tag", reset=True)
        m.d.comb += [
            sums.valid.eq(term.valid), sums.first.eq(term.first), sums.high.eq(term.high), sums.term.eq(dots.sum),
            sums.row.eq(row_sum(m, dots)),
        ]
        plain = self._events(m, term)
        final = self._results(m)
        self._ends(m, plain, final)
        return m

    def _products(self, m, issue, dots):
        """The words that come back, the row's block among them, into registers."""
        passing = Signal(data.StructLayout({"valid": 1, "block": 2, "high": 1, "narrow": 1}))
        m.d.comb += [passing.valid.eq(issue.issued), passing.block.eq(issue.block), passing.high.eq(issue.high),
                     passing.narrow.eq(issue.narrow)]
        come = delayed(m, ALWAYS, passing, READ_LATENCY, "come", reset=True)
        self.scale_a = Signal(16, reset_less=True)
        valid = Signal()
        registers = {name: Signal.like(value.as_value() if hasattr(value, "as_value") else value, name=f"given_{name}",
                                       reset_less=True)
                     for name, value in (("weights", dots.weights), ("codes", dots.codes), ("high", dots.high),
                                         ("narrow", dots.narrow))}
        chosen = self.act.data[come.block]
        m.d.sync += valid.eq(come.valid)
        with m.If(come.valid):
            m.d.sync += [
                registers["weights"].eq(self.weight.data), registers["codes"].eq(chosen.codes),
                registers["high"].eq(come.high), registers["narrow"].eq(come.narrow), self.scale_a.eq(chosen.scale),
            ]
        m.d.comb += [
            dots.valid.eq(valid), dots.weights.as_value().eq(registers["weights"]),
            dots.codes.as_value().eq(registers["codes"]), dots.high.eq(registers["high"]),
            dots.narrow.eq(registers["narrow"]),
        ]

    def _events(self, m, term):
        """The end of a group: its sums meet what was stored, the scales, the lanes. Returns ends without results."""
        m.submodules.stored, m.submodules.lanes = stored, lanes = self.stored, self.dequantise
        # The scales of an event are asked for so that they come when its sums do.
        ask = Signal(data.StructLayout({"valid": 1, "word": self.scale.address.shape()}))
        m.d.comb += [ask.valid.eq(self.issue.issued & self.issue.end), ask.word.eq(self.issue.scale_word)]
        asked = delayed(m, ALWAYS, ask, self.to_term + 1 - READ_LATENCY, "ask", reset=True)
        m.d.comb += [self.scale.valid.eq(asked.valid), self.scale.address.eq(asked.word)]
        ended = Signal(term.shape())
        m.d.sync += ended.eq(term)
        event = ended.event
        m.d.comb += [stored.read.eq(term.end), stored.address.eq(term.event.element)]
        scale_a = delayed(m, ALWAYS, self.scale_a, self.products.latency + 1, "scale_a")
        scales, minima = column_scales(m, list(self.scale.data), event, self.columns // self.banks)
        totals = [Signal(signed(len(kept)), name=f"total_{i}") for i, kept in enumerate(self.sums.sum)]
        m.d.comb += [total.eq(new + Mux(event.stored, kept, 0))
                     for total, new, kept in zip(totals, self.sums.sum, stored.kept, strict=True)]
        m.d.comb += [
            stored.write.eq(ended.end & event.store), stored.write_address.eq(event.element),
            stored.sums.as_value().eq(Cat(totals)),
            lanes.event.eq(ended.end & (~event.store | event.emit)), lanes.element.eq(event.element),
            lanes.first.eq(event.first), lanes.emit.eq(event.emit), lanes.sum.as_value().eq(Cat(totals)),
            lanes.row_sum.eq(self.sums.row_sum),
            lanes.scale.as_value().eq(scales), lanes.minimum.as_value().eq(minima), lanes.scale_a.eq(scale_a),
        ]
        return ended.end & event.final & ~event.emit

    def _results(self, m):
        """Results wait in a queue, their places in another; every line of an event is written. Returns final writes."""
        m.submodules.places = places = fifo.SyncFIFO(width=PLACE.size, depth=self.queue)
        m.submodules.results = results = fifo.SyncFIFO(width=32 * self.columns, depth=self.queue)
        issue, lines = self.issue, self.columns // OUT_WORDS
        waiting = Signal(range(self.queue + 1))
        enters, leaves = issue.issued & issue.end & issue.event.emit, Signal()
        m.d.sync += waiting.eq(waiting + enters - leaves)
        m.d.comb += [
            issue.may_emit.eq(waiting != self.queue - 2),
            places.w_en.eq(enters), places.w_data.eq(issue.place),
            results.w_en.eq(self.dequantise.emitted), results.w_data.eq(self.dequantise.result),
        ]
        place = data.View(PLACE, places.r_data)
        both = Signal()
        number = Signal(range(max(2, lines)))
        line = Signal.like(place.line)
        m.d.comb += both.eq(results.r_rdy & places.r_rdy)
        natural = [results.r_data.word_select(i, 32) for i in range(self.columns)]
        words = Cat(Mux(place.keys, natural[token], natural[i])
                    for i, token in enumerate(token_order(self.columns, self.banks)))
        masks = [words_mask(m, place.left, i, OUT_WORDS, f"mask_{i}") for i in range(lines)]
        mask = Signal(OUT_WORDS)
        m.d.comb += mask.eq(Cat(masks).word_select(number, OUT_WORDS))
        passed = Signal()
        m.d.comb += [
            self.out.valid.eq(both & mask.any()), self.out.mask.eq(mask),
            self.out.address.eq(Mux(number == 0, place.line, line)),
            self.out.data.eq(words.word_select(number, 32 * OUT_WORDS)),
            passed.eq(both & (self.out.ready | ~mask.any())),
            leaves.eq(passed & (number == lines - 1)), places.r_en.eq(leaves), results.r_en.eq(leaves),
        ]
        with m.If(passed):
            m.d.sync += [number.eq(Mux(number == lines - 1, 0, number + 1)), line.eq(self.out.address + place.next)]
        return leaves & place.final

    def _ends(self, m, plain, final):
        """``done`` in order: instructions with results end when these are written, others with their last group."""
        issue, mv = self.issue, self.instruction.p
        m.submodules.order = order = fifo.SyncFIFO(width=1, depth=PENDING)
        ends = [Signal(range(PENDING + 2), name=name) for name in ("plain_ends", "final_ends")]
        taken = [Signal(name=name) for name in ("plain_taken", "final_taken")]
        for count, come, away in zip(ends, (plain, final), taken, strict=True):
            m.d.sync += count.eq(count + come - away)
        m.d.comb += [
            issue.may_take.eq(order.w_rdy), order.w_en.eq(self.instruction.valid & self.instruction.ready),
            order.w_data.eq(mv.last),
            taken[0].eq(order.r_rdy & ~order.r_data & (ends[0] != 0)),
            taken[1].eq(order.r_rdy & order.r_data & (ends[1] != 0)),
            self.done.eq(taken[0] | taken[1]), order.r_en.eq(self.done),
        ]
        with m.If(self.instruction.valid & self.instruction.ready
                  & ((mv.zero == codes("MV", "zero")["integer"]) | (mv.keep != 16))):
            m.d.sync += self.unsupported.eq(1)
