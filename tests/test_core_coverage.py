"""``mixflight verify flightllm-core --coverage``: what it measures, writes and refuses."""

import json

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.cli.coverage import show_coverage
from mixflight.core_coverage import core_coverage
from mixflight.core_coverage_results import by_group, holes_text
from mixflight.rtl.core import core_shape


def test_programs_alone(tmp_path, capsys):
    status = show_coverage(["flightllm-core"], "mixpe-mini", tmp_path / "new", count=2, rtl=False, json=False)
    said, written = capsys.readouterr().out, json.loads((tmp_path / "new" / "coverage.json").read_text())
    assert status == 0
    assert written["schema"] == "coverage/1" and written["checked"] is None and written["verilog"] is None
    assert "functional coverage of mixpe-mini by 2" in said and "holes.txt names what is missing" in said
    holes = (tmp_path / "new" / "holes.txt").read_text()
    reached = {name: (covered, bins) for name, covered, bins, _ in by_group_of(written["functional"])}
    assert 0 < reached["all"][0] < reached["all"][1]
    missing = sum(len(item["holes"]) for part in ("functional", "fields") for item in written[part])
    assert holes.count("\n") >= missing > 0
    assert "no core has integer zero points" in holes


def by_group_of(bins):
    total = [(item["group"], item["covered"], item["reachable"], 0) for item in bins]
    return [*total, ("all", sum(row[1] for row in total), sum(row[2] for row in total), 0)]


def test_a_core_without_matrices():
    machine = accelerator_named("flightllm-mini")
    found = core_coverage(machine, count=2, rtl=False)
    groups = {name: bins for name, _, bins, _ in by_group(found.fields)}
    assert ("MM" in groups) == ("MM" in core_shape(machine).classes)
    assert "fields of instructions not reached" in holes_text(found)


def test_joined_cores_run_programs_that_meet(tmp_path):
    machine = accelerator_named("mixpe-duo")
    found = core_coverage(machine, count=1, rtl=False)
    groups = {name: (reached, bins) for name, reached, bins, _ in by_group(found.functional)}
    assert 0 < groups["exchange"][0] < groups["exchange"][1] and found.checked is None
    with pytest.raises(InputError, match="lines and signals must be of a machine of one core, not mixpe-duo: add --no-rtl"):
        show_coverage(["flightllm-core"], "mixpe-duo", tmp_path, count=1, rtl=True, json=False)


@pytest.mark.parametrize("tops", [[], ["csd-chain"], ["flightllm-core", "csd-chain"]])
def test_what_is_refused(tops, tmp_path):
    with pytest.raises(InputError, match="coverage must be of one top among flightllm-core"):
        show_coverage(tops, None, tmp_path, count=1, rtl=False, json=False)


@pytest.mark.slow
def test_lines_and_signals_of_the_verilog():
    """A few programs already reach nearly every line; every program is exact."""
    found = core_coverage(accelerator_named("mixpe-mini"), count=4)
    assert found.checked.failures == []
    assert found.checked.cycle_error_max < 0.02
    shares = {kind: found.verilog.total(kind) for kind in ("line", "branch", "toggle")}
    assert shares["line"].covered / shares["line"].points > 0.93
    assert shares["branch"].covered / shares["branch"].points > 0.9
    assert shares["toggle"].covered / shares["toggle"].points > 0.8
    assert sum(found.verilog.waived.values()) < 0.1 * shares["toggle"].points
