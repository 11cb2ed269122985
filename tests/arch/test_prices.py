import pytest

from mixflight.arch.accelerator import accelerators
from mixflight.arch.errors import InputError
from mixflight.arch.prices import price_table
from mixflight.sim.activity import Activity
from mixflight.sim.cost import total_energy

TABLE = price_table("45nm-literature")


def test_an_action_without_a_price_is_an_error():
    with pytest.raises(InputError, match="every action must have a price: sfu divide has none in technology"):
        TABLE.of("sfu", "divide")
    with pytest.raises(InputError, match="sfu divide"):
        total_energy(Activity(1, {("sfu", "divide"): 1}), TABLE)


def test_every_pe_kind_of_a_preset_has_its_prices():
    for accelerator in accelerators().values():
        for action in ("mac", "leak_ns"):
            assert price_table(accelerator.technology).of(f"pe.{accelerator.array.pe}", action).value_pj > 0


def test_quoted_anchors():
    # Horowitz, ISSCC 2014; BitFusion's table: 148.8 uW at 500 MHz = 0.298 pJ a cycle.
    assert TABLE.of("lanes", "fp32_mul").value_pj == 3.7
    assert TABLE.of("lanes", "fp32_add").value_pj == 0.9
    assert TABLE.of("pe.multiply-8x8", "mac").value_pj == pytest.approx(148.8e-6 / 500e6 * 1e12, rel=0.002)
    assert TABLE.of("pe.multiply-4x8", "mac").value_pj == pytest.approx((0.120 * 0.298) ** 0.5, rel=0.002)
    assert TABLE.of("dram", "read_bit").value_pj == 3.9


def _table(tmp_path, row):
    path = tmp_path / "mine.toml"
    path.write_text('summary = "x"\n' + row)
    return str(path)


PRICE = '[[price]]\ncomponent = "sfu"\naction = "a"\nvalue_pj = {}\nlow_pj = 1.0\nhigh_pj = 2.0\nbasis = "{}"\nsource = "{}"\n'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PRICE.format(3.0, "quoted", "s"), "low_pj <= value_pj <= high_pj must hold"),
        (PRICE.format(-1.0, "quoted", "s"), "0 <= low_pj <= value_pj"),
        (PRICE.format(1.5, "guessed", "s"), "basis must be 'quoted' or 'derived'"),
        (PRICE.format(1.5, "quoted", ""), "must have a source"),
        (PRICE.format(1.5, "quoted", "s") * 2, "one price per component and action"),
        ("[[price]]\ncomponent = 'sfu'\ncost = 1", r"unknown key 'cost' in table \[price\[0\]\]; the nearest valid key is"),
    ],
)
def test_bad_price_tables_are_refused(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        price_table(_table(tmp_path, row))


def test_an_unknown_technology_names_the_known_ones():
    with pytest.raises(InputError, match=r"technology must be a \.toml file or one of 45nm-literature"):
        price_table("3nm")
