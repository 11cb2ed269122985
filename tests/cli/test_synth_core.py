"""`synth flightllm-core --target ecp5`: what nextpnr says of a placed core, as a document and as a table."""

import json
import tomllib

import jsonschema
import pytest
import typer

from mixflight.arch.errors import InputError
from mixflight.cli.synth import register
from mixflight.rtl import place_ecp5
from mixflight.rtl.place_ecp5 import PACKAGE, PlacedDesign
from mixflight.rtl.record_core_ecp5 import PATH

CELLS = {"LUT4": 90, "CCU2C": 5, "TRELLIS_DPR16X4": 2, "TRELLIS_FF": 70, "PFUMX": 4, "DP16KD": 3, "MULT18X18D": 1}


@pytest.fixture
def placed(monkeypatch):
    """A place and route that takes no time, and the texts that came to it."""
    texts = []

    def quick(text, *, top, crowded):
        texts.append((text, top, crowded))
        return PlacedDesign(fmax_mhz=12.5, used={"TRELLIS_COMB": 120, "ALU54B": 0}, available={"TRELLIS_COMB": 83_640, "ALU54B": 78},
                            cells=CELLS, script="place", tools={PACKAGE: "1", "pyosys": "2"})  # fmt: skip

    monkeypatch.setattr(place_ecp5, "place_large", quick)
    return texts


def _synth(*arguments):
    app = typer.Typer()
    register(app)
    return app(["flightllm-core", "--arch", "mixpe-small", "--target", "ecp5", *arguments], standalone_mode=False)


def test_the_document(placed, capsys, pytestconfig):
    _synth("--json")
    found = json.loads(capsys.readouterr().out)
    schema = json.loads((pytestconfig.rootpath / "docs/schemas/synth-1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    assert (found["fmax_mhz"], found["target"], found["parameters"]["arch"]) == (12.5, "ecp5", "mixpe-small")
    assert "placed and routed, 120 of 83,640 LUTs" in found["fmax_basis"] and f"{PACKAGE} 1" in found["fmax_basis"]
    assert (found["ff"], found["dsp"], found["cells"]) == (70, 1, CELLS)
    [(text, top, crowded)] = placed
    assert crowded and f"module {top}" in text


def test_the_table(placed, capsys):
    _synth()
    shown = capsys.readouterr().out
    assert "TRELLIS_COMB" in shown and "ALU54B" not in shown
    assert shown.splitlines()[-1].startswith("Fmax 12.5 MHz: ")


def test_products_of_another_device_are_refused_before_anything_is_placed(placed):
    app = typer.Typer()
    register(app)
    with pytest.raises(InputError, match="must have products that the device has.*not the DSP48E2 of flightllm-mini"):
        app(["flightllm-core", "--arch", "flightllm-mini", "--target", "ecp5"], standalone_mode=False)
    assert placed == []


@pytest.mark.slow
def test_the_core_is_the_recorded_one(placed):
    """Its top's name apart, which is not the record's."""
    from mixflight.rtl.synthesis import digest_text

    _synth("--json")
    [(text, top, _)] = placed
    [row] = [row for row in tomllib.loads(PATH.read_text())["rows"] if row["name"] == "core"]
    assert digest_text(text.replace(top, "small_core")) == row["text_sha256"]
