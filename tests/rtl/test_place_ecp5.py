"""What a Verilog text is made of for an ECP5: memories that it has, names without brackets."""

import json

import pytest

from mixflight.rtl.inspect import inspect_verilog
from mixflight.rtl.place_ecp5 import _for_this_device, _through_two_pins, with_settings

TEXT = """\
module top(clk, \\line[0] , line, out);
  input clk;
  input [3:0] \\line[0] ;
  input [7:0] line;
  output [3:0] out;
  (* ram_style = "ultra" *)
  reg [3:0] kept [1:0];
  initial begin
    kept[0] = 4'h0;
    kept[1] = 4'h0;
  end
  reg [3:0] read;
  always @(posedge clk) kept[line[0]] <= \\line[0] [3:0];
  always @(posedge clk) read <= kept[line[1]];
  assign out = read;
endmodule
"""


def test_memories_are_of_blocks_without_zeros_or_care_for_reads_beside_writes():
    text = _for_this_device(TEXT)
    assert '(* ram_style = "block", no_rw_check = 1 *)\n  reg [3:0] kept [1:0];\n  reg [3:0] read;' in text


def test_only_names_lose_their_brackets():
    text = _for_this_device(TEXT)
    assert "kept[line[0]] <= \\line<0> [3:0];" in text and "\\line[0]" not in text


def test_all_of_a_top_lies_between_two_pins():
    plain = TEXT.replace("\\line[0] ", "other")
    wrapper = _through_two_pins("top", inspect_verilog(plain, top="top").modules["top"].ports)
    assert "reg [11:0] fed; wire [3:0] out;" in wrapper and ".clk(clk)" in wrapper
    assert "assign so = level_2;" in wrapper


def test_settings_are_the_module_s():
    netlist = '{\n  "creator": "Yosys",\n  "modules": {\n    "placed": {\n      "attributes": {}\n    }\n  }\n}\n'
    placed = json.loads(with_settings(netlist, {"router2/bbMargin/x": "12"}))["modules"]["placed"]
    assert placed == {"settings": {"router2/bbMargin/x": "12"}, "attributes": {}}
    with pytest.raises(AssertionError, match="one module `placed`"):
        with_settings(netlist.replace("placed", "other"), {})
