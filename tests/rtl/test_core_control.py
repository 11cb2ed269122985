"""The control registers: the map, its header and its page; AXI4-Lite against another implementation of the protocol."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mixflight.arch.core_registers import as_markdown, c_header, core_registers, load_registers
from mixflight.arch.errors import InputError
from mixflight.rtl.core_control import Control
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import build_model, simulate

DOCS = Path(__file__).parents[2] / "docs" / "core-registers.md"


def test_a_host_of_cocotbext_axi_agrees(tmp_path):
    pytest.importorskip("cocotbext.axi")
    slots = {"weight": 4096, "scale": 512, "index": 256, "act": 2048, "global": 8192}
    text = emit_verilog(Control(depth=64, constants=8192, slot_bytes=slots), "control")
    simulate(build_model(text, top="control"), tmp_path, "control_bus_bench", 300)
    cases = list(ElementTree.parse(tmp_path / "results.xml").iter("testcase"))
    assert len(cases) == 4
    assert not [case.get("name") for case in cases if case.find("failure") is not None]


def test_the_page_is_the_table():
    assert as_markdown() in DOCS.read_text()


def test_the_header_has_every_register_and_field():
    text = c_header("flightllm-mini", values={"SLOT_BYTES": (1, 2)}, sequencer={"WEIGHTS": 1})
    for row in core_registers().rows:
        assert re.search(rf"#define CORE_{row.name}(\(n\))? \(?0x{row.address:03x}u", text)
        for item in row.fields:
            assert f"#define CORE_{row.name}_{item.name.upper()}_SHIFT {item.low}u" in text
    assert "#define R_WEIGHTS 1u" in text
    assert "FLIGHTLLM_MINI_REGISTERS_H" in text


@pytest.mark.parametrize(("rows", "message"), [
    ('name="A"\naddress=2\naccess="rw"\nmeaning=""', "address must be a multiple of 4 behind the register before, not 0x2, of register 'A'"),
    ('name="A"\naddress=0\naccess="w"\nmeaning=""', "access must be rw, ro or wo, not 'w', of register 'A'"),
    ('name="A"\naddress=0x100\naccess="rw"\nmeaning=""', "registers must lie below 0x100, not 0x104"),
    ('name="A"\naddress=0\naccess="rw"\nmeaning=""\nfields=[{name="x", at="3:0", meaning=""}, {name="y", at="3:3", meaning=""}]',
     "at must be high:low inside 32 bits of its own, not '3:3', of field 'y'"),
])
def test_a_map_that_contradicts_itself_is_refused(tmp_path, rows, message):
    path = tmp_path / "map.toml"
    path.write_text(f"address_bits = 8\n[[register]]\n{rows}\n")
    with pytest.raises(InputError, match=re.escape(message)):
        load_registers(path)
