"""Figures: the same bytes for the same values, well-formed, in the page's ink, adding up."""

import xml.etree.ElementTree as ElementTree

import pytest
from small_results import small_document

from mixflight.reports import draw, figures
from mixflight.reports.figure_list import listed_figures

DRAWINGS = {name: item.drawing for name, item in listed_figures(small_document()).items()}
OF_MACHINES = [name for name in DRAWINGS if name.startswith(("time-", "energy", "roofline", "gpu-"))]


@pytest.mark.parametrize("name", OF_MACHINES)
def test_a_figure_is_a_function_of_the_document(name):
    document = small_document()
    svg = draw.svg(DRAWINGS[name])
    assert svg == draw.svg(listed_figures(document)[name].drawing)
    assert len(svg) < 40_000
    assert "currentColor" in svg
    assert draw.INK not in svg
    assert "metadata" not in svg
    file = draw.on_light_and_dark(svg, name, figures.describe(document))
    root = ElementTree.fromstring(file.encode())
    assert root.tag.endswith("svg")
    assert "4.50 mJ per token (1.12 to 22.5)" in file or "4.50 mJ per token (1.13 to 22.5)" in file
    texts = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert {"mixpe-w4a8", "mul4x8"} <= texts or "mixpe-w4a8, mul4x8" in texts


def test_resources_show_all_instances_together():
    svg = draw.svg(DRAWINGS["resources"])
    assert "6,080" in svg
    assert "pe ×64" in svg


def test_groups_add_up():
    decode = small_document().machines[0].simulation.decode
    energies = figures.energy_by_group(decode.components)
    assert sum(item.energy_mj_per_token for item in energies.values()) == pytest.approx(decode.energy_mj_per_token)
    assert energies["PE leakage"].energy_mj_per_token == 0.25
    for item in energies.values():
        assert item.energy_mj_per_token_low <= item.energy_mj_per_token <= item.energy_mj_per_token_high
    times = figures.time_by_group(decode)
    assert sum(times.values()) == pytest.approx(decode.time_ms_per_token)
    assert times["LM head"] == pytest.approx(4.0)
    assert times["vector operators"] == pytest.approx(1.6)


def test_ids_of_two_figures_do_not_meet():
    svg = draw.svg(DRAWINGS["roofline"])
    named = draw.with_ids(svg, "roofline", 'A "label"')
    ids = [element.get("id") for element in ElementTree.fromstring(named).iter() if element.get("id")]
    assert ids
    assert all(identifier.startswith("roofline-") for identifier in ids)
    assert len(ids) == len(set(ids))
    assert 'aria-label="A &quot;label&quot;"' in named


@pytest.mark.parametrize("name", DRAWINGS)
def test_pixels_are_on_white(name):
    import io

    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(draw.png(DRAWINGS[name], 50)))
    assert tuple(pixels[0, 0]) == (1, 1, 1, 1)
    assert pixels[:, :, :3].min() < 0.2


def test_a_timeline_shows_the_units():
    svg = draw.svg(DRAWINGS["timeline"])
    for text in ("array", "DRAM", "SFU", "projections", "vector operators", "context of 17"):
        assert text in svg


def test_figures_of_what_was_not_run_are_left_out():
    without = small_document(timeline=None, synthesis=None, layers=None, gpus=None, sweep=None)
    assert set(DRAWINGS) - set(listed_figures(without)) == {
        "resources", "timeline", "layers-time", "layers-energy", "gpu-speed", "gpu-energy", "sweep-front"}


def test_layers_gpus_and_front_show_what_they_are_of():
    for name, texts in {
        "layers-time": ("array busy", "dram busy", "sfu busy", "rest", "context 17"),
        "layers-energy": ("DRAM", "PE", "dequantisation", "band", "rest"),
        "gpu-energy": ("mixpe-w4a8", "h100:fp16", "a100:fp16", "4.50", "band", "machine", "GPU"),
        "gpu-speed": ("h100:fp16", "125", "500"),
        "sweep-front": ("tokens per second (max)", "area um2 (min)", "shift-add-4x8", "multiply-8x8", "array.pe"),
    }.items():
        svg = draw.svg(DRAWINGS[name])
        for shown in texts:
            assert shown in svg, (name, shown)


def test_ratios_are_those_of_a_comparison():
    """The page's ratios, of documents, and the ones of ``mixflight compare``, of simulations."""
    from mixflight.advantage import advantages
    from mixflight.arch.costs import costs_of
    from mixflight.machines import Machine, run, run_gpu
    from mixflight.report_parts import gpus_of
    from mixflight.reports import document as doc
    from mixflight.reports.gpu_figures import ratios
    from mixflight.results import simulation_document

    machine = Machine.parse("mixpe-w4a8", "w4a8g32")
    ours = run(machine, "smollm2-135m", 16, 4)
    scenario = doc.Scenario(model="smollm2-135m", recipe="w4a8g32", prefill=16, decode=4, batch=1, source="smollm2-135m")
    [found] = ratios(small_document(
        machines=(doc.machine_of(machine.accelerator, simulation_document(ours), ""),), gpus=gpus_of(scenario, ["h100"]),
    ))  # fmt: skip
    [expected] = advantages([ours], [run_gpu("h100", "smollm2-135m", 16, 4)], costs_of(None))
    for name in ("speed", "energy", "energy_low", "energy_high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))
