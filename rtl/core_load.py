"""The LD unit: memories to buffers."""

from amaranth import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.rtl.axi_read import MEMORY_ERROR, AxiRead
from mixflight.rtl.core_buffers import row_write, word_write
from mixflight.rtl.core_deal import Deal, deal_layout, words_of
from mixflight.rtl.core_gearbox import Gearbox
from mixflight.rtl.core_load_channel import (
    BEAT,
    GLOBAL,
    INDEX,
    LINEAR,
    PLACE_BITS,
    SCALE,
    VALUES,
    WEIGHT,
    LoadChannel,
    channel_run,
    check_shape,
)
from mixflight.rtl.core_order import Completion
from mixflight.rtl.core_ports import LINE_BITS, LINE_WORDS, SLOT_LAYOUTS, Axi4Read, global_write, primitive, unit
from mixflight.rtl.two_places import TwoPlaces

BURSTS_BUFFERED = 4
"""Bursts of a memory whose beats may wait for what takes them."""
_BEAT_LOG2 = exact_log2(BEAT)
_WORD = 4


class CoreLoad(wiring.Component):
    """Executes LD in order; several are in flight, so that a channel's port has the next one's address in time.

    ``instruction``, ``done``  :func:`mixflight.rtl.core_ports.unit`
    ``head``          elements of a head: a multiple of 16, for ``values`` of channels x lanes
    ``hbm``, ``ddr``  AXI4 masters, 64 bytes a beat; a channel's addresses begin at 0
    ``weight``, ``scale``, ``index``  write ports a bank; ``vector``, the global buffer's
    ``slot_layouts``  the layout that each slot of the weight buffer was last loaded with
    ``error``         sticky, of each HBM channel, then of DDR
    ``refused``       sticky: an LD this unit does not carry out (to act; DDR to other than global; ``values`` of one
                      channel, slots of global) was ended without an effect

    Addresses: multiples of 2 x lanes bytes in HBM, of 4 in DDR. Sizes: any; ``linear`` writes whole words or, of 8-bit
    codes, lines. ``in_flight`` instructions at most.

    **Cycles** of a lone instruction from its acceptance to ``done``, with a memory whose first beat is there T cycles
    after ARVALID rises (and was taken at once) and then a beat a cycle:
    :func:`mixflight.arch.core_memory_pipeline.load_cycles`. Instructions back to back: the beats of each without a gap
    while a word of the target takes a beat or more (bits of a code >= 32 / lanes).
    """

    def __init__(self, *, channels: int, lanes: int, weight_depth: int, scale_lines: int, index_lines: int,
                 burst_bytes: int = 512, outstanding: int = 16, in_flight: int = 16):
        check_shape(channels, lanes)
        self.channels, self.lanes = channels, lanes
        self.depths = {WEIGHT: weight_depth, SCALE: scale_lines, INDEX: index_lines}
        self.burst_bytes, self.outstanding, self.in_flight = burst_bytes, outstanding, in_flight
        super().__init__({
            **unit("LD"), "head": In(10),
            "hbm": Out(Axi4Read(LINE_BITS)).array(channels), "ddr": Out(Axi4Read(LINE_BITS)),
            "weight": Out(word_write(lanes, weight_depth)).array(channels),
            "scale": Out(row_write(scale_lines)).array(channels), "index": Out(row_write(index_lines)).array(channels),
            "vector": Out(global_write()), "slot_layouts": Out(SLOT_LAYOUTS),
            "error": Out(MEMORY_ERROR).array(channels + 1), "refused": Out(1),
        })

    def elaborate(self, platform):
        """The front that hands out, the channels, what joins them."""
        m = Module()
        m.submodules.deal = deal = Deal(channels=self.channels)
        connect(m, deal.write, flipped(self.vector))
        m.submodules.completion = completion = Completion(units=self.channels + 1, in_flight=self.in_flight)
        readers = [self._reader(m, index) for index in range(self.channels + 1)]
        lines = [self._channel(m, index, readers[index], deal.beat[index]) for index in range(self.channels)]
        shift = self._ddr(m, readers[-1], deal.beat[-1])
        self._join(m, lines)
        self._front(m, readers, lines, shift, deal, completion)
        m.d.comb += [completion.ended[index].eq(line.finished) for index, line in enumerate(lines)]
        m.d.comb += [completion.ended[-1].eq(deal.done), self.done.eq(completion.done)]
        return m

    # -- parts -----------------------------------------------------------------------------------------------------

    def _reader(self, m, index):
        """The AXI master of a memory, requests queued before it."""
        reader = AxiRead(burst_bytes=self.burst_bytes, outstanding=self.outstanding,
                         buffered=BURSTS_BUFFERED * self.burst_bytes // BEAT)
        name = f"channel_{index}" if index < self.channels else "ddr"
        m.submodules[f"read_{name}"] = reader
        connect(m, reader.axi, flipped(self.hbm[index] if index < self.channels else self.ddr))
        m.d.comb += self.error[index].eq(reader.error)
        return reader

    def _channel(self, m, index, reader, beat):
        """The words of a channel, and where they are written."""
        line = LoadChannel(channels=self.channels, lanes=self.lanes)
        m.submodules[f"line_{index}"] = line
        m.d.comb += [
            line.beat.valid.eq(reader.memory.data.valid), reader.memory.data.ready.eq(line.beat.ready),
            line.beat.p.eq(reader.memory.data.p), line.head.eq(self.head),
            beat.valid.eq(line.to.vector), beat.data.eq(line.word[:LINE_BITS]), beat.bytes.eq(line.bytes),
            beat.short.eq(line.short), beat.last.eq(line.last), line.dealt.eq(beat.go),
        ]
        for mine, port in ((line.to.scale, self.scale[index]), (line.to.index, self.index[index])):
            m.d.comb += [port.valid.eq(mine), port.address.eq(line.address),
                         port.data.eq(line.word), port.mask.eq(words_of(line.bytes, LINE_WORDS))]
        return line

    def _ddr(self, m, reader, beat):
        """DDR's beats from any multiple of 4 bytes on."""
        m.submodules.shift = shift = Gearbox(beat_bits=LINE_BITS, quantum_bits=8 * _WORD, widest=BEAT // _WORD, side=1)
        m.d.comb += [
            shift.beat.valid.eq(reader.memory.data.valid), reader.memory.data.ready.eq(shift.beat.ready),
            shift.beat.p.eq(reader.memory.data.p),
            beat.valid.eq(shift.piece.valid), beat.data.eq(shift.piece.p.window), beat.bytes.eq(shift.piece.p.bytes),
            beat.short.eq(0), beat.last.eq(shift.piece.p.last), shift.piece.ready.eq(beat.go),
        ]
        return shift

    def _join(self, m, lines):
        """The write ports of the weight banks: a bank's own codes, or VALUES of all channels at once."""
        together = Signal()
        m.d.comb += together.eq(Cat(line.to.values for line in lines).all())
        for index, (line, port) in enumerate(zip(lines, self.weight, strict=True)):
            layout = line.placed.layout
            m.d.comb += [port.valid.eq(line.to.weight & (~line.to.values | together)), port.address.eq(line.address),
                         line.together.eq(together)]
            with m.Switch(layout):
                with m.Case(LINEAR):
                    m.d.comb += [port.data.eq(line.word), port.mask.eq(Cat(
                        half.replicate(8 * self.lanes) for half in line.half))]
                with m.Case(VALUES):
                    m.d.comb += [port.data.eq(self._values(lines, index)),
                                 port.mask.eq(self._positions(line.outer).replicate(self.lanes))]
                with m.Default():
                    m.d.comb += [port.data.eq(line.block.replicate(self.lanes)), port.mask.eq(Cat(
                        (line.outer == lane).replicate(K_BLOCK) for lane in range(self.lanes)))]

    def _values(self, lines, bank):
        """Lane l, position p of a bank: code bank x lanes + l of the token of channel p mod C."""
        return Cat(lines[place % self.channels].piece.word_select(bank * self.lanes + lane, 8)
                   for lane in range(self.lanes) for place in range(K_BLOCK))

    def _positions(self, turn):
        """The positions of the tokens that are written in this turn."""
        return Cat(turn == place // self.channels for place in range(K_BLOCK))

    # -- front -----------------------------------------------------------------------------------------------------

    def _front(self, m, readers, lines, shift, deal, completion):
        """An instruction is taken when there is room in all queues, and handed out in the cycle after."""
        order, taken, given = Signal(primitive("LD"), reset_less=True), Signal(), Signal()
        beats, end = Signal(20, reset_less=True), Signal(_BEAT_LOG2 + 1, reset_less=True)
        into = self.instruction
        total, to_end = Signal(25), Signal(_BEAT_LOG2)
        m.d.comb += [
            into.ready.eq(completion.room), taken.eq(into.valid & completion.room), completion.taken.eq(taken),
            total.eq(into.p.bytes + into.p.address[:_BEAT_LOG2] + BEAT - 1),
            to_end.eq(into.p.bytes[:_BEAT_LOG2] + into.p.address[:_BEAT_LOG2] - 1),
        ]
        m.d.sync += given.eq(taken)
        with m.If(taken):
            m.d.sync += [order.eq(into.p), beats.eq(total >> _BEAT_LOG2), end.eq(to_end + 1)]
        bad, to_global = Signal(), Signal()
        known = Cat(order.buffer == code for code in (WEIGHT, SCALE, INDEX, GLOBAL)).any()
        m.d.comb += [
            to_global.eq(order.buffer == GLOBAL),
            bad.eq(~known | (order.ddr & (~to_global | order.wide)) | (to_global & order.slotted)
                   | ((order.buffer == WEIGHT) & (order.layout == VALUES) & ~order.wide)
                   | (~order.ddr & ~order.wide & (order.channel >= self.channels))),
        ]
        with m.If(given & bad):
            m.d.sync += self.refused.eq(1)
        with m.If(given & ~bad & order.slotted & (order.buffer == WEIGHT)):
            m.d.sync += self.slot_layouts[order.slot].eq(order.layout)
        chosen = [order.wide | (order.channel == index) for index in range(self.channels)]
        chosen = [given & ~bad & ~order.ddr & one for one in chosen] + [given & ~bad & order.ddr]
        for index, reader in enumerate(readers):
            self._request(m, index, reader, chosen[index], order, beats)
        for index, line in enumerate(lines):
            self._run(m, f"run_{index}", line.run, chosen[index], self._channel_run(m, index, order, end))
        self._run(m, "run_ddr", shift.run, chosen[-1], shift.run.p.shape()(Cat(
            order.address[2:_BEAT_LOG2], C(BEAT // _WORD, len(shift.run.p.take)), end, C(0, 1))))
        source = Mux(order.ddr, self.channels, order.channel if self.channels > 1 else 0)
        dealt = Signal(deal_layout(self.channels))
        m.d.comb += [dealt.wide.eq(order.wide), dealt.source.eq(source), dealt.line.eq(order.line)]
        self._run(m, "run_global", deal.order, given & ~bad & to_global, dealt)
        m.d.comb += [completion.given.eq(given), completion.who.eq(Mux(
            bad, 0, Mux(to_global, 1 << self.channels, Cat(chosen[:-1]))))]

    def _request(self, m, index, reader, chosen, order, beats):
        """The beats of a transfer, asked of a memory."""
        request = reader.memory.request
        asked = Signal(data.StructLayout({"line": 32 - _BEAT_LOG2, "beats": 20}), name=f"asked_{index}")
        m.d.comb += [asked.line.eq(order.address[_BEAT_LOG2:]), asked.beats.eq(beats)]
        out = self._queue(m, f"request_{index}", asked, chosen, request)
        m.d.comb += [request.p.address.eq(Cat(C(0, _BEAT_LOG2), asked.shape()(out).line)),
                     request.p.beats.eq(asked.shape()(out).beats)]

    def _run(self, m, name, into, chosen, run):
        """The same transfer, queued where its beats are used: it is there long before them."""
        m.submodules[f"{name}_next"] = following = TwoPlaces(width=len(Value.cast(run)))
        waiting = stream.Signature(unsigned(following.width)).create(path=(name,))
        m.d.comb += [
            following.w_data.eq(self._queue(m, name, run, chosen, waiting)), following.w_en.eq(waiting.valid),
            waiting.ready.eq(following.w_rdy), Value.cast(into.p).eq(following.r_data),
            into.valid.eq(following.r_rdy), following.r_en.eq(into.ready),
        ]

    def _queue(self, m, name, value, chosen, into):
        """A queue with room for all instructions in flight."""
        m.submodules[name] = queue = fifo.SyncFIFO(width=len(Value.cast(value)), depth=self.in_flight)
        m.d.comb += [queue.w_data.eq(value), queue.w_en.eq(chosen), into.valid.eq(queue.r_rdy),
                     queue.r_en.eq(into.ready)]
        return queue.r_data

    def _channel_run(self, m, index, order, end):
        """Where the beats of a channel go: the first word or line of the slot, and lines on."""
        run = Signal(channel_run(self.lanes), name=f"given_{index}")
        quantum = exact_log2(2 * self.lanes)
        base, slot = Signal(PLACE_BITS, name=f"base_{index}"), Mux(order.slotted, order.slot, 0)
        with m.Switch(order.buffer):
            for code, depth in self.depths.items():
                with m.Case(code):
                    lines = order.line >> (exact_log2(self.lanes * K_BLOCK // LINE_BYTES) if code == WEIGHT else 0)
                    m.d.comb += base.eq((slot << exact_log2(depth // SLOTS)) + lines)
            with m.Default():
                m.d.comb += base.eq(0)
        bytes_unchanged = (order.buffer != WEIGHT) | (order.code_bits == 0)
        m.d.comb += [
            run.offset.eq(order.address[quantum:_BEAT_LOG2]), run.end.eq(end), run.placed.base.eq(base),
            run.placed.buffer.eq(order.buffer), run.placed.layout.eq(Mux(order.buffer == WEIGHT, order.layout, 0)),
            run.placed.bits.eq(Mux(bytes_unchanged, 8, order.code_bits)), run.placed.signed.eq(order.signed),
        ]
        return run
