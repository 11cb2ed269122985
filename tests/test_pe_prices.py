"""Prices of our PEs: the preset as its script writes it, and prices that depend on the operands' bits."""

import dataclasses

import msgspec
import numpy as np
import pytest
from command_line import document

from mixflight.arch.cell_counts import OperandEnergy, cell_counts_named
from mixflight.arch.errors import InputError
from mixflight.arch.node_scaling import node_scaling
from mixflight.arch.prices import price_table, technologies
from mixflight.energy import TOKENS, measure_operands, random_operands, real_operands, real_tensors
from mixflight.pe_prices import PRESET, PRICED, preset_text, record_prices, recorded_price
from mixflight.rtl.cell_synthesis import synthesise_cells
from mixflight.rtl.design import choose_top
from mixflight.verify_tiles import REAL_TENSORS

SHOWN = 6e-3  # three digits
FACTOR = node_scaling("180", 1.8, "45-hp", 0.9).energy


def test_the_preset_is_as_its_script_writes_it():
    assert technologies()[PRESET].read_text() == preset_text(), "run `python -m mixflight.pe_prices`"


@pytest.mark.parametrize("pe", PRICED, ids=lambda pe: f"{pe.kind} {pe.action}")
def test_a_band_spans_literature_hazards_operands_and_two_rules_of_scaling(pe):
    energy, price = cell_counts_named(pe.row).energy, price_table(PRESET).of(f"pe.{pe.kind}", pe.action)
    recorded, uniform = energy[pe.operands], energy["random"].pj_per_mac
    literature = price_table("45nm-literature").of(f"pe.{pe.kind}", pe.action).value_pj
    assert [price.value_pj, *(other.value_pj for other in price.others)] == pytest.approx(
        [recorded.pj_per_mac * FACTOR, recorded.settled_pj_per_mac * FACTOR, uniform * FACTOR, uniform / 16, literature],
        rel=SHOWN,
    )
    assert price.low_pj == literature < price.others[0].value_pj < price.value_pj < price.others[1].value_pj < price.high_pj


def test_the_recorded_linears_are_of_the_first_layer_the_middle_and_the_last():
    assert real_tensors(30) == REAL_TENSORS
    assert real_tensors(1) == ("blk.0.ffn_up.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight")


def test_a_price_follows_the_bits_of_the_operands(osu018_path):
    """Counted anew: activations that stay small toggle less than those that fill their eight bits."""
    top = choose_top("mixpe-w4a8-pe")
    mapped = synthesise_cells(top.emit(), top=top.module, liberty=osu018_path)
    wide = random_operands(seed=3, steps=960)
    narrow = dataclasses.replace(wide, a=np.sign(wide.a) * (np.abs(wide.a) % 4))
    prices = []
    for operands in (narrow, wide):
        found = measure_operands(top, mapped, {"real": operands})
        energy = {**cell_counts_named("mixpe-w4a8-pe").energy, **msgspec.convert(found, dict[str, OperandEnergy])}
        prices.append(recorded_price(PRICED[0], energy, "made operands"))
    assert prices[0].price.value_pj < 0.9 * prices[1].price.value_pj
    assert prices[1].ratio == pytest.approx(1, abs=0.03)  # other uniform ones
    assert prices[0].price.high_pj == prices[1].price.high_pj


@pytest.mark.parametrize(("name", "text", "kinds", "said"), [
    ("mine.txt", None, (), "must be a .toml file with a name of its own, not"),
    ("osu018-scaled.toml", None, (), "must be a .toml file with a name of its own, not"),
    ("mine.toml", None, ("int8-pe",), "--pe must be one of shift-add-4x8, .*, not 'int8-pe'"),
    ("mine.toml", "too short", (), f"must have at least {TOKENS[-1] + 1} tokens, not 2"),
])  # fmt: skip
def test_what_cannot_be_recorded_is_refused(tmp_path, smollm2_path, osu018_path, name, text, kinds, said):
    with pytest.raises(InputError, match=said):
        record_prices(smollm2_path, tmp_path / name, text=text, kinds=kinds)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_is_charged_by_the_recorded_operands(tmp_path, smollm2_path, osu018_path):
    """Another text's activations: another table, and a run whose PEs take that ratio and whose rest is the same."""
    text = "def quicksort(xs): return [] if not xs else quicksort([x for x in xs[1:] if x < xs[0]]) + [xs[0]]"
    path = tmp_path / "code.toml"
    [row] = record_prices(smollm2_path, path, text=text, kinds=("shift-add-4x8",))
    preset = price_table(PRESET)
    before = preset.of("pe.shift-add-4x8", "mac")
    assert row.price.value_pj != before.value_pj
    assert row.price.value_pj == pytest.approx(before.value_pj, rel=0.05)
    assert price_table(str(path)).of("pe.multiply-8x8", "mac") == preset.of("pe.multiply-8x8", "mac")
    a, b = real_operands(smollm2_path, text), real_operands(smollm2_path)
    assert (a.q == b.q).all()
    assert (a.a != b.a).any()
    rows = document("compare", "--model", "llama2-7b", "--prefill", 16, "--decode", 2, "--arch", f"mixpe-w4a8@{path}:w4a8g128",
                    "--arch", f"mixpe-w4a8@{PRESET}:w4a8g128")["rows"]  # fmt: skip
    parts = [{part["component"]: part["energy_mj_per_token"] for part in row["decode"]["components"]} for row in rows]
    ratio = parts[0].pop("pe.shift-add-4x8") / parts[1].pop("pe.shift-add-4x8")
    assert ratio == pytest.approx(row.price.value_pj / before.value_pj)
    assert parts[0] == parts[1]
