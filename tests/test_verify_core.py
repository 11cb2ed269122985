"""``mixflight verify flightllm-core``: what it runs, and that it finds bytes and cycles which are wrong."""

import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import build_core
from mixflight.sim.core_values.random_program import random_program
from mixflight.verification import plan, verify_top
from mixflight.verify_core import PARTS, parts_of, run_program
from mixflight.verify_cores_model import DECODE
from mixflight.verify_prefill import PREFILL

MINI = accelerator_named("mixpe-mini")
DENSE = [part for part in PARTS if "sparse" not in part]


def test_a_core_is_verified_by_its_components_and_by_programs():
    names = [(item.top, item.parameters.get("programs", "")) for item in plan("flightllm-core", arch="mixpe-mini")]
    dense = [*DENSE, PREFILL]
    assert names == [("core-mv", ""), ("core-sfu", ""), *(("flightllm-core", part) for part in dense)]
    chain, engine, unit, *programs = plan("flightllm-core")
    assert [item.parameters["programs"] for item in programs] == dense
    assert (chain.top, chain.component.length) == ("csd-chain", 16)
    assert (engine.component.dots, unit.component.width) == ("dsp48e2", 4)


def test_joined_cores_run_the_programs_of_one_and_a_layers_steps():
    chosen = plan("flightllm-core", arch="mixpe-duo")
    parts = [*parts_of(core_shape(MINI).classes), DECODE, PREFILL]
    assert [item.parameters.get("programs", "") for item in chosen] == ["", "", *parts]
    assert (chosen[-1].component.machine.cores, len(chosen[-1].component.memories)) == (2, 12)


@pytest.mark.slow
@pytest.mark.timeout(2400)      # the first program compiles the core
@pytest.mark.parametrize("name", ["core-mv", "core-sfu", *DENSE])     # the prompt: tests/rtl/test_core_prefill.py
def test_a_row_of_a_core(name):
    [item] = [item for item in plan("flightllm-core", arch="mixpe-mini")
              if name in (item.top, item.parameters.get("programs"))]  # fmt: skip
    row = verify_top(item)
    assert row.messages == ()
    assert row.cycles_sim == pytest.approx(row.cycles_rtl, rel=0.005)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_byte_that_differs_is_found():
    machine = accelerator_named("mixpe-mini")
    model, made = build_core(Core(machine, generic=True)), random_program(machine, 3, count=10)
    assert run_program(model, machine, made).wrong == ""
    channel = made.after.hbm[1]
    channel[np.flatnonzero(channel)[-1]] ^= 4
    assert "1 of 2097152 bytes differ, the first in channel 1" in run_program(model, machine, made).wrong
