"""Lines cut into beats of V elements, each issued when what it needs is there, and made FP32."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.sfu_pipeline import PREPARE_STAGES
from mixflight.rtl.core_ports import LINE_BITS
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp16_convert import Fp16Widen
from mixflight.rtl.fp32 import FP32
from mixflight.rtl.sfu_lane import SIXTEEN
from mixflight.rtl.sfu_plan import PLAN
from mixflight.rtl.sfu_walk import LINE

HALVES = 256
"""FP16 scales of 16 values, in the order of a line that has those of keys between them."""

LIFT = 12
"""Probabilities are lifted by 2^12 with their scales."""


def beat_layout(width: int) -> data.StructLayout:
    """What goes beside a beat's elements: ``mask`` says which of them count, ``flush`` that it ends its line,
    ``early`` and ``late`` that it is of the first or the last pass."""
    return data.StructLayout({
        "first": 1, "last": 1, "flush": 1, "early": 1, "late": 1, "segment": 4, "mask": width,
    })  # fmt: skip


class SfuBeats(wiring.Component):
    """A beat each step with ``en`` in which ``hold`` is low and its lines are there.

    ``block``: the scales of values in the block of lines of a cache's scales, ``b`` the first of them. ``beat`` with
    ``issued`` comes at once, its elements ``PREPARE_STAGES`` steps later, as registers: x and partner, the other one of
    its pair, from the first port's lines, y from the second's, or widened from FP16 scales, x from codes. By the plan
    x is 0 for one with a sign, ``far`` says that its magnitude is 16 or more, and y is ``cap`` with x's sign. A step
    after ``instead`` the first x is ``sum``.
    """

    def __init__(self, *, width: int, channels: int):
        self.width = width
        self.channels = channels
        super().__init__({
            "en": In(1), "plan": In(PLAN), "line": In(LINE), "some": In(1), "pop": Out(1),
            "a": In(LINE_BITS), "a_some": In(1), "a_pop": Out(1), "b": In(LINE_BITS), "b_some": In(1), "b_pop": Out(1),
            "block": In(HALVES).array(max(1, channels // 2)), "cap": In(31), "instead": In(1), "sum": In(32),
            "hold": In(1), "begins": Out(1), "issued": Out(1), "beat": Out(beat_layout(width)),
            "x": Out(32).array(width), "partner": Out(32).array(width), "y": Out(32).array(width),
            "far": Out(1).array(width),
        })  # fmt: skip

    def elaborate(self, platform):
        """Issue; choose; widen."""
        m = Module()
        beats = 16 // self.width
        line, place = self.line, Signal(exact_log2(beats)) if beats > 1 else Const(0)
        end, here = Signal(), Signal()
        shift = exact_log2(self.width)
        whole, rest = line.seen[shift:], line.seen[:shift]      # beats all of which count; elements of the next one
        partly = [*(rest > i for i in range(self.width - 1)), Const(0)]
        m.d.comb += [
            end.eq(place == line.count[shift:]), self.begins.eq(self.some & (place == 0)),
            here.eq(self.some & (self.a_some | ~line.use_a) & (self.b_some | ~line.use_b) & ~self.hold),
            self.issued.eq(self.en & here),
            self.pop.eq(self.issued & end), self.a_pop.eq(self.pop & line.pop_a), self.b_pop.eq(self.pop & line.pop_b),
            self.beat.first.eq(line.first & (place == 0)), self.beat.last.eq(line.last & end), self.beat.flush.eq(end),
            self.beat.early.eq(line.turn == 0), self.beat.late.eq(line.turn == self.plan.last_pass),
            self.beat.segment.eq(line.segment),
            self.beat.mask.eq(Cat((whole > place) | ((whole == place) & more) for more in partly)),
        ]
        if beats > 1:
            with m.If(self.issued):
                m.d.sync += place.eq(Mux(end, 0, place + 1))
        codes = self._chosen(self.a.word_select(line.block, 128), place, 8)
        words, others = self._chosen(self.a, place, 32), self._chosen(self.b, place, 32)
        halves = self._halves(line, place)
        swapped = self._chosen(Cat(self.a[32 * (i ^ 1):32 * (i ^ 1) + 32] for i in range(16)), place, 32)
        for i in range(self.width):
            x, far, y = self._lane(m, i, words[i], codes[i], others[i], halves[i])
            m.d.comb += [self.x[i].eq(x), self.far[i].eq(far), self.y[i].eq(y)]
            if self.width > 1:
                m.d.comb += self.partner[i ^ 1].eq(x)
            else:
                m.d.comb += self.partner[i].eq(delayed(m, self.en, swapped[i], PREPARE_STAGES, "partner"))
        return m

    def _chosen(self, word, place, bits: int):
        """The beat's elements of a line."""
        part = word.word_select(place, bits * self.width) if self.width < 16 else word
        return [part[bits * i:bits * i + bits] for i in range(self.width)]

    def _halves(self, line, place):
        """FP16 numbers of the beat: the row's scale of embed, or of a cache's 16 tokens the value's.

        A piece of 32 bytes has the two scales of 8 tokens of one channel; a line has two pieces. Pieces of all channels
        by turns, so with C of them token t of a block is number t // C of piece t mod C.
        """
        lines = len(self.block)
        tokens = []
        for token in range(16):
            choices = []
            for row in range(lines):
                piece, of_piece = (16 * row + token) % self.channels, (16 * row + token) // self.channels
                if self.channels == 1:
                    piece, of_piece = token // 8, token % 8
                choices.append(self.block[piece // 2].word_select(8 * (piece % 2) + of_piece, 16))
            tokens.append(Array(choices)[line.half[:exact_log2(lines)]] if lines > 1 else choices[0])
        scale = self.b.word_select(line.half, 16)
        return [Mux(self.plan.codes, scale, token) for token in self._chosen(Cat(tokens), place, 16)]

    def _lane(self, m: Module, lane: int, word, code, other, half):
        """x, whether it is far, and y of a lane."""
        en, plan = self.en, self.plan
        word = delayed(m, en, word, PREPARE_STAGES - 1, f"x_{lane}")
        other = delayed(m, en, other, PREPARE_STAGES - 1, f"y_{lane}")
        prepared = Mux(plan.codes, self._integer(m, lane, code), Mux(plan.rectify & word[31], 0, word))
        x, far = Signal(32, name=f"x_{lane}", reset_less=True), Signal(name=f"far_{lane}", reset_less=True)
        m.submodules[f"widen_{lane}"] = widen = Fp16Widen()
        m.d.comb += [
            widen.en.eq(en), widen.half.eq(delayed(m, en, half, 1, f"half_{lane}")), widen.other.eq(~plan.halves),
            widen.lift.eq(Mux(plan.codes, 0, LIFT)), widen.word.eq(Mux(plan.capped, Cat(self.cap, word[31]), other)),
        ]
        with m.If(en):
            m.d.sync += [x.eq(Mux(self.instead, self.sum, prepared) if lane == 0 else prepared),
                         far.eq(plan.clamp & (word[23:31] >= SIXTEEN >> 23))]
        return x, far, widen.value

    def _integer(self, m: Module, lane: int, code):
        """FP32 of a signed code, which is exact, two steps after it."""
        code = delayed(m, self.en, code, 1, f"code_{lane}")
        sign = delayed(m, self.en, code[-1], 1, f"sign_{lane}")
        magnitude, integer = Signal(8, name=f"magnitude_{lane}", reset_less=True), Signal(FP32, name=f"integer_{lane}")
        with m.If(self.en & self.plan.codes):
            m.d.sync += magnitude.eq(Mux(code[-1], -code, code))
        m.d.comb += integer.sign.eq(sign)
        with m.Switch(magnitude):
            for top in range(8):
                with m.Case("0" * (7 - top) + "1" + "-" * top):
                    m.d.comb += [integer.exponent.eq(127 + top), integer.fraction.eq(magnitude << 23 - top)]
        return integer.as_value()
