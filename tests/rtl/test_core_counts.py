"""The recorded resources of the small cores: of the emitted text, in the presets, in the page."""

import itertools
from pathlib import Path

import pytest
from msgspec.structs import replace

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core_counts import core_counts
from mixflight.rtl import core_resources, record_core
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import TOP, core_text
from mixflight.rtl.core_resources import tables
from mixflight.rtl.module_text import read_modules
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import digest_text

PAGE = Path(__file__).parents[2] / "docs" / "flightllm-core-resources.md"
RERECORD = "run `python -m mixflight.rtl.record_core` and commit arch/synthesis/core.toml with the reason for the change"


@pytest.mark.parametrize("name", core_counts())
def test_recorded_parts_are_less_than_the_whole_by_what_joins_them(name):
    parts = core_counts()[name]
    products = {"products"} if "MM" in core_shape(accelerator_named(name)).classes else set()
    assert set(parts) == {"controller", "memory", "mv", "sfu", "text", "buffers", "whole"} | products
    for unit in ("lut", "ff", "dsp", "bram", "uram"):
        assert getattr(parts["buffers"], unit) <= getattr(parts["memory"], unit)
        inside = sum(getattr(row, unit) for part, row in parts.items() if part not in ("whole", "buffers"))
        assert 0 <= getattr(parts["whole"], unit) - inside <= 0.05 * inside


@pytest.mark.parametrize("name", core_counts())
def test_the_presets_have_what_was_recorded(name):
    machine, parts = accelerator_named(name), core_counts()[name]
    assert machine.luts == parts["whole"].lut
    assert machine.sfu.dsp == parts["sfu"].dsp


def test_the_file_is_as_the_script_writes_it():
    rows = [row.as_dict() for row in itertools.chain.from_iterable(parts.values() for parts in core_counts().values())]
    assert as_toml(rows, header=record_core._HEADER) == record_core.COUNTS.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", core_counts())
def test_the_recorded_cores_are_the_emitted_ones(name):
    core = Core(accelerator_named(name))
    core._MustUse__used = True
    text, module_ = core_text(core), TOP.replace("-", "_")
    modules = read_modules(text)
    assert core_counts()[name]["whole"].text_sha256 == digest_text(text), RERECORD
    for child in modules.children[module_]:
        assert core_counts()[name][child.removeprefix(f"{module_}_")].text_sha256 == digest_text(modules.text_of(child)), RERECORD


def test_only_cores_that_the_script_writes_are_recorded():
    assert set(core_counts()) <= set(record_core.MACHINES)


def test_an_engine_of_chains_stands_beside_the_papers(monkeypatch):
    mv = replace(core_counts()["mixpe-mini"]["mv"], machine="flightllm-mini", lut=12_000, dsp=300)
    monkeypatch.setattr(core_resources, "core_counts", lambda: {"flightllm-mini": {"mv": mv}})
    *_, ours, paper = core_resources.engine_table().splitlines()
    assert ours == "| `flightllm-mini` | 12,000 | 300 | 40.0 |"
    assert paper == "| paper, three cores | 190,000 | 6,144 | 30.9 |"
    monkeypatch.setattr(core_resources, "core_counts", lambda: {"mixpe-mini": {"mv": mv}})
    assert core_resources.engine_table() == ""


def test_the_page_has_the_recorded_numbers():
    page = PAGE.read_text()
    for table in tables():
        assert table in page, "run `python -m mixflight.rtl.core_resources` and put its tables into the page"
