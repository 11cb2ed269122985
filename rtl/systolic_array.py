"""The output-stationary systolic array with its group-dequantisation lanes."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.array_pipeline import (
    GROUP_SUM_STAGES,
    INPUT_STAGES,
    columns_per_lane,
    group_gap,
    params_depth,
    row_sum_bits,
    scaled_bits,
    tile_shape,
)
from mixflight.arch.errors import InputError
from mixflight.arch.formats import ZERO_BITS
from mixflight.rtl.array_elements import element_named
from mixflight.rtl.delay import delayed
from mixflight.rtl.dequant_lane import DequantLane
from mixflight.rtl.float_lane import FloatLane
from mixflight.rtl.lane_of_columns import lane_of_columns
from mixflight.rtl.pe import CONTROL
from mixflight.rtl.pe_align import GroupAlign
from mixflight.rtl.pe_float import fp32_sum, fp32_word
from mixflight.rtl.placed_copy import place


class SystolicArray(wiring.Component):
    """R x C PEs: output (r, c) of a tile is the dequantised sum over k of ``a[r, k] * w[c, k]``.

    What follows is about 4-bit PEs; *Other PEs* below says what is different for each of the others.

    ``centred`` PEs add ``w - 8`` for unsigned codes and the lanes correct the group sums by 8 R, where they know
    R: with zero points (all codes then unsigned, or signed 8-bit ones in two passes). With ``none`` an unsigned
    code stands for ``w - 8`` (Q4_0) and two passes are refused.

    Values are those of ``mixflight.sim.golden.array``, unstalled cycles those of
    ``mixflight.sim.array_timing``, both exactly. With ``split`` > 1 a step can instead give each of ``split``
    blocks of rows its own weights: see *Split steps* below.

    **Parameters.** ``rows`` R, ``cols`` C, ``lanes`` L dequantisation lanes (L divides C; w = C / L columns
    and S = R * w PEs each), ``pe`` a name of :data:`mixflight.rtl.array_elements.ELEMENTS`, ``group_max``
    largest group, ``zero`` kind of zero point (``none``, ``int4``, ``f16-min``), ``two_pass`` whether 8-bit
    weights can be sent as two passes, ``split`` p, a power of two that divides R (with 1 there are no split
    steps, nor anything of them). Derived, not given: ``params_depth`` and ``group_gap``, by
    :mod:`mixflight.arch.array_pipeline`.

    **Streams.** Payloads as they appear in Verilog, first field at bit 0:

    ========  ==========================================================================================
    act       ``a``: R x 8 signed; ``last_in_group``, ``last_in_tile``, ``high``, ``signed``: 1 bit each;
              with p > 1 ``split``: 1 bit
    wgt       ``w``: C x 4
    params    ``d``: C x 16 (FP16); ``z``: C x 4 (``int4``) or C x 16 (FP16, ``f16-min``), absent for
              ``none``; ``s_a``: R x 16 (FP16)
    out[l]    FP32, lane l's outputs in column-major order: column l * w rows 0..R-1, then the next column
    ========  ==========================================================================================

    With p > 1 also ``wgt_below[i - 1]``, the weights of block i = 1..p-1, each like ``wgt``.

    A step takes one beat of ``act`` and one of ``wgt``: activations and weights of one k. The step with
    ``last_in_group`` also takes the group's beat of ``params``; ``last_in_tile`` (looked at only there) makes
    the lanes emit. With 8-bit weights a group of G is G steps of low nibbles (``high`` = ``signed`` = 0),
    then G steps of high nibbles (``high`` = 1, ``signed`` = 1 for two's complement) with the activations
    repeated; ``last_in_group`` is set in the last of the 2 G only. ``high`` is ignored without ``two_pass``.
    A group has at most ``group_max`` codes; FP16 values are finite. Tiles follow each other without a gap.

    **Flow.** The array advances in every cycle in which no lane offers an output that is not taken; else
    everything stands still. In an advancing cycle in which a needed beat is missing a bubble enters, so what
    was accepted drains without further input. A step with ``last_in_group`` is also held back until it is
    ``group_gap`` = max(S, loop latency of a lane) advancing cycles after the one before: a lane's time for a
    group's elements. Unstalled, groups therefore follow each other with the period P = max(passes * G,
    group_gap). No other order or timing of beats is refused or goes wrong. The readies depend combinationally
    on the valids, on ``last_in_group`` and on the outputs' readies; no valid depends on a ready.

    **Skew.** A step accepted at time t (counted in advancing cycles) meets in PE(r, c) at t + 1 + r + c: one
    input register, and a register a row, a column and a PE. A group that ends at time T can be read from
    PE(r, c) from T + 2 + r + c until the next one, P or more later, replaces it: up to and including T + P +
    1 + r + c.

    **Drain.** There are no shift chains: lane l reads PE(r, l * w + j), element i = j * R + r, through a
    multiplexer at T + 2 + l * w + i. That is never early, since j * R + r >= r + j, and never late, since j *
    R - j <= (w - 1) * (R - 1) <= S - 1 <= P - 1. The elements of one group take S <= P cycles, so a lane's
    groups do not overlap.

    **Scales.** A token leaves the front for every element i = 0..S-1 at T + 1 + i, with row, column in the
    lane, s_a of its row, the row's activation sum (each k counted once: not in the high pass), the slot of
    the group's d and z, and whether the group is the first or last of its tile. Lane l sees it l * w + 1
    later, just when it reads the PE. The front's registers are replaced at T + P or later, after the token S
    - 1 has left them. Lane l has d and z of its columns in a memory of ``params_depth`` groups, written when
    the beat is taken.

    **Split steps.** A step with ``split`` (all steps of a tile have it, or none) makes the array p arrays of B
    = R / p rows that see the same tokens and p * C different output channels: PE(i * B + m, c) computes token
    m's channel i * C + c, and the sender repeats the activations and s_a of the B tokens in every block. Rows
    of block i take weights not from the row above but from ``wgt_below[i - 1]``, through a multiplexer above
    row i * B whose select travels with the step. Nothing delays a beat by i * B steps: block i's beat is
    *taken* i * B steps after ``act``'s, in the step in which the same step's activations reach row i * B, and
    then passes the same registers as one of ``wgt``. A group has p beats of ``params``: block 0's with the
    group's end in step T, with s_a, then block i's in step T + i (``s_a`` ignored), before lane 0 can need it
    at T + 2 + i * B; since p <= S <= P it is before the next group's. A memory of p * ``params_depth`` places
    holds them. A beat that is due i * B or i steps after its step and missing stops the whole array, so
    here what was accepted drains only when the blocks' beats follow. Lanes visit all R * w elements as ever:
    period, drain and cycles are those of the array, with or without split, and tiles of both kinds follow
    each other without a gap.

    **Other PEs.** Cycles, skew and flow are the same for all; no other than the three above takes two passes.

    ==========  ======================================================================================
    int8        ``w``: C x 8, two's complement
    dequantise  ``w``: C x 16: code, zero point and scale (:mod:`mixflight.rtl.pe_dequantise`); ``zero`` is
                ``none``, d the output channel's scale
    aligned     ``a``: R x 16 (FP16), ``exponent``: R x 5, the largest exponent field of row and group, at least
                1, in every step; no ``s_a``. Row r's :class:`GroupAlign`, with ``extra_bits``, is its input
                register; the unit 2**(exponent - 25 - extra_bits) is the activation scale. Codes are unsigned
                with ``int4``
    float       ``a``: R x 16 (FP16), ``w``: C x 5, sign and magnitude of q - z; no ``s_a``. Group sums are FP32
                over ascending k (:mod:`mixflight.rtl.pe_float`), scaled by :class:`FloatLane`; ``zero`` is
                ``none`` or ``f16-min``, whose row sums are FP32 sums in the same order
    fp16        the same with ``w``: C x 16 (FP16)
    ==========  ======================================================================================

    The row sums of aligned activations are those of the integers: a step later than others, so the token gets its
    row's sum after its one register to lane 0. ``group_max`` bounds integer groups only; an FP32 sum has no longest.
    """

    def __init__(self, *, rows: int = 8, cols: int = 8, lanes: int = 2, pe: str = "shift-add",
                 group_max: int = 128, zero: str = "none", two_pass: bool = False, split: int = 1,
                 extra_bits: int = 2):
        for name, value in (("rows", rows), ("cols", cols), ("lanes", lanes), ("group_max", group_max),
                            ("split", split)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive integer, not {value!r}, in a systolic array")
        self.element = element_named(pe, zero=zero, two_pass=two_pass)
        self.arithmetic = self.element.arithmetic
        self.extra_bits = extra_bits
        self.operand_bits = self.element.operand_bits(extra_bits)
        if self.arithmetic != "float":
            scaled_bits(group_max=group_max, w_bits=self.element.code_bits, a_bits=self.operand_bits,
                        passes=1 + two_pass, zero=zero, signed_codes=self.arithmetic != "aligned")
        self.rows = rows
        self.cols = cols
        self.lanes = lanes
        self.lane_cols = columns_per_lane(cols=cols, lanes=lanes)
        self.pe = pe
        self.group_max = group_max
        self.zero = zero
        self.two_pass = two_pass
        self.split = split
        self.block_rows, _ = tile_shape(rows=rows, cols=cols, split=split)
        self.group_gap = group_gap(rows=rows, cols=cols, lanes=lanes, zero=zero)
        self.params_depth = params_depth(rows=rows, cols=cols, lanes=lanes, zero=zero)

        params = {"d": data.ArrayLayout(16, cols)}
        if zero != "none":
            params["z"] = data.ArrayLayout(ZERO_BITS[zero], cols)
        if self.arithmetic == "integer":
            params["s_a"] = data.ArrayLayout(16, rows)
        activation = Shape(self.element.a_bits, signed=self.arithmetic == "integer")
        act = {"a": data.ArrayLayout(activation, rows)}
        if self.arithmetic == "aligned":
            act["exponent"] = data.ArrayLayout(5, rows)
        act |= {"last_in_group": 1, "last_in_tile": 1, "high": 1, "signed": 1}
        wgt = stream.Signature(data.StructLayout({"w": data.ArrayLayout(self.element.w_bits, cols)}))
        below = {}
        if split > 1:
            act["split"] = 1
            below["wgt_below"] = In(wgt).array(split - 1)
        super().__init__({
            "act": In(stream.Signature(data.StructLayout(act))),
            "wgt": In(wgt),
            **below,
            "params": In(stream.Signature(data.StructLayout(params))),
            "out": Out(stream.Signature(unsigned(32))).array(lanes),
        })

    def elaborate(self, platform):
        """Accept steps; skew them through the PEs; send tokens past the lanes."""
        m = Module()
        advance = Signal()
        accept = Signal()
        ends_group = Signal()
        m.d.comb += ends_group.eq(accept & self.act.p.last_in_group)

        late = Signal() if self.split > 1 else None
        self._accept(m, advance, accept, late)
        due = self._due(m, advance, accept)
        entering = self._entering(m, platform, advance)
        sums = self._pes(m, platform, advance, accept, due, entering)
        slot = self._slot(m, ends_group)
        front, token, row_sums = self._tokens(m, advance, accept, ends_group, slot, entering)
        scales = self._scales(m, advance, ends_group, slot, front, late)
        lanes = []
        for number in range(self.lanes):
            hops = self.lane_cols if number else INPUT_STAGES + GROUP_SUM_STAGES - 1
            token = delayed(m, advance, token, hops, f"token_{number}", reset=True)
            if number == 0 and row_sums:
                token = self._with_row_sum(m, token, row_sums, hops)
            lanes.append(self._lane(m, platform, number, advance, scales, token, sums))
        held = Cat(lane.out.valid & ~lane.out.ready for lane in lanes).any()
        if late is not None:
            feeds = list(zip(due[1:], self.wgt_below, strict=True))
            held = held | Cat(late & ~self.params.valid, [block & ~feed.valid for block, feed in feeds]).any()
            m.d.comb += [feed.ready.eq(block & advance) for block, feed in feeds]
        m.d.comb += advance.eq(~held)
        return m

    def _accept(self, m, advance, accept, late):
        """The handshakes of ``act``, ``wgt`` and ``params`` and the least distance of groups.

        ``late`` (None without split steps): a beat of ``params`` is due for a block below the first.
        """
        wait = Signal(range(self.group_gap))
        complete = Signal()
        last = self.act.p.last_in_group
        with m.If(advance):
            with m.If(accept & last):
                m.d.sync += wait.eq(self.group_gap - 1)
            with m.Elif(wait != 0):
                m.d.sync += wait.eq(wait - 1)
        may_end = advance & (wait == 0)
        ends = self.act.valid & self.wgt.valid & last & may_end     # never when ``late``: ``wait`` is not 0 then
        m.d.comb += [
            complete.eq(~last | self.params.valid),
            accept.eq(self.act.ready & self.act.valid),
            self.act.ready.eq(self.wgt.valid & complete & Mux(last, may_end, advance)),
            self.wgt.ready.eq(self.act.valid & complete & Mux(last, may_end, advance)),
            self.params.ready.eq(ends if late is None else ends | late & advance),
        ]

    def _due(self, m, advance, accept):
        """For each block whether its weights enter in this step; the first is the step's own acceptance."""
        if self.split == 1:
            return [accept]
        due = [accept & self.act.p.split]
        for block in range(1, self.split):
            due.append(delayed(m, advance, due[-1], self.block_rows, f"due_{block}", reset=True))
        return due

    def _entering(self, m, platform, advance):
        """Each row's activation as its PEs get it, and the registers it has passed: 1 where it is aligned."""
        if self.arithmetic != "aligned":
            return [(self.act.p.a[r], 0) for r in range(self.rows)]
        entering = []
        for r in range(self.rows):
            align = GroupAlign(extra_bits=self.extra_bits)
            place(m, platform, f"align_{r}", align, like="align_0")
            m.d.comb += [align.en.eq(advance), align.a.eq(self.act.p.a[r]), align.exponent.eq(self.act.p.exponent[r])]
            entering.append((align.value, 1))
        return entering

    def _pes(self, m, platform, advance, accept, due, entering):
        """The skew registers and the PEs; returns their group sums as ``sums[r][c]``."""
        control = Signal(CONTROL)
        m.d.comb += [
            control.valid.eq(accept),
            control.last.eq(self.act.p.last_in_group),
            control.signed.eq(self.act.p.signed),
            control.high.eq(self.act.p.high),
        ]
        down = [delayed(m, advance, self.wgt.p.w[c], INPUT_STAGES + c, f"w_{c}") for c in range(self.cols)]
        sums = []
        for r in range(self.rows):
            control = delayed(m, advance, control, INPUT_STAGES if r == 0 else 1, f"control_{r}", reset=True)
            operand, passed = entering[r]
            right = delayed(m, advance, operand, INPUT_STAGES + r - passed, f"a_{r}"), control
            row = []
            if r and r % self.block_rows == 0:
                down = self._own_weights(m, advance, r // self.block_rows, due, down)
            for c in range(self.cols):
                pe = self.element.build(group_max=self.group_max, w_bits=self.element.w_bits,
                                        a_bits=self.operand_bits, two_pass=self.two_pass)
                place(m, platform, f"pe_{r}_{c}", pe, like="pe_0_0")
                m.d.comb += [
                    pe.en.eq(advance), pe.a.eq(right[0]), pe.control.eq(right[1]), pe.w.eq(down[c])]
                # Named wires, so that PEs at the edges keep all their ports and are the same module.
                right = Signal(pe.a.shape(), name=f"a_{r}_{c}"), Signal(CONTROL, name=f"control_{r}_{c}")
                down[c] = Signal(self.element.w_bits, name=f"w_{r}_{c}")
                m.d.comb += [right[0].eq(pe.a_next), right[1].eq(pe.control_next), down[c].eq(pe.w_next)]
                row.append(pe.sum)
            sums.append(row)
        return sums

    def _own_weights(self, m, advance, block, due, above):
        """The weights that enter the first row of ``block``: its own in split steps, else those from above."""
        feed, select = self.wgt_below[block - 1].p.w, due[block]
        entering = []
        for c in range(self.cols):
            own = delayed(m, advance, feed[c], INPUT_STAGES + c, f"w_{block}_{c}")
            select = delayed(m, advance, select, INPUT_STAGES if c == 0 else 1, f"split_{block}_{c}")
            weight = Signal(self.element.w_bits, name=f"w_in_{block}_{c}")
            m.d.comb += weight.eq(Mux(select, own, above[c]))
            entering.append(weight)
        return entering

    def _slot(self, m, ends_group):
        """Where the scales of the group that ends next are kept."""
        slot = Signal(range(self.params_depth))
        with m.If(ends_group):
            m.d.sync += slot.eq(slot + 1)
        return slot

    def _tokens(self, m, advance, accept, ends_group, slot, entering):
        """One token for every element of a lane, a step apart, from the step after a group's end; see the
        class."""
        fields = {"valid": 1, "first": 1, "last": 1, "row": range(self.rows), "column": range(self.lane_cols),
                  "slot": range(self.params_depth)}
        if self.arithmetic != "float":
            fields["scale_a"] = 16
        if self.split > 1:
            fields["block"] = range(self.split)
        if self.zero != "none":
            fields["row_sum"] = self._row_sum_shape()
        token = Signal(data.StructLayout(fields))

        first_group = Signal(init=1)
        front = {name: Signal.like(token[name], name=f"front_{name}")
                 for name in ("valid", "first", "last", "row", "column", "slot")}
        with m.If(advance):
            with m.If(front["row"] != self.rows - 1):
                m.d.sync += front["row"].eq(front["row"] + 1)
            with m.Else():
                m.d.sync += front["row"].eq(0)
                with m.If(front["column"] != self.lane_cols - 1):
                    m.d.sync += front["column"].eq(front["column"] + 1)
                with m.Else():
                    m.d.sync += front["valid"].eq(0)
        with m.If(ends_group):
            m.d.sync += [
                front["valid"].eq(1),
                front["first"].eq(first_group),
                front["last"].eq(self.act.p.last_in_tile),
                front["row"].eq(0),
                front["column"].eq(0),
                front["slot"].eq(slot),
                first_group.eq(self.act.p.last_in_tile),
            ]
        m.d.comb += [token[name].eq(value) for name, value in front.items()]
        if self.split > 1:
            front["split"] = Signal(name="front_split")
            with m.If(ends_group):
                m.d.sync += front["split"].eq(self.act.p.split)
            blocks = Array(Const(r // self.block_rows, token.block.shape()) for r in range(self.rows))
            m.d.comb += token.block.eq(Mux(front["split"], blocks[token.row], 0))

        counted = accept, self.act.p.last_in_group
        if self.arithmetic == "aligned" and self.zero != "none":
            accepted, ended = (delayed(m, advance, signal, 1, name, reset=True) for signal, name in
                               ((accept, "accepted"), (self.act.p.last_in_group, "ended")))
            counted = advance & accepted, ended
        scales_a, row_sums = [], []
        for r in range(self.rows):
            if self.arithmetic != "float":
                scale_a = Signal(16, name=f"scale_a_{r}", reset_less=True)
                with m.If(ends_group):
                    m.d.sync += scale_a.eq(self._scale_a(m, r))
                scales_a.append(scale_a)
            if self.zero != "none":
                row_sums.append(self._row_sum(m, r, entering[r][0], *counted))
        if scales_a:
            m.d.comb += token.scale_a.eq(Array(scales_a)[token.row])
        if self.zero == "none" or self.arithmetic == "aligned":
            return front, token, row_sums
        m.d.comb += token.row_sum.eq(Array(row_sums)[token.row])
        return front, token, []

    @staticmethod
    def _with_row_sum(m, token, row_sums, hops):
        """The token, with the sum of its row of aligned activations: a step late, and so read a step later."""
        if hops != 1:
            raise AssertionError(f"row sums are a step behind tokens, which lane 0 gets after {hops}")
        joined = Signal.like(token, name="token_with_row_sum")
        m.d.comb += [joined.eq(token), joined.row_sum.eq(Array(row_sums)[token.row])]
        return joined

    def _scale_a(self, m, r):
        """Row ``r``'s activation scale in the group that ends: the given one, or the unit of aligned activations."""
        if self.arithmetic == "integer":
            return self.params.p.s_a[r]
        # 2**(exponent - 25), of which alignment's extra bits make a fraction that the lane knows; 1..10: a subnormal.
        exponent = self.act.p.exponent[r]
        unit = Signal(16, name=f"unit_{r}")
        m.d.comb += unit.eq(Mux(exponent > 10, Cat(Const(0, 10), (exponent - 10)[:5]), (1 << exponent[:4]) >> 1))
        return unit

    def _row_sum_shape(self):
        """Of a row's sum of activations."""
        if self.arithmetic == "float":
            return unsigned(32)
        return signed(row_sum_bits(group_max=self.group_max, a_bits=self.operand_bits))

    def _scales(self, m, advance, ends_group, slot, front, late):
        """Place and write enable of d and z in the lanes' memories; a group's blocks lie side by side."""
        if late is None:
            return slot, ends_group
        block = Signal(range(self.split))
        m.d.comb += late.eq(block != 0)
        with m.If(ends_group):
            m.d.sync += block.eq(self.act.p.split)
        with m.Elif(late & advance):
            m.d.sync += block.eq(block + 1)     # past the last it is 0
        return Cat(block, Mux(late, front["slot"], slot)), ends_group | late & advance

    def _row_sum(self, m, r, activation, counts, ends):
        """The sum of row ``r``'s activations over the group that ended last; ``activation`` is one of them where
        ``counts``, and the last where ``ends``."""
        shape = self._row_sum_shape()
        running = Signal(shape, name=f"running_{r}")
        row_sum = Signal(shape, name=f"row_sum_{r}", reset_less=True)
        following = Signal(shape, name=f"following_{r}")
        if self.arithmetic == "float":
            m.d.comb += following.eq(fp32_sum(m, running, fp32_word(m, activation, f"summand_{r}"), f"row_add_{r}"))
        else:
            m.d.comb += following.eq(running + (Mux(self.act.p.high, 0, activation) if self.two_pass else activation))
        with m.If(counts):
            m.d.sync += running.eq(following)
            with m.If(ends):
                m.d.sync += [running.eq(0), row_sum.eq(following)]
        return row_sum

    def _lane(self, m, platform, number, advance, scales, token, sums):
        """Lane ``number``: the scales of its columns, the multiplexer over its PEs, its output."""
        elements = self.lane_cols << ceil_log2(self.rows)
        if self.arithmetic == "float":
            lane = FloatLane(elements=elements, zero=self.zero)
        else:
            lane = DequantLane(elements=elements, group_max=self.group_max, zero=self.zero, two_pass=self.two_pass,
                               w_bits=self.element.code_bits, a_bits=self.operand_bits, centred=self.pe == "centred",
                               aligned_bits=self.extra_bits if self.arithmetic == "aligned" else None)
        slot = token.slot if self.split == 1 else Cat(token.block, token.slot)
        lane_of_columns(m, platform, self, number, lane, advance=advance, written=scales, token=token, slot=slot,
                        depth=self.params_depth * self.split)
        columns = range(number * self.lane_cols, (number + 1) * self.lane_cols)
        with m.Switch(token.column):
            for j, c in enumerate(columns):
                with m.Case(j), m.Switch(token.row):
                    for r in range(self.rows):
                        with m.Case(r):
                            m.d.comb += lane.i.sum.eq(sums[r][c])
        wiring.connect(m, lane.out, wiring.flipped(self.out[number]))
        return lane
