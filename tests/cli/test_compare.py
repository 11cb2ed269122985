from pathlib import Path

import pytest
from command_line import document, mixflight, refusal

from mixflight.arch import accelerator, costs
from mixflight.reports.findings import number

RUN = ("compare", "--model", "llama2-7b", "--prefill", 128, "--decode", 4)
ENERGY = ("energy_mj_per_token", "power_w", "tokens_per_joule")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "batch.svg"
    machines = ("--arch", "mixpe-w4a8:w4a8g128", "--gpu", "h100:w4a16g128", "--gpu", "v100s:fp16")
    found = document(*RUN, *machines, "--batches", "1,16,64", "--figure", path)
    return found, path.read_text()


def test_every_row_has_its_band_by_component(several):
    for row in several[0]["rows"]:
        for phase in (row["prefill"], row["decode"]):
            for key in ENERGY:
                assert phase[f"{key}_low"] < phase[key] < phase[f"{key}_high"]
            groups = phase["component_groups"]
            for key in ("energy_mj_per_token", "energy_mj_per_token_low", "energy_mj_per_token_high"):
                assert sum(group[key] for group in groups) == pytest.approx(phase[key])
            assert len({group["group"] for group in groups}) == len(groups) > 2


def test_cost_stands_where_a_price_does(several):
    for row in several[0]["rows"]:
        keys = [f"usd_per_million_tokens{end}" for end in ("_low", "", "_high")]
        values = [row[key] for key in keys]
        if row["name"] == "mixpe-w4a8":
            assert values == [None] * 3
        else:
            assert 0 < values[0] < values[1] < values[2]


def test_advantages_are_ratios_of_the_rows(several):
    rows = {(row["name"], row["batch"]): row for row in several[0]["rows"]}
    found = several[0]["advantages"]
    assert len(found) == 6 - len([item for item in several[0]["refused"] if item["name"].startswith("v100s")])
    for item in found:
        ours = rows[item["machine"].split(":")[0], item["batch"]]["decode"]
        theirs = rows[item["gpu"].split(":")[0], item["batch"]]["decode"]
        assert item["energy"] == pytest.approx(ours["tokens_per_joule"] / theirs["tokens_per_joule"])
        assert item["speed"] == pytest.approx(ours["tokens_per_s"] / theirs["tokens_per_s"])
        assert item["energy_low"] == pytest.approx(ours["tokens_per_joule_low"] / theirs["tokens_per_joule_high"])
        assert item["energy_low"] < item["energy"] < item["energy_high"]


def test_the_figure_says_its_numbers(several):
    found, svg = several
    assert svg.startswith("<?xml")
    for row in found["rows"]:
        value = row["decode"]["energy_mj_per_token"]
        assert f"batch {row['batch']} " in svg
        assert f"{row['name']} {row['recipe']}: batch 1 " in svg
        assert f"batch {row['batch']} {number(value)} mJ" in svg


def test_what_covers_what_is_said(several):
    assert {row["name"]: row["energy_scope"] for row in several[0]["rows"]} == {
        "mixpe-w4a8": "chip and DRAM, by counted actions", "h100": "board", "v100s": "board",
    }  # fmt: skip


def test_a_batch_that_does_not_fit_is_noted_and_alone_refused():
    machine = ("--gpu", "rtx4090:fp16")
    found = document(*RUN, *machine, "--batches", "1,512")
    assert [item["batch"] for item in found["refused"]] == [512]
    assert "must fit in the 24 GB of rtx4090" in found["refused"][0]["reason"]
    assert "must fit in the 24 GB of rtx4090" in refusal(*RUN, *machine, "--batch", 512)


def test_tables_fit_80_columns():
    done = mixflight(*RUN, "--arch", "mixpe-w4a8:w4a8g128", "--gpu", "h100:fp16", env={"COLUMNS": "80", "PATH": "/bin"})
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.split("energy covers")[0].splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batches", "1,x"), "--batches must be whole numbers with commas between them, not '1,x'"),
        (("--batches", "4,1"), "--batches must be ascending numbers of at least 1, not '4,1'"),
        (("--batches", "1,2", "--batch", "2"), "--batches must come without --batch, not with 2"),
        (("--figure", "f.svg"), "--figure must come with --batches"),
        (("--costs", "none.toml"), "none.toml must be a readable TOML file"),
    ],
)
def test_bad_options_are_one_line(options, message):
    assert message in refusal(*RUN, "--gpu", "h100:fp16", *options)


def test_a_missing_price_is_one_line(tmp_path):
    path = tmp_path / "mine.toml"
    text = Path(costs.__file__).with_name("costs.toml").read_text()
    path.write_text(text[: text.index("[machine.h100]")])
    message = refusal(*RUN, "--gpu", "h100:fp16", "--costs", path)
    assert "every machine must have a price: h100 has none, only flightllm-u280" in message
    path.write_text(text.replace("value = 3.4", "value = -3.4"))
    assert "0 < low <= value <= high must hold" in refusal(*RUN, "--gpu", "h100:fp16", "--costs", path)


def test_a_technology_without_a_price_is_one_line(tmp_path):
    technology = tmp_path / "mine.toml"
    technology.write_text('summary = "x"\nprice = []\n')
    machine = (Path(accelerator.__file__).with_name("presets") / "int8.toml").read_text()
    path = tmp_path / "machine.toml"
    path.write_text(machine.replace('"45nm-literature"', f'"{technology}"'))
    assert "every action must have a price: " in refusal(*RUN, "--arch", f"{path}:w8a8")
