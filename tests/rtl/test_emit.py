# amaranth: UnusedElaboratable=no
"""The emitted Verilog: one module for equal instances, plain names, the same text every time, two parsers
agree."""

import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.errors import InputError
from mixflight.rtl import emit
from mixflight.rtl.emit import emit_verilog, merge_identical
from mixflight.rtl.inspect import inspect_verilog
from mixflight.rtl.placed_copy import WRITING, place
from mixflight.rtl.tops import TOPS, balanced_lanes, mixpe_array


def modules(text):
    return re.findall(r"^module (\S+) ", text, re.M)


def instances(text, module):
    return len(re.findall(rf"^  {module} ", text, re.M))


@pytest.fixture(scope="module")
def array_text():
    return emit_verilog(mixpe_array(zero="f16-min"), "mixpe-array")


def test_the_array_has_one_pe_module_and_one_lane_module(array_text):
    names = modules(array_text)
    assert [name for name in names if name.startswith("mixpe_array_pe")] == ["mixpe_array_pe"]
    assert [name for name in names if name.endswith("_lane")] == ["mixpe_array_lane"]
    assert instances(array_text, "mixpe_array_pe") == 64
    assert instances(array_text, "mixpe_array_lane") == 2
    assert instances(array_text, "mixpe_array_lane_add") == 2
    assert names[-1] == "mixpe_array"


def test_parts_come_before_what_uses_them(array_text):
    seen = set()
    for name, body in re.findall(r"^module (\S+) (.*?)^endmodule", array_text, re.M | re.S):
        for kind in re.findall(r"^  (mixpe_array\w*) ", body, re.M):
            assert kind in seen
        seen.add(name)


def test_the_text_depends_on_the_parameters_only(array_text):
    assert emit_verilog(mixpe_array(zero="f16-min"), "mixpe-array") == array_text
    assert emit_verilog(mixpe_array(zero="none"), "mixpe-array") != array_text


def test_an_independent_parser_reads_it(array_text):
    assert set(inspect_verilog(array_text, top="mixpe_array").modules) == set(modules(array_text))


@pytest.mark.parametrize("top", TOPS)
def test_every_top_has_ports_named_after_its_signature(top):
    component = TOPS[top]()
    text = emit_verilog(component, top)
    name = top.replace("-", "_")
    ports = re.search(rf"^module {name} \(([^)]*)\)", text, re.M)[1].split(", ")
    members = ["__".join(map(str, path)) for path, _, _ in component.signature.flatten(component)]
    assert ports == sorted(["clk", "rst", *members])
    if top == "mixpe-array":
        assert members == [f"{stream}__{part}" for stream in ("act", "wgt", "params", "out__0", "out__1")
                           for part in ("payload", "valid", "ready")]


def test_equal_modules_merge_from_the_leaves_up():
    leaf = "module \\t.{0}.x (b, a);\n  input a;\n  output b;\n  assign b = ~a;\nendmodule\n\n"
    node = ("module \\t.{0} (a, b);\n  input a;\n  output b;\n"
            "  \\t.{0}.x  x (\n    .a(a),\n    .b(b)\n  );\nendmodule\n\n")
    other = "module \\t.u_2 (a);\n  input a;\nendmodule\n\n"
    top = ("module t(a);\n  input a;\n  \\t.u_0  u_0 (\n    .a(a)\n  );\n  \\t.u_1  u_1 (\n    .a(a)\n  );\n"
           "  \\t.u_2  u_2 (\n    .a(a)\n  );\nendmodule\n")
    text = merge_identical("".join([top, node.format("u_0"), leaf.format("u_0"), node.format("u_1"),
                                    leaf.format("u_1"), other]), "t")
    assert modules(text) == ["t_u_x", "t_u", "t_u_2", "t"]
    assert re.findall(r"^  (\w+) (u_\d)", text, re.M) == [("t_u", "u_0"), ("t_u", "u_1"), ("t_u_2", "u_2")]


COPIED = {
    "shift-add": {"two_pass": True, "split": 2, "zero": "int4"},
    "aligned": {"zero": "int4"},
    "float": {"zero": "f16-min"},
    "centred": {"dataflow": "weight-stationary", "zero": "f16-min"},
}


@pytest.mark.parametrize("pe", COPIED)
def test_copies_give_the_text_that_elaborating_every_part_gives(pe):
    def text(platform):
        return emit._written(mixpe_array(rows=2, cols=3, lanes=3, pe=pe, **COPIED[pe]), "array", platform)

    copied = text(WRITING)      # None if the ports of a copy were not its part's
    assert merge_identical(copied, "array") == merge_identical(text(None), "array")


def test_a_stationary_array_has_one_module_of_sums():
    text = emit_verilog(mixpe_array(dataflow="weight-stationary", rows=2, cols=3, lanes=1), "array")
    assert [name for name in modules(text) if "sums" in name] == ["array_sums"]
    assert instances(text, "array_sums") == 3
    assert "port$" not in text


class Counter(wiring.Component):
    """Adds."""

    def __init__(self):
        super().__init__({"step": In(4), "count": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.count.eq(self.count + self.step)
        return m


class Counters(wiring.Component):
    """Three counters, the last with a step of its own where ``step`` is given."""

    def __init__(self, step=None):
        self.last_step = step
        super().__init__({"step": In(4), "count": Out(4).array(3)})

    def elaborate(self, platform):
        m = Module()
        for index in range(3):
            counter = Counter()
            place(m, platform, f"counter_{index}", counter, like="counter_0")
            step = self.last_step if index == 2 and self.last_step else self.step
            m.d.comb += [counter.step.eq(step), self.count[index].eq(counter.count)]
        return m


def test_a_copy_with_a_constant_input_is_elaborated():
    text = emit_verilog(Counters(), "counters")
    assert modules(text) == ["counters_counter", "counters"]
    assert instances(text, "counters_counter") == 3
    other = emit_verilog(Counters(step=5), "counters")
    assert modules(other) == ["counters_counter", "counters_counter_2", "counters"]
    assert "module counters_counter_2 (clk, count, rst);" in other


def test_lanes_follow_the_group():
    expected = {(8, 8, 32): 2, (32, 64, 32): 64, (32, 64, 128): 16, (4, 6, 5): 6, (4, 6, 16): 2,
                (4, 4, 128): 1, (64, 8, 4): 8}
    assert {shape: balanced_lanes(rows=shape[0], cols=shape[1], group=shape[2]) for shape in expected} == expected


def test_refusals():
    with pytest.raises(InputError, match="a module name must consist of .*, not '1x', in Verilog emission"):
        emit_verilog(None, "1x")
    with pytest.raises(InputError, match="rows, cols and group must be at least 1, not 8, 8 and 0"):
        mixpe_array(group=0)


def test_a_cache_that_cannot_be_written_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="the cache folder must be writable to emit Verilog, but .*/file/wasmtime is not"):
        emit_verilog(TOPS["mul4x8-pe"](), "pe")
