# amaranth: UnusedElaboratable=no
"""Arrays of every PE against the golden model: values bit for bit, unstalled cycles equal to the closed form."""

import numpy as np
import pytest
from stream_bench import Span, drain, feed, hold_until_taken, never, simulate, sometimes

from mixflight.arch.errors import InputError
from mixflight.arch.pe import PES as ARCH_KINDS
from mixflight.rtl.array_elements import ELEMENTS
from mixflight.rtl.bench_systolic_array import below_names
from mixflight.rtl.design import ARCH_PES, choose_top
from mixflight.rtl.lint import lint
from mixflight.rtl.systolic_array import SystolicArray
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.golden.array import lane_values
from mixflight.verify_tiles import random_tile

# rows, cols, lanes, zero, group, split, splits of the tiles
CASES = {
    "int8": [(2, 3, 1, "none", 8, 1, "nn"), (3, 2, 2, "f16-min", 4, 1, "nn")],
    "dequantise": [(2, 2, 2, "none", 8, 1, "nn")],
    "aligned": [(2, 3, 3, "none", 8, 1, "nn"), (3, 2, 1, "int4", 8, 1, "nn"), (2, 2, 1, "f16-min", 3, 2, "nsn")],
    "float": [(2, 3, 1, "none", 8, 1, "nn"), (2, 2, 2, "f16-min", 3, 2, "snn")],
    "fp16": [(3, 2, 2, "none", 24, 1, "nn"), (2, 2, 1, "f16-min", 8, 1, "nn")],
}
FLAT = [(pe, case) for pe, cases in CASES.items() for case in cases]


def test_every_element_has_a_case_here_or_in_the_array_s_own_tests():
    assert set(CASES) | {"shift-add", "multiply", "centred"} == set(ELEMENTS)


def test_every_pe_of_a_machine_is_an_element_of_its_arithmetic():
    assert set(ARCH_PES) == set(ARCH_KINDS)
    for kind, pe in ARCH_PES.items():
        assert ELEMENTS[pe].arithmetic == ARCH_KINDS[kind].arithmetic


@pytest.mark.parametrize(("pe", "zero"), [("aligned", "int4"), ("float", "f16-min")])
def test_emitted_text_has_no_warning_beyond_those_of_every_array(pe, zero):
    """One field of a token selects another, which Verilator, a word at a time, takes for a loop (UNOPTFLAT)."""
    chosen = choose_top("mixpe-array", rows=2, cols=2, lanes=1, pe=pe, zero=zero)
    assert {finding.rule for finding in lint(chosen.emit(), top=chosen.module)} <= {"UNOPTFLAT"}


def run(dut, tiles, *, stalls=None):
    """Send the tiles; returns the lanes' FP32 bits and the cycles from first to last beat."""
    beats = [tile.beats() for tile in tiles]

    def fields(beat, tile):
        return {name: value for name, value in beat._asdict().items() if value != []} | tile

    act = [fields(beat, {"split": tile.split} if dut.split > 1 else {}) for tile in beats for beat in tile.act]
    wgt = [{"w": codes} for tile in beats for codes in tile.wgt]
    params = [fields(beat, {}) for tile in beats for beat in tile.params]
    below = [[{"w": codes} for tile in beats if tile.split for codes in tile.wgt_below[i]]
             for i in range(len(below_names(dut)))]
    outputs = [[] for _ in range(dut.lanes)]
    span = Span()

    def pause(number):
        return never if stalls is None else sometimes(stalls + number, (0.1, 0.5)[number % 2])

    outs = [dut.out[lane] for lane in range(dut.lanes)]
    simulate(dut, [
        (feed, dut.act, act, pause(0)), (feed, dut.wgt, wgt, pause(1)), (feed, dut.params, params, pause(2)),
        *((feed, dut.wgt_below[i], own, pause(50 + i)) for i, own in enumerate(below)),
        *((drain, out, len(tiles) * dut.rows * dut.lane_cols, outputs[lane], pause(3 + lane))
          for lane, out in enumerate(outs)),
    ], [(span.watch, dut.act, outs), *((hold_until_taken, out) for out in outs)])
    return np.array(outputs, np.uint32), span.cycles


@pytest.mark.parametrize("stalls", [None, 3])
@pytest.mark.parametrize(("pe", "case"), FLAT, ids=lambda item: "-".join(map(str, item)) if type(item) is tuple else item)
def test_values_and_cycles(pe, case, stalls):
    rows, cols, lanes, zero, group, split, kinds = case
    chosen = choose_top("mixpe-array", rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero, group_max=24, split=split)
    random = np.random.default_rng(4)
    tiles = [random_tile(chosen, random, k=24, group=group, split=split if kind == "s" else 1) for kind in kinds]
    tiles.append(random_tile(chosen, random, k=24, group=group, extreme=True))
    got, cycles = run(chosen.component, tiles, stalls=stalls)
    expected = [lane_values(tile.outputs(), lanes=lanes, split=tile.split) for tile in tiles]
    np.testing.assert_array_equal(got, np.concatenate(expected, axis=1).view(np.uint32))
    if stalls is None:
        assert cycles == array_cycles(rows=rows, cols=cols, lanes=lanes, k=24, group=group, passes=1,
                                      tiles=len(tiles), zero=zero)


@pytest.mark.parametrize(
    ("pe", "given", "message"),
    [
        ("int8", {"two_pass": True}, "two_pass must be off, not on, in a systolic array of int8 PEs"),
        ("float", {"zero": "int4"}, "zero must be none or f16-min, not 'int4', in a systolic array of float PEs"),
        ("dequantise", {"zero": "f16-min"}, "zero must be none, not 'f16-min', in a systolic array of dequantise PEs"),
        ("aligned", {"group_max": 256}, r"group sums must stay below 2\*\*24, not need 25 bits, with groups of 256"),
    ],
)
def test_what_an_array_has_no_hardware_for_is_refused(pe, given, message):
    with pytest.raises(InputError, match=message):
        SystolicArray(rows=2, cols=2, lanes=1, pe=pe, **given)
