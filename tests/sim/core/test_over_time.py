import msgspec
import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.core import CoreMachine
from mixflight.arch.prices import machine_prices
from mixflight.arch.strict_toml import convert
from mixflight.sim.activity import Activity
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.cost import energy_by_component


@pytest.mark.parametrize("name", core_machines())
def test_a_second_costs_the_static_power_and_the_fabric_of_every_lut(name):
    machine = core_machines()[name]
    cycles = machine.clock_mhz * 1e6
    activity = Activity(cycles, counts_over_time(machine, cycles))
    prices = machine_prices(machine.technology, machine.memories)
    found = energy_by_component(activity, prices)
    static = prices.of("static", f"{machine.device.name.lower()}_ns").value_pj * 1e-3
    assert found["static"].pj * 1e-12 == pytest.approx(static)
    price = prices.of("fabric", "lut_cycle").value_pj
    assert found["fabric"].pj * 1e-12 == pytest.approx(price * 1e-12 * machine.luts * cycles)
    assert found["static"].low_pj < found["static"].pj < found["static"].high_pj


def test_luts_must_fit_the_device():
    machine = core_machines()["flightllm-u280"]
    for luts, message in ((0, "luts must be at least 1, not 0"), (2_000_000, "2,000,000 lut of 1,304,000 on U280")):
        with pytest.raises(Exception, match=message):
            convert(msgspec.to_builtins(machine) | {"luts": luts}, CoreMachine, "mine.toml")
