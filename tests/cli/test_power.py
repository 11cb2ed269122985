from command_line import document, refusal


def test_power_has_a_row_a_board():
    found = document("power", "--validate")
    assert [row["name"] for row in found["rows"] if row["calibrates"]] == ["FlightLLM"]
    for row in found["rows"]:
        assert row["power_w_low"] <= row["power_w"] <= row["power_w_high"]
        assert row["rel_error"] == row["power_w"] / row["published_w"] - 1
    assert 0 < found["mean_error"] < 0.5


def test_bad_input_is_one_line(tmp_path):
    assert "power must have one of --validate and --board" in refusal("power")
    bad = tmp_path / "boards.toml"
    bad.write_text("[[board]]\nname = 'x'\n")
    assert "missing required field" in refusal("power", "--board", bad)
    assert "must be a readable TOML file" in refusal("power", "--board", tmp_path / "none.toml")
