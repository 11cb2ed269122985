# amaranth: UnusedElaboratable=no
"""The matrix engine of a core: MV and MM instructions, from the buffers' words to lines of FP32 results."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import K_BLOCK, KEPT, codes
from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import SELECT_STAGES, mv_latency, result_events
from mixflight.rtl.core_dots import dots_named, row_sum
from mixflight.rtl.core_mm_rows import act_rows_read
from mixflight.rtl.core_mv_issue import OUT_WORDS, MvIssue, parts_of_line
from mixflight.rtl.core_mv_results import GroupSums, Lanes, StoredSums, column_scales, token_order, words_mask
from mixflight.rtl.core_operand_select import OperandSelect, index_read
from mixflight.rtl.core_ports import READ_LATENCY, SLOT_LAYOUTS, bank_read, global_write, unit, weight_read
from mixflight.rtl.delay import delayed
from mixflight.rtl.head_fifo import HeadFifo
from mixflight.rtl.small_fifo import SmallFifo

ALWAYS = Const(1)
PENDING = 4
"""Instructions that may be on their way."""


class MatrixVector(wiring.Component):
    """Carries out MV and MM as ``arch/core_execution.md`` says, with FP16 scales and minima or without.

    **Parameters.** ``columns`` S that advance together, 4, 8 or whole lines, in ``banks`` C; ``together`` P rows that
    share a word of weights, 1 or 2: an engine for matrices, of which a vector uses one part in P; ``dots`` a kind of
    :func:`mixflight.rtl.core_dots.dots_named`; ``lanes`` dequantisation lanes, which divide P S; ``outputs``: most
    groups of P rows times steps of columns of a tile (its sums are kept in the lanes); depths of the banks in words;
    ``queue`` places for events' results that are on their way or wait for the global buffer: by default enough for
    groups of 32 of a tile of 8 steps, with rows together for any tile. ``kept``: what it takes beside dense weights, 2,
    4 and 8 of 16; then every product has a multiplexer before it, and ``index`` banks are read beside the weights'.

    **Ports.** The weight, scale and index banks and ``act_far`` are read by nobody else: their ``ready`` is taken for
    granted. A word of the
    scale banks is 4 S / C bytes, one of the index banks 8 S / C, the places of the weights' word. ``act`` gives P lines
    at once, from the one that is asked for on; ``act_far``, a copy of it for weights that keep 2 of 16, those a line
    further along K. ``multiplying``: rows whose products count in this cycle, 0 ... P, each
    of 16 S of them; for counters.

    **Cycles.** :func:`mixflight.arch.mm_pipeline.mm_cycles`: as a rule 1 + passes x blocks of 16 x ceil(rows / P) x
    steps, with two passes for codes of more than 4 bits on shift-add; of N:M weights 16 that are kept count as a block.
    So an MM of whole groups of rows has all products busy in every cycle but the first; an MV of one row has one in P.
    A tile's last results are offered ``latency`` cycles after its last block is read, a line a cycle; ``done`` comes
    the cycle after the last is written.

    **Range.** Integer sums over all slabs of a tile are exact up to 2^14 products of two INT8 codes, which bounds K
    where ``group`` is 0, and with it the context of a head.

    ``unsupported`` stays 1 from an instruction with integer zero points, other N:M weights or minima of such on; its
    results mean nothing.
    """

    def __init__(self, *, columns: int = 16, banks: int = 2, dots: str = "shift-add", lanes: int = 8,
                 outputs: int = 128, weight_depth: int = 4096, scale_depth: int = 1024, queue: int | None = None,
                 together: int = 1, kept: tuple[int, ...] = ()):
        if set(kept) - set(KEPT):
            raise InputError(f"a matrix engine must keep 2, 4 or 8 of 16 weights, beside dense ones, not {kept}")
        if lanes < 1 or columns * together % lanes:
            raise InputError("lanes must divide the columns of all rows together: "
                             f"{lanes} does not divide {columns * together}, in a matrix engine")
        self.columns, self.banks, self.dots, self.lanes, self.together = columns, banks, dots, lanes, together
        self.queue = queue or result_events(together) + 2
        self.weight_depth, self.scale_depth = weight_depth, scale_depth
        self.kept = kept
        self.products = dots_named(dots, columns=columns, rows=together, own=bool(kept))
        self.dequantise = Lanes(columns=columns, lanes=lanes, outputs=outputs, rows=together)
        self.issue = MvIssue(
            columns=columns, banks=banks, outputs=outputs, weight_depth=weight_depth, scale_depth=scale_depth,
            passes=self.products.passes_of_wide, serial=self.dequantise.serial, loop=self.dequantise.loop_latency,
            together=together, kept=kept)
        self.sums = GroupSums(outputs=columns * together, rows=together, term_bits=self.products.sum_bits)
        self.stored = StoredSums(columns=columns * together, outputs=outputs)
        self.to_term = READ_LATENCY + SELECT_STAGES + self.products.latency
        super().__init__({
            **unit("MV"), "layouts": In(SLOT_LAYOUTS), "unsupported": Out(1),
            "weight": Out(weight_read(banks, columns // banks, weight_depth)),
            "scale": Out(bank_read(banks, 32 * columns // banks, scale_depth)),
            "act": Out(act_rows_read(together)), "out": Out(global_write()), "multiplying": Out(range(together + 1)),
            **({"index": Out(index_read(banks, columns // banks, weight_depth))} if kept else {}),
            **({"act_far": Out(act_rows_read(together))} if 2 in kept else {}),
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
            self.multiplying.eq(Mux(issue.issued, issue.rows, 0)),
        ]
        self._products(m, issue, dots)
        tag_layout = data.StructLayout({"valid": 1, "first": 1, "high": 1, "end": 1, "event": issue.event_layout})
        tag = Signal(tag_layout)
        m.d.comb += [tag.valid.eq(issue.issued), tag.first.eq(issue.first), tag.high.eq(issue.high),
                     tag.end.eq(issue.end & issue.issued), tag.event.eq(issue.event)]
        term = delayed(m, ALWAYS, tag, self.to_term, "tag", reset=True)
        m.d.comb += [
            sums.valid.eq(term.valid), sums.first.eq(term.first), sums.high.eq(term.high),
            sums.term.as_value().eq(Cat(dots.sum[row][column] for column in range(self.columns)
                                        for row in range(self.together))),
            sums.row.as_value().eq(Cat(row_sum(m, dots, codes, row) for row, codes in enumerate(self.dense_codes))),
        ]
        plain = self._events(m, term)
        final = self._results(m)
        self._ends(m, plain, final)
        return m

    def _products(self, m, issue, dots):
        """The words that come back, the rows' block among them, into registers."""
        passing = Signal(data.StructLayout({"valid": 1, "block": 2, "high": 1, "narrow": 1}
                                           | ({"wider": 2} if self.kept else {})))
        m.d.comb += [passing.valid.eq(issue.issued), passing.block.eq(issue.block), passing.high.eq(issue.high),
                     passing.narrow.eq(issue.narrow)]
        if self.kept:
            m.d.comb += [passing.wider.eq(issue.wider), self.index.valid.eq(issue.issued & (issue.wider != 0)),
                         self.index.address.eq(issue.weight_word)]
        come = delayed(m, ALWAYS, passing, READ_LATENCY, "come", reset=True)
        self.scale_a = Signal(16 * self.together, reset_less=True)
        valid = Signal()
        registers = {name: Signal.like(value.as_value() if hasattr(value, "as_value") else value, name=f"given_{name}",
                                       reset_less=True)
                     for name, value in (("weights", dots.weights), ("codes", dots.codes), ("high", dots.high),
                                         ("narrow", dots.narrow)) if not (self.kept and name == "codes")}
        lines = [self.act.data] if self.together == 1 else list(self.act.data)
        chosen = [line[come.block] for line in lines]
        m.d.sync += valid.eq(come.valid)
        with m.If(come.valid):
            m.d.sync += registers["weights"].eq(self.weight.data)
            if not self.kept:
                m.d.sync += registers["codes"].eq(Cat(part.codes for part in chosen))
            m.d.sync += [
                registers["high"].eq(come.high), registers["narrow"].eq(come.narrow),
                self.scale_a.eq(Cat(part.scale for part in chosen)),
            ]
        m.d.comb += [dots.valid.eq(valid), dots.weights.as_value().eq(registers["weights"])]
        if self.kept:
            self.dense_codes = self._select(m, dots, come, lines)
        else:
            m.d.comb += dots.codes.as_value().eq(registers["codes"])
            self.dense_codes = list(dots.codes)
        m.d.comb += [dots.high.eq(registers["high"]), dots.narrow.eq(registers["narrow"])]

    def _select(self, m, dots, come, lines):
        """The operand of every weight, by its place. Returns the codes of the rows' block, where weights are dense."""
        m.submodules.select = select = OperandSelect(
            columns=self.columns, rows=self.together, far=2 in self.kept)
        m.d.comb += [
            select.valid.eq(come.valid), select.block.eq(come.block), select.wider.eq(come.wider),
            select.places.as_value().eq(Cat(self.index.data)), dots.codes.eq(select.codes),
            *(mine.eq(Cat(block.codes for block in line)) for mine, line in zip(select.lines, lines, strict=True)),
        ]
        if 2 in self.kept:
            issue, far = self.issue, self.act_far.data
            m.d.comb += [
                self.act_far.valid.eq(issue.issued & (issue.wider == 3)), self.act_far.address.eq(issue.far_line),
                *(mine.eq(Cat(block.codes for block in line))
                  for mine, line in zip(select.far_lines, [far] if self.together == 1 else far, strict=True)),
            ]
        return list(select.block_codes)

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
            lanes.scale.as_value().eq(scales), lanes.minimum.as_value().eq(minima),
            lanes.scale_a.as_value().eq(scale_a),
        ]
        return ended.end & event.final & ~event.emit

    def _results(self, m):
        """Results wait in a queue, their places in another; every line of an event is written, row after row. Returns
        final writes."""
        issue, lines, together = self.issue, max(1, self.columns // OUT_WORDS), self.together
        m.submodules.places = places = HeadFifo(shape=issue.place_layout, depth=self.queue - 1)
        m.submodules.results = results = SmallFifo(shape=32 * self.columns * together, depth=self.queue)
        waiting = Signal(range(self.queue + 1))
        enters, leaves, place_in = Signal(), Signal(), Signal(issue.place_layout, reset_less=True)
        # A place enters a cycle late, long before its results: the queue is no end of the way that issues blocks.
        m.d.sync += [enters.eq(issue.issued & issue.end & issue.event.emit), place_in.eq(issue.place),
                     waiting.eq(waiting + enters - leaves)]
        m.d.comb += [
            issue.may_emit.eq(Mux(enters, waiting != self.queue - 3, waiting != self.queue - 2)),
            places.push.eq(enters), places.word.eq(place_in),
            results.push.eq(self.dequantise.emitted), results.word.eq(self.dequantise.result),
        ]
        place = places.head
        both, begins, row_ends = Signal(), Signal(), Signal()
        number, row = Signal(range(max(2, lines))), Signal(range(max(2, together)))
        line, row_line = Signal.like(place.line), Signal.like(place.line, name="row_line")
        m.d.comb += both.eq(results.some & places.some)
        mine = [Cat(results.head.word_select(i * together + each, 32) for i in range(self.columns))
                for each in range(together)]
        natural = [Array(mine)[row].word_select(i, 32) if together > 1 else mine[0].word_select(i, 32)
                   for i in range(self.columns)]
        words = Cat(Mux(place.keys, natural[token], natural[i])
                    for i, token in enumerate(token_order(self.columns, self.banks)))
        masks = [words_mask(m, place.left, i, min(OUT_WORDS, self.columns), f"mask_{i}") for i in range(lines)]
        if self.columns < OUT_WORDS:        # the part of the line that the step is
            parts = parts_of_line(self.columns)
            masks = [Cat(Mux(place.part == part, masks[0], 0) for part in parts)]
            words = words.replicate(len(parts))
        mask, some = Signal(OUT_WORDS), Signal()
        # There is no event without a result: only lines behind the first may have none.
        m.d.comb += [mask.eq(Cat(masks).word_select(number, OUT_WORDS)), some.eq(mask[0] if lines > 1 else 1)]
        passed = Signal()
        m.d.comb += [
            self.out.valid.eq(both & some), self.out.mask.eq(mask),
            begins.eq((number == 0) & (row == 0)), self.out.address.eq(Mux(begins, place.line, line)),
            self.out.data.eq(words.word_select(number, 32 * OUT_WORDS)),
            passed.eq(both & (self.out.ready | ~some)),
            row_ends.eq(number == lines - 1), leaves.eq(passed & row_ends & (row + 1 == place.rows)),
            places.pop.eq(leaves), results.pop.eq(leaves),
        ]
        with m.If(passed):
            m.d.sync += [number.eq(Mux(row_ends, 0, number + 1)), line.eq(self.out.address + place.next)]
            if together > 1:
                first = Mux(begins, place.line, row_line)
                m.d.sync += row_line.eq(Mux(row_ends, first + place.row_next, first))
                with m.If(row_ends):
                    m.d.sync += [row.eq(Mux(leaves, 0, row + 1)), line.eq(first + place.row_next)]
        return leaves & place.final

    def _ends(self, m, plain, final):
        """``done`` in order: instructions with results end when these are written, others with their last group."""
        issue, mv = self.issue, self.instruction.p
        m.submodules.order = order = HeadFifo(shape=1, depth=PENDING - 1)
        ends = [Signal(range(PENDING + 2), name=name) for name in ("plain_ends", "final_ends")]
        taken = [Signal(name=name) for name in ("plain_taken", "final_taken")]
        some = [Signal(name=name) for name in ("plain_some", "final_some")]
        for count, there, come, away in zip(ends, some, (plain, final), taken, strict=True):
            with m.If(come ^ away):
                m.d.sync += count.eq(count + Mux(come, 1, -1))
            m.d.sync += there.eq(come | (there & ~(away & (count == 1))))
        m.d.comb += [
            issue.may_take.eq(order.room), order.push.eq(self.instruction.valid & self.instruction.ready),
            order.word.eq(mv.last),
            taken[0].eq(order.some & ~order.head & some[0]),
            taken[1].eq(order.some & order.head & some[1]),
            self.done.eq(taken[0] | taken[1]), order.pop.eq(self.done),
        ]
        with m.If(self.instruction.valid & self.instruction.ready
                  & self._refused(mv)):
            m.d.sync += self.unsupported.eq(1)

    def _refused(self, mv):
        """Whether an instruction is none that this engine carries out."""
        zeros = codes("MV", "zero")
        if not self.kept:
            return (mv.zero == zeros["integer"]) | (mv.keep != K_BLOCK)
        known = Cat(mv.keep == keep for keep in (*self.kept, K_BLOCK)).any()
        return (mv.zero == zeros["integer"]) | ~known | ((mv.keep != K_BLOCK) & (mv.zero != zeros["none"]))
