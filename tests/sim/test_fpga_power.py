import re
from pathlib import Path

import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.prices import price_table
from mixflight.sim.fpga_power import PARTS, TECHNOLOGY, boards, calibrated, mean_error, power_of, validated

PAGE = (Path(__file__).parents[2] / "docs" / "fpga-power.md").read_text()


def test_one_board_calibrates_and_gives_the_price_of_the_fabric():
    [board] = [board for board in boards() if board.calibrates]
    price = price_table(TECHNOLOGY).of("fabric", "lut_cycle")
    assert calibrated(board) == pytest.approx(price.value_pj, rel=1e-3)
    assert calibrated(board, lambda item: item.low_pj) == pytest.approx(price.high_pj, rel=1e-3)
    assert calibrated(board, lambda item: item.high_pj) < 0 == price.low_pj
    assert power_of(board).watts == pytest.approx(45.0, rel=1e-3)


def test_parts_add_up_and_bands_hold_them():
    for item in validated():
        assert set(item.parts) == set(PARTS)
        assert sum(item.parts.values()) == pytest.approx(item.watts)
        assert item.watts_low <= item.watts <= item.watts_high


def test_power_grows_with_each_thing_done():
    import msgspec

    board = next(item for item in boards() if item.name == "Chen et al.")
    base = power_of(board).watts
    for field in ("tokens_per_s", "luts", "clock_mhz", "bits", "devices"):
        assert power_of(msgspec.structs.replace(board, **{field: 2 * getattr(board, field)})).watts > base


def test_traffic_by_hand():
    board = next(item for item in boards() if item.calibrates)
    assert board.traffic == pytest.approx((6607e6 * 3.5 + 131e6 * 8) * 55)
    assert power_of(board).parts["memory"] == pytest.approx(board.traffic * 3.9e-12)


def test_the_page_has_every_board_and_its_error():
    rows = re.findall(
        r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([-+]\d+) \|", PAGE, re.MULTILINE
    )
    found = validated()
    assert [row[0] for row in rows] == [item.board.name for item in found]
    for row, item in zip(rows, found, strict=True):
        shown = (f"{item.board.watts:g}", f"{item.watts:.1f}", f"{item.watts_low:.1f}", f"{item.watts_high:.1f}")
        assert row[1:5] == shown
        assert int(row[5]) == round(100 * item.error)
    checks = [item for item in found if not item.board.calibrates]
    inside = sum(item.in_band for item in checks)
    assert f"{100 * mean_error(found):.0f} % on the {len(checks)} boards" in PAGE
    assert f"{inside} of {len(checks)}" in PAGE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("watts = -3.0", "watts must be above 0, not -3.0"),
        ("watts = 3.0\nheat = 1.0", "unknown key 'heat'"),
        ("", "missing required field `watts`"),
    ],
)
def test_bad_boards_are_refused(tmp_path, change, message):
    path = tmp_path / "mine.toml"
    text = (Path(__file__).parents[2] / "sim" / "fpga_boards.toml").read_text()
    path.write_text(text[: text.index('[[board]]\nname = "EdgeLLM"')].replace("watts = 45.0", change))
    with pytest.raises(InputError, match=message):
        boards(path)
