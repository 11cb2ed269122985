import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.prices import price_table
from mixflight.arch.sram_energy import sram_node, sram_nodes

# Largest relative error of the formula at the points it was fitted to, in per cent: what the fit is worth.
ERRORS = {("45nm", "read"): 9.9, ("45nm", "write"): 28.2, ("28nm", "read"): 13.8, ("28nm", "write"): 4.6}


@pytest.mark.parametrize(("name", "action"), ERRORS)
def test_the_formula_is_as_far_from_its_points_as_said(name, action):
    worst = max(abs(error) for error in sram_node(name).errors(action))
    assert 100 * worst == pytest.approx(ERRORS[name, action], abs=0.05)


@pytest.mark.parametrize("name", sram_nodes())
def test_larger_banks_take_more(name):
    node = sram_node(name)
    for action in ("read", "write"):
        values = [node.pj_per_bit(action, size) for size in (128, 512, 2048, 8192)]
        assert values == sorted(values)
    assert node.leak_mw(8192) == pytest.approx(2 * node.leak_mw(4096))


def test_no_coefficients_leave_less():
    node = sram_node("45nm")
    base, slope, power = node.coefficients("read")

    def left(base, slope):
        values = [(base + slope * point.bytes**power) / point.pj_per_bit("read") - 1 for point in node.points]
        return sum(value**2 for value in values)

    for change in (0.99, 1.01):
        assert left(base, slope) < min(left(base * change, slope), left(base, slope * change))


def test_a_held_back_point_is_met():
    """BitFusion's file has a bank of 512 bytes with another port (one shared), which is not in the fit."""
    assert sram_node("45nm").pj_per_bit("read", 512) == pytest.approx(1.06097 / 32, rel=0.16)


def test_quoted_sram_prices_are_points_of_the_table():
    small, large = sram_node("28nm").points[1:]
    table = price_table("28nm-literature")
    assert table.of("sram.weight", "read_bit").value_pj == pytest.approx(small.pj_per_bit("read"), rel=5e-3)
    assert table.of("sram.act", "write_bit").value_pj == pytest.approx(large.pj_per_bit("write"), rel=5e-3)


def test_sizes_outside_the_points_are_refused():
    with pytest.raises(InputError, match="an SRAM bank of 45nm must have 128 to 16384 bytes, not 65536"):
        sram_node("45nm").pj_per_bit("read", 65536)
    with pytest.raises(InputError, match="SRAM must be of one of 45nm, 28nm, not '7nm'"):
        sram_node("7nm")
