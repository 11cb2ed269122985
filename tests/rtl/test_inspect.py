# amaranth: UnusedElaboratable=no
import os

import pytest
from mac_lane import MacLane

from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.inspect import InspectError, Port, inspect_verilog, signature_ports

TEXT = """
module top(clk, d, q);
  input clk;
  wire clk;
  input [3:0] d;
  output [7:0] q;
  wire [7:0] q;
  \\top.half  left (
    .clk(clk), .d(d), .q(q[3:0])
  );
  \\top.half  right (
    .clk(clk), .d(d), .q(q[7:4])
  );
endmodule

module \\top.half (clk, d, q);
  input clk;
  wire clk;
  input [3:0] d;
  wire [3:0] d;
  output [3:0] q;
  reg [3:0] q = 4'h0;
  reg [3:0] next;
  reg [4:0] unwritten;
  reg [7:0] memory [15:0];
  always @* next = d;
  always @(posedge clk) begin
    if (d[0]) q <= next;
    memory[d] <= {d, d};
  end
endmodule
"""


def test_a_text_read_by_hand():
    design = inspect_verilog(TEXT, top="top")
    assert design.ports == (Port(name="clk", direction="input", width=1),
                            Port(name="d", direction="input", width=4),
                            Port(name="q", direction="output", width=8))
    assert dict(design.modules["top"].instances) == {"top.half": 2}
    assert list(design.tree()) == [(0, "top", 1), (1, "top.half", 2)]
    assert design.modules["top.half"].register_bits == 4
    assert (design.register_bits, design.memory_bits) == (8, 2 * 8 * 16)
    assert inspect_verilog(TEXT, top="top.half").register_bits == 4


def test_the_lane_has_the_registers_that_it_was_written_with():
    design = inspect_verilog(emit_verilog(MacLane(counters=3), "mac_lane"), top="mac_lane")
    assert design.register_bits == 20 + 20 + 1 + 3 * 4      # accumulator, payload, valid, counters
    assert dict(design.modules["mac_lane"].instances) == {"mac_lane_counter": 3}


def test_a_memory_counts_apart_from_registers():
    design = inspect_verilog(emit_verilog(MacLane(counters=1, memory=True), "mac_lane"), top="mac_lane")
    assert design.memory_bits == 8 * 16
    assert design.register_bits == 20 + 20 + 1 + 4


def test_ports_equal_the_signature():
    inspect_verilog(emit_verilog(MacLane(), "mac_lane"), top="mac_lane").check_against(MacLane())
    ports = {port.name: port for port in signature_ports(MacLane())}
    assert ports["i__payload"] == Port(name="i__payload", direction="input", width=13)
    assert ports["o__0__ready"].direction == "input"


def test_a_port_that_differs_is_named_with_both_sides():
    design = inspect_verilog(emit_verilog(MacLane(), "mac_lane"), top="mac_lane")
    with pytest.raises(InspectError,
                       match="o__0__payload must be output of 21 bits, the text says output of 20 bits"):
        design.check_against(MacLane(acc_bits=21))
    with pytest.raises(InspectError, match="sums__2 must be output of 4 bits, the text says absent"):
        design.check_against(MacLane(counters=3))


def test_an_absent_top_and_an_absent_part_are_named():
    with pytest.raises(InspectError, match=r"must define module other; it defines top, top\.half"):
        inspect_verilog(TEXT, top="other")
    with pytest.raises(InspectError, match=r"top\.half is not"):
        inspect_verilog(TEXT[:TEXT.index("module \\top.half")], top="top")


def test_text_that_does_not_parse_is_refused():
    with pytest.raises(InspectError, match="must parse"):
        inspect_verilog("module top(a);\n  input a;\n  assign = 3;\nendmodule\n", top="top")


def test_parsing_leaves_no_file(tmp_path, monkeypatch):
    from mixflight.rtl import inspect
    monkeypatch.chdir(tmp_path)
    inspect._parser.cache_clear()
    inspect_verilog(TEXT, top="top")
    assert os.listdir(tmp_path) == []
