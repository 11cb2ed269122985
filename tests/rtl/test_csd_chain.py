# amaranth: UnusedElaboratable=no
"""Parameters of the sparse DSP chain, its reduction node over all its inputs, and what choosing an operand costs."""

import re

import msgspec
import pytest
from amaranth.sim import Simulator

from mixflight.arch.csd_chain import LOW_BIAS, RATIOS, SHORT_SUM, START_BIAS, segment_lengths, slab_entries, sum_bits
from mixflight.arch.errors import InputError
from mixflight.rtl.csd_cells import PackedCell
from mixflight.rtl.csd_chain import CsdChain
from mixflight.rtl.csd_core import ReductionNode
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint
from mixflight.rtl.operand_mux import OperandMux
from mixflight.rtl.record_csd_chain import LENGTH, MODULE, PATH, SETS, chain
from mixflight.rtl.synthesis import digest_text, synthesise


def settle(component, steps):
    """Run ``steps``: functions of ctx, each after its inputs have settled."""
    simulator = Simulator(component)

    async def bench(ctx):
        for step in steps:
            step(ctx)
            await ctx.delay(1e-9)

    simulator.add_testbench(bench)
    simulator.run()


def test_the_biases_hold_every_sum_in_eighteen_bits():
    most, least = 128 * 128, -128 * 127
    assert 0 <= START_BIAS + 4 * least and START_BIAS + 4 * most < 1 << 18
    assert 0 == LOW_BIAS + SHORT_SUM * least and LOW_BIAS + SHORT_SUM * most < 1 << 18
    assert START_BIAS + SHORT_SUM * most == 1 << 18             # why eight need another bias than four
    assert LOW_BIAS + SHORT_SUM * most + 1023 == (1 << 18) - 1  # and what may stay of a long sum's first half
    for products in range(1, 9):                                # on the way to the sixth product and after it
        bias = START_BIAS if products <= 5 else LOW_BIAS
        assert 0 <= bias + products * least and bias + products * most < 1 << 18


def test_a_node_of_short_and_long_sums_over_the_whole_lane():
    node = ReductionNode(bits=19, longest=8)
    lows = [*range(0, 1 << 18, 1013), 0, 1023, 1024, 126976, 130047, 130048, 131071, 131072, 261120]
    seen = []

    def step(low, long, high):
        def run(ctx):
            ctx.set(node.partial, (high << 18 | low) & ((1 << 48) - 1))
            ctx.set(node.long, long)
            seen.append((ctx.get(node.sum.row0), ctx.get(node.sum.row1)))
        return run

    cases = [(low, long, high) for low in lows for long in (0, 1) for high in (-131072, -1, 0, 131072)
             if not long or low <= 261120]
    settle(node, [step(*case) for case in cases])
    assert seen == [(low - (LOW_BIAS if long else START_BIAS), high) for low, long, high in cases]


def test_widths():
    assert [sum_bits(n) for n in (2, 4, 8, 16)] == [17, 18, 19, 20]     # 16 * 16,384 = 2**18 needs 20 with its sign
    assert segment_lengths(length=16, ratios=list(RATIOS)) == (2, 4, 8, 16)
    assert slab_entries(length=8, ratios=["2:4"]) == 4 and slab_entries(length=8, ratios=["2:4", "dense"]) == 8


@pytest.mark.parametrize(("given", "message"), [
    ({"length": 12}, "length must be 2, 4, 8 or 16, not 12, in a DSP chain"),
    ({"ratios": "3:16"}, "ratios must be among dense, .*, not '3:16', in a DSP chain"),
    ({"length": 4, "ratios": "8:16"}, "every segment must fit the chain: 8:16 needs 8 of 4 products"),
    ({"group": 4}, "group must be a power of two from 2 to the shortest segment 2, not 4, in a DSP chain"),
    ({"variant": "dsp48"}, "variant must be one of dsp48e2, generic, dsp58, not 'dsp48', in a DSP chain"),
    ({"select": "mux"}, "select must be one of lutram, direct, not 'mux', in a DSP chain"),
])
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        CsdChain(**given)


def test_a_cell_does_one_thing_beside_its_product():
    with pytest.raises(InputError, match="a cell must restart, trim or adjust, not do two of them"):
        PackedCell(restarts=True, trims=True)


@pytest.mark.parametrize("variant", ["dsp48e2", "dsp58", "generic"])
def test_the_text_is_clean_and_equal_cells_are_one_module(variant):
    text = emit_verilog(CsdChain(length=8, ratios="dense,4:8", variant=variant), "csd-chain")
    assert lint(text, top="csd_chain") == []
    assert len(re.findall(r"^module csd_chain_core_store", text, re.M)) == 1
    if variant == "dsp48e2":
        assert len(re.findall(r"^  DSP48E2 #\(", text, re.M)) <= 5


def test_what_yosys_does_not_know_is_one_line():
    for variant, target, name in (("dsp58", "xcup", "DSP58"), ("dsp48e2", "ecp5", "DSP48E2, RAM32M16, RAM32M")):
        with pytest.raises(InputError, match=f"a design for {target} must have no {name}, which Yosys does not know"):
            synthesise(emit_verilog(CsdChain(variant=variant), "csd-chain"), top="csd_chain", target=target)


def test_a_multiplexer_of_sixteen_costs_sixty_four():
    mux = OperandMux(candidates=16)
    seen = []

    def step(index):
        def run(ctx):
            ctx.set(mux.slab, [100 + i for i in range(16)])
            ctx.set(mux.index, index)
            seen.append(ctx.get(mux.a))
        return run

    settle(mux, [step(index) for index in range(16)])
    assert seen == [100 + i for i in range(16)]


def _recorded():
    return msgspec.toml.decode(PATH.read_text())


def test_the_recorded_table_is_of_the_emitted_text():
    rows = {row["name"]: row for row in _recorded()["rows"]}
    assert len(rows) == 2 * len(SETS) + 1
    for ratios, select in ((SETS[-1], "lutram"), ("dense", "direct")):
        assert rows[f"dsp48e2 {select} {ratios}"]["text_sha256"] == digest_text(
            emit_verilog(chain(ratios, select), MODULE))


def test_the_recorded_table_keeps_its_goals():
    """At most 31 LUTs a DSP for every ratio, skew registers and LUT memory counted; at most 8 levels."""
    document = _recorded()
    for row in document["rows"]:
        if row["variant"] == "dsp48e2":
            assert row["dsp"] == LENGTH and row["lut_per_dsp"] <= 31
    [whole] = [row for row in document["rows"] if "lut_levels" in row]
    assert whole["lut_levels"] <= 8
    choices = {row["name"]: row["lut"] for row in document["choices"]}
    assert choices["multiplexer of 16"] >= 64 > choices["store of 2 x 16 entries"] == 12
