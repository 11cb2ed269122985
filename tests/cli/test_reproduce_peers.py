import re

import pytest
from command_line import document, mixflight, refusal


def test_the_documented_rows():
    found = document("reproduce", "peers")
    held = {row["id"]: row for row in found["rows"]}
    assert held["scalesim-os/prefill/q"]["ours"] == 8_515_583
    assert held["accelforge/decode/gate"]["ours"] == held["accelforge/decode/gate"]["published"] == 1_409_024
    assert held["accelforge/decode/gate"]["note"] == "bound by array edge"
    assert held["mixflight/decode/layer"]["published"] is None
    assert len(found["rows"]) == 14 * 2 * 6
    assert {row["mode"] for row in found["rows"]} == {"published"}


def test_another_machine_has_nothing_published():
    found = document("reproduce", "peers", "--array", "64x16", "--dram-bytes-per-cycle", "32")
    assert {row["published"] for row in found["rows"]} == {None}
    held = {row["id"]: row["ours"] for row in found["rows"]}
    assert held["scalesim-ws/decode/q"] == (4096 // 64) * (4096 // 16) * (2 * 64 + 16 + 1 - 2) - 1
    assert held["bound/decode/q"] == (4096 * 4096 + 2 * 4096) / 32


def test_tables_fit_80_columns():
    done = mixflight("reproduce", "peers", env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert ["decode/gate", "4,183,039", "4,183,039", "+0.00", "yes"] in map(str.split, done.stdout.splitlines())
    assert "156 of 156 compared rows are within." in re.sub(r"\s+", " ", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("peers", "--array", "32by32"), "--array must be ROWSxCOLS such as 32x32, not '32by32'"),
        (("peers", "--array", "0x32"), "--array must have 1 to 1024 rows and columns, not 0x32"),
        (("peers", "--array", "32x2000"), "--array must have 1 to 1024 rows and columns, not 32x2000"),
        (("peers", "--dram-bytes-per-cycle", "0"), "--dram-bytes-per-cycle must be at least 1, not 0"),
        (("peers", "--dram-bytes-per-cycle", "fast"), "'--dram-bytes-per-cycle'"),
        (("peers", "--buffer-kib", "-1"), "--buffer-kib must be at least 1, not -1"),
        (("peers", "--mode", "corrected"), "mode must be one of published, not 'corrected', for study 'peers'"),
        (("mixpe", "--array", "8x8"), "--array goes with study 'peers', not 'mixpe'"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    assert message in refusal("reproduce", *arguments)
