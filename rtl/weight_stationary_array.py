"""The weight-stationary systolic array with its group-dequantisation lanes."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.array_pipeline import (
    columns_per_lane,
    loop_latency,
    row_sum_bits,
    scaled_bits,
)
from mixflight.arch.errors import InputError
from mixflight.arch.formats import ZERO_BITS
from mixflight.arch.stationary_pipeline import (
    STATIONARY_INPUT_STAGES,
    stationary_banks,
    stationary_params_depth,
)
from mixflight.rtl.array_elements import element_named
from mixflight.rtl.column_accumulator import ColumnAccumulator
from mixflight.rtl.delay import delayed
from mixflight.rtl.dequant_lane import DequantLane
from mixflight.rtl.lane_of_columns import lane_of_columns
from mixflight.rtl.pe_stationary import STATIONARY_CONTROL, StationaryPE
from mixflight.rtl.placed_copy import place

A_BITS = 8

BOTTOM = data.StructLayout({"valid": 1, "last_token": 1, "high": 1, "last_in_group": 1, "last_in_tile": 1})
"""What travels down beside the rows and then along the columns' ends; the last two only with ``last_token``. Bits that
the first column takes are not side by side, or they would be one port of it and two of the others."""


class WeightStationaryArray(wiring.Component):
    """R x C PEs that keep weights: output (m, c) of a tile is the dequantised sum over k of ``a[m, k] * w[c, k]``.

    Row r of the array holds one k, column c one output channel; M tokens pass, one a step. Values are those of
    ``mixflight.sim.golden.array``, unstalled cycles those of ``mixflight.sim.stationary_timing``, both exactly. PEs,
    ``centred`` codes, zero points and lanes are as in :mod:`mixflight.rtl.systolic_array`.

    **Parameters.** ``rows`` R, ``cols`` C, ``lanes`` L (L divides C; w = C / L columns each), ``tokens`` the most
    tokens of a tile, ``pe`` a name of :data:`mixflight.rtl.array_elements.ELEMENTS` with integer sums (FP32 sums have
    latency: a column would take more than a step a row), ``group_max`` largest group (no tie to R), ``zero`` kind of
    zero point, ``two_pass`` whether 8-bit weights can be sent as two passes to 4-bit PEs.
    Derived: ``params_depth``, ``banks``.

    **Streams.** Payloads, first field at bit 0:

    ========  ==========================================================================================
    wgt       ``w``: C x 4 (``int8``: 8, ``dequantise``: 16), the weights of one k; ``last_row``: 1 bit
    act       ``a``: R x 8 signed, one token's activations of the rows' k; ``s_a``: 16 (FP16);
              ``last_token``, ``last_in_group``, ``last_in_tile``, ``high``, ``signed``: 1 bit each
    params    ``d``: C x 16 (FP16); ``z``: C x 4 (``int4``) or C x 16 (FP16, ``f16-min``), absent for ``none``
    out[l]    FP32, lane l's outputs in column-major order: column l * w tokens 0..M-1, then the next column
    ========  ==========================================================================================

    A *weight tile* is 1 to R beats of ``wgt``, rows from 0 on, the last with ``last_row`` (beat R - 1 is last anyway),
    all of one group. Then come its M beats of ``act``, 1 <= M <= ``tokens``, the last with ``last_token``; ``a`` is 0
    in rows that the tile did not load. A group of G codes is ceil(G / R) tiles, the last one with ``last_in_group``;
    with 8-bit weights as many again for the high nibbles (``high`` = 1, activations repeated), and ``last_in_group``
    only in the last of all. The group's last activation beat (``last_token`` and ``last_in_group``) also takes a beat
    of ``params``, and there ``last_in_tile`` makes the lanes emit. ``s_a`` counts in the group's last tile. All tiles
    between two emissions have the same M. Tiles follow each other without a gap.

    **Flow.** The array advances in every cycle in which no lane offers an output that is not taken; else everything
    stands still. What was accepted drains without further input. The weights of a tile are loaded while the tile before
    computes: a beat of ``wgt`` is taken while the *next* weights are not complete, or in the very step in which the
    first activation of the complete ones is; that activation waits for all rows. A group's last activation is held back
    until it is max(M * w, loop latency of a lane) advancing cycles after the one before, M being the earlier group's
    tokens: a lane's time for a group. Readies depend combinationally on valids and last bits and on the outputs'
    readies; no valid depends on a ready.

    **Skew.** Row r's beat of ``wgt`` accepted at time u is caught by PE(r, c) at u + 1 + r + c. An activation accepted
    at t meets the weight there at t + 2 + r + c; if it is a tile's first, the PE has taken its next weight one step
    before, at t + 1 + r + c. Since u >= t of the tile before and u < t of its own, neither a weight in use nor one not
    yet used is ever replaced. The column's sum of R products reaches the accumulator at t + 2 + R + c.

    **Groups longer or shorter than R.** The accumulators below the columns add the tiles of a group as integers, so any
    order and number of tiles gives the exact sum. A column of adders beside column 0 adds the activations alone, which
    is the sum zero points need. Accumulators hold a place a token, in two banks where w > 1 (why:
    :func:`mixflight.arch.stationary_pipeline.stationary_banks`).

    **Drain.** A group that ends at T lets lane l read element i = j * M + m, token m of its column j, at T + 3 + R +
    l * w + i: never early, since column l * w + j was written at most at T + 2 + R + l * w + j and i >= j. With
    the token go s_a and the sum of activations, from memories beside the accumulators; d and z wait in the lanes'
    memories of ``params_depth`` groups.
    """

    def __init__(self, *, rows: int = 8, cols: int = 8, lanes: int = 2, tokens: int = 16, pe: str = "shift-add",
                 group_max: int = 128, zero: str = "none", two_pass: bool = False):
        for name, value in (("rows", rows), ("cols", cols), ("lanes", lanes), ("tokens", tokens),
                            ("group_max", group_max)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive integer, not {value!r}, in a systolic array")
        self.element = element_named(pe, zero=zero, two_pass=two_pass)
        if self.element.arithmetic != "integer":
            raise InputError(f"pe must have integer sums in a weight-stationary array, not be {pe}")
        self.rows = rows
        self.cols = cols
        self.lanes = lanes
        self.lane_cols = columns_per_lane(cols=cols, lanes=lanes)
        self.tokens = tokens
        self.pe = pe
        self.group_max = group_max
        self.zero = zero
        self.two_pass = two_pass
        self.passes = 1 + two_pass
        scaled_bits(group_max=group_max, w_bits=self.element.code_bits, a_bits=A_BITS, passes=self.passes, zero=zero)
        self.loop_latency = loop_latency(zero)
        self.banks = stationary_banks(cols=cols, lanes=lanes)
        self.total_shape = signed(self._pe(group_max, two_pass=two_pass).sum_bits)
        self.params_depth = stationary_params_depth(rows=rows, cols=cols, lanes=lanes, zero=zero)

        params = {"d": data.ArrayLayout(16, cols)}
        if zero != "none":
            params["z"] = data.ArrayLayout(ZERO_BITS[zero], cols)
        act = {"a": data.ArrayLayout(signed(A_BITS), rows), "s_a": 16,
               "last_token": 1, "last_in_group": 1, "last_in_tile": 1, "high": 1, "signed": 1}
        wgt = {"w": data.ArrayLayout(self.element.w_bits, cols), "last_row": 1}
        super().__init__({
            "wgt": In(stream.Signature(data.StructLayout(wgt))),
            "act": In(stream.Signature(data.StructLayout(act))),
            "params": In(stream.Signature(data.StructLayout(params))),
            "out": Out(stream.Signature(unsigned(32))).array(lanes),
        })

    def _pe(self, group_max, *, two_pass=False):
        """A PE of this array's kind, for its product and its widths; it is not elaborated itself."""
        pe = self.element.build(group_max=group_max, w_bits=self.element.w_bits, a_bits=A_BITS, two_pass=two_pass)
        pe._MustUse__used = True
        return pe

    def elaborate(self, platform):
        """Accept weights and activations; skew them through the PEs; gather the sums; send tokens past the lanes."""
        m = Module()
        advance, accept, starts, ends_group = Signal(), Signal(), Signal(), Signal()
        complete, load = self._weights(m, advance, starts)
        self._accept(m, advance, complete, accept, starts, ends_group)
        slot = self._slot(m, ends_group)

        entering = [delayed(m, advance, self.act.p.a[r], STATIONARY_INPUT_STAGES + r, f"a_{r}")
                    for r in range(self.rows)]
        sums = self._pes(m, platform, advance, starts, load, entering)
        bottom = self._bottom(m, advance, accept)
        gathering = self._gathering(m, advance, bottom)
        token = self._tokens(m, advance, bottom, gathering, entering)
        lanes = []
        for number in range(self.lanes):
            token = delayed(m, advance, token, self.lane_cols if number else 0, f"token_{number}", reset=True)
            read = []
            for c in range(number * self.lane_cols, (number + 1) * self.lane_cols):
                if c:
                    gathering = {name: delayed(m, advance, value, 1, f"gathering_{name}_{c}", reset=True)
                                 for name, value in gathering.items()}
                read.append(self._accumulator(m, f"sums_{c}", advance, gathering, sums[c], self.total_shape, token))
            lane = DequantLane(elements=self.lane_cols << ceil_log2(self.tokens), group_max=self.group_max,
                               zero=self.zero, two_pass=self.two_pass, w_bits=self.element.code_bits,
                               centred=self.pe == "centred")
            lane_of_columns(m, platform, self, number, lane, advance=advance, written=(slot, ends_group),
                            token=token, slot=token.slot, depth=self.params_depth)
            m.d.comb += lane.i.sum.eq(Array(read)[token.column])
            wiring.connect(m, lane.out, wiring.flipped(self.out[number]))
            lanes.append(lane)
        m.d.comb += advance.eq(~Cat(lane.out.valid & ~lane.out.ready for lane in lanes).any())
        return m

    def _weights(self, m, advance, starts):
        """The handshake of ``wgt``; returns whether the next weights are complete, and the row of the beat taken."""
        complete = Signal(name="weights_complete")
        load = Signal(data.StructLayout({"valid": 1, "row": range(self.rows)}))
        last = Signal(name="last_row")
        row = Signal(range(self.rows), name="load_row")
        m.d.comb += [
            self.wgt.ready.eq(advance & (~complete | starts)),
            load.valid.eq(self.wgt.valid & self.wgt.ready),
            load.row.eq(row),
            last.eq(self.wgt.p.last_row | (row == self.rows - 1)),
        ]
        with m.If(load.valid):
            m.d.sync += [complete.eq(last), row.eq(Mux(last, 0, row + 1))]
        with m.Elif(starts):
            m.d.sync += complete.eq(0)
        return complete, load

    def _accept(self, m, advance, complete, accept, starts, ends_group):
        """The handshakes of ``act`` and ``params``, and the least distance of groups' ends."""
        first_token = Signal(init=1)
        token = Signal(range(self.tokens), name="accepted_token")
        elements = Signal(range(self.tokens * self.lane_cols + 1))
        wait = Signal(range(max(self.tokens * self.lane_cols, self.loop_latency)))
        ending = self.act.p.last_token & self.act.p.last_in_group
        m.d.comb += [
            self.act.ready.eq(advance & (complete | ~first_token) & (~ending | self.params.valid & (wait == 0))),
            accept.eq(self.act.ready & self.act.valid),
            starts.eq(accept & first_token),
            ends_group.eq(accept & ending),
            self.params.ready.eq(ends_group),
            elements.eq((token + 1) * self.lane_cols),
        ]
        with m.If(accept):
            m.d.sync += [first_token.eq(self.act.p.last_token), token.eq(Mux(self.act.p.last_token, 0, token + 1))]
        with m.If(ends_group):
            m.d.sync += wait.eq(Mux(elements > self.loop_latency, elements, self.loop_latency) - 1)
        with m.Elif(advance & (wait != 0)):
            m.d.sync += wait.eq(wait - 1)

    def _slot(self, m, ends_group):
        """Where the scales of the group that ends next are kept."""
        slot = Signal(range(self.params_depth))
        with m.If(ends_group):
            m.d.sync += slot.eq(slot + 1)
        return slot

    def _pes(self, m, platform, advance, starts, load, entering):
        """The PEs and the skew of what enters them; returns the columns' sums as they leave the last row."""
        control = Signal(STATIONARY_CONTROL)
        m.d.comb += control.swap.eq(starts)
        swap = delayed(m, advance, control.swap, STATIONARY_INPUT_STAGES - 1, "swap", reset=True)
        kind = delayed(m, advance, self.act.p.signed, STATIONARY_INPUT_STAGES, "signed")
        load = delayed(m, advance, load, STATIONARY_INPUT_STAGES - 1, "load", reset=True)
        down = [delayed(m, advance, self.wgt.p.w[c], STATIONARY_INPUT_STAGES - 1 + c, f"w_{c}")
                for c in range(self.cols)]
        above = [None] * self.cols
        for r in range(self.rows):
            if r:
                swap = delayed(m, advance, swap, 1, f"swap_{r}", reset=True)
                kind = delayed(m, advance, kind, 1, f"signed_{r}")
                load = delayed(m, advance, load, 1, f"load_{r}", reset=True)
            control = Signal(STATIONARY_CONTROL, name=f"control_{r}")
            m.d.comb += [control.swap.eq(swap), control.signed.eq(kind),
                         control.load.eq(load.valid & (load.row == r))]
            right = entering[r], control
            for c in range(self.cols):
                pe = StationaryPE(self._pe(self.rows))
                # The first row's sums from above are constants, not a port.
                place(m, platform, f"pe_{r}_{c}", pe, like="pe_1_0" if r else f"pe_0_{c}")
                total = Signal(pe.sum.shape(), name=f"sum_{r}_{c}")
                if r:
                    m.d.comb += total.eq(above[c])
                m.d.comb += [pe.en.eq(advance), pe.a.eq(right[0]), pe.control.eq(right[1]), pe.w.eq(down[c]),
                             pe.sum.eq(total)]
                # Named wires, so that PEs at the edges keep all their ports and are the same module.
                right = Signal(signed(A_BITS), name=f"a_{r}_{c}"), Signal(STATIONARY_CONTROL, name=f"control_{r}_{c}")
                down[c] = Signal(self.element.w_bits, name=f"w_{r}_{c}")
                above[c] = Signal(pe.sum.shape(), name=f"sum_next_{r}_{c}")
                m.d.comb += [right[0].eq(pe.a_next), right[1].eq(pe.control_next), down[c].eq(pe.w_next),
                             above[c].eq(pe.sum_next)]
        return above

    def _bottom(self, m, advance, accept):
        """An accepted beat's bits, when its sum leaves column 0."""
        bottom = Signal(BOTTOM)
        m.d.comb += [bottom[name].eq(self.act.p[name]) for name in BOTTOM.members if name != "valid"]
        m.d.comb += bottom.valid.eq(accept)
        return delayed(m, advance, bottom, STATIONARY_INPUT_STAGES + self.rows, "bottom", reset=True)

    def _gathering(self, m, advance, bottom):
        """Place, bank and kind of the sum that leaves column 0; columns further right see it a step later each."""
        token = Signal(range(self.tokens), name="gathering_token")
        fresh = Signal(init=1, name="gathering_fresh")
        bank = Signal(name="gathering_bank")
        with m.If(advance & bottom.valid):
            m.d.sync += token.eq(Mux(bottom.last_token, 0, token + 1))
            with m.If(bottom.last_token):
                m.d.sync += fresh.eq(bottom.last_in_group)
                if self.banks == 2:
                    m.d.sync += bank.eq(bank ^ bottom.last_in_group)
        return {"valid": bottom.valid, "fresh": fresh, "high": bottom.high, "token": token, "bank": bank}

    def _accumulator(self, m, name, advance, gathering, total, shape, token):
        """Accumulators of the sums ``total`` that come with ``gathering``; returns the sum that ``token`` asks for."""
        accumulator = ColumnAccumulator(tokens=self.tokens, banks=self.banks, sum_shape=total.shape(),
                                        total_shape=shape, shift=4 if self.two_pass else 0)
        m.submodules[name] = accumulator
        m.d.comb += [
            accumulator.en.eq(advance),
            *(getattr(accumulator, field).eq(value) for field, value in gathering.items()),
            accumulator.sum.eq(total),
            accumulator.read_token.eq(token.row), accumulator.read_bank.eq(token.bank),
        ]
        return accumulator.read_sum

    def _tokens(self, m, advance, bottom, gathering, entering):
        """One token for every element of a lane, a step apart, from the step after a group's end at column 0."""
        fields = {"valid": 1, "first": 1, "last": 1, "row": range(self.tokens), "column": range(self.lane_cols),
                  "slot": range(self.params_depth), "bank": 1, "scale_a": 16}
        if self.zero != "none":
            fields["row_sum"] = signed(row_sum_bits(group_max=self.group_max, a_bits=A_BITS))
        token = Signal(data.StructLayout(fields))

        first_group = Signal(init=1)
        slot = Signal(range(self.params_depth), name="read_slot")
        last_row = Signal(range(self.tokens), name="front_last_row")
        front = {name: Signal.like(token[name], name=f"front_{name}")
                 for name in ("valid", "first", "last", "row", "column", "slot", "bank")}
        with m.If(advance):
            with m.If(front["row"] != last_row):
                m.d.sync += front["row"].eq(front["row"] + 1)
            with m.Else():
                m.d.sync += front["row"].eq(0)
                with m.If(front["column"] != self.lane_cols - 1):
                    m.d.sync += front["column"].eq(front["column"] + 1)
                with m.Else():
                    m.d.sync += front["valid"].eq(0)
        with m.If(advance & bottom.valid & bottom.last_token & bottom.last_in_group):
            m.d.sync += [
                front["valid"].eq(1),
                front["first"].eq(first_group),
                front["last"].eq(bottom.last_in_tile),
                front["row"].eq(0),
                front["column"].eq(0),
                front["slot"].eq(slot),
                front["bank"].eq(gathering["bank"]),
                last_row.eq(gathering["token"]),
                slot.eq(slot + 1),
                first_group.eq(bottom.last_in_tile),
            ]
        m.d.comb += [token[name].eq(value) for name, value in front.items()]
        m.d.comb += token.scale_a.eq(self._scale_a(m, advance, gathering, token))
        if self.zero != "none":
            beside = dict(gathering)
            if self.two_pass:       # the high pass repeats the activations
                beside |= {"valid": gathering["valid"] & ~gathering["high"], "high": Const(0)}
            total = self._activation_sum(m, advance, entering)
            m.d.comb += token.row_sum.eq(
                self._accumulator(m, "row_sums", advance, beside, total, token.row_sum.shape(), token))
        return token

    def _activation_sum(self, m, advance, entering):
        """The sum of a beat's activations, in the step in which its products' sum leaves column 0."""
        shape = signed(row_sum_bits(group_max=self.rows, a_bits=A_BITS))
        total = Const(0, shape)
        for r, activation in enumerate(entering):
            following = Signal(shape, name=f"activations_{r}", reset_less=True)
            with m.If(advance):
                m.d.sync += following.eq(total + activation)
            total = following
        return total

    def _scale_a(self, m, advance, gathering, token):
        """Activation scales, kept for a token as long as its group sums."""
        m.submodules.scales_a = scales = memory.Memory(
            shape=16, depth=max(2, self.banks << (self.tokens - 1).bit_length()), init=[])
        read = scales.read_port(domain="comb")
        write = scales.write_port()
        m.d.comb += [
            write.addr.eq(Cat(gathering["token"], gathering["bank"]) if self.banks == 2 else gathering["token"]),
            write.data.eq(delayed(m, advance, self.act.p.s_a, STATIONARY_INPUT_STAGES + self.rows, "s_a")),
            write.en.eq(advance & gathering["valid"]),
            read.addr.eq(Cat(token.row, token.bank) if self.banks == 2 else token.row),
        ]
        return read.data
