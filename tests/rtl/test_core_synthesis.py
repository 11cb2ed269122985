"""Designs taken apart, synthesised module by module and joined again; paths through them."""

import time

import pytest
from mac_lane import MacLane

from mixflight.rtl import core_synthesis
from mixflight.rtl.core_synthesis import synthesise_parts
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.module_text import read_modules
from mixflight.rtl.path_levels import Path, design_paths
from mixflight.rtl.synthesis import synthesise


def cell(kind, outputs, inputs, **parameters):
    pins = {f"O{i}": net for i, net in enumerate(outputs)} | inputs
    return {"type": kind, "parameters": parameters,
            "port_directions": {pin: "output" if pin.startswith("O") or pin == "CO" else "input" for pin in pins},
            "connections": {pin: [net] for pin, net in pins.items()}}


def module(cells, ports=(), names=()):
    return {"attributes": {}, "cells": dict(enumerate(cells)), "netnames": {name: {"bits": [bit]} for name, bit in names},
            "ports": {name: {"direction": direction, "bits": [bit]} for name, direction, bit in ports}}


def paths(**modules):
    return design_paths({"modules": modules})


def test_levels_are_logic_between_registers():
    found = paths(top=module([
        cell("FDRE", [1], {"D": 9}), cell("LUT2", [2], {"I0": 1, "I1": 9}), cell("LUT6", [3], {"I0": 2}),
        cell("FDRE", [4], {"D": 3}), cell("INV", [5], {"I": 4}), cell("FDRE", [6], {"D": 5})],
        names=[("begin", 1), ("end", 3)]))["top"]
    assert found.inside == found.longest == Path(2, "begin", "end")


@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_a_carry_chain_is_one_level_however_long(blocks):
    chain = [{"type": "CARRY4", "parameters": {}, "port_directions": {"CI": "input", "S": "input", "CO": "output", "O": "output"},
              "connections": {"CI": [100 + i] if i else ["0"], "S": [2], "CO": [101 + i], "O": [200 + i]}} for i in range(blocks)]
    found = paths(top=module([cell("FDRE", [1], {"D": 1}), cell("LUT1", [2], {"I": 1}), *chain,
                              cell("FDRE", [5], {"D": 199 + blocks})]))["top"]
    assert found.inside.levels == 2


@pytest.mark.parametrize(("kind", "pin", "parameters", "levels"), [
    ("RAM32M16", "ADDRA", {}, 1), ("RAM32M16", "DIA", {}, 0), ("SRL16E", "D", {}, 0), ("RAMB36E2", "ADDRA", {}, 0),
    ("DSP48E2", "A", {"AREG": "0", "MREG": "0"}, 1), ("DSP48E2", "A", {"AREG": "1"}, 0), ("MUXF7", "I0", {}, 1),
])
def test_what_counts_and_what_ends_a_path(kind, pin, parameters, levels):
    found = paths(top=module([cell("FDRE", [1], {"D": 9}), cell(kind, [2], {pin: 1}, **parameters),
                              cell("FDRE", [3], {"D": 2})]))["top"]
    assert found.inside.levels == levels


def test_paths_go_through_modules():
    """register, LUT in one part, two LUTs outside, straight through another part, LUT before its register."""
    first = module([cell("FDRE", [1], {"D": 9}), cell("LUT1", [2], {"I": 1})], [("out", "output", 2)])
    last = module([cell("LUT1", [2], {"I": 1}), cell("LUT1", [3], {"I": 2}), cell("FDRE", [4], {"D": 2})],
                  [("in", "input", 1), ("out", "output", 3)])
    instances = [{"type": "first", "port_directions": {"out": "output"}, "connections": {"out": [1]}},
                 cell("LUT1", [2], {"I": 1}), cell("LUT1", [3], {"I": 2}),
                 {"type": "last", "port_directions": {"in": "input", "out": "output"}, "connections": {"in": [3], "out": [4]}}]
    found = paths(top=module(instances, [("out", "output", 4)]), last=last, first=first)
    assert found["first"].longest.levels == 1
    assert found["last"].inside.levels == 0 and found["last"].longest.levels == 2
    assert found["top"].inside.levels == 1 + 2 + 1
    assert found["top"].outputs["out", 0].levels == 1 + 2 + 2


def test_the_longest_path_may_lie_within_a_part():
    deep = module([cell("FDRE", [1], {"D": 9}), *(cell("LUT1", [2 + i], {"I": 1 + i}) for i in range(3)),
                   cell("FDRE", [6], {"D": 4})], [("out", "output", 6)], names=[("begin", 1), ("end", 4)])
    instance = {"type": "deep", "port_directions": {"out": "output"}, "connections": {"out": [1]}}
    found = paths(top=module([instance, cell("LUT1", [2], {"I": 1}), cell("FDRE", [3], {"D": 2})]), deep=deep)
    assert found["top"].inside == found["top"].longest == Path(3, "0.begin", "0.end")


def test_a_loop_of_logic_is_refused():
    with pytest.raises(ValueError, match="must have no loop of logic"):
        paths(top=module([cell("LUT1", [1], {"I": 2}), cell("LUT1", [2], {"I": 1})]))


@pytest.fixture(scope="module")
def lane_text():
    return emit_verilog(MacLane(memory=True), "mac_lane")


def test_modules_taken_apart_are_all_of_the_text():
    lane_text = emit_verilog(MacLane(), "mac_lane")
    modules = read_modules(lane_text)
    assert modules.totals("mac_lane") == {"mac_lane": 1, "mac_lane_counter": 2}
    assert modules.depths("mac_lane") == {"mac_lane": 0, "mac_lane_counter": 1}
    alone = modules.text_of("mac_lane", apart={"mac_lane_counter"})
    assert alone.count("endmodule") == 2 and "(* blackbox *)\nmodule mac_lane_counter" in alone
    assert modules.text_of("mac_lane").count("always") == lane_text.count("always")


def test_parts_add_up_to_what_the_whole_is_synthesised_to(lane_text):
    parts, whole = synthesise_parts(lane_text, top="mac_lane"), synthesise(lane_text, top="mac_lane")
    for unit in ("lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf"):
        assert parts.counts[unit] == getattr(whole, unit), unit
    assert dict(parts.cells) == dict(whole.cells)
    assert {part.module: part.counts["ff"] for part in parts.parts} == {"mac_lane_counter": 0, "mac_lane_counter_2": 4}    # one's count is not connected
    assert parts.longest.levels >= max(part.longest.levels for part in parts.parts) > 0


def test_what_did_not_change_is_not_synthesised_again(lane_text, monkeypatch):
    synthesise_parts(lane_text, top="mac_lane")
    asked = []
    ran = core_synthesis.run_yosys
    monkeypatch.setattr(core_synthesis, "run_yosys", lambda text, script, top, **given: asked.append(top) or ran(text, script, top, **given))
    fresh = f"unused_{time.time_ns()}"
    other = lane_text.replace("endmodule\n", f"  wire {fresh};\nendmodule\n", 1)
    changed = other[: other.index(fresh)].rsplit("module ", 1)[1].split(" ")[0]
    synthesise_parts(other, top="mac_lane")
    assert asked == [changed]
