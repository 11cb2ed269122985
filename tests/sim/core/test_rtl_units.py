"""Small cores on the closed forms of their units in RTL: what each form changes, and what the memory's idealisation."""

import dataclasses

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core_memory_pipeline import load_cycles, store_cycles
from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import TAKE_CYCLES, mv_cycles, mv_latency
from mixflight.arch.sfu_pipeline import misc_cycles
from mixflight.mapping.core_program import BUFFERS, COLUMNS, OPERATIONS
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.decode import from_file

MACHINE = accelerator_named("mixpe-mini")
TICKS = 16


def estimated(machine):
    """The machine as larger ones are: estimated from its parameters, with the rows and the refresh of its DRAM."""
    replace = msgspec.structs.replace
    return replace(machine, units=None, hbm=replace(machine.hbm, answers_after_cycles=None),
                   ddr=replace(machine.ddr, answers_after_cycles=None),
                   controller=replace(machine.controller, loop_cycles=2, fetch_bytes_per_cycle=64))  # fmt: skip


def test_what_each_form_changes(smollm2_path):
    """D15: a token of SmolLM2's first layer and its head."""
    made = from_file(MACHINE, smollm2_path, 512, layers=1)
    step = made.step(504, 0)
    computed = made.engine(step).total
    assert computed == pytest.approx(245_891, abs=2)
    assert dataclasses.replace(made, machine=estimated(MACHINE)).engine(step).total == pytest.approx(242_748, abs=2)
    other = msgspec.structs.replace
    rows = other(MACHINE, **{name: other(getattr(MACHINE, name), answers_after_cycles=None) for name in ("hbm", "ddr")})
    assert 1 <= dataclasses.replace(made, machine=rows).engine(step).total / computed < 1.001


def times(kind, **given):
    """(Occupancy, latency) in cycles of one instruction."""
    table = {name: np.array([given.pop(name, 0)]) for name in COLUMNS[kind]} | {"offset": np.zeros(1, np.int64),
                                                                              "lead": np.zeros(1, np.int64)}
    assert not given
    found = Units(MACHINE).of_class(kind, table)
    return found["occupancy"][0] / TICKS, found["latency"][0] / TICKS


def test_a_lone_instruction_takes_its_closed_form():
    """From the cycle in which it is taken to that in which it gives tokens, which is the one behind its done."""
    mv = times("MV", rows=1, columns=64, k=128, keep_n=16, weight_bits=4, group=32, last=1)
    busy = mv_cycles(columns=64, step=16, k=128, rows=1, passes=1, group=32, serial=1)
    assert mv == (busy, mv_latency(dots="shift-add", serial=1, read_latency=2) + 1)
    norm = times("MISC", operation=OPERATIONS.index("norm"), vectors=1, elements=576, passes=2)
    assert norm == (misc_cycles("norm", width=4, vectors=1, elements=576), 0)
    load = times("LD", target=BUFFERS.index("weight"), channels=4, bytes=1024, code_bits=4)
    assert sum(load) == load_cycles(latency=32, buffer="weight", address=0, size=1024, channels=4, lanes=4, bits=4) + 1
    store = times("ST", source=BUFFERS.index("global"), channels=4, bytes=1024)
    assert sum(store) == store_cycles(latency=32, address=0, size=1024, channels=4, wide=True) + 1


def test_units_of_rtl_need_products_that_have_some():
    machine = accelerator_named("mixpe-core")
    wrong = msgspec.structs.replace(machine.array, pe="multiply-4x8")
    with pytest.raises((InputError, ValueError), match='units = "rtl" must be of a machine of dsp48e2'):
        msgspec.structs.replace(machine, units="rtl", array=wrong)


@pytest.mark.parametrize(("keep", "group", "words"), [(8, 32, 16), (8, 128, 16), (4, 128, 8), (16, 32, 32), (8, 0, 16)])
def test_weights_of_which_a_part_is_kept_take_the_words_that_hold_them(keep, group, words):
    """16 steps of columns meet no accumulator too soon, so every cycle but the first has products in all DSPs."""
    machine = accelerator_named("flightllm-mini-sparse")
    table = {"rows": 1, "columns": 256, "k": 512, "keep_n": keep, "weight_bits": 8, "group": group, "last": 0, "zero": 0}
    found = Units(machine).of_class("MV", {name: np.array([value]) for name, value in table.items()})
    assert found["occupancy"][0] / TICKS == TAKE_CYCLES + 16 * words
    slow = accelerator_named("flightllm-mini")
    assert Units(slow).matrix("MV", {name: np.array([value]) for name, value in table.items()})[0][0] == 16 * words
