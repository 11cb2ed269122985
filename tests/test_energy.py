"""Energy per MAC: operand streams against golden sums, and the recorded table against what is mapped now."""

import dataclasses

import msgspec
import numpy as np
import pytest

from mixflight import record_cells
from mixflight.arch.cell_counts import CELL_COUNTS, cell_counts_named, cell_table
from mixflight.arch.errors import InputError
from mixflight.energy import GROUP, STEPS, has_energy, pe_energy, random_operands, real_operands, streams
from mixflight.rtl.cell_synthesis import synthesise_cells
from mixflight.rtl.design import choose_top
from mixflight.rtl.synthesis import digest_text

RERECORD = ("run `python -m mixflight.record_cells` and commit arch/synthesis/osu018.toml "
            "with the reason for the change")


@pytest.mark.parametrize("name", record_cells.PRESETS)
def test_the_committed_row_is_of_the_text_that_is_emitted(name):
    chosen = record_cells.PRESETS[name].chosen()
    assert cell_counts_named(name).parameters == dict(chosen.parameters), RERECORD
    assert cell_counts_named(name).text_sha256 == digest_text(chosen.emit()), RERECORD


def test_every_preset_has_a_row_and_the_file_is_as_the_script_writes_it():
    table = cell_table()
    assert [row.name for row in table.rows] == list(record_cells.PRESETS), RERECORD
    rows = [msgspec.to_builtins(row) for row in table.rows]
    assert record_cells.as_toml(record_cells.shared(), rows) == CELL_COUNTS.read_text(), RERECORD


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in ("mixpe-w4a8-pe", "mul4x8-pe", "int8-pe") else pytest.mark.slow)
    for name in record_cells.PRESETS])
def test_the_committed_area_and_delay_are_what_mapping_finds(name, osu018_path):
    found = record_cells.row(name, liberty=osu018_path, model=None, energies=False)
    recorded = msgspec.to_builtins(cell_counts_named(name))
    assert found.pop("energy") == {}
    recorded.pop("energy")
    assert found == recorded, RERECORD


@pytest.mark.slow
def test_the_committed_energy_is_what_simulation_finds(osu018_path, smollm2_path):
    found = record_cells.row("mixpe-w4a8-pe", liberty=osu018_path, model=smollm2_path)
    assert found["energy"] == msgspec.to_builtins(cell_counts_named("mixpe-w4a8-pe"))["energy"], RERECORD


def test_recorded_energies_are_of_checked_sums_and_add_up():
    for row in cell_table().rows:
        assert bool(row.energy) == has_energy(record_cells.PRESETS[row.name].chosen())
        for found in row.energy.values():
            assert found.pj_per_mac == pytest.approx(
                found.switching + found.internal + found.clock + found.leakage, abs=1e-3)
            assert 0 < found.settled_pj_per_mac <= found.pj_per_mac
            assert found.sums_checked >= 9
    with pytest.raises(InputError, match="not of fp16-align"):
        _ = cell_counts_named("fp16-align").product
    with pytest.raises(InputError, match="not 'gpu'"):
        cell_counts_named("gpu")


def test_a_stream_is_groups_without_a_gap():
    operands = random_operands(seed=1, steps=2 * STEPS)
    stream = streams(choose_top("int8-pe"), {"random": operands})["random"]
    valid, last = stream.pins["control"] & 1, stream.pins["control"] >> 1
    assert valid.tolist() == [1] * (2 * STEPS) + [0, 0]
    assert np.flatnonzero(last).tolist() == list(range(GROUP - 1, 2 * STEPS, GROUP))
    first = int((operands.a[:GROUP] * operands.w8[:GROUP]).sum()) & ((1 << 23) - 1)
    assert (stream.at[0], stream.sums[0]) == (GROUP, first)


def test_a_fusible_unit_takes_two_products_a_step():
    operands = random_operands(seed=1, steps=2 * STEPS)
    stream = streams(choose_top("fusible-pe"), {"random": operands})["random"]
    assert stream.macs_per_step == 2
    assert stream.sums[0] == int((operands.a[:GROUP] * operands.q[:GROUP]).sum()) & ((1 << 24) - 1)


def test_an_array_has_no_energy_per_mac_of_its_own():
    assert not has_energy(choose_top("mixpe-array"))
    with pytest.raises(InputError, match="must be asked of a processing element, not of mixpe-array"):
        streams(choose_top("mixpe-array"), {})


def test_real_operands_are_the_files_codes(smollm2_path):
    real = real_operands(smollm2_path)
    assert real.q.min() == 0
    assert real.q.max() == 15
    assert 0 < np.abs(real.a).max() <= 127
    assert np.abs(real.w8).reshape(-1, GROUP).max(axis=1).tolist() == [127] * (len(real.w8) // GROUP)
    assert np.abs((real.q - real.zero) * real.step).max() <= 127


def test_energy_is_of_sums_that_were_checked(osu018_path):
    chosen = choose_top("mixpe-w4a8-pe")
    mapped = synthesise_cells(chosen.emit(), top=chosen.module, liberty=osu018_path)
    still = {field.name: np.zeros_like(getattr(random_operands(steps=2 * STEPS), field.name))
             for field in dataclasses.fields(random_operands(steps=STEPS))}
    operands = {"random": random_operands(steps=2 * STEPS), "still": dataclasses.replace(
        random_operands(steps=2 * STEPS), **still)}
    found = pe_energy(chosen, mapped, operands)
    assert found["random"].sums_checked == 2 * STEPS // GROUP
    assert found["random"].macs == 2 * STEPS - 1
    assert found["random"].timed.total > found["random"].settled.total > found["still"].settled.total
    # Nothing but the group's end moves: the clock remains.
    assert found["still"].timed.clock == found["random"].timed.clock
    assert found["still"].timed.switching < 0.05 * found["random"].timed.switching
    swapped = dataclasses.replace(chosen, component=choose_top("mixpe-w4a8-centred-pe").component)
    with pytest.raises(AssertionError, match="must be golden's"):
        pe_energy(swapped, mapped, {"random": operands["random"]})
