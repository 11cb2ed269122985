"""Figures: the same bytes for the same values, well-formed, in the page's ink, adding up."""

import xml.etree.ElementTree as ElementTree

import pytest
from small_results import small_document

from mixflight.reports import figures

NAMES = tuple(figures.drawings(small_document()))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("resources", "timeline")])
def test_a_figure_is_a_function_of_the_document(name):
    document = small_document()
    svg = figures.svg(figures.drawings(document)[name])
    assert svg == figures.svg(figures.drawings(document)[name])
    assert len(svg) < 40_000
    assert "currentColor" in svg
    assert figures._INK not in svg
    assert "metadata" not in svg
    file = figures.standalone(svg, name, document)
    root = ElementTree.fromstring(file.encode())
    assert root.tag.endswith("svg")
    assert "4.50 mJ per token (1.12 to 22.5)" in file or "4.50 mJ per token (1.13 to 22.5)" in file
    texts = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert {"mixpe-w4a8", "mul4x8"} <= texts or "mixpe-w4a8, mul4x8" in texts


def test_resources_show_all_instances_together():
    svg = figures.svg(figures.resources_drawing(small_document()))
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
    svg = figures.svg(figures.drawings(small_document())["roofline"])
    named = figures.with_ids(svg, "roofline", 'A "label"')
    ids = [element.get("id") for element in ElementTree.fromstring(named).iter() if element.get("id")]
    assert ids
    assert all(identifier.startswith("roofline-") for identifier in ids)
    assert len(ids) == len(set(ids))
    assert 'aria-label="A &quot;label&quot;"' in named


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_on_white(name):
    import io

    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(figures.png(figures.drawings(small_document())[name], 50)))
    assert tuple(pixels[0, 0]) == (1, 1, 1, 1)
    assert pixels[:, :, :3].min() < 0.2


def test_a_timeline_shows_the_units():
    svg = figures.svg(figures.drawings(small_document())["timeline"])
    for text in ("array", "DRAM", "SFU", "projections", "vector operators", "context of 17"):
        assert text in svg
    without = small_document(timeline=None, synthesis=None)
    assert set(NAMES) - set(figures.drawings(without)) == {"resources", "timeline"}
