"""Sentences say what the document's numbers say."""

import msgspec
import pytest
from small_results import small_document

from mixflight.reports.findings import findings, headline, number, share


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (3.6, "3.60"), (179.91, "180"), (0.0357, "0.0357"), (1024, "1,020"), (99.96, "100"), (0.00012, "0.000120"),
    (1234567, "1,230,000"), (9.996, "10.0"),
])
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("part", "text"), [(0.302, "30 %"), (0.0314, "3.1 %"), (0.00384, "0.38 %"), (1, "100 %")])
def test_share(part, text):
    assert share(part) == text


def with_limit(document, limit, only=None):
    def changed(machine):
        if only is not None and machine.name != only:
            return machine
        replace = msgspec.structs.replace
        decode = replace(machine.simulation.decode, bound_by=limit)
        return replace(machine, simulation=replace(machine.simulation, decode=decode))

    return msgspec.structs.replace(document, machines=tuple(changed(machine) for machine in document.machines))


def test_headline_names_what_binds_decode():
    document = small_document()
    assert "1 token at a time fills 1 of 32 rows" in headline(document)
    assert "useful work 1.5 % of the time while DRAM is busy 21 %" in headline(document)
    assert "bound by dram on every machine here: the memory's bandwidth" in headline(with_limit(document, "dram"))
    mixed = headline(with_limit(document, "dram", only="mul4x8"))
    assert "mixpe-w4a8 by array edge, mul4x8 by dram" in mixed


def test_findings_follow_the_numbers():
    document = small_document()
    memory, shift_add, verified, h100, _, swept = findings(document)
    assert "DRAM is 67 % of decode's energy" in memory
    assert "factor of 20" in memory
    assert "0.40 % more time" in shift_add
    assert "0.40 % more energy" in shift_add
    assert "bands of the two energies overlap" in shift_add
    assert "all 128 values of 2 tile runs of the real model" in verified
    assert "627 cycles where 627 were computed" in verified
    assert "h100:fp16 decodes 4.0 times as fast as mixpe-w4a8 and takes 0.25 (0.013 to 5.0) times the energy" in h100
    assert "of its board, where mixpe-w4a8's is of chip and DRAM" in h100
    assert "Of 11 designs of a sweep 3 are on the front; the highest tokens_per_s there is 160" in swept
    assert "pe multiply-8x8, rows 16" in swept


def test_a_failed_verification_is_a_finding():
    document = small_document()
    checked = msgspec.structs.replace(document.verification, failures=1)
    assert "1 of 2 runs of the emitted Verilog differ" in findings(small_document(verification=checked))[2]
