"""The core that is placed on a small device: programs of everything, bytes as the executor's, cycles as the engine's."""

import re
from pathlib import Path

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.rtl import core_harness
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import build_core
from mixflight.rtl.core_synthesis import synthesise_parts
from mixflight.sim.core_values.random_program import random_program
from mixflight.verify_core import check_core, parts_of, run_program

MACHINE = accelerator_named("mixpe-small")


@pytest.fixture(scope="module")
def model():
    return build_core(Core(MACHINE))


@pytest.mark.slow
@pytest.mark.parametrize("part", parts_of(core_shape(MACHINE).classes))
def test_units_and_all_together(model, part):
    found = check_core(model, MACHINE, part, seeds=range(3))
    assert found.messages == ()
    assert found.cycles_sim == pytest.approx(found.cycles_rtl, rel=0.005)


@pytest.mark.slow
def test_windows_at_the_ends_of_the_buffers(model):
    for seed in range(2):
        assert run_program(model, MACHINE, random_program(MACHINE, seed, windows="high"), stall=20).wrong == ""


_KEPT = re.compile(r'ram_style = "(?:ultra|block)" \*\)\n  reg \[\d+:0\] (\w+) \[')


def _inverted_where_written(text):
    """Of every memory that asks for blocks, a read in the cycle of a write of its line gives the line inverted."""
    found, modules = 0, re.split(r"(?m)^(?=module )", text)
    for number, module in enumerate(modules):
        for name in _KEPT.findall(module):
            writes = re.findall(rf"if \(([^\n]*)\)\n\s+{name}\[([^\]]*)\](?:\[[^\]]*\])? <= ", module)
            enable, address = " | ".join(f"({enable})" for enable, _ in writes), writes[0][1]
            module, reads = re.subn(
                rf"(_\d+_ <= ){name}\[([^;]*)\];",
                lambda read, name=name, enable=enable, address=address: (
                    f"{read[1]}(({enable}) && ({address}) == ({read[2]})) ? ~{name}[{read[2]}] : {name}[{read[2]}];"
                ),
                module,
            )
            found += reads
        modules[number] = module
    return "".join(modules), found


@pytest.mark.slow
def test_no_read_of_a_buffer_counts_in_the_cycle_of_a_write_of_its_line(monkeypatch):
    core = Core(MACHINE)
    core._MustUse__used = True      # its text may come from the cache
    text, found = _inverted_where_written(core_harness.core_text(core))
    assert found == 6
    monkeypatch.setattr(core_harness, "core_text", lambda core: text)
    inverting = build_core(core)
    for part in parts_of(core_shape(MACHINE).classes):
        assert check_core(inverting, MACHINE, part, seeds=range(2)).messages == ()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_preset_and_the_page_have_what_synthesis_finds():
    core = Core(MACHINE)
    core._MustUse__used = True
    found = synthesise_parts(core_harness.core_text(core), top=core_harness.TOP.replace("-", "_"))
    parts = {part.module.rpartition("_")[2]: part.counts for part in found.parts}
    assert (found.counts["lut"], parts["sfu"]["dsp"]) == (MACHINE.luts, MACHINE.sfu.dsp)
    page = (Path(__file__).parents[2] / "docs" / "flightllm-core-resources.md").read_text()
    said = f"takes {MACHINE.luts:,} LUTs and {found.counts['dsp']:.0f} DSPs, and its longest path has {found.longest.levels} LUT levels"
    assert said in " ".join(page.split())
