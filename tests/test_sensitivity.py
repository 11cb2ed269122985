import pytest

from mixflight import sensitivity as module
from mixflight.arch.costs import costs_of
from mixflight.arch.errors import InputError
from mixflight.arch.prices import machine_prices
from mixflight.reports.tornado_figure import tornado_figure
from mixflight.sensitivity import METRICS, Assumption, Scenario, assumptions, sensitivity

COSTS = costs_of()
SCENARIO = Scenario(model="llama2-7b", prefill=16, decode=2)
PAIR = ("mixpe-w4a8:w4a8g128", "int8:w4a8g128")


@pytest.fixture(scope="module")
def rows():
    return sensitivity(PAIR, (), SCENARIO, "tokens_per_joule", COSTS)


def _of(rows, start):
    return [row for row in rows if row.parameter.startswith(start)]


def test_every_price_and_assumption_is_moved_alone(rows):
    parameters = [row.parameter for row in rows]
    assert len(set(parameters)) == len(parameters)
    moved = {item.parameter for item in assumptions() if item.machine == "array"}
    assert moved == {row.parameter.partition(" of ")[0] for row in rows if row.kind == "assumption"}
    assert {"price of HBM2 DRAM", "price of lanes (45nm-literature)"} <= set(parameters)
    assert all(row.source for row in rows)
    assert [row.swing for row in rows] == sorted((row.swing for row in rows), reverse=True)


def test_a_shared_price_moves_both_machines(rows):
    """By hand: both energies with DRAM at its lowest and at its highest."""
    from mixflight.machines import Machine, run

    [row] = _of(rows, "price of HBM2 DRAM")
    ours, theirs = (run(Machine.parse(name), "llama2-7b", 16, 2).decode for name in PAIR)
    for end, found in (("low_pj", row.ratio_low), ("high_pj", row.ratio_high)):
        energies = [phase.energy.pj - phase.components["dram"].pj + getattr(phase.components["dram"], end)
                    for phase in (ours, theirs)]  # fmt: skip
        assert found == pytest.approx(energies[1] / energies[0])
    price = machine_prices("45nm-literature", {"dram": "HBM2"}).of("dram", "read_bit")
    assert row.low == pytest.approx(price.low_pj / price.value_pj, rel=0.05)  # a few writes among the reads


def test_a_price_of_one_machine_moves_the_ratio_one_way(rows):
    [ours] = _of(rows, "price of pe.shift-add-4x8 (")
    assert ours.ratio_low > ours.base > ours.ratio_high
    [theirs] = _of(rows, "price of pe.multiply-8x8 leakage")
    assert theirs.ratio_low == theirs.base < theirs.ratio_high  # no source says less


def test_another_table_charges_both_machines_anew(rows):
    from mixflight.machines import Machine, run

    for other in ("osu018-scaled", "45nm-sram-leakage"):
        [row] = _of(rows, f"{other} for 45nm-literature")
        ours, theirs = (run(Machine.parse(name.replace(":", f"@{other}:")), "llama2-7b", 16, 2).decode for name in PAIR)
        assert (row.low, row.high) == ("45nm-literature", other)
        assert row.ratio_low == row.base != row.ratio_high == pytest.approx(theirs.energy.pj / ours.energy.pj)


def test_which_table_decides_between_near_equals():
    """The two 4x8 PEs: the literature's neighbour times a ratio of gates against our own switching."""
    found = sensitivity(("mixpe-w4a8:w4a8g128", "mul4x8:w4a8g128"), (), SCENARIO, "tokens_per_joule", COSTS)
    [row] = _of(found, "osu018-scaled for")
    assert row.flips
    assert row.base < 1 < row.ratio_high
    assert not _of(sensitivity((), ("h100:fp16", "v100s:fp16"), SCENARIO, "tokens_per_joule", COSTS), "osu018")


def test_flips_are_crossings_of_one(rows):
    for row in rows:
        sides = {ratio > 1 for ratio in (row.base, row.ratio_low, row.ratio_high)}
        assert row.flips == (len(sides) == 2)


def test_what_cannot_run_is_a_row_with_its_error(monkeypatch):
    """A parameter that breaks the machine, and one with which the program does not fit; the other end stays."""
    real = module.run

    def run(machine, *scenario):
        if machine.accelerator.clock_mhz > 600:
            raise InputError("the vector buffer must hold 9 of 8 bytes")
        return real(machine, *scenario)

    broken = [
        Assumption(machine="array", parameter="dram.stream_efficiency", low=0.7, high=1.5, source="x"),
        Assumption(machine="array", parameter="clock_mhz", low=0.5, high=2.0, times=True, source="x"),
    ]
    monkeypatch.setattr(module, "assumptions", lambda: broken)
    monkeypatch.setattr(module, "run", run)
    found = [row for row in sensitivity(PAIR, (), SCENARIO, "tokens_per_s", COSTS) if row.of.startswith("mixpe")]
    errors = {row.parameter: row.error for row in found}
    assert errors["clock_mhz of mixpe-w4a8"].endswith(": the vector buffer must hold 9 of 8 bytes")
    assert errors["dram.stream_efficiency of mixpe-w4a8"].startswith("at 1.5: ")
    for row in found:
        assert row.ratio_high is None
        assert row.ratio_low <= row.base
        assert row.flips == ((row.ratio_low > 1) != (row.base > 1))
    assert "cannot run at its highest" in tornado_figure(found, "t")


def test_the_first_machine_is_moved_once_for_all_others(monkeypatch):
    real, runs = module.run, []
    monkeypatch.setattr(module, "run", lambda machine, *scenario: runs.append(machine) or real(machine, *scenario))
    found = sensitivity(PAIR[:1], ("h100:fp16", "v100s:fp16"), SCENARIO, "tokens_per_s", COSTS)
    moved = [item for item in assumptions() if item.machine == "array"]
    assert len(runs) == 1 + 2 * len(moved)
    assert len(found) == 2 * len(moved)


def test_speed_knows_no_prices():
    found = sensitivity(PAIR, (), SCENARIO, "tokens_per_s", COSTS)
    assert {row.kind for row in found} == {"assumption"}
    [faster] = _of(found, "clock_mhz of mixpe-w4a8")
    assert faster.ratio_low < faster.base < faster.ratio_high


def test_against_gpus_cost_and_kernel_count():
    found = sensitivity((), ("h100:w4a16g128", "v100s:fp16"), SCENARIO, "tokens_per_usd", COSTS)
    [rent] = _of(found, "usd_per_hour of h100")
    assert rent.ratio_low == pytest.approx(rent.base * 3.4 / 1.65)
    assert rent.ratio_high == pytest.approx(rent.base * 3.4 / 6.88)
    [kernel] = _of(found, "4-bit kernel of h100")
    assert kernel.ratio_low == kernel.base < kernel.ratio_high
    assert {row.parameter for row in found} >= {"utilisation", "lifetime_years", "electricity_usd_per_kwh"}
    assert len(_of(found, "energy of the GPU model")) == 2


@pytest.mark.parametrize(
    ("archs", "metric", "message"),
    [
        (PAIR, "joy", f"--metric must be one of {', '.join(METRICS)}, not 'joy'"),
        (PAIR[:1], "tokens_per_s", "sensitivity must have at least two machines, not 1"),
        (PAIR, "tokens_per_usd", "every machine must have a price: mixpe-w4a8 has none"),
    ],
)
def test_bad_requests_are_refused(archs, metric, message):
    with pytest.raises(InputError, match=message):
        sensitivity(archs, (), SCENARIO, metric, COSTS)
