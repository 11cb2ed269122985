"""The compiled table engine against the engine, and its closed form against both."""

import random

import msgspec
import pytest

from mixflight.arch.accelerator import accelerators, array_named
from mixflight.arch.errors import InputError
from mixflight.sim.simulate import simulate
from mixflight.sim.table_engine import count_table, phase_result, scenario_tables, slice_of
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named


def both_tiers(machine, model, recipe, prefill, decode, batch):
    """(engine, closed form), each (prefill, decode)."""
    integer = machine.array.element.arithmetic == "integer"
    tables = scenario_tables(model, recipe, prefill, decode, batch, integer)
    part = slice_of(machine)

    def phases(tier):
        decoding = tables.decode if tier == "engine" else tables.decode_sampled
        return [
            phase_result(machine, count_table(part, table, tier), table.tokens) for table in (tables.prefill, decoding)
        ]

    return phases("engine"), phases("closed-form")


def holds(machine, model, recipe, prefill, decode, batch, within):
    engine, closed = both_tiers(machine, model, recipe, prefill, decode, batch)
    simulated = simulate(machine, model, recipe, recipe.name, prefill, decode, batch, "int8")
    for ours, form, theirs in zip(engine, closed, (simulated.prefill, simulated.decode), strict=True):
        assert ours.time_ms == theirs.time_ms
        assert ours.bound_by == theirs.bound_by
        assert ours.tokens == theirs.tokens
        assert ours.dram_bytes == pytest.approx(theirs.dram_bytes, rel=1e-12)
        for field in ("pj", "low_pj", "high_pj"):
            assert getattr(ours.energy, field) == pytest.approx(getattr(theirs.energy, field), rel=1e-12)
        assert form.time_ms == pytest.approx(ours.time_ms, rel=within)
        assert form.energy.pj == pytest.approx(ours.energy.pj, rel=0.01)


@pytest.mark.parametrize("name", accelerators())
@pytest.mark.parametrize(("recipe", "batch"), [("w4a8g32", 1), ("w4a16g128", 16)])
def test_presets_take_what_the_engine_says(name, recipe, batch):
    holds(array_named(name), model_named("llama3-8b"), recipe_named(recipe), 96, 12, batch, within=0.02)


def test_buffers_that_leak_take_what_the_engine_says():
    for technology in ("45nm-sram-leakage", "osu018-scaled"):
        machine = msgspec.structs.replace(array_named("mixpe-w4a8"), technology=technology)
        holds(machine, model_named("smollm2-135m"), recipe_named("w4a8g32"), 32, 4, 1, within=0.02)


def random_machine(chance):
    base = array_named("mixpe-w4a8")
    rows, cols = chance.choice([8, 16, 32, 64]), chance.choice([8, 24, 32, 64, 100])
    stationary = chance.random() < 0.3
    array = msgspec.structs.replace(
        base.array, pe=chance.choice(["multiply-8x8", "shift-add-4x8"]), rows=rows, cols=cols,
        lanes=cols // chance.choice([1, 2, 4]), split=1 if stationary else chance.choice([1, 2, 8]),
        dataflow="weight-stationary" if stationary else "output-stationary",
        tokens=chance.choice([4, 32, 100]) if stationary else None,
    )  # fmt: skip
    sizes = {"weight_kib": [16, 64, 1024], "act_kib": [16, 64, 256], "output_kib": [16, 64, 128]}
    buffers = msgspec.structs.replace(base.buffers, **{key: chance.choice(some) for key, some in sizes.items()})
    return msgspec.structs.replace(base, array=array, buffers=buffers, clock_mhz=chance.choice([200.0, 500.0, 1000.0]))


@pytest.mark.parametrize("seed", range(20))
def test_random_machines_take_what_the_engine_says(seed):
    chance = random.Random(seed)
    model = model_named(chance.choice(["llama2-7b", "opt-6.7b"]))
    recipe = recipe_named(chance.choice(["w4a8g128", "w4a8g32", "k8v4", "flightllm"]))
    lengths = chance.choice([1, 33, 130]), chance.choice([1, 5]), chance.choice([1, 3, 20])
    holds(random_machine(chance), model, recipe, *lengths, within=0.15)


def test_a_tile_that_no_buffer_holds_is_refused_as_the_engine_does():
    machine = array_named("int8")
    machine = msgspec.structs.replace(
        machine, array=msgspec.structs.replace(machine.array, rows=32, cols=4096, lanes=4096),
        buffers=msgspec.structs.replace(machine.buffers, weight_kib=1),
    )  # fmt: skip
    with pytest.raises(InputError, match="buffers must hold one slab of a 32x4096 tile, in operator 'q'"):
        both_tiers(machine, model_named("llama2-7b"), recipe_named("w8a8"), 4, 1, 1)


def test_operands_that_a_pe_cannot_take_are_refused():
    tables = scenario_tables(model_named("llama2-7b"), recipe_named("w4a16g128"), 4, 1, 1, False)
    with pytest.raises(InputError, match="a multiply-8x8 PE must get operands it can promote"):
        count_table(slice_of(array_named("int8")), tables.prefill, "engine")


def test_an_action_without_a_price_is_refused():
    machine = msgspec.structs.replace(array_named("fp16"), technology="fpga-16nm-ultrascale")
    tables = scenario_tables(model_named("llama2-7b"), recipe_named("w4a16g128"), 4, 1, 1, False)
    with pytest.raises(InputError, match="every action must have a price"):
        phase_result(machine, count_table(slice_of(machine), tables.prefill, "engine"), 4)
