"""Cosines and sines of successive positions for all pairs of a head, made once and read by every ROPE of the run."""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.sfu_pipeline import ROTATION_STAGES
from mixflight.arch.special_functions import ENTRIES, SINE
from mixflight.rtl.core_ports import ROPE_STEP_BITS, RopeTable
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32_balanced import BalancedRound

_PART = 17
"""Bits of a step in one product: unsigned, they fit the 18-bit signed port of a DSP."""
_WITHIN = 24
"""Bits of a phase within its quadrant that are looked at."""
_REST = 16


class Sine(wiring.Component):
    """sin(2 pi phase / 2^40) as FP32 (``arch/numerics.md``, Functions); ``LATENCY`` cycles, one a cycle."""

    LATENCY = 7

    def __init__(self):
        super().__init__({"en": In(1), "phase": In(ROPE_STEP_BITS), "value": Out(32)})

    def elaborate(self, platform):
        """Fold to the first quadrant; read; multiply; add; make it FP32."""
        m = Module()
        rows = [{"entry": low, "step": high - low} for low, high in zip(SINE, SINE[1:], strict=False)]
        layout = data.StructLayout({"entry": max(SINE).bit_length(),
                                    "step": signed(max(row["step"] for row in rows).bit_length() + 1)})
        m.submodules.memory = stored = memory.Memory(shape=layout, depth=ENTRIES, init=rows)
        read = stored.read_port()
        quadrant, within = self.phase[-2:], self.phase[-2 - _WITHIN:-2]
        a = Signal(_WITHIN + 1, reset_less=True)
        index, rest = Signal(8), Signal(_REST + 1)
        m.d.comb += [
            index.eq(Mux(a[-1], ENTRIES - 1, a[_REST:-1])), rest.eq(Mux(a[-1], 1 << _REST, a[:_REST])),
            read.addr.eq(index), read.en.eq(self.en),
        ]
        step = delayed(m, self.en, read.data.step, 1, "step")
        entry = delayed(m, self.en, read.data.entry, 2, "entry")
        rest = delayed(m, self.en, rest, 2, "rest")
        product = Signal(signed(len(step) + len(rest)), reset_less=True)
        total = Signal(_WITHIN + 1, reset_less=True)
        sign = delayed(m, self.en, quadrant[1], 5, "sign")
        with m.If(self.en):
            m.d.sync += [
                a.eq(Mux(quadrant[0], (1 << _WITHIN) - within, within)),
                product.eq(step * rest),
                total.eq(product + Cat(Const(1 << _REST - 1, _REST), entry) >> _REST),
            ]
        m.submodules.round = rounding = BalancedRound(magnitude_bits=_WITHIN + 1)
        m.d.comb += [
            rounding.en.eq(self.en), rounding.sign.eq(sign & (total != 0)), rounding.magnitude.eq(total),
            rounding.exponent.eq(127 - _WITHIN), self.value.eq(rounding.value),
        ]
        return m


class Rotation(wiring.Component):
    """The rotations of ``rows`` successive positions, ``width`` elements at a time.

    ``table`` writes steps. When the position is another one, or a step was written, all pairs of a head of
    ``head_elements`` are made anew for ``position``, then for the next one and so on, two values a pair and one a
    cycle. ``ready``, low from the next cycle on, says that the first ``needed`` of them are there: from an idle unit on
    after ``arch.sfu_pipeline.rotation_cycles`` cycles. It follows ``needed`` a cycle later. ``cosines`` and ``sines``
    are, 2 cycles with ``en`` after ``turn`` and ``row``, what turns elements ``turn`` ``width`` and on at
    ``position`` + ``row``: the cosine of each one's pair, and its sine, negative for the first of a pair. Positions are
    below 2^18.
    """

    def __init__(self, *, width: int, head_max: int, rows: int):
        self.width = width
        self.head_max = head_max
        self.rows = rows
        self.words = rows * head_max // max(width, 2)
        super().__init__({
            "table": In(RopeTable), "position": In(18), "head_elements": In(10),
            "needed": In(range(rows + 1)), "ready": Out(1),
            "en": In(1), "turn": In(range(head_max // width)), "row": In(range(rows)),
            "cosines": Out(32).array(width), "sines": Out(32).array(width),
        })  # fmt: skip

    def elaborate(self, platform):
        """Steps; a counter of values; phases; sines; the table that the lanes read."""
        m = Module()
        pairs = self.head_max // 2
        m.submodules.steps = steps = memory.Memory(shape=ROPE_STEP_BITS, depth=pairs, init=[])
        write, read = steps.write_port(), steps.read_port()
        value, made = (Signal(exact_log2(self.head_max) + 1, name=name) for name in ("value", "made"))
        row, made_rows = Signal(range(self.rows)), Signal(range(self.rows + 1))
        position = Signal(18)
        dirty, making, busy = Signal(init=1), Signal(), Signal()
        on, any_on = Signal(ROTATION_STAGES), Signal()
        wanted = Cat(self.position, self.head_elements)
        has, same, enough, none = Signal(len(wanted)), Signal(), Signal(), Signal()
        written, begin, of_row, final = Signal(), Signal(), Signal(), Signal(10)
        m.d.comb += [
            write.addr.eq(self.table.index), write.data.eq(self.table.value), write.en.eq(self.table.valid),
            read.addr.eq(value[1:]), busy.eq(making | any_on), same.eq(has == wanted),
            written.eq(on[-1]), begin.eq(dirty & ~busy), of_row.eq(value == final),
        ]
        m.d.sync += [any_on.eq(making | on[:-1].any()), self.ready.eq(~self.table.valid & ~dirty & same & enough)]
        with m.If(self.table.valid):
            m.d.sync += dirty.eq(1)
        with m.Elif(begin):
            m.d.sync += dirty.eq(0)
        with m.Elif(~same):
            m.d.sync += dirty.eq(1)
        with m.If(begin):
            m.d.sync += [has.eq(wanted), making.eq(self.head_elements != 0), none.eq(self.head_elements == 0),
                         final.eq(self.head_elements - 1), value.eq(0), row.eq(0), position.eq(self.position)]
        with m.Elif(making):
            m.d.sync += [value.eq(Mux(of_row, 0, value + 1)), making.eq(~dirty & ~(of_row & (row == self.rows - 1)))]
            with m.If(of_row):
                m.d.sync += [row.eq(row + 1), position.eq(position + 1)]
        with m.If(busy):
            m.d.sync += on.eq(Cat(making, on))
        last = Signal()
        m.d.comb += last.eq(written & (made == final))
        with m.If(begin):
            m.d.sync += [made.eq(0), made_rows.eq(0)]
        with m.Elif(written):
            m.d.sync += [made.eq(Mux(last, 0, made + 1)), made_rows.eq(made_rows + last)]
        m.d.comb += enough.eq((made_rows >= self.needed) | (last & (made_rows + 1 >= self.needed)) | none)

        phase = self._phase(m, busy, read.data, delayed(m, busy, position, 1, "position_of"),
                            delayed(m, busy, value[0], 4, "sine_of"))
        m.submodules.sine = sine = Sine()
        m.d.comb += [sine.en.eq(busy), sine.phase.eq(phase)]
        self._table(m, written, Cat(made[:-1], made_rows[:exact_log2(self.rows)]), sine.value)
        return m

    def _phase(self, m: Module, en, step, position, sine):
        """position * step, a quarter more for a cosine, modulo 2^40; 4 cycles after ``step``."""
        parts = [step[at:at + _PART] for at in range(0, ROPE_STEP_BITS, _PART)]
        products = [delayed(m, en, (position * part)[:ROPE_STEP_BITS - _PART * i], 2, f"product_{i}")
                    for i, part in enumerate(parts)]
        low = Signal(ROPE_STEP_BITS, reset_less=True)
        top = delayed(m, en, products[2], 1, "top")
        phase = Signal(ROPE_STEP_BITS, reset_less=True)
        with m.If(en):
            m.d.sync += [
                low.eq(products[0] + (products[1] << _PART)),
                phase.eq(Cat(low[:2 * _PART], low[2 * _PART:] + top + (~sine << 4))),
            ]
        return phase

    def _table(self, m: Module, write_en, made, word):
        """What was made goes to its place; words of ``width`` elements are read."""
        parts = max(self.width, 2)
        m.submodules.table = table = memory.Memory(shape=data.ArrayLayout(32, parts), depth=self.words, init=[])
        write, read = table.write_port(granularity=1), table.read_port()
        place, half = exact_log2(parts), exact_log2(parts // self.width)
        m.d.comb += [
            write.addr.eq(made[place:]), write.en.eq(write_en << made[:place]),
            read.addr.eq(Cat(self.turn[half:], self.row)), read.en.eq(self.en),
        ]
        m.d.comb += [write.data[i].eq(word) for i in range(parts)]
        second = delayed(m, self.en, self.turn[0], 1, "second") if self.width == 1 else None
        for i in range(self.width):     # a register an output, so that lanes are alike
            cosine, sine = read.data[2 * (i // 2)], read.data[2 * (i // 2) + 1]
            negative = Const(1 - i % 2) if second is None else ~second
            with m.If(self.en):
                m.d.sync += [self.cosines[i].eq(cosine), self.sines[i].eq(Cat(sine[:31], sine[31] ^ negative))]
