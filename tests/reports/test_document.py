"""results.json: read as written, and refused in one line."""

import pytest
from small_results import small_document

from mixflight.arch.accelerator import accelerators
from mixflight.arch.errors import InputError
from mixflight.reports import document as doc


def test_written_and_read_again(tmp_path):
    document = small_document()
    (tmp_path / doc.DOCUMENT).write_bytes(doc.encode_document(document))
    assert doc.read_document(tmp_path) == document


@pytest.mark.parametrize(("content", "message"), [
    (None, "must be a folder with results.json"),
    (b"{", "must be a document"),
    (b"[]", "must be a document"),
    (b'{"version": 99}', "must be of version 1, not 99"),
    (b'{"version": 1}', "missing required field"),
])
def test_refused_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / doc.DOCUMENT).write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        doc.read_document(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_document_without_machines_is_refused(tmp_path):
    content = doc.encode_document(small_document()).replace(b'"machines": [', b'"machines": [], "was": [')
    (tmp_path / doc.DOCUMENT).write_bytes(content)
    with pytest.raises(InputError, match="at least one machine"):
        doc.read_document(tmp_path)


def test_shares_of_time_follow_from_the_numbers():
    machine = small_document().machines[0]
    decode = machine.simulation.decode
    assert machine.peak_gmacs == 32 * 64 * 0.5
    assert machine.utilisation(decode) == pytest.approx(123_456_789 / (1024e9 * 8e-3))
    assert machine.dram_busy(decode) == pytest.approx(98_765_432 / (64e9 * 0.92 * 8e-3))


@pytest.mark.parametrize(("source", "basis"), [
    ("assumed: a depth", "assumed"), ("half of int8; provisional until synthesis", "assumed"),
    ("as mixpe-w4a8", "assumed"), ("derived: rows * cols / 32", "derived"), ("Shuhai (FCCM 2020): 425", "quoted"),
])
def test_basis_of_a_source(source, basis):
    assert doc.basis_of(source) == basis


def test_every_parameter_of_every_preset_has_a_value_and_a_source():
    for accelerator in accelerators().values():
        for key, source in accelerator.sources.items():
            assert doc._value_of(accelerator, key)
            assert source


def test_prices_are_those_of_the_machines():
    prices, technologies = doc.prices_of([accelerators()["mixpe-w4a8"]])
    assert {price.component for price in prices if price.component.startswith("pe.")} == {"pe.shift-add-4x8"}
    assert list(technologies) == ["45nm-literature"]
