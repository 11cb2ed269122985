"""Coverage that compiled Verilog writes: points, what waives them, what was reached."""

import re

import numpy as np
import pytest

from mixflight.rtl.coverage_data import (
    KINDS,
    Waiver,
    module_coverage,
    read_counts,
    read_points,
    waivers,
    without_unnamed,
)

VERILOG = "module unit;\n  if (\\$start ) begin end\n  wire [1:0] data;\n  wire \\$12 ;\n  assign x = \\$12 & \\$signal$3 ;\nendmodule\n"


def line(kind, number, what, path, count):
    fields = {"f": "unit.v", "l": number, "n": 3, "t": kind, "page": f"v_{kind}/unit", "o": what, "h": path}
    return "C '" + "".join(f"\x01{name}\x02{value}" for name, value in fields.items()) + f"' {count}\n"


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "coverage.dat"
    path.write_text("# SystemC::Coverage-3\n" + "".join([
        line("branch", 2, "if", "TOP.bench.core.memory.loads", 0),
        line("branch", 2, "else", "TOP.bench.core.memory.loads", 7),
        line("toggle", 3, "data__05b0__05d:0->1", "TOP.bench.core.memory.loads", 3),
        line("toggle", 3, "a___05Fb[1]:1->0", "TOP.bench.core.memory.loads", 0),
        line("line", 1, "block", "TOP.bench.core", 1),
        line("toggle", 3, "clk:0->1", "TOP.bench", 9),
    ]))  # fmt: skip
    return path


def test_points_are_read_by_module_with_their_verilog(written):
    points = read_points(written, VERILOG)
    assert [point.module for point in points] == [*["memory.loads"] * 4, "(top)", ":bench"]
    assert [point.what for point in points[2:4]] == ["data[0]:0->1", "a__b[1]:1->0"]
    assert points[0].code == "if (\\$start ) begin end"
    assert read_counts(written).tolist() == [0, 7, 3, 0, 1, 9]


def test_modules_are_summed_less_what_is_waived(written):
    points, counts = read_points(written, VERILOG), read_counts(written)
    top, loads = module_coverage(points, counts, ())
    assert (top.module, top.points, top.covered) == ("(top)", {"line": 1, "branch": 0, "toggle": 0}, {"line": 1, "branch": 0, "toggle": 0})
    assert (loads.points, loads.covered) == ({"line": 0, "branch": 2, "toggle": 2}, {"line": 0, "branch": 1, "toggle": 1})
    assert [point.what for point in loads.missed] == ["if", "a__b[1]:1->0"]
    rules = [Waiver(kinds=("branch",), code=r"if \(\\\$start \) begin end", reason="emitter"),
             Waiver(kinds=("toggle",), module="memory.*", signal=r"data\[\d\]", reason="wrong")]  # fmt: skip
    top, loads = module_coverage(points, counts, rules)
    assert loads.points == {"line": 0, "branch": 0, "toggle": 1}
    assert (loads.waived, loads.reached_though_waived) == ({"emitter": 2, "wrong": 1}, {"emitter": 1, "wrong": 1})
    both = module_coverage(points, counts + np.array([1, 0, 0, 1, 0, 0]), ())
    assert sum(item.covered[kind] for item in both for kind in KINDS) == 5


def test_every_waiver_says_why():
    assert len(waivers()) >= 5
    for rule in waivers():
        assert len(rule.reason) > 20
        assert set(rule.kinds) <= set(KINDS)
        for pattern in (rule.module, rule.signal, rule.code):
            re.compile(pattern)
    assert any(re.fullmatch(rule.code, r"if (\$start ) begin end") for rule in waivers() if rule.code != ".*")
    [wide] = [re.compile(rule.signal) for rule in waivers() if "araddr" in rule.signal]
    assert wide.fullmatch("m_axi_0__araddr[33]")
    assert not wide.fullmatch("m_axi_0__araddr[31]")


def test_signals_without_a_name_are_no_points():
    text = without_unnamed(VERILOG)
    assert "wire _step12 ;" in text
    assert "assign x = _step12 & \\$signal$3 ;" in text
