"""The corrected comparison: its rules hold, its counts equal closed forms, its recorded data are reproduced."""

import math

import numpy as np
import pytest

from mixflight.arch.cell_counts import cell_counts_named
from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, format_named
from mixflight.reproduce_mixpe import rows as study_rows
from mixflight.sim.golden.linear import GroupedWeight
from mixflight.sim.golden.llama import load_llama
from mixflight.sim.mixpe_corrected.crossover import TILES, closed_form, counted
from mixflight.sim.mixpe_corrected.design_space import Design, designs, front, gain, noise, perplexity
from mixflight.sim.mixpe_corrected.goals import floor, goals
from mixflight.sim.mixpe_corrected.hardware import hardware
from mixflight.sim.mixpe_corrected.machines import CANDIDATES, GROUP, REFERENCE, formats_of, sized
from mixflight.sim.mixpe_corrected.prices import DRAM_PJ_PER_BIT, mac_pj, prices_for, to_45nm
from mixflight.sim.mixpe_corrected.quality import POINTS, quality_table, score
from mixflight.sim.mixpe_corrected.quantised import in_format, noise_ratio
from mixflight.sim.mixpe_corrected.reproduce import efficiency
from mixflight.sim.mixpe_corrected.run import outcome
from mixflight.workloads.gguf import open_gguf

NAMES = [candidate.name for candidate in CANDIDATES]


@pytest.fixture(scope="module")
def rows():
    return {row.id: row for row in study_rows("corrected")}


def test_every_array_has_the_area_of_the_int8_array_to_half_a_column():
    for name in NAMES:
        machine = sized(name)
        assert abs(machine.cols - machine.exact_cols) <= 0.5
        assert abs(machine.residual) <= 0.5 / machine.cols + 1e-9
        assert machine.accelerator().array.cols == machine.cols
    assert (sized(REFERENCE).cols, sized(REFERENCE).residual) == (32, 0)


def test_the_area_of_an_array_by_hand():
    pe, lane = cell_counts_named("int8-pe").area_um2, hardware().lane("w4a8", 128)[0]
    assert sized(REFERENCE).area_um2 == pytest.approx(1024 * pe + 8 * lane)


def test_the_lane_s_line_goes_through_what_was_recorded():
    for lane in hardware().lanes:
        assert hardware().lane(lane.name, lane.elements)[0] == pytest.approx(lane.area_um2)
    assert hardware().lane("w4a8", hardware().energy.elements)[1] == pytest.approx(hardware().energy.pj)
    with pytest.raises(InputError, match="lane must be one of"):
        hardware().lane("w8a8", 2)


def test_every_machine_reads_the_same_4_bit_weights_of_the_blocks():
    for candidate in CANDIDATES:
        stored = formats_of(candidate).weight_format("layers.0.up")
        assert 4 * 4096 < stored.row_bits(4096) <= 4 * 4096 + 20 * 4096 // GROUP


def test_prices_are_the_recorded_energies_scaled():
    factor = to_45nm().energy
    for name, operands in (("mixpe-w4a8", "real"), (REFERENCE, "real-codes")):
        machine = sized(name)
        recorded = cell_counts_named(machine.candidate.cells).energy[operands].pj_per_mac
        table = prices_for(machine, 18.75)
        assert table.of(f"pe.{machine.candidate.kind}", "mac").value_pj == pytest.approx(recorded * factor)
        assert mac_pj(machine.candidate) == pytest.approx(recorded * factor)
        assert table.of("dram", "read_bit").value_pj == 18.75
    anchored = prices_for(sized("mixpe-w4a8"), 3.9, anchored=True).of("pe.shift-add-4x8", "mac").value_pj
    ratio = cell_counts_named("mixpe-w4a8-pe-two-pass").energy["real"].pj_per_mac / cell_counts_named(
        "int8-pe").energy["real"].pj_per_mac  # fmt: skip
    assert anchored == pytest.approx(0.298 * ratio)


@pytest.mark.parametrize("tile", TILES)
def test_the_engine_counts_the_crossover_s_closed_form(tile):
    assert counted(tile) == closed_form(tile)
    assert closed_form(tile).ratio == GROUP / tile


def test_prefill_is_bound_by_the_arrays_and_gains_between_nothing_and_the_ratio_of_pes():
    for name in NAMES:
        found = outcome(name, "llama2-13b", "prefill")
        assert found.bound_by == "array"
        gained = outcome(REFERENCE, "llama2-13b", "prefill").ms / found.ms
        low, high = sorted((1, sized(name).cols / 32))
        assert low * 0.8 <= gained <= high * 1.02
    assert outcome("mixpe-w4a8", "llama2-13b", "decode-b1").bound_by == "dram"
    assert outcome(REFERENCE, "llama2-13b", "decode-b1").bound_by == "dram"


def test_one_token_takes_no_less_than_reading_the_weights_once():
    found = outcome("mixpe-w4a8", "llama2-13b", "decode-b1")
    machine = sized("mixpe-w4a8").accelerator()
    bytes_read = found.activity.counts["dram", "read_bit"] / 8
    assert bytes_read > 13e9 * 0.95 / 2
    assert found.ms * 1e-3 >= bytes_read / (machine.dram.peak_gb_s * 1e9 * machine.dram.stream_efficiency)


def test_efficiency_nears_one_as_dram_gets_dearer():
    gained = [efficiency("mixpe-w4a8", "llama2-13b", "decode-b1", dram) for dram in DRAM_PJ_PER_BIT]
    assert gained == sorted(gained, reverse=True)
    assert 1 < gained[-1] < 1.01


def test_rows_are_unique_finite_and_of_their_mode(rows):
    found = study_rows("corrected")
    assert len(rows) == len(found)
    assert {row.mode for row in found} == {"corrected"}
    for row in found:
        assert row.ours is not None or row.note == "stored so: no error", row.id
        assert row.ours is None or math.isfinite(row.ours), row.id
        assert (row.rel_error is None) == (row.published is None), row.id
    assert sum(row.published is not None for row in found) >= 10


def test_goals_are_met_by_several_products_a_step_only(rows):
    by_name = {goal.name: goal for goal in goals()}
    for name, most in (
        ("w4a8-over-int8/least/area", 0.5),
        ("w4a8-over-int8/32-bit/area", 0.4),
        ("w4a8-over-int8/32-bit/energy", 0.4),
        ("w4a16-over-fp16/area", 0.25),
    ):
        pe, ratio = by_name[name].best()
        assert "dot" in pe
        assert ratio <= most < by_name[f"{name}/one-product"].best()[1]
        assert rows[f"goal/{name}"].note.startswith(f"goal {most:.2f}: met")


def test_parts_add_up_and_belong_to_the_recorded_pes():
    for parts in hardware().parts:
        counts = cell_counts_named(parts.name)
        assert (parts.area_um2, parts.text_sha256) == (counts.area_um2, counts.text_sha256)
        assert parts.registers_um2 + parts.accumulate_um2 + parts.product_um2 == pytest.approx(parts.area_um2)
    assert floor("mixpe-w4a8-pe", "int8-pe") == pytest.approx((5184 + 7247) / 35132)


def test_nothing_beats_a_point_of_the_front():
    for measure in (noise, perplexity):
        best = front(designs(), measure)
        assert best
        for point in best:
            value = measure(point)
            assert not [other for other in designs() if other.gain >= point.gain
                        and (found := measure(other)) is not None and found < value]  # fmt: skip
    assert gain("fp16-pe") == 1
    one = Design(pe="fp16-pe", quality=quality_table().rows[0], gain=1.0)
    assert front((one, one), perplexity) == (one,)


# Formats of tables.


def weight():
    rng = np.random.default_rng(0)
    return GroupedWeight(codes=rng.integers(-127, 128, (8, 128), dtype=np.int8), zero=None, group=32,
                         d=(0.001 + rng.random((8, 4)) / 100).astype(np.float16))  # fmt: skip


@pytest.mark.parametrize("name", ["mxfp4", "iq4_nl", "nf4-g64", "fp4-g64"])
def test_every_value_takes_the_nearest_of_its_table(name):
    before, wanted = weight(), format_named(name, "test")
    after = in_format(before, wanted, "test")
    table = np.array(wanted.table)
    if wanted.kind == "float":
        table = table.astype(np.float16)
    scale = np.repeat(after.d.astype(np.float64), after.group, axis=1)
    every = scale[..., None] * table.astype(np.float64)
    nearest = np.abs(every - before.values()[..., None]).min(axis=2)
    np.testing.assert_allclose(np.abs(after.values() - before.values()), nearest, rtol=0, atol=1e-12)


def test_the_scale_of_mxfp4_is_the_power_of_two_of_the_specification():
    values = GroupedWeight(codes=np.full((1, 32), 5, np.int8), d=np.array([[1]], np.float16), zero=None, group=32)
    after = in_format(values, FORMATS["mxfp4"], "test")  # 2**(floor(log2 5) - 2) = 1, halved
    assert after.d.tolist() == [[0.5]]
    assert set(after.values().ravel()) <= {4.0, 6.0}


def test_noise_ratio_by_hand():
    four, five = (GroupedWeight(codes=np.full((1, 4), code, np.int8), d=np.array([[1]], np.float16), zero=None, group=4)
                  for code in (4, 5))  # fmt: skip
    assert noise_ratio([four], [five]) == pytest.approx(10 * math.log10(16))
    assert noise_ratio([four], [four]) is None


# The recorded errors and perplexities.


def test_every_point_is_recorded():
    assert [row.name for row in quality_table().rows] == [point.name for point in POINTS]
    assert [row.pe for row in quality_table().rows] == [point.pe for point in POINTS]


def test_a_recorded_error_is_found_again(smollm2_path):
    llama = load_llama(open_gguf(smollm2_path))
    head = llama.linears[llama.head_name]
    row = next(row for row in quality_table().rows if row.name == "mxfp4/int8-g32")
    assert noise_ratio([head], [in_format(head, FORMATS["mxfp4"], "head")]) == pytest.approx(row.snr_head_db, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int4-g32/int8-g32", "nf4-g64/f16"])
def test_a_recorded_perplexity_is_found_again(smollm2_path, name):
    from mixflight.sim.evaluation.emulated import Emulated
    from mixflight.sim.evaluation.score import losses
    from mixflight.sim.evaluation.text import evaluation_text
    from mixflight.workloads.tokenizer import tokenizer_of

    file = open_gguf(smollm2_path)
    llama, tokens = load_llama(file), tokenizer_of(file).encode(evaluation_text())
    point = next(point for point in POINTS if point.name == name)
    row = next(row for row in quality_table().rows if row.name == name)
    found = score(llama, point, tokens, losses(tokens, Emulated(llama).logits()))
    assert found.perplexity == pytest.approx(row.perplexity, rel=1e-6)
    assert found.snr_blocks_db == pytest.approx(row.snr_blocks_db, abs=1e-6)
    assert found.snr_head_db == pytest.approx(row.snr_head_db, abs=1e-6)
    assert len(tokens) == quality_table().text_tokens
