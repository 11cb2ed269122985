"""Derived prices are what their formulas give."""

import pytest

from mixflight.arch.accelerator import accelerators, core_machines
from mixflight.arch.cell_counts import cell_counts_named
from mixflight.arch.node_scaling import node_scaling
from mixflight.arch.prices import machine_prices, price_table
from mixflight.arch.sram_energy import sram_nodes

BASE = price_table("45nm-literature")
TO_32 = node_scaling("45-hp", 0.9, "32-hp", 0.9).energy
TO_16 = node_scaling("45-hp", 0.9, "16-hp", 0.85).energy
TO_7 = node_scaling("16-hp", 0.85, "7-hp", 0.80).energy
SHOWN = 6e-3  # three digits


def test_our_own_pes_are_scaled_from_their_counted_switching():
    factor = node_scaling("180", 1.8, "45-hp", 0.9).energy
    table = price_table("osu018-scaled")
    for pe, cells in (("shift-add-4x8", "mixpe-w4a8-pe"), ("multiply-8x8", "int8-pe"), ("fp16-mac", "fp16-pe")):
        price, energy = table.of(f"pe.{pe}", "mac"), cell_counts_named(cells).energy["real"]
        assert price.value_pj == pytest.approx(energy.pj_per_mac * factor, rel=SHOWN)
        assert price.others[0].value_pj == pytest.approx(energy.settled_pj_per_mac * factor, rel=SHOWN)
        assert BASE.of(f"pe.{pe}", "mac").value_pj in [other.value_pj for other in price.others]
    assert table.of("sfu", "fp32_mul") == BASE.of("sfu", "fp32_mul")


@pytest.mark.parametrize(
    "technology", ["45nm-literature", "28nm-literature", "osu018-scaled", "fpga-16nm-ultrascale", "fpga-7nm-versal"]
)
def test_codes_of_four_bits_cost_an_int8_pe_what_recorded_ones_do(technology):
    energy = cell_counts_named("int8-pe").energy
    ratio = energy["real-codes"].pj_per_mac / energy["real"].pj_per_mac
    wide, narrow = (price_table(technology).of("pe.multiply-8x8", action) for action in ("mac", "mac_4bit"))
    assert ratio == pytest.approx(0.642, abs=5e-4)
    assert narrow.value_pj == pytest.approx(ratio * wide.value_pj, rel=SHOWN)
    assert narrow.low_pj < narrow.value_pj < wide.value_pj <= narrow.high_pj


@pytest.mark.parametrize(
    ("technology", "component", "action", "source", "factor"),
    [
        ("28nm-literature", "pe.multiply-8x8", "mac", "pe.multiply-8x8", TO_32),
        ("28nm-literature", "lanes", "fp32_mul", "lanes", TO_32),
        ("fpga-16nm-ultrascale", "pe.dsp48e2", "mac", "pe.multiply-8x8", 7 * TO_16),
        ("fpga-16nm-ultrascale", "pe.shift-add-4x8", "mac", "pe.shift-add-4x8", 14 * TO_16),
        ("fpga-16nm-ultrascale", "sram.weight", "read_bit", "sram.weight", 7 * TO_16),
        ("fpga-16nm-ultrascale", "lanes", "fp32_add", "lanes", 14 * TO_16),
        ("fpga-7nm-versal", "pe.dsp58", "mac", "pe.multiply-8x8", 7 * TO_16 * TO_7),
        ("fpga-7nm-versal", "sfu", "fp32_mul", "sfu", 14 * TO_16 * TO_7),
    ],
)
def test_scaled_prices(technology, component, action, source, factor):
    price = price_table(technology).of(component, action)
    assert price.value_pj == pytest.approx(BASE.of(source, action).value_pj * factor, rel=SHOWN)


def test_the_path_to_hbm_is_between_the_memory_alone_and_amds_test_of_all():
    price = price_table("fpga-16nm-ultrascale").of("memory_path", "bit")
    whole = 40 / 400e9 / 8 * 1e12
    memory = machine_prices("fpga-16nm-ultrascale", {"dram": "HBM2"}).of("dram", "read_bit").value_pj
    assert (price.low_pj, price.high_pj) == (0, pytest.approx(whole - memory))
    assert price.value_pj == pytest.approx((whole * memory) ** 0.5 - memory, abs=0.05)


def test_leakage_of_buffers_is_what_cacti_has_for_a_bank_of_its_points():
    table, nodes = price_table("45nm-sram-leakage"), sram_nodes()
    for component in ("sram.weight", "sram.act", "sram.output"):
        price = table.of(component, "leak_kib_ns")
        assert price.value_pj == pytest.approx(nodes["45nm"].leak_mw(8192) / 8, rel=SHOWN)
        assert price.others[0].value_pj == pytest.approx(nodes["28nm"].leak_mw(8192) / 8, rel=SHOWN)
        assert price.value_pj == pytest.approx(13.6943 / 8, rel=0.03)  # CACTI's own bank of 8 KiB
        assert table.of(component, "read_bit") == BASE.of(component, "read_bit")
        assert not BASE.has(component, "leak_kib_ns")


def test_every_preset_has_its_prices():
    for machine in (*accelerators().values(), *core_machines().values()):
        table = machine_prices(machine.technology, machine.memories)
        for memory in machine.memories:
            assert table.of(memory, "read_bit").low_pj > 0
