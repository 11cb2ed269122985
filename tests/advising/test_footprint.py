"""What a machine takes of its device: the recorded core's counts where there are some, an estimate of all others."""

import math

import pytest
from msgspec.structs import replace

from mixflight.advising.footprint import footprint
from mixflight.arch.accelerator import core_machines
from mixflight.arch.core_counts import core_counts


@pytest.mark.parametrize("name", core_counts())
def test_a_recorded_core_is_its_record(name):
    machine, whole = core_machines()[name], core_counts()[name]["whole"]
    found = footprint(machine)
    assert (found.lut, found.ff, found.dsp, found.uram) == (whole.lut, whole.ff, whole.dsp, whole.uram)
    assert found.bram36 == math.ceil(whole.bram) and found.lut_error == 0
    assert found.lut == machine.luts      # what its clock tree is priced by


@pytest.mark.parametrize("name", core_counts())
def test_a_changed_core_is_estimated(name):
    machine = core_machines()[name]
    wider = replace(machine, sfu=replace(machine.sfu, elements_per_cycle=machine.sfu.elements_per_cycle * 2))
    same, more = footprint(replace(machine, clock_mhz=machine.clock_mhz / 2)), footprint(wider)
    assert same.lut != machine.luts and more.lut > same.lut and more.dsp >= same.dsp
