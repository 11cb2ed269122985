"""Colours of figures: those of Okabe and Ito, which most colour-blind people tell apart, and two greys.

Neighbours in a figure differ for all kinds of sight, and nothing is told by colour alone: bars have an outline in the
page's ink and an order, points a marker each.
"""

from collections.abc import Mapping

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
YELLOW, GREY, PALE, DARK = "#f0e442", "#8a8a8a", "#d8d8d8", "#484848"

OPERATORS: Mapping[str, str] = {
    "projections": BLUE, "attention": SKY, "feed-forward": GREEN, "LM head": ORANGE, "vector operators": PINK,
}  # fmt: skip
"""Groups of operators, in the order of bars."""

COMPONENTS: Mapping[str, str] = {
    "DRAM": BLUE, "buffers": SKY, "PE": GREEN, "PE leakage": PALE, "dequantisation": ORANGE, "SFU": PINK,
    "network": VERMILION, "control": YELLOW, "static": DARK,
}  # fmt: skip
"""Groups of components, in the order of bars."""

UNITS: Mapping[str, tuple[str, str]] = {"array": (BLUE, "o"), "dram": (ORANGE, "D"), "sfu": (PINK, "^")}
"""Units: colour and marker."""

SERIES = ((BLUE, "o"), (ORANGE, "D"), (GREEN, "^"), (VERMILION, "s"), (PINK, "P"), (SKY, "v"), (DARK, "X"))
"""Colour and marker of a series of points by its place; from the eighth on they come again."""
