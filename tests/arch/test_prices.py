import pytest

from mixflight.arch.accelerator import accelerators
from mixflight.arch.errors import InputError
from mixflight.arch.prices import dram_energies, dram_energy, machine_prices, price_table, technologies
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
    assert dram_energy("HBM2").of("dram", "read_bit").value_pj == 3.9


def test_every_price_has_a_source_a_date_and_a_band_that_its_sources_span():
    tables = [price_table(name) for name in technologies()] + list(dram_energies().values())
    for price in (price for table in tables for price in table.price):
        values = [price.value_pj, *(other.value_pj for other in price.others)]
        assert (price.low_pj, price.high_pj) == (min(values), max(values))
        assert 2006 <= int(price.date[:4]) <= 2026


def test_dram_is_priced_by_its_standard():
    assert set(dram_energies()) == {"HBM2", "HBM2E", "HBM3", "DDR4", "LPDDR4", "LPDDR5"}
    table = machine_prices("45nm-literature", {"hbm": "hbm2", "ddr": "ddr4-2400"})
    assert table.of("hbm", "read_bit").value_pj == 3.9
    assert table.of("ddr", "write_bit").value_pj == 18.75
    assert table.of("ddr", "idle_ns").low_pj == 8 * 50 * 1.2
    with pytest.raises(InputError, match="DRAM standard must be one of HBM2, .*, not 'SRAM'"):
        machine_prices("45nm-literature", {"dram": "SRAM"})


def test_a_memory_that_the_technology_prices_itself_keeps_that_price(tmp_path):
    own = _table(tmp_path, PRICE.format(1.5, "quoted", "s").replace("sfu", "dram").replace('"a"', '"read_bit"'))
    table = machine_prices(own, {"dram": "HBM2"})
    assert table.of("dram", "read_bit").value_pj == 1.5
    assert table.of("dram", "write_bit").value_pj == 3.9


def test_a_table_has_the_prices_of_its_base_where_it_has_none(tmp_path):
    own = _table(tmp_path, 'base = "45nm-literature"\n' + PRICE.format(1.5, "quoted", "s").replace('"a"', '"fp32_mul"'))
    assert price_table(own).of("sfu", "fp32_mul").value_pj == 1.5
    assert price_table(own).of("lanes", "fp32_mul").value_pj == 3.7
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('summary = "x"\nbase = "1nm"\nprice = []\n')
    with pytest.raises(InputError, match="base must be another of .*, not '1nm', in wrong.toml"):
        price_table(str(wrong))


def _table(tmp_path, row):
    path = tmp_path / "mine.toml"
    path.write_text('summary = "x"\n' + row)
    return str(path)


PRICE = """[[price]]
component = "sfu"
action = "a"
value_pj = {}
basis = "{}"
date = "2014"
source = "{}"
"""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PRICE.format(-1.0, "quoted", "s"), "value_pj must be at least 0, not -1.0"),
        (PRICE.format(1.5, "guessed", "s"), "basis must be one of quoted, derived, assumed, not 'guessed'"),
        (PRICE.format(1.5, "quoted", "s").replace("2014", "new"), "date must begin with a year of four digits, not 'new'"),
        (PRICE.format(1.5, "quoted", "s") + "[[price.others]]\nvalue_pj = -2.0\nbasis = 'quoted'\ndate = '2014'\n"
         "source = 's'\n", "value_pj must be at least 0, not -2.0"),
        (PRICE.format(1.5, "quoted", ""), "must have a source"),
        (PRICE.format(1.5, "quoted", "s") * 2, "one price per component and action"),
        ("[[price]]\ncomponent = 'sfu'\ncost = 1", r"unknown key 'cost' in table \[price\[0\]\]; the nearest valid key is"),
    ],
)
def test_bad_price_tables_are_refused(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        price_table(_table(tmp_path, row))


def test_an_unknown_technology_names_the_known_ones():
    with pytest.raises(InputError, match=r"technology must be a \.toml file or one of 28nm-literature, 45nm-literature"):
        price_table("3nm")
