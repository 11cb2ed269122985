import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.formats import FORMATS
from mixflight.mapping.compile import command_of
from mixflight.mapping.matrix import dram_bytes
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.engine import time_command
from mixflight.sim.matrix_kernel import matrix_cycles
from mixflight.sim.stationary_timing import stationary_cycles
from mixflight.workloads.operators import Operator

MIXPE = accelerator_named("mixpe-w4a8")


def linear(m, n, k, weight="q4_1", act="int8-g32", **fields):
    item = FORMATS[weight]
    fields = {"count": 1, "weight_bytes": n * item.row_bits(k) // 8, **fields}
    return Operator(name="x", kind="linear", layers=(0,), m=m, n=n, k=k, weight=item, act=FORMATS[act], **fields)


def changed(machine, **tables):
    return msgspec.structs.replace(
        machine, **{name: msgspec.structs.replace(getattr(machine, name), **fields) for name, fields in tables.items()}
    )


def timed(operator, machine=MIXPE):
    return time_command(command_of(operator, machine), machine)


FAST = changed(MIXPE, dram={"peak_gb_s": 1e9, "latency_ns": 0.0})


@pytest.mark.parametrize("zero", ["q4_1", "q4_0", "q8_0"])
@pytest.mark.parametrize(("m", "n", "k"), [(32, 64, 576), (32, 128, 1536), (64, 64, 32), (64, 256, 4096)])
def test_with_free_memory_an_operator_takes_exactly_the_arrays_cycles(zero, m, n, k):
    passes = 2 if zero == "q8_0" else 1
    lanes_zero = {"q4_1": "f16-min", "q4_0": "int4", "q8_0": "none"}[zero]
    expected = array_cycles(
        rows=32, cols=64, lanes=64, k=k, group=32, passes=passes, tiles=(m // 32) * (n // 64), zero=lanes_zero
    )
    assert timed(linear(m, n, k, zero), FAST).activity.cycles == pytest.approx(expected, abs=1)


STATIONARY = changed(accelerator_named("mixpe-w4a8-ws"), dram={"peak_gb_s": 1e9, "latency_ns": 0.0})


@pytest.mark.parametrize(("m", "n", "k"), [(32, 64, 576), (32, 128, 1536), (64, 64, 32), (1, 256, 512), (7, 64, 96)])
@pytest.mark.parametrize("weight", ["q4_1", "q4_0", "q8_0"])
def test_with_free_memory_an_operator_takes_exactly_the_weight_stationary_arrays_cycles(weight, m, n, k):
    passes = 2 if weight == "q8_0" else 1
    lanes_zero = {"q4_1": "f16-min", "q4_0": "int4", "q8_0": "none"}[weight]
    expected = stationary_cycles(
        rows=32, cols=64, lanes=64, tokens=min(m, 32), k=k, group=32, passes=passes, tiles=-(-m // 32) * (n // 64), zero=lanes_zero
    )
    assert timed(linear(m, n, k, weight), STATIONARY).activity.cycles == pytest.approx(expected, abs=1)


def test_a_rest_of_tokens_takes_less_where_weights_stay():
    """33 tokens: a tile of 32 and one of a single token, which costs the loading of its weights."""
    whole, rest, both = (timed(linear(m, 64, 4096), STATIONARY).array_cycles for m in (32, 1, 33))
    assert (whole, rest, both) == (4096, 4096, 8192)
    deep = changed(STATIONARY, array={"tokens": 128})
    whole, rest, both = (timed(linear(m, 64, 4096), deep).array_cycles for m in (128, 1, 129))
    assert (whole, rest, both) == (4 * 4096, 4096, 5 * 4096)


def test_column_accumulators_are_counted():
    """32 tokens, 64 channels, two groups of 32 codes on 32 rows: a weight tile each, sums of 17 bits."""
    counts = {machine.name: timed(linear(32, 64, 64), machine).activity.counts for machine in (MIXPE, STATIONARY)}
    more = counts["mixpe-w4a8-ws"]["accumulator", "write_bit"] - counts["mixpe-w4a8"]["accumulator", "write_bit"]
    assert more == 32 * 64 * 2 * 17


def test_too_few_lanes_set_the_group_period():
    few = changed(FAST, array={"lanes": 16})  # 32 x 64 / 16 = 128 sums a lane, 4 periods of 32
    item = timed(linear(32, 64, 4096), few)
    assert item.bound_by == "lanes"
    assert item.array_cycles == 4096 // 32 * 128
    assert timed(linear(32, 64, 4096), FAST).array_cycles == 4096


@settings(deadline=None, max_examples=150)
@given(
    m=st.integers(1, 300), n=st.integers(1, 2000), groups=st.integers(1, 100), count=st.integers(1, 4),
    weight=st.sampled_from(["q4_0", "q4_1", "q8_0", "int8"]), arch=st.sampled_from(["mixpe-w4a8", "mixpe-w4a8-split", "mul4x8", "int8", "fp16", "mixpe-w4a8-ws",
                                                                                     "mixpe-w4a16"]),
)  # fmt: skip
def test_no_operator_beats_its_bounds(m, n, groups, count, weight, arch):
    machine = accelerator_named(arch)
    k = 32 * groups
    operator = linear(m, n, k, weight, "int8", count=count, weight_bytes=count * n * FORMATS[weight].row_bits(k) // 8)
    command = command_of(operator, machine)
    item = time_command(command, machine)
    peak = machine.array.rows * machine.array.cols
    assert item.activity.cycles >= operator.macs * command.passes / peak
    assert item.activity.cycles >= operator.weight_bytes / machine.dram_bytes_per_cycle
    moved = sum(value for (component, _), value in item.activity.counts.items() if component == "dram") / 8
    read, written = dram_bytes(command)
    assert moved >= operator.weight_bytes * (1 - 1e-9)
    assert moved <= (read + written) * (1 + 1e-9)  # what the mapping promised is not exceeded
    assert 0 < item.utilisation <= 1


def test_against_scale_sims_closed_form():
    """SCALE-Sim v3, output stationary, 32x32, 512x4096x4096: 8,515,583 cycles, computed as
    ceil(M/R) * ceil(N/C) * (K + R + C - 2) - 1: it fills and drains for every tile. Ours hands tiles on without a gap:
    between the MAC bound and that, by exactly the fills saved."""
    machine = changed(accelerator_named("int8"), dram={"peak_gb_s": 1e9, "latency_ns": 0.0})
    ours = timed(linear(512, 4096, 4096, "int8", "int8"), machine).activity.cycles
    tiles, skew = 16 * 128, 32 + 32 - 2
    scale_sim = tiles * (4096 + skew) - 1
    assert scale_sim == 8_515_583
    bound = 512 * 4096 * 4096 // 1024
    assert bound < ours < scale_sim
    # one skew, and the drain of a lane without zero points: 2 + 10; the first bytes' time rounds up to a cycle
    assert ours - bound == pytest.approx(skew + 12, abs=1)


def test_one_row_of_a_decode_wastes_the_others():
    item = timed(linear(1, 4096, 4096))
    assert item.array_cycles == 64 * 4096
    assert item.bound_by == "array edge"
    assert item.utilisation < 1 / 32


SPLIT = accelerator_named("mixpe-w4a8-split")
FAST_SPLIT = changed(SPLIT, dram={"peak_gb_s": 1e9, "latency_ns": 0.0})


@pytest.mark.parametrize("zero", ["q4_1", "q4_0", "q8_0"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 256, 576), (8, 512, 1536), (3, 1024, 4096), (16, 512, 64)])
def test_split_rows_take_exactly_the_arrays_cycles_for_fewer_tiles(zero, m, n, k):
    passes = 2 if zero == "q8_0" else 1
    lanes_zero = {"q4_1": "f16-min", "q4_0": "int4", "q8_0": "none"}[zero]
    expected = array_cycles(rows=32, cols=64, lanes=64, k=k, group=32, passes=passes,
                            tiles=-(-m // 8) * (n // 256), zero=lanes_zero)  # fmt: skip
    assert command_of(linear(m, n, k, zero), FAST_SPLIT).split == 4
    assert timed(linear(m, n, k, zero), FAST_SPLIT).activity.cycles == pytest.approx(expected, abs=1)


def test_rows_are_split_only_where_that_is_faster():
    def split(m, n, machine=SPLIT):
        return command_of(linear(m, n, 4096), machine).split

    assert split(1, 4096, MIXPE) == 1
    assert split(1, 4096) == split(8, 4096) == split(16, 4096) == 4
    assert split(32, 4096) == split(128, 4096) == 1      # full tiles either way
    assert split(40, 4096) == 4                          # 5 tiles of 8 x 256 for 2 of 32 x 64
    assert split(1, 64) == split(32, 64) == 1            # no channels for the other blocks
    assert split(1, 65) == 4


def test_split_rows_move_the_same_bytes_and_do_the_same_work():
    operator = linear(1, 4096, 4096)
    whole, split = timed(operator), timed(operator, SPLIT)
    assert split.array_cycles == whole.array_cycles / 4 == 16 * 4096
    assert (whole.bound_by, split.bound_by) == ("array edge", "dram")
    for action in (("pe.shift-add-4x8", "mac"), ("dram", "read_bit"), ("sram.weight", "read_bit"), ("lanes", "fp32_mul")):
        assert split.activity.counts[action] == pytest.approx(whole.activity.counts[action])
    assert split.activity.counts["sram.act", "read_bit"] == whole.activity.counts["sram.act", "read_bit"] / 4


def test_a_slow_memory_binds():
    slow = changed(MIXPE, dram={"peak_gb_s": 1.0})
    operator = linear(8, 4096, 4096)  # results stay on chip
    item = timed(operator, slow)
    assert item.bound_by == "dram"
    assert item.activity.cycles == pytest.approx(operator.weight_bytes / slow.dram_bytes_per_cycle, rel=0.01)


def test_double_buffering_hides_the_shorter_of_load_and_compute():
    item = timed(linear(32, 4096, 4096))
    longer = max(item.array_cycles, item.dram_cycles)
    assert longer < item.activity.cycles < longer + 0.02 * (item.array_cycles + item.dram_cycles)


def test_causal_masks_skip_tiles():
    def qk(step):
        return Operator(name="qk", kind="qk", layers=(0,), m=512, n=512, k=128, count=32, weight=FORMATS["int8"],
                        act=FORMATS["int8"], causal_step=step, kv_read_bytes=32 * 512 * 130)  # fmt: skip

    dense, causal = timed(qk(0), FAST), timed(qk(1), FAST)
    assert qk(1).macs == 32 * 128 * 512 * 513 // 2
    assert 0.5 < causal.array_cycles / dense.array_cycles < 0.6


@pytest.mark.parametrize("tiles", [(1, 1, 1, 32, 32), (12, 32, 4, 64, 8)], ids=["output-stationary", "weight-stationary"])
def test_compiled_equals_interpreted(tiles):
    arguments = (3, 100, 300, 256, 64, 128, 64, 32, 64, 32, 1, *tiles, 90, 0, False, False, False, 51200.0, 26000.0, 120000.0,
                 117.76, 62.0)  # fmt: skip
    assert matrix_cycles(*arguments) == matrix_cycles.py_func(*arguments)


def test_a_buffer_that_cannot_hold_a_slab_is_refused():
    from mixflight.arch.errors import InputError

    tiny = changed(MIXPE, buffers={"weight_kib": 1}, array={"cols": 2048, "lanes": 2048})
    with pytest.raises(InputError, match="the buffers must hold one slab of a 32x2048 tile, in operator 'x'"):
        command_of(linear(32, 4096, 4096), tiny)


def test_counts_of_a_small_product_are_those_counted_by_hand():
    """3 tokens times 64 channels of K = 64 in Q4_1: one tile of 32 x 64, two groups of 32. Weights: 64 rows of
    64 x 4 + 2 x 32 bits; activations: 3 rows of 64 x 8 + 2 x 16 bits; 192 results, 4 multiplies and 2 adds a group."""
    assert timed(linear(3, 64, 64)).activity.counts == {
        ("pe.shift-add-4x8", "mac"): 3 * 64 * 64, ("sram.weight", "write_bit"): 64 * 320,
        ("sram.weight", "read_bit"): 64 * 320, ("sram.act", "read_bit"): 3 * 544, ("sram.output", "write_bit"): 192 * 32,
        ("dram", "read_bit"): 64 * 320, ("dram", "write_bit"): 0, ("lanes", "fp32_mul"): 192 * 2 * 4,
        ("lanes", "fp32_add"): 192 * 2 * 2, ("accumulator", "read_bit"): 192 * 2 * 32,
        ("accumulator", "write_bit"): 192 * 2 * 32, ("row_sum", "int_add"): 3 * 64,
    }  # fmt: skip


def test_what_is_loaded_again_is_written_to_its_buffer_again():
    operator = linear(512, 4096, 4096)
    command = command_of(operator, MIXPE)
    row_blocks, col_blocks = 512 // command.m_block, 4096 // command.n_block
    assert row_blocks > 1
    assert command.n_block > MIXPE.array.cols
    assert (command.weights_resident, command.acts_from_dram, command.acts_held) == (False, True, False)
    counts = time_command(command, MIXPE).activity.counts
    weights, acts = 8 * operator.weight_bytes * row_blocks, 8 * command.act_bytes * col_blocks
    assert counts["sram.weight", "write_bit"] == pytest.approx(weights)
    assert counts["sram.act", "write_bit"] == pytest.approx(acts)
    assert counts["dram", "read_bit"] == pytest.approx(weights + acts)
    assert counts["dram", "write_bit"] == pytest.approx(512 * 4096 * 32)


@pytest.mark.parametrize("kind", ["qk", "av"])
def test_masked_results_are_not_stored_and_the_cache_is_read_all_the_same(kind):
    n, k = (128, 64) if kind == "qk" else (64, 128)
    operator = Operator(name=kind, kind=kind, layers=(0,), m=384, n=n, k=k, count=3, weight=FORMATS["int8"],
                        act=FORMATS["int8"], causal_step=3, kv_read_bytes=3 * 128 * 66)  # fmt: skip
    counts = timed(operator, changed(MIXPE, buffers={"output_kib": 64})).activity.counts
    assert counts["dram", "read_bit"] == pytest.approx(8 * 3 * 128 * 66)
    assert counts["sram.weight", "write_bit"] == counts["dram", "read_bit"]
    stored = counts["dram", "write_bit"] / 32
    visible = operator.macs / 64
    if kind == "qk":  # whole blocks of 32 rows: their last token says how many columns
        assert visible < stored < 1.1 * visible
    else:
        assert stored == 3 * 384 * 64
        assert counts["sram.output", "write_bit"] >= 32 * stored


def test_a_masked_softmax_takes_the_sfu_for_what_is_seen():
    def softmax(step):
        return Operator(name="s", kind="softmax", layers=(0,), m=9 * 128, n=128, causal_step=step)

    dense, masked = timed(softmax(0)), timed(softmax(9))
    latency = 3 * MIXPE.sfu.latency_cycles
    assert dense.sfu_cycles == 3 * 9 * 128 * 128 // 16 + latency
    assert masked.sfu_cycles == 3 * 9 * 16 * sum(range(1, 9)) + latency  # 16 tokens need each of 1 to 8 beats
    assert masked.activity.counts["sfu", "table_read"] == 9 * 128 * 129 // 2


def test_an_int8_array_is_charged_for_the_bits_that_its_model_has():
    """A 4-bit model on INT8 PEs: MACs of codes apart from those of the INT8 head and of cached keys and values."""
    from mixflight.arch.prices import price_table
    from mixflight.machines import Machine, run
    from mixflight.workloads.model import model_named
    from mixflight.workloads.recipe import recipe_named
    from mixflight.workloads.trace import prefill_trace

    trace = prefill_trace(model_named("smollm2-135m"), recipe_named("w4a8g32"), 16)
    macs = {4: 0.0, 8: 0.0}
    for operator in trace.operators:
        if operator.weight is not None:
            macs[operator.weight.bits] += operator.macs * len(operator.layers)
    assert min(macs.values()) > 0
    prefill = run(Machine.parse("int8:w4a8g32"), "smollm2-135m", 16, 1).prefill
    table = price_table("45nm-literature")
    wide, narrow = (table.of("pe.multiply-8x8", action).value_pj for action in ("mac", "mac_4bit"))
    assert prefill.components["pe.multiply-8x8"].pj == pytest.approx(macs[8] * wide + macs[4] * narrow)
