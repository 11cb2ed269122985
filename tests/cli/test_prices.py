"""``mixflight prices`` as a user meets it."""

import pytest
from command_line import document, mixflight, refusal

from mixflight.arch.prices import dram_energies, technologies


def test_all_tables_are_listed():
    names = [row["name"] for row in document("prices")["rows"]]
    assert names == [*technologies(), *dram_energies(), "sram"]
    assert {"HBM2", "HBM2E", "HBM3", "DDR4", "LPDDR4", "LPDDR5"} == set(dram_energies())


@pytest.mark.parametrize("name", ["osu018-scaled", "LPDDR5"])
def test_every_price_has_its_unit_band_source_and_date(name):
    for row in document("prices", name)["rows"]:
        values = [row["value"], *(other["value_pj"] for other in row["others"])]
        assert (row["low"], row["high"]) == (min(values), max(values))
        assert row["unit"] == "pJ"
        assert all(item["source"] and item["date"][:4].isdigit() for item in (row, *row["others"]))


def test_sram_is_shown_with_the_error_of_its_formula():
    for row in document("prices", "sram")["rows"]:
        assert row["rel_error"] == pytest.approx(row["value"] / row["published"] - 1)
    done = mixflight("prices", "sram", env={"COLUMNS": "80", "PATH": "/bin"})
    assert "-28.2" in done.stdout
    assert "bytes^0.5; hsharma35/bitfusion" in done.stdout


def test_an_unknown_table_is_one_line():
    assert "prices must be those of a .toml file or of one of 28nm-literature" in refusal("prices", "3nm")


def test_a_machine_in_another_technology(tmp_path):
    """PE prices of counted switching on recorded operands in place of the literature's: only the PEs change."""
    run = ("compare", "--model", "llama2-7b", "--prefill", 16, "--decode", 2)
    other = "mixpe-w4a8@osu018-scaled"
    one, two = document(*run, "--arch", "mixpe-w4a8:w4a8g128", "--arch", f"{other}:w4a8g128")["rows"]
    assert two["name"] == other
    parts = [{part["component"]: part["energy_mj_per_token"] for part in row["decode"]["components"]} for row in (one, two)]
    changed = {name for name in parts[0] if parts[0][name] != pytest.approx(parts[1][name])}
    assert changed == {"pe.shift-add-4x8"}
    assert parts[1]["pe.shift-add-4x8"] / parts[0]["pe.shift-add-4x8"] == pytest.approx(0.985 / 0.203)
    assert one["decode"]["time_ms"] == two["decode"]["time_ms"]
    assert "every action must have a price" in refusal(*run, "--arch", "flightllm-u280@45nm-literature:flightllm")
    assert "technology must be a .toml file or one of" in refusal(*run, "--arch", "mixpe-w4a8@3nm:w4a8g128")


@pytest.mark.parametrize(("arguments", "said"), [
    (("--operands", "smollm2"), "--operands must stand with -o FILE.toml and without a NAME"),
    (("HBM2", "--operands", "smollm2", "-o", "x.toml"), "--operands must stand with -o FILE.toml and without a NAME"),
    (("--text", "a"), "--text, --pe and -o must stand with --operands"),
    (("HBM2", "-o", "x.toml"), "--text, --pe and -o must stand with --operands"),
    (("--operands", "llama2-7b", "-o", "x.toml"), "MODEL must be smollm2 or a .gguf file"),
])  # fmt: skip
def test_options_of_recording_that_do_not_go_together(arguments, said):
    assert said in refusal("prices", *arguments)
