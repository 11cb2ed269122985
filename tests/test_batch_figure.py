"""The README's figure of energy per token against batch: its numbers are what ``mixflight compare`` gives."""

import re
from pathlib import Path

import pytest

from mixflight.comparison import compare_machines
from mixflight.reports.batch_figure import describe

ROOT = Path(__file__).resolve().parent.parent
SAID = re.search(r"<desc>(.*)</desc>", (ROOT / "docs" / "energy-per-batch.svg").read_text())[1]
README = " ".join((ROOT / "README.md").read_text().split())
SCENARIO = {"model": "llama2-7b", "prefill": 128, "decode": 64}
GPUS = ("h100:fp16", "h100:w4a16g128", "h200:w4a16g128", "v100s:fp16")
ARRAYS = ("mixpe-w4a8-split:w4a8g128",)


def _parts(text):
    return text.split(": ", 1)[1].split(". ")


def test_gpus_and_arrays_are_as_drawn():
    found = compare_machines(ARRAYS, GPUS, **SCENARIO, batches=(1, 4, 16, 64))
    assert not found.refused
    assert _parts(describe(found.all)) == _parts(SAID)[1:]


@pytest.mark.slow
def test_the_fpga_is_as_drawn():
    found = compare_machines(("flightllm-u280:flightllm",), (), **SCENARIO, batches=(1, 4, 16, 64))
    assert _parts(describe(found.all)) == _parts(SAID)[:1]
    assert [item.groups for item in found.machines] == [1, 1, 2]
    [refused] = found.refused
    assert refused.batch == 64
    assert "must fit the memory of flightllm-u280" in refused.reason


def test_the_readme_says_what_the_figure_shows():
    points = {(machine, int(batch)): energy for machine, line in
              ((part.split(":")[0], part) for part in _parts(SAID))
              for batch, energy in re.findall(r"batch (\d+) ([\d.,]+) mJ", line)}  # fmt: skip
    for machine, batch in (("flightllm-u280 flightllm", 1), ("flightllm-u280 flightllm", 4),
                           ("flightllm-u280 flightllm", 16), ("h100 w4a16g128", 1), ("h100 fp16", 64),
                           ("mixpe-w4a8-split w4a8g128", 64)):  # fmt: skip
        assert f"{points[machine, batch]} mJ" in README
    assert 0.5 < float(points["h100 fp16", 64]) / float(points["flightllm-u280 flightllm", 16]) < 0.6


def test_the_readme_says_how_far_fpga_power_is():
    from mixflight.sim.fpga_power import mean_error, validated

    assert f"{100 * mean_error(validated()):.0f} % mean error on boards that did not calibrate it" in README
