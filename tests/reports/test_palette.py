"""Colours that people with each kind of sight can tell apart, on light and dark, and never colour alone."""

import itertools
import re
from pathlib import Path

import pytest
from colour_vision import MATRICES, ciede2000, contrast, difference
from small_results import small_document

from mixflight.reports import draw, palette
from mixflight.reports.figure_list import listed_figures

ROOT = Path(__file__).resolve().parents[2]
SETS = {
    "operators": tuple(palette.OPERATORS.values()),
    "components": tuple(palette.COMPONENTS.values()),
    "units": tuple(colour for colour, _ in palette.UNITS.values()),
    "series": tuple(colour for colour, _ in palette.SERIES),
}
DICHROMATS = ("protanopia", "deuteranopia", "tritanopia")
INKS = ("ink", "soft", "mark", "good", "bad")


@pytest.mark.parametrize(("one", "other", "apart"), [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425), ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, -1.1848, -84.8006), (50, 0, -82.7485), 1.0000), ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
])  # fmt: skip
def test_the_measure_is_that_of_its_publication(one, other, apart):
    assert ciede2000(one, other) == pytest.approx(apart, abs=1e-4)


@pytest.mark.parametrize("sight", ["all colours", *DICHROMATS])
@pytest.mark.parametrize("name", SETS)
def test_all_of_a_figure_can_be_told_apart(name, sight):
    colours = SETS[name]
    assert len(set(colours)) == len(colours)
    assert min(difference(a, b, sight) for a, b in itertools.combinations(colours, 2)) > 10


@pytest.mark.parametrize("name", ["operators", "components"])
@pytest.mark.parametrize("sight", ["all colours", "protanopia", "deuteranopia"])
def test_neighbours_in_a_bar_are_farther_apart(name, sight):
    assert min(difference(a, b, sight) for a, b in itertools.pairwise(SETS[name])) > 13


def test_the_simulation_of_sight_is_none():
    """Red and green of one lightness, which a palette must not have: far apart to most, close to dichromats."""
    red, green = "#c83c3c", "#6e7d1e"
    assert difference(red, green) > 40
    assert difference(red, green, "deuteranopia") < 16
    assert all(matrix.sum(axis=1) == pytest.approx(1, abs=1e-3) for matrix in MATRICES.values())  # white stays white


def test_points_differ_in_shape_too():
    for looks in (palette.SERIES, tuple(palette.UNITS.values())):
        assert len({marker for _, marker in looks}) == len(looks)


def test_bars_have_an_outline_in_ink():
    colours, seen = {*palette.COMPONENTS.values(), *palette.OPERATORS.values()}, 0
    for name in ("time-decode", "energy-decode", "energy-prefill", "layers-energy", "layers-time", "resources"):
        text = draw.svg(listed_figures(small_document())[name].drawing)
        for style in re.findall(r'<path [^>]*style="fill: (#[^"]*)"', text):
            if style[:7] in colours:
                assert "stroke: currentColor" in style, (name, style)
                seen += 1
    assert seen > 40


@pytest.mark.parametrize("page", ["page.html", "sweep_page.html"])
def test_text_stands_out_from_the_page(page):
    light, dark = re.findall(r":root \{([^}]*--ink[^}]*)\}", (ROOT / "reports" / page).read_text())[:2]
    for block in (light, dark):
        values = {name: value if len(value) == 7 else "#" + "".join(2 * letter for letter in value[1:])
                  for name, value in re.findall(r"--(\w+): (#[0-9a-f]+)", block)}  # fmt: skip
        for ink in (name for name in INKS if name in values):
            for ground in ("page", "card"):
                assert contrast(values[ink], values[ground]) >= 4.5, (page, ink, ground)
