# amaranth: UnusedElaboratable=no
"""The small core and its parts, placed and routed on an ECP5: what is recorded, and the text that was placed."""

import tomllib

import pytest

from mixflight.rtl.core_resources import DEVICE_LUT4
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.record_core_ecp5 import _HEADER, PATH, parts
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import digest_text

ROWS = {row["name"]: row for row in tomllib.loads(PATH.read_text())["rows"]}
RERECORD = "run `python -m mixflight.rtl.record_core_ecp5 {}` and commit arch/synthesis/core_ecp5.toml with the reason"


def test_the_file_is_as_the_script_writes_it():
    assert as_toml(list(ROWS.values()), header=_HEADER) == PATH.read_text()
    assert list(ROWS) == [name for name in parts() if name in ROWS]


def test_the_whole_is_more_than_its_parts_and_has_room():
    whole = ROWS["core"]
    for unit in ("lut4", "ff", "mult18", "ebr"):
        assert whole[unit] > max(row[unit] for name, row in ROWS.items() if name != "core")
    assert whole["lut4"] < DEVICE_LUT4
    assert whole["fmax_mhz"] <= min(row["fmax_mhz"] for row in ROWS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_recorded_text_is_the_emitted_one(name):
    assert ROWS[name]["text_sha256"] == digest_text(emit_verilog(parts()[name](), f"small_{name}")), RERECORD.format(name)
