"""Traces operator by operator on FlightLLM cores: against the trace's own sums and against the fused layers."""

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.errors import InputError
from mixflight.mapping.core_general import pieces_of, work_of_cores
from mixflight.mapping.core_program import Pieces
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.general import TILES, GeneralCores
from mixflight.sim.core.scenario import Cores
from mixflight.sim.core.simulate import simulate_cores
from mixflight.sim.core.units import Units
from mixflight.workloads.model import model_named
from mixflight.workloads.operators import Operator
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

U280 = core_machines()["flightllm-u280"]
MODEL, RECIPE = model_named("llama2-7b"), recipe_named("w4a8g32")
CORES = Cores(U280, MODEL, RECIPE, max_context=256)
GENERAL = GeneralCores(U280, CORES.units)
AT_LEAST = 0.95
"""A general prefill may be this share of a fused one, which norms and quantises every row on every core."""


def counted(run, component, action):
    return sum(
        float(v.sum()) for (name, what), v in run.counts.items() if name.startswith(component) and what == action
    )


@pytest.mark.parametrize("trace", [
    prefill_trace(MODEL, RECIPE, 128), next(iter(decode_traces(MODEL, RECIPE, 127, 1))),
], ids=["prefill", "decode"])  # fmt: skip
def test_products_and_bytes_of_weights_and_cache_are_those_of_the_fused_layers(trace):
    fused, general = CORES.run(trace), GENERAL.run([trace], [1.0])
    assert counted(general, "pe.", "mac") == counted(fused, "pe.", "mac") >= trace.macs
    if trace.phase == "decode":
        assert counted(general, "pe.", "mac") == trace.macs
        assert counted(general, "sram.weight", "write_bit") == counted(fused, "sram.weight", "write_bit")
    assert counted(general, "sram.scale", "write_bit") == counted(fused, "sram.scale", "write_bit")
    assert general.cycles >= (AT_LEAST if trace.phase == "prefill" else 1.0) * fused.cycles
    assert counted(general, "ddr", "read_bit") / 8 >= 8192


def test_operators_alone_add_up_to_what_they_take_one_after_the_other():
    trace = next(iter(decode_traces(MODEL, RECIPE, 31, 1)))
    operators = [item for item in trace.operators if item.name in ("attention_norm", "q", "qk", "softmax", "down")]
    works = [work_of_cores(item, U280)[0] for item in operators]
    streams = [pieces_of(work) for work in works]
    pieces = tuple(piece for stream in streams for piece in stream.pieces)
    firsts = np.cumsum([0, *(len(stream.pieces) for stream in streams)])
    order = np.concatenate([stream.order + first for stream, first in zip(streams, firsts, strict=False)])
    alone = Units(msgspec.structs.replace(U280, cores=1))
    whole = execute(alone, compile_streams(CORES.units, [Pieces(pieces=pieces, order=order)], [0]))
    parts = sum(GENERAL.time(item).cycles for item in operators)
    assert whole.total == pytest.approx(parts, rel=0.01)


def test_many_equal_tiles_take_what_executing_all_of_them_takes():
    item = next(item for item in prefill_trace(MODEL, RECIPE, 512).operators if item.name == "gate")
    work = work_of_cores(item, U280)[0]
    assert max(count for _, count in work.tiles) > 2 * TILES
    alone = Units(msgspec.structs.replace(U280, cores=1))
    whole = execute(alone, compile_streams(CORES.units, [pieces_of(work)], [0]))
    assert GENERAL.time(item).cycles == pytest.approx(whole.total, rel=0.001)


def test_spilled_vectors_move_through_memory():
    rows = 4096
    small, large = (Operator(name="n", kind="norm", layers=(0,), m=m, n=4096) for m in (8, rows))
    assert GENERAL.time(small).counts.get(("hbm", "read_bit"), 0) == 0
    assert GENERAL.time(large).counts["hbm", "read_bit"] == 32 * rows * 4096
    assert GENERAL.time(large).counts["hbm", "write_bit"] == 32 * rows * 4096


def test_operators_with_arithmetic_of_their_own_count_it():
    item = Operator(name="e", kind="elementwise", layers=(0,), m=6, n=1024, multiplies=3, adds=2, table_reads=1)
    counts = GENERAL.run([_trace(item)], [2.0]).counts
    got = {key[1]: float(values.sum()) for key, values in counts.items() if key[0] == "sfu"}
    assert got == {"fp32_mul": 2 * 6144 * 3, "fp32_add": 2 * 6144 * 2, "table_read": 2 * 6144}


def test_a_run_with_a_probability_counts_so_often():
    item = Operator(name="n", kind="norm", layers=(0, 1), m=8, n=4096)
    often = GENERAL.run([_trace(item)], [1.0])
    rare = GENERAL.run([_trace(msgspec.structs.replace(item, probability=0.25))], [1.0])
    assert rare.cycles == pytest.approx(0.25 * often.cycles)


def test_paths_of_a_scenario():
    gpt2 = simulate_cores(U280, model_named("gpt2"), recipe_named("fp16"), "fp16", 32, 4, float_operands="int8")
    assert gpt2.path == "general"
    assert gpt2.prefill.time_ms > 0
    assert gpt2.decode.energy.pj > 0
    assert {"q", "head"} <= set(gpt2.int8_operands)
    fused = simulate_cores(U280, MODEL, RECIPE, "w4a8g32", 16, 1)
    assert fused.path == "fused"
    general = simulate_cores(U280, MODEL, RECIPE, "w4a8g32", 16, 1, path="general")
    assert general.decode.time_ms > fused.decode.time_ms


def test_floats_and_models_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="int8 converts floats"):
        simulate_cores(U280, model_named("gpt2"), recipe_named("fp16"), "fp16", 32, 4)
    with pytest.raises(InputError, match="must fit the memory of flightllm-u280"):
        simulate_cores(U280, MODEL, recipe_named("fp16"), "fp16", 32, 4, float_operands="int8")


def _trace(*operators):
    return msgspec.structs.replace(prefill_trace(MODEL, RECIPE, 16), operators=operators)
