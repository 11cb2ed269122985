"""Liberty files, timing and energy of mapped cells: small libraries whose figures are worked out on paper."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl.cell_activity import Toggles, _inertial, energy, run_cells, settled_toggles, timed_toggles
from mixflight.rtl.cell_mapping import map_to_cells, netlist_of
from mixflight.rtl.cell_timing import time_netlist
from mixflight.rtl.liberty import as_text, parse_function, pins_of, read_liberty
from mixflight.rtl.synthesis import SynthesisError

LIBRARY = """
library(tiny) {
  time_unit : "1ns"; leakage_power_unit : "1nW"; capacitive_load_unit (1, pf); nom_voltage : 2.0;
  lu_table_template(d) { variable_1 : total_output_net_capacitance; variable_2 : input_net_transition;
    index_1 ("0, 1"); index_2 ("0, 1"); }
  power_lut_template(e) { variable_1 : input_transition_time; variable_2 : total_output_net_capacitance;
    index_1 ("0, 1"); index_2 ("0, 1"); }
  /* a gate of 3 area units: 0.1 ns + 1 ns/pF */
  cell (NAND) { area : 3; cell_leakage_power : 5;
    pin(A) { direction : input; capacitance : 0.01; }
    pin(B) { direction : input; capacitance : 0.02; }
    pin(Y) { direction : output; function : "(A B)'";
      timing() { related_pin : "A B"; timing_sense : negative_unate;
        cell_rise(d) { values ("0.1, 0.1", \\
                               "1.1, 1.1"); }
        cell_fall(d) { values ("0.1, 0.1", "1.1, 1.1"); }
        rise_transition(d) { values ("0, 0", "0, 0"); }
        fall_transition(d) { values ("0, 0", "0, 0"); } }
      internal_power() { related_pin : "A";
        rise_power(e) { values ("0.5, 1.5", "0.5, 1.5"); }  fall_power(scalar) { values ("0.25"); } }
      internal_power() { related_pin : "B"; power(scalar) { values ("1.0"); } } } }
  cell (INV) { area : 1; cell_leakage_power : 3;
    pin(A) { direction : input; capacitance : 0.04;
      internal_power() { rise_power(scalar) { values ("0.01"); } fall_power(scalar) { values ("0.03"); } } }
    pin(Y) { direction : output; function : "!A";
      timing() { related_pin : "A"; timing_sense : negative_unate;
        cell_rise(scalar) { values ("0.2"); } cell_fall(scalar) { values ("0.2"); }
        rise_transition(scalar) { values ("0"); } fall_transition(scalar) { values ("0"); } } } }
}
"""


@pytest.fixture
def library(tmp_path):
    (tmp_path / "tiny.lib").write_text(LIBRARY)
    return read_liberty(tmp_path / "tiny.lib")


@pytest.fixture
def two_gates():
    """Y = INV(NAND(a, b))."""
    return netlist_of({"modules": {"pair": {
        "ports": {"a": {"direction": "input", "bits": [2]}, "b": {"direction": "input", "bits": [3]},
                  "y": {"direction": "output", "bits": [5]}},
        "cells": {"g0": {"type": "NAND", "connections": {"A": [2], "B": [3], "Y": [4]}},
                  "g1": {"type": "INV", "connections": {"A": [4], "Y": [5]}}}}}}, "pair")


def test_two_gates_on_paper(library, two_gates):
    timing = time_netlist(two_gates, library)
    assert timing.loads == pytest.approx({2: 0.01, 3: 0.02, 4: 0.04, 5: 0})
    assert timing.longest == pytest.approx(0.1 + 0.04 + 0.2)
    assert two_gates.area(library) == 4
    # a: 0 1 1 0   b: 1 1 1 1   ->   net 4: 1 0 0 1, y: 0 1 1 0
    bits = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [1, 1, 0, 1], [0, 1, 1, 0]], np.uint8)
    toggles = settled_toggles(bits, [2, 3, 4, 5])
    assert toggles == Toggles(rises={2: 1, 3: 0, 4: 1, 5: 1}, falls={2: 1, 3: 0, 4: 1, 5: 1}, cycles=3)
    found = energy(two_gates, library, timing, toggles)
    # switching: 2 toggles each of 0.01 and 0.04 pF, C V^2 / 2 at 2 V
    assert found.switching == pytest.approx(2 * (0.01 + 0.04) * 4 / 2 / 3)
    # NAND: only A toggled; a rise 0.5 + 1.0 * load of 0.04, a fall 0.25; INV's input pin: 0.01 + 0.03
    assert found.internal == pytest.approx((0.5 + 0.04 + 0.25 + 0.01 + 0.03) / 3)
    assert found.clock == 0
    # 8 nW over 0.34 ns
    assert found.leakage == pytest.approx(8e-9 * 0.34e-9 * 1e12)
    assert timed_toggles(two_gates, library, timing, bits, [2, 3, 4, 5]) == toggles


def test_a_hazard_is_seen_with_time_and_not_without(library):
    """Y = NAND(a, INV(a)): settled always 1, a pulse of the inverter's 0.2 ns when a rises; the gate passes 0.1 ns."""
    netlist = netlist_of({"modules": {"pulse": {
        "ports": {"a": {"direction": "input", "bits": [2]}, "y": {"direction": "output", "bits": [4]}},
        "cells": {"g0": {"type": "INV", "connections": {"A": [2], "Y": [3]}},
                  "g1": {"type": "NAND", "connections": {"A": [2], "B": [3], "Y": [4]}}}}}}, "pulse")
    timing = time_netlist(netlist, library)
    bits = np.array([[0, 1, 1], [1, 0, 1], [0, 1, 1], [1, 0, 1]], np.uint8)
    assert settled_toggles(bits, [2, 3, 4]).both(4) == 0
    timed = timed_toggles(netlist, library, timing, bits, [2, 3, 4])
    assert (timed.rises[4], timed.falls[4]) == (2, 2)


def test_a_pulse_shorter_than_the_gate_is_swallowed():
    value = np.zeros((20, 1), np.uint64)
    value[3:7] = 1      # four steps
    assert _inertial(value, 4)[:, 0].tolist() == [0] * 20
    assert _inertial(value, 3)[:, 0].tolist() == [0] * 6 + [1] * 4 + [0] * 10
    assert _inertial(value, 1)[:, 0].tolist() == [0] * 4 + [1] * 4 + [0] * 12


@pytest.mark.parametrize(("text", "expected"), [
    ("A B + C", "((A & B) | C)"), ("!(A^B) * C", "(~(A ^ B) & C)"), ("(A+B)' C'", "(~(A | B) & ~C)"),
    ("A & B ^ C", "(A & (B ^ C))"), ("1", "1"),
])
def test_functions(text, expected):
    assert as_text(parse_function(text)) == expected
    assert set(pins_of(parse_function(text))) == set(expected) & set("ABC")


@pytest.mark.parametrize("text", ["A +", "(A", "A)", "A # B", ""])
def test_what_is_no_function_is_refused(text):
    with pytest.raises(ValueError, match="function"):
        parse_function(text)


@pytest.mark.parametrize("text", ["", "module x;", "library(x) { cell (", "library(x) { cell A }"])
def test_what_is_no_liberty_file_is_one_line(tmp_path, text):
    (tmp_path / "x.lib").write_text(text)
    with pytest.raises(InputError, match="must be a Liberty file") as caught:
        read_liberty(tmp_path / "x.lib")
    assert "\n" not in str(caught.value)


def test_a_loop_of_gates_is_refused(library):
    netlist = netlist_of({"modules": {"ring": {"ports": {}, "cells": {
        "g": {"type": "INV", "connections": {"A": [2], "Y": [2]}}}}}}, "ring")
    with pytest.raises(SynthesisError, match="no loop of gates"):
        time_netlist(netlist, library)


COUNTER = """
module counter(input clk, input rst, input en, output reg [3:0] q);
  always @(posedge clk) if (rst) q <= 0; else if (en) q <= q + 1;
endmodule
"""


def test_real_cells_count_and_settle(osu018_path):
    library = read_liberty(osu018_path)
    assert (library.voltage_v, library.time_ns, library.capacitance_pf, library.leakage_nw) == (1.8, 1, 1, 1)
    netlist = map_to_cells(COUNTER, top="counter", liberty=osu018_path, library=library)
    assert netlist.counts()["DFFPOSX1"] == 4
    timing = time_netlist(netlist, library)
    assert 0.3 < timing.longest < 3
    enabled = np.ones(40, np.int64)
    seen, bits, nets = run_cells(netlist, library, {"rst": 0 * enabled, "en": enabled}, ["q"])
    assert seen["q"].tolist() == [step % 16 for step in range(40)]
    settled = settled_toggles(bits[:33], nets)
    bit_0, bit_3 = netlist.outputs["q"][0], netlist.outputs["q"][3]
    assert (settled.both(bit_0), settled.both(bit_3)) == (32, 4)
    timed = timed_toggles(netlist, library, timing, bits[:33], nets)
    assert all(timed.both(net) >= settled.both(net) for net in nets)
    assert timed.both(bit_0) == 32
    cost = energy(netlist, library, timing, timed)
    flip_flop = library.cells["DFFPOSX1"].pins["CLK"]
    own = flip_flop.energy[0].rise.at(0, 0.06) + flip_flop.energy[0].fall.at(0, 0.06)
    assert cost.clock == pytest.approx(4 * (own + flip_flop.capacitance * 1.8 ** 2))
    broken = bits[:33].copy()
    broken[5, nets.index(next(item.pins["Y"] for item in timing.order))] ^= 1
    with pytest.raises(RuntimeError, match="must settle as simulated"):
        timed_toggles(netlist, library, timing, broken, nets)
