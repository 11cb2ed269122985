"""What LD does with the beats of one channel: widening, and the places of the codes in the channel's banks."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from mixflight.arch.compact import K_BLOCK, codes
from mixflight.arch.errors import InputError
from mixflight.arch.widen import CODE_BITS
from mixflight.rtl.core_gearbox import Gearbox
from mixflight.rtl.core_ports import LINE_BITS
from mixflight.rtl.one_lut import one_lut

LINEAR, KEYS, VALUES = (codes("LD", "layout")[name] for name in ("linear", "keys", "values"))
WEIGHT, SCALE, INDEX, GLOBAL = (codes("LD", "buffer")[name] for name in ("weight", "scale", "index", "global"))
PLACE_BITS = 18
BEAT = LINE_BITS // 8

PLACED = data.StructLayout({"buffer": 3, "layout": 2, "bits": 4, "signed": 1, "base": PLACE_BITS})
"""Where a transfer goes: ``bits`` 8 also for bytes unchanged; ``base``, its first word or line in a bank."""


WAYS = data.StructLayout({"weight": 1, "values": 1, "scale": 1, "index": 1, "vector": 1})
"""Where the word in hand goes; nothing while there is none."""
PIECE = BEAT // 2
"""Bytes that a wide transfer to the global buffer deals to a channel at a time."""


def _goes(waits, values, together, dealt):
    """Whether the word in hand is written: at once, or when what it ``waits`` for is there."""
    return ~waits | Mux(values, together, dealt)


def channel_run(lanes: int) -> data.StructLayout:
    """A transfer as one channel sees it: ``offset``, quanta of 2 x lanes bytes; ``end``, bytes of the last beat."""
    return data.StructLayout({"offset": exact_log2(BEAT // (2 * lanes)), "end": range(BEAT + 1), "placed": PLACED})


def check_shape(channels: int, lanes: int) -> None:
    """Refuse what the memory side has no wires for."""
    if channels not in (1, 2, 4, 8, 16) or lanes not in (4, 8) or channels * lanes > BEAT:
        raise InputError("a core must have 1, 2, 4, 8 or 16 channels of 4 or 8 lanes, at most 64 lanes in all, not "
                         f"{channels} of {lanes}")


class LoadChannel(wiring.Component):
    """One channel's transfers, in order: beats to words of ``lanes`` x 16 codes, words to places.

    ``run``, ``beat``  transfers and their beats
    ``head``           the codes of a head, a multiple of 16, and for ``values`` of the columns of a step
    ``word``           the word in hand: codes (a line of bytes in its lower half, and again in the upper one, where
                       bits are 8)
    ``to``             where it goes, a register each: to the ``weight`` bank, as ``values`` of all channels, to
                       ``scale``, ``index``, or ``vector``, the global buffer. ``values`` are held until ``together``,
                       ``vector`` until ``dealt``; everything else is written at once and moves on
    ``short``          of a word to the global buffer: at most a piece
    ``address``        of the bank that is written
    ``block``          16 codes of the word: what KEYS writes to lane ``outer``; ``piece``: the columns of a step that
                       VALUES writes to positions ``outer`` C ...
    ``half``           LINEAR: lower (1), upper (2) half of the lanes or both (3)
    ``finished``       a pulse with the last write of a transfer that is not GLOBAL

    LINEAR and lines: a word a cycle. KEYS: 16 codes a cycle. VALUES: channels x lanes codes a cycle.
    """

    def __init__(self, *, channels: int, lanes: int):
        check_shape(channels, lanes)
        self.channels, self.lanes, self.step = channels, lanes, channels * lanes
        self.codes = K_BLOCK * lanes
        super().__init__({
            "run": In(stream.Signature(channel_run(lanes))),
            "beat": In(stream.Signature(data.StructLayout({"data": LINE_BITS, "last": 1}))),
            "head": In(10),
            "word": Out(8 * self.codes), "to": Out(WAYS), "last": Out(1), "bytes": Out(range(2 * BEAT + 1)),
            "short": Out(1), "placed": Out(PLACED), "together": In(1), "dealt": In(1),
            "address": Out(PLACE_BITS), "half": Out(2), "outer": Out(4),
            "block": Out(8 * K_BLOCK), "piece": Out(8 * self.step),
            "finished": Out(1),
        })

    def elaborate(self, platform):
        """Gearbox, widening register, places."""
        m = Module()
        quantum = 2 * self.lanes
        m.submodules.gearbox = gearbox = Gearbox(
            beat_bits=LINE_BITS, quantum_bits=8 * quantum, widest=max(5, BEAT // quantum), side=PLACED)
        run = self.run.p
        connect(m, flipped(self.beat), gearbox.beat)
        whole = min(8, BEAT // quantum)
        m.d.comb += [
            gearbox.run.valid.eq(self.run.valid), self.run.ready.eq(gearbox.run.ready),
            gearbox.run.p.offset.eq(run.offset), gearbox.run.p.end.eq(run.end), gearbox.run.p.side.eq(run.placed),
            gearbox.run.p.take.eq(Mux(run.placed.bits == 8, whole, run.placed.bits)),
        ]
        piece, done = gearbox.piece, Signal()
        loads = Signal()
        m.d.comb += loads.eq(piece.valid & piece.ready)
        with m.If(loads):
            m.d.sync += [self.last.eq(piece.p.last), self.bytes.eq(piece.p.bytes), self.placed.eq(piece.p.side),
                         self.short.eq(piece.p.bytes <= PIECE)]
            self._widen(m, piece.p.window, piece.p.side)
        self._place(m, piece, loads, done)
        return m

    def _widen(self, m, window, placed):
        """The window's codes to bytes: one case a width and sign, so that a simulation evaluates one."""
        with m.Switch(Cat(placed.bits, placed.signed)):
            for bits in CODE_BITS[:-1]:
                for signed in (0, 1):
                    found = [window[at * bits : (at + 1) * bits] for at in range(self.codes)]
                    with m.Case(bits | signed << 4):
                        m.d.sync += self.word.eq(Cat(
                            Cat(code, (code[-1] if signed else C(0, 1)).replicate(8 - bits)) for code in found))
            with m.Default():
                m.d.sync += self.word.eq(window[:LINE_BITS].replicate(8 * self.codes // LINE_BITS))

    def _place(self, m, piece, loads, done):
        """Counters: ``inner`` runs along a token, ``outer`` over the lanes or positions, ``group`` is their word."""
        head, placed, side = self.head, self.placed, piece.p.side
        # What a piece is, known with it: ``done`` goes on into the gearbox and what feeds it in the same cycle.
        keys, values, valid, waits, more = Signal(), Signal(), Signal(), Signal(), Signal()
        halves = self.codes > BEAT
        inner, group, number = Signal(8), Signal(PLACE_BITS), Signal(4)
        left, amount, first_amount = Signal(range(16 * BEAT + 1)), Signal(10), Signal(10)
        length, turns = Signal(8), Signal(4)
        written, moves = Signal(), Signal()
        m.d.comb += [
            amount.eq(Mux(values, placed.bits * self.step, placed.bits * K_BLOCK)),
            first_amount.eq(Mux(side.layout == VALUES, side.bits * self.step, side.bits * K_BLOCK)),
            length.eq(Mux(values, head >> exact_log2(self.step), head >> exact_log2(K_BLOCK))),
            turns.eq(Mux(values, K_BLOCK // self.channels - 1, self.lanes - 1)),
            written.eq(valid & _goes(waits, values, self.together, self.dealt)),
            done.eq(one_lut(m, "done", lambda valid, more, *others: valid & ~more & _goes(*others),
                            valid, more, waits, values, self.together, self.dealt)),
            piece.ready.eq(one_lut(m, "free", lambda valid, more, *others: ~valid | (~more & _goes(*others)),
                                   valid, more, waits, values, self.together, self.dealt)),
            moves.eq(written & (keys | values)),
            self.finished.eq(done & self.last & ~self.to.vector),
            self.block.eq(self.word.word_select(number[:exact_log2(self.lanes)], 8 * K_BLOCK)),
            self.piece.eq(self.word.word_select(number[:exact_log2(K_BLOCK // self.channels)], 8 * self.step)
                          if self.channels < K_BLOCK else self.word),
        ]
        address = Signal(PLACE_BITS)
        m.d.comb += self.address.eq(Mux(keys | values, group + inner, address))
        with m.If(moves):
            m.d.sync += [number.eq(number + 1), left.eq(left - amount), inner.eq(inner + 1),
                         more.eq(left > (amount << 1))]
            with m.If(inner + 1 == length):
                m.d.sync += [inner.eq(0), self.outer.eq(self.outer + 1)]
                with m.If(self.outer == turns):
                    m.d.sync += [self.outer.eq(0), group.eq(group + length)]
        with m.If(done):
            m.d.sync += [valid.eq(0), Value.cast(self.to).eq(0)]
        with m.If(loads):
            m.d.sync += [valid.eq(1), self.to.values.eq((side.buffer == WEIGHT) & (side.layout == VALUES))]
            m.d.sync += [self.to[name].eq(side.buffer == code) for name, code in (
                ("weight", WEIGHT), ("scale", SCALE), ("index", INDEX), ("vector", GLOBAL))]
            whole = (side.bits != 8) | (side.buffer != WEIGHT) | int(not halves)
            mine = side.buffer == WEIGHT
            m.d.sync += [
                number.eq(0), left.eq(piece.p.bytes << 3), keys.eq(mine & (side.layout == KEYS)),
                values.eq(mine & (side.layout == VALUES)),
                waits.eq((mine & (side.layout == VALUES)) | (side.buffer == GLOBAL)),
                more.eq(mine & ((side.layout == KEYS) | (side.layout == VALUES))
                        & ((piece.p.bytes << 3) > first_amount)),
            ]
            with m.If(piece.p.first):
                m.d.sync += [address.eq(side.base), group.eq(side.base), inner.eq(0), self.outer.eq(0),
                             self.half.eq(Mux(whole, 3, 1))]
            with m.Else():
                m.d.sync += [self.half.eq(Mux(whole, 3, ~self.half)),
                             address.eq(address + (whole | self.half[1]))]
