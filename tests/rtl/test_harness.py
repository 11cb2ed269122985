# amaranth: UnusedElaboratable=no
import random
from dataclasses import replace

import numpy as np
import pytest
from mac_lane import MacLane, beats_and_sums

from mixflight.rtl import harness
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import HarnessError, Job, build_model, run_jobs


@pytest.fixture(scope="module")
def lane():
    return build_model(emit_verilog(MacLane(), "mac_lane"), top="mac_lane")


@pytest.fixture(scope="module")
def job():
    beats, sums = beats_and_sums(3000, random.Random(1))
    return Job(beats={"i": beats}, counts={"o__0": len(sums)}), tuple(sums)


def test_unstalled_values_and_cycles_are_exact(lane, job):
    job, sums = job
    [result] = run_jobs(lane, [job])
    assert result.finished
    assert result.outputs["o__0"] == sums
    assert result.protocol_errors == ()
    assert np.array_equal(result.input_cycles["i"], np.arange(3000))
    assert result.span("i", ["o__0"]) == 3001       # a beat each cycle, the last sum one cycle later


def test_stalls_change_cycles_and_not_values(lane, job):
    job, sums = job
    results = run_jobs(lane, [replace(job, stall={"i": 0.4, "o__0": 0.6}, seed=seed) for seed in (1, 2, 1)])
    for result in results:
        assert result.finished
        assert result.outputs["o__0"] == sums
        assert result.protocol_errors == ()
        assert result.span("i", ["o__0"]) > 3000 / 0.6 * 0.95
    first, second, again = (result.input_cycles["i"] for result in results)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)


def test_a_job_begins_from_reset(lane):
    half = Job(beats={"i": [0x0101]}, counts={"o__0": 0})               # 1 * 1, no end
    whole = Job(beats={"i": [0x1202]}, counts={"o__0": 1})              # 2 * 2, end
    _, result = run_jobs(lane, [half, whole])
    assert result.outputs["o__0"] == (4,)


def test_a_payload_that_never_comes_ends_the_run_unfinished(lane):
    [result] = run_jobs(lane, [Job(beats={"i": [0x0101]}, counts={"o__0": 1}, patience=50)])
    assert not result.finished
    assert result.cycles < 60


def test_a_payload_too_many_is_reported(lane):
    [result] = run_jobs(lane, [Job(beats={"i": [0x1101, 0x1101]}, counts={"o__0": 1})])
    assert result.protocol_errors[0].startswith("o__0: more than 1 payloads")


WITHDRAWS = """
module withdraws(clk, rst, i__payload, i__valid, i__ready, o__payload, o__valid, o__ready);
  input clk, rst, i__valid, o__ready;
  input [7:0] i__payload;
  output i__ready, o__valid;
  output [7:0] o__payload;
  reg [1:0] phase = 0;
  always @(posedge clk) phase <= rst ? 0 : phase + 1;
  assign i__ready = 1;
  assign o__valid = phase != 3;
  assign o__payload = phase[1] ? 8'd7 : 8'd5;
endmodule
"""


def test_a_payload_withdrawn_or_changed_is_reported():
    build = build_model(WITHDRAWS, top="withdraws")
    [result] = run_jobs(build, [Job(beats={"i": [1]}, counts={"o": 30}, stall={"o": 0.7})])
    text = " ".join(result.protocol_errors)
    assert "withdrawn before it was taken" in text
    assert "changed before it was taken" in text


def test_a_second_build_comes_from_the_cache(lane):
    again = build_model(emit_verilog(MacLane(), "mac_lane"), top="mac_lane")
    assert again.seconds == 0
    assert again.executable == lane.executable
    assert sorted(path.name for path in lane.executable.parent.iterdir()) == ["mac_lane.v", "simulation"]


def test_text_that_does_not_build_leaves_no_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path))
    with pytest.raises(HarnessError, match="Verilator must accept broken"):
        build_model("module broken(output q);\n assign q = missing + ;\nendmodule\n", top="broken")
    assert list((tmp_path / "verilator").iterdir()) == []


def test_a_simulation_that_dies_says_so(lane, tmp_path):
    program = tmp_path / "simulation"
    program.write_text("#!/bin/sh\necho something went wrong\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(HarnessError, match=r"mac_lane must write a result: something went wrong"):
        run_jobs(replace(lane, executable=program), [])


def test_words_of_any_width_survive_packing():
    values = (0, 1, 255, 1 << 200, (1 << 66) - 1)
    assert harness.from_words(harness.to_words(values)) == values
    assert harness.from_words(harness.to_words(())) == ()
