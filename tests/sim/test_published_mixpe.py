import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.published_mixpe import printed, reproduce, tiling
from mixflight.sim.published_mixpe.machines import published
from mixflight.sim.published_mixpe.run import Search, arguments
from mixflight.sim.published_mixpe.workloads import Gemm, dequant_gemm, model_gemms
from mixflight.sim.reproduction import compare

MODELS = ("vit-base", "vit-huge", "opt-6.7b", "llama2-13b")
MACHINES = ("mixpe-w4a8", "ant", "bitfusion", "int8", "mixpe-w4a16", "fp16")

# Totals that the authors' simulator prints.
CYCLES = {
    "vit-base": (2_505_112, 9_890_000, 11_254_756, 13_201_920, 8_595_472, 16_171_420),
    "opt-6.7b": (50_671_104, 207_625_968, 357_880_480, 452_990_464, 101_131_264, 524_922_368),
}
OLACCEL = {"vit-base": 9_227_616, "vit-huge": 26_825_664, "opt-6.7b": 151_003_392, "llama2-13b": 294_919_680}
TIMES = {
    "vit-base": (0.15, 0.61, 0.70, 0.82, 0.53, 1),
    "vit-huge": (0.12, 0.47, 0.67, 0.82, 0.32, 1),
    "opt-6.7b": (0.10, 0.40, 0.68, 0.86, 0.19, 1),
    "llama2-13b": (0.10, 0.40, 0.68, 0.86, 0.19, 1),
}


@pytest.fixture(scope="module")
def search():
    return Search()


@pytest.fixture(scope="module")
def totals(search):
    return search.totals()


@pytest.fixture(scope="module")
def rows():
    return {row.id: row for row in reproduce.rows("published")}


@pytest.mark.parametrize("model", CYCLES)
def test_totals_are_those_of_the_published_simulator_to_the_cycle(totals, model):
    assert tuple(totals[model, machine].cycles for machine in MACHINES) == CYCLES[model]


@pytest.mark.parametrize("model", OLACCEL)
def test_olaccel_totals(totals, model):
    assert totals[model, "olaccel"].cycles == OLACCEL[model]


@pytest.mark.parametrize("model", TIMES)
def test_normalised_times_round_to_the_published_table(totals, model):
    base = totals[model, "fp16"].cycles
    assert tuple(round(totals[model, machine].cycles / base, 2) for machine in MACHINES) == TIMES[model]


def test_opt_qkv_by_hand(search):
    """64 x 4096 x 12288: 96 tiles of 128 x 128 on MixPE-W4A8, 2 x 384 tiles of 32 x 32 on INT8."""
    for machine, bits, compute, stall in (("mixpe-w4a8", 4, 96 * 4096, 1088), ("int8", 8, 2 * 384 * 4096, 24)):
        gemm = Gemm(batch=64, inputs=4096, outputs=12288, act_bits=bits, weight_bits=bits)
        found = search.schedule(gemm, search.given.machine(machine))
        assert (found.cycles, found.stall_cycles) == (compute + stall, stall)


def test_energy_of_opt_on_fp16_by_the_closed_form(search, totals):
    """Static and core energy follow from cycles alone; the buffers are dominated by one read an operand and MAC."""
    energy = totals["opt-6.7b", "fp16"].energy
    cycles = CYCLES["opt-6.7b"][-1]
    assert energy.static == pytest.approx(cycles * 484.615 / 500, rel=1e-6)
    assert energy.core == pytest.approx(cycles * 896 * (192_942 + 839_982) / 5e8, rel=1e-3)  # stalls
    macs = sum(
        uses * gemm.batch * gemm.inputs * gemm.outputs
        for gemm, uses in model_gemms(search.given.model[2], search.given.machine("fp16"), search.given.workload).items()
    )
    assert 1 < energy.buffer / (macs * 16 * (0.0168924 + 0.0177688) / 512) < 1.1  # the rest: fills, outputs
    assert energy.total * 1e-6 == pytest.approx(2314, abs=0.5)


def test_every_cycle_time_and_energy_row_is_within(rows):
    families = ("cycles/", "time/", "energy/", "energy-mj/", "mean/", "corrections/", "claims/energy-1.4x")
    compared = [row for row in rows.values() if row.within is not None and row.id.startswith(families)]
    assert len(compared) > 250
    assert [row.id for row in compared if not row.within] == []
    assert all(row.rel_error == 0 for row in compared if row.id.startswith("cycles/"))


def test_every_documented_id_is_there(rows):
    for model in MODELS:
        for machine in (*MACHINES, "olaccel"):
            assert f"cycles/{model}/{machine}" in rows
            for part in ("static", "dram", "buffer", "core"):
                assert rows[f"energy/{model}/{machine}/{part}"].published is not None


def test_every_published_number_has_a_row(rows):
    assert set(printed.published_values()) <= set(rows)
    assert {row.id for row in rows.values() if row.ours is None} == {
        "dse/int4xfp16-over-fp16xfp16", "dse/int8xint8-over-fp16xfp16", "dse/int4xint8-over-fp16xfp16",
    }  # fmt: skip


def test_the_headline_is_two_states_of_the_settings(rows):
    assert rows["claims/energy-1.4x"].ours == pytest.approx(1.40, abs=0.005)
    assert rows["claims/speedup-2.6x/final-settings"].within is False
    assert rows["claims/speedup-2.6x"].within
    for model, time in zip(MODELS, (0.20, 0.19, 0.19, 0.19), strict=True):
        assert round(rows[f"claims/speedup-2.6x/time/{model}/mixpe-w4a8"].ours, 2) == time
        assert rows[f"claims/speedup-2.6x/core/{model}/mixpe-w4a8"].within
    for machine in ("olaccel", "mixpe-w4a16"):
        for model in MODELS:
            found = {rows[f"claims/speedup-2.6x/{kind}/{model}/{machine}"].within for kind in ("time", "core")}
            assert found == {not model.startswith("vit")}


def test_the_order_of_loop_orders_does_not_matter(search):
    """Ties in cycles and energy have the same counts, so the original's unordered set of loop orders is harmless."""
    for machine in search.given.accelerator:
        for gemm in model_gemms(search.given.model[1], machine, search.given.workload):
            given = list(arguments(gemm, machine, search.given))
            given[-1] = np.ascontiguousarray(tiling.ORDERS[::-1])
            assert (tiling.search(*given)[0] == search.schedule(gemm, machine).counts).all()


@pytest.mark.parametrize("bits", [(4, 4), (8, 4), (8, 8)])
def test_the_compiled_search_equals_the_interpreted_one(search, bits, monkeypatch):
    gemm = Gemm(batch=3, inputs=20, outputs=12, act_bits=bits[0], weight_bits=bits[1], kernel=2, out_side=2)
    given = list(arguments(gemm, search.given.machine("ant"), search.given))
    given[9] = given[9] // 256  # buffers small enough to decide
    given[-1] = np.ascontiguousarray(given[-1][::11])
    fast = tiling.search(*given)
    for helper in ("ceil_div", "moved_bits"):
        monkeypatch.setattr(tiling, helper, getattr(tiling, helper).py_func)
    for compiled, plain in zip(fast, tiling.search.py_func(*given), strict=True):
        assert (compiled == plain).all()


def test_the_best_schedule_is_the_best_of_all(search):
    """Every loop order alone is no better than all of them together."""
    gemm = Gemm(batch=64, inputs=768, outputs=2304, act_bits=8, weight_bits=8)
    machine = search.given.machine("bitfusion")
    given = list(arguments(gemm, machine, search.given))
    alone = [int(tiling.search(*given[:-1], tiling.ORDERS[i : i + 1])[0][0]) for i in range(len(tiling.ORDERS))]
    assert min(alone) == search.schedule(gemm, machine).cycles


def test_dequantisation_products():
    given = published()
    before = dequant_gemm(4096, 12288, given.machine("int8"), given.workload)
    after = dequant_gemm(4096, 12288, given.machine("mixpe-w4a8"), given.workload)
    assert (before.inputs, before.outputs, before.act_bits) == (4096, 1536, 8)
    assert (after.inputs, after.outputs, after.act_bits) == (512, 96, 8)
    assert 8 * before.inputs * before.outputs == 1024 * after.inputs * after.outputs == 4096 * 12288


@pytest.mark.parametrize(("machine", "expected"), [("ant", {8: 2 * 4, 4: 10 * 4}), ("bitfusion", {8: 3 * 12 + 6, 4: 6})])
def test_frozen_layer_picks(machine, expected):
    given = published()
    found = {8: -4 * 12 - 1, 4: 0}  # less the dequantisation products and the patch embedding, all 8 bits
    for gemm, uses in model_gemms(given.model[0], given.machine(machine), given.workload).items():
        found[gemm.weight_bits] += uses
    assert found == expected


def test_published_values_are_unique_and_sourced():
    with Path(reproduce.__file__).with_name("published.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len({line["id"] for line in lines}) == len(lines)
    assert {line["source"] for line in lines} == set(printed.SOURCES)


def test_another_mode_is_refused():
    with pytest.raises(InputError, match="mode must be one of published, not 'corrected'"):
        reproduce.rows("corrected")


def test_a_row_compares_by_rounding_or_tolerance():
    assert compare("a", 0.10, 0.104, "published", rounding=0.005).within
    assert not compare("a", 0.10, 0.106, "published", rounding=0.005).within
    assert compare("a", 100, 100.9, "published", relative=0.01).within
    row = compare("a", 100, 99, "published")
    assert (row.rel_error, row.within) == (-0.01, False)
    empty = compare("a", None, 1.0, "published", note="none")
    assert (empty.rel_error, empty.within, empty.note) == (None, None, "none")


def test_one_mac_per_pe_saves_traffic_but_no_cycles(search):
    machine = search.given.machine("int8")
    honest = msgspec.structs.replace(machine, one_mac_per_pe=True)
    narrow, wide = (
        search.schedule(Gemm(batch=64, inputs=4096, outputs=4096, act_bits=8, weight_bits=bits), honest) for bits in (4, 8)
    )
    assert narrow.cycles == pytest.approx(wide.cycles, rel=1e-3)
    assert narrow.counts[2] * 2 == wide.counts[2]
