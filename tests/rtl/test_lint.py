# amaranth: UnusedElaboratable=no
import pytest
from mac_lane import MacLane

from mixflight.rtl import lint as subject
from mixflight.rtl.emit import emit_verilog


def test_emitted_text_has_no_warning_beyond_the_waived_ones():
    assert subject.lint(emit_verilog(MacLane(memory=True), "mac_lane"), top="mac_lane") == []


def test_every_waiver_has_a_reason():
    assert all(len(reason) > 20 for reason in subject.WAIVERS.values())


def test_an_error_refuses_the_text_and_names_it():
    with pytest.raises(subject.LintError, match="broken: the emitted Verilog must be accepted .*missing"):
        subject.lint("module broken(input a, output b);\n assign b = missing;\nendmodule\n", top="broken")


def test_a_warning_that_is_not_waived_is_collected():
    text = "module latch(input a, input b, output reg q);\n always @* if (a) q = b;\nendmodule\n"
    [latch] = subject.lint(text, top="latch")
    assert latch.rule == "LATCH"


def test_a_signal_that_nothing_drives_is_not_waived():
    findings = subject.lint("module open(output q);\n wire x;\n assign q = x;\nendmodule\n", top="open")
    assert [finding.rule for finding in findings] == ["UNDRIVEN"]

def test_what_is_not_verilog_2005_is_refused():
    with pytest.raises(subject.LintError, match="newer: the emitted Verilog must be accepted"):
        subject.lint("module newer(input logic a, output logic b);\n assign b = a;\nendmodule\n", top="newer")
