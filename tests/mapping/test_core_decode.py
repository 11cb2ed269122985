import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_compile import CoreCompiler
from mixflight.mapping.core_network import network_of
from mixflight.mapping.core_tiles import round_up
from mixflight.sim.queues import Layer, execute_fully
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

CASES = [
    ("flightllm-u280", "llama2-7b", "w4a8g32", 1),
    ("flightllm-u280", "smollm2-135m", "k8v4", 1),
    ("flightllm-u280", "opt-6.7b", "w4a8g32", 1),
    ("flightllm-vhk158", "llama3-8b", "w8a8", 1),
    ("flightllm-u280", "smollm2-135m", "w8a8", 4),
    ("mixpe-core", "smollm2-135m", "w4a8g32", 1),
]


def step(model, recipe, context, batch=1):
    return next(iter(decode_traces(model_named(model), recipe_named(recipe), context - 1, 1, batch)))


def finish(pieces):
    """Run the tokens of one core; every instruction takes a cycle."""
    layers = tuple(
        Layer(
            wait=tuple(item.tables[kind]["wait"].astype(np.uint8) for kind in CLASSES),
            release=tuple(item.tables[kind]["release"].astype(np.uint8) for kind in CLASSES),
            duration=tuple(np.ones(item.count(kind)) for kind in CLASSES),
        )
        for item in pieces.pieces
    )
    return execute_fully(layers, pieces.order, with_starts=True)


def column(pieces, kind, name):
    return np.concatenate([pieces.pieces[index].tables[kind][name] for index in pieces.order])


@pytest.mark.parametrize(("arch", "model", "recipe", "batch"), CASES)
@pytest.mark.parametrize("context", [1, 17, 700])
def test_programs_run_to_their_end_and_leave_no_token(arch, model, recipe, batch, context):
    program = CoreCompiler(accelerator_named(arch)).compile(step(model, recipe, context, batch))
    for pieces in program.streams:
        assert finish(pieces).total > 0


@pytest.mark.parametrize(("arch", "model", "recipe", "batch"), CASES)
def test_bytes_are_weights_cache_and_nothing_of_activations(arch, model, recipe, batch):
    machine, trace = accelerator_named(arch), step(model, recipe, 700, batch)
    program = CoreCompiler(machine).compile(trace)
    cores = [program.streams[index] for index in program.core_of]
    loads = {
        name: sum(core.moved_bytes("LD")[name] for core in cores)
        for name in ("weight", "scale", "index", "global", "act")
    }
    stores = {
        name: sum(core.moved_bytes("ST")[name] for core in cores)
        for name in ("weight", "scale", "index", "global", "act")
    }
    parameters = sum(len(op.layers) * op.parameter_bytes for op in trace.operators
                     if op.kind in ("norm", "layernorm", "bias") and op.name != "positions")  # fmt: skip
    cached = trace.total("kv_read_bytes")
    assert loads["act"] == loads["index"] == 0
    needed = trace.weight_bytes + cached + parameters
    # every core reads the norms; the cache is read in whole blocks of 16 tokens, its scales twice; slabs are whole bursts
    most = trace.weight_bytes * 1.02 + cached * 1.15 + parameters * machine.cores * 1.1
    assert needed <= loads["weight"] + loads["scale"] + loads["global"] <= most
    assert loads["global"] < 0.01 * needed
    logits = 4 * batch * model_named(model).vocab
    assert stores["act"] == trace.total("kv_write_bytes")
    assert logits <= stores["global"] <= logits + 32 * machine.hbm.channels_per_core * machine.cores
    assert sum(core.moved_bytes("LD", "ddr")["global"] for core in cores) == machine.cores * sum(
        op.parameter_bytes for op in trace.operators if op.name in ("embed", "positions")
    )


@pytest.mark.parametrize(("arch", "model", "recipe", "batch"), CASES)
def test_macs_are_those_of_the_trace(arch, model, recipe, batch):
    machine, trace = accelerator_named(arch), step(model, recipe, 640, batch)
    program = CoreCompiler(machine).compile(trace)
    macs = sum(
        int((column(core, "MV", "rows") * column(core, "MV", "columns") * column(core, "MV", "k")).sum())
        for core in (program.streams[index] for index in program.core_of)
    )
    assert macs == trace.macs


@pytest.mark.parametrize("arch", ["flightllm-mini", "mixpe-mini"])
def test_the_small_cores_hold_both_stages_of_smollm2(arch):
    compiler, model, recipe = CoreCompiler(accelerator_named(arch)), model_named("smollm2-135m"), recipe_named("w4a8g32")
    for trace in (step("smollm2-135m", "w4a8g32", 2048), prefill_trace(model, recipe, 2048)):
        assert len(compiler.texts(network_of(trace), 2048)) == 1


def test_the_next_length_is_the_same_text():
    compiler = CoreCompiler(accelerator_named("flightllm-u280"))
    first, second = (compiler.compile(step("llama2-7b", "w4a8g32", context)) for context in (16, 2048))
    assert all(a is b for a, b in zip(first.texts, second.texts, strict=True))
    assert first.registers != second.registers
    assert first.instruction_bytes < 64_000


def test_repeated_layers_equal_layers_one_by_one_but_for_addresses():
    machine, trace = accelerator_named("flightllm-u280"), step("smollm2-135m", "w4a8g32", 300)
    few, many = (CoreCompiler(machine).compile(trace, repeat=repeat).streams[0] for repeat in (True, False))
    assert np.bincount(few.order).max() >= 30
    assert len(many.pieces) == len(many.order) == len(few.order)
    assert np.array_equal(
        np.concatenate([few.pieces[i].kinds for i in few.order]), np.concatenate([p.kinds for p in many.pieces])
    )
    for kind, names in (
        ("LD", ("wait", "bytes", "channels", "target")),
        ("MV", ("rows", "columns", "k", "release")),
        ("MISC", ("elements",)),
    ):
        for name in names:
            assert np.array_equal(column(few, kind, name), column(many, kind, name)), (kind, name)
    weights = column(many, "LD", "address")[(column(many, "LD", "target") == 0) & (column(many, "LD", "bytes") > 0)]
    assert len(np.unique(weights)) == len(weights)


@pytest.mark.parametrize("model", ["smollm2-135m", "llama2-7b"])
def test_weights_are_read_once_without_a_gap(model):
    program = CoreCompiler(accelerator_named("flightllm-u280")).compile(step(model, "w4a8g32", 700), repeat=False)
    core, memory = program.streams[0], program.registers[0]
    target, address, size = (column(core, "LD", name) for name in ("target", "address", "bytes"))
    for buffer, base, end in ((0, "WEIGHTS", "SCALES"), (1, "SCALES", "INDICES")):
        rows = (target == buffer) & (size > 0) & (address >= memory[base]) & (address < memory[end])
        assert address[rows][0] == memory[base]
        assert np.array_equal(address[rows][1:], (address + size)[rows][:-1])
        assert round_up(int((address + size)[rows][-1]), 4096) == memory[end]


def test_a_slot_is_filled_only_when_free():
    """No LD writes a slot between its last filling and the MV that reads it."""
    program = CoreCompiler(accelerator_named("flightllm-u280")).compile(
        step("smollm2-135m", "w4a8g32", 1100), repeat=False
    )
    core = program.streams[0]
    starts = finish(core).starts
    fills = (column(core, "LD", "target") == 0) & (column(core, "LD", "bytes") > 0)
    reads = column(core, "MV", "columns") > 0
    filled, read = starts["LD"][fills], starts["MV"][reads]
    assert len(filled) == len(read)
    assert np.array_equal(column(core, "LD", "buffer_address")[fills], column(core, "MV", "weight_address")[reads])
    assert (read > filled).all()
    assert (filled[4:] > read[:-4]).all()


@pytest.mark.parametrize(
    ("model", "max_context", "message"),
    [
        ("llama2-13b", 2048, r"llama2-13b must fit the memory of flightllm-u280: [\d,]+ of 268,435,456 bytes"),
        (
            "smollm2-135m",
            1 << 16,
            r"the global buffer must hold [\d,]+ of 1,048,576 bytes, [\d,]+ of them for operator 'softmax'",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(model, max_context, message):
    with pytest.raises(InputError, match=message) as error:
        CoreCompiler(accelerator_named("flightllm-u280"), max_context=max_context).compile(step(model, "w8a8", 100))
    assert "\n" not in str(error.value)


def test_floats_are_refused():
    with pytest.raises(InputError, match="activations must be integers"):
        CoreCompiler(accelerator_named("flightllm-u280")).compile(step("smollm2-135m", "fp16", 100))


def test_without_always_on_chip_every_fused_layer_stores_and_loads():
    machine, trace = accelerator_named("flightllm-u280"), step("llama2-7b", "w4a8g32", 700)
    kept, moved = (CoreCompiler(machine, on_chip=on_chip).compile(trace).streams[0] for on_chip in (True, False))
    assert finish(moved).total > 0
    extra = moved.moved_bytes("ST")["global"] - kept.moved_bytes("ST")["global"]
    # per layer of core 0: two norms, q, k and v, attention, o, hidden and down; then the last norm
    columns = 2 * 4096 + 3 * 1408 + 1408 + 1408 + 3712 + 1408
    assert extra == 32 * 4 * columns + 4 * 4096
    assert moved.moved_bytes("LD")["global"] - kept.moved_bytes("LD")["global"] == extra
    assert moved.moved_bytes("LD")["weight"] == kept.moved_bytes("LD")["weight"]


def test_dense_storage_of_sparse_weights():
    machine, trace = accelerator_named("flightllm-u280"), step("llama2-7b", "flightllm", 64)
    sparse, dense = (
        CoreCompiler(machine, sparse=sparse).compile(trace).streams[0].moved_bytes("LD") for sparse in (True, False)
    )
    assert dense["index"] == 0
    assert sparse["index"] > 0
    assert 1.8 < dense["weight"] / sparse["weight"] < 2.0  # the head and the cache are dense either way


@pytest.mark.parametrize(("coding", "bits"), [("four_bit", 2.0), ("bitmap", 1.0), ("rank", 14 / 16)])
def test_index_traffic_follows_the_coding(coding, bits):
    import msgspec

    machine = accelerator_named("flightllm-u280")
    machine = msgspec.structs.replace(
        machine, memory_unit=msgspec.structs.replace(machine.memory_unit, index_coding=coding)
    )
    trace = step("llama2-7b", "flightllm", 64)
    program = CoreCompiler(machine).compile(trace)
    weights = sum(len(op.layers) * op.n * op.k for op in trace.operators if op.kind == "linear" and op.keep_m)
    read = sum(program.streams[i].moved_bytes("LD")["index"] for i in program.core_of)
    assert read == pytest.approx(weights * bits / 8, rel=0.01)
    assert all(finish(pieces).total > 0 for pieces in program.streams)


def test_layers_of_mixed_widths_share_one_text():
    trace = step("llama2-7b", "flightllm", 64)
    program = CoreCompiler(accelerator_named("flightllm-u280")).compile(trace)
    assert program.instruction_bytes < 40_000
    widths = column(program.streams[0], "MV", "weight_bits")
    assert set(widths[column(program.streams[0], "MV", "columns") > 0]) == {3, 4, 5, 8}
    stored = sum(program.streams[i].moved_bytes("LD")["weight"] for i in program.core_of)
    codes = sum(
        len(op.layers) * op.n * op.k * op.weight.bits * (op.keep_n or 16) // 16 // 8
        for op in trace.operators if op.kind == "linear"
    )  # fmt: skip
    assert stored == pytest.approx(codes + trace.total("kv_read_bytes"), rel=0.01)
