import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.node_scaling import classical_energy, node_scaling, node_scaling_between


def test_factors_worked_out_by_hand():
    found = node_scaling("180", 1.8, "45-hp", 0.9)
    assert found.area == 0.053
    assert found.energy == pytest.approx((1.018 * 0.81 - 0.3107 * 0.9 + 0.1539) / (24.64 * 1.8 - 17.98))
    assert found.delay == pytest.approx(
        (-501.6 * 0.729 + 1567 * 0.81 - 1619 * 0.9 + 566.1) / (97.09 * 3.24 - 356.7 * 1.8 + 406.5))
    assert "Stillmaker" in found.source


def test_the_authors_own_example():
    """Stillmaker and Baas, corrigendum to their section 4.2.1: an energy factor of 0.4571 at 32 nm and 0.9 V."""
    assert node_scaling("180", 1.8, "32-hp", 0.9).energy * (24.64 * 1.8 - 17.98) == pytest.approx(0.4571, abs=5e-5)


def test_classical_scaling_is_length_times_supply_squared():
    assert classical_energy(180, 1.8, 45, 0.9) == pytest.approx(1 / 16)
    assert classical_energy(180, 1.8, 45, 0.9) / node_scaling("180", 1.8, "45-hp", 0.9).energy == pytest.approx(2.36, abs=0.01)
    with pytest.raises(InputError, match="must be above 0, not 180 nm at 0 V"):
        classical_energy(180, 0, 45, 0.9)


def test_there_and_back_is_nothing_and_a_smaller_node_takes_less():
    there, back = node_scaling("180", 1.8, "32-hp", 0.9), node_scaling("32-hp", 0.9, "180", 1.8)
    for name in ("area", "delay", "energy"):
        assert getattr(there, name) * getattr(back, name) == pytest.approx(1)
        assert getattr(there, name) < getattr(node_scaling("180", 1.8, "45-hp", 0.9), name) < 1


def test_a_node_between_two_is_their_geometric_mean_half_way():
    first, last = node_scaling("180", 1.8, "32-hp", 0.9), node_scaling("180", 1.8, "16-hp", 0.9)
    found = node_scaling_between("180", 1.8, above="32-hp", below="16-hp", share=0.5, target_v=0.9)
    for name in ("area", "delay", "energy"):
        assert getattr(found, name) ** 2 == pytest.approx(getattr(first, name) * getattr(last, name))
    with pytest.raises(InputError, match=r"share in 0\.\.1 of the way, not 1\.5"):
        node_scaling_between("180", 1.8, above="32-hp", below="16-hp", share=1.5, target_v=0.9)


@pytest.mark.parametrize(("arguments", "message"), [
    (("180", 1.8, "28", 0.9), "must be one of 180, 45-hp, 32-hp, 16-hp, 7-hp, not '28'"),
    (("180", 0.5, "45-hp", 0.9), "must hold at the supplies"),
])
def test_what_the_table_does_not_have_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        node_scaling(*arguments)
