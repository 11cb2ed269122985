import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_compile import CoreCompiler
from mixflight.mapping.core_program import OPERATIONS
from mixflight.sim.queues import Layer, execute_fully
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

CASES = [
    ("flightllm-u280", "smollm2-135m", "w4a8g32", 1),
    ("flightllm-u280", "smollm2-135m", "w8a8", 2),
    ("flightllm-vhk158", "smollm2-135m", "k8v4", 1),
    ("flightllm-vhk158", "smollm2-135m", "w8a8", 1),
    ("mixpe-core", "smollm2-135m", "w4a8g32", 1),
    ("flightllm-u280", "gemma2-2b", "w4a8g32", 1),  # norms behind the residual, caps
]


def compiled(arch, model, recipe, tokens, batch=1, **options):
    trace = prefill_trace(model_named(model), recipe_named(recipe), tokens, batch)
    return trace, CoreCompiler(accelerator_named(arch)).compile(trace, **options)


def total(pieces, kinds, *names):
    uses = np.bincount(pieces.order)
    return sum(
        int(np.prod([item.tables[kind][name] for name in names], axis=0).sum()) * int(n)
        for item, n in zip(pieces.pieces, uses, strict=True) for kind in kinds
    )  # fmt: skip


@pytest.mark.parametrize(("arch", "model", "recipe", "batch"), CASES)
@pytest.mark.parametrize("tokens", [1, 130])
def test_programs_run_to_their_end_and_exchange_alike(arch, model, recipe, batch, tokens):
    _, program = compiled(arch, model, recipe, tokens, batch)
    exchanges = set()
    for pieces in program.streams:
        layers = tuple(
            Layer(
                wait=tuple(item.tables[kind]["wait"].astype(np.uint8) for kind in CLASSES),
                release=tuple(item.tables[kind]["release"].astype(np.uint8) for kind in CLASSES),
                duration=tuple(np.ones(item.count(kind)) for kind in CLASSES),
            )
            for item in pieces.pieces
        )
        assert execute_fully(layers, pieces.order).total > 0
        exchanges.add(sum(int((pieces.pieces[i].tables["SYS"]["operation"] == 1).sum()) for i in pieces.order))
    assert len(exchanges) == 1


@pytest.mark.parametrize(("arch", "model", "recipe", "batch"), CASES)
def test_macs_are_those_of_the_trace_and_of_the_blocks_on_the_diagonal(arch, model, recipe, batch):
    machine = accelerator_named(arch)
    trace, program = compiled(arch, model, recipe, 2 * machine.mm_rows, batch)
    macs = sum(total(program.streams[i], ("MM", "MV"), "rows", "columns", "k") for i in program.core_of)
    block, m = machine.mm_rows, model_named(model)
    masked = batch * m.layers * m.heads * 2 * 2 * m.head_dim * block * (block - 1) // 2
    padded = sum(
        len(op.layers) * op.k * op.m * (-op.n % 64) for op in trace.operators if op.kind == "linear" and op.name != "head"
    )  # fmt: skip
    assert trace.macs + masked <= macs <= trace.macs + masked + padded * machine.cores


def test_norms_behind_the_residual_read_whole_rows_and_write_the_sum():
    tokens, machine = 130, accelerator_named("flightllm-u280")
    groups = -(-tokens // machine.hbm.channels_per_core) * machine.hbm.channels_per_core
    _, program = compiled("flightllm-u280", "gemma2-2b", "w4a8g32", tokens)
    hidden, layers = 2304, 26
    for pieces in program.streams:
        for part in ("attention", "ffn"):
            for operator, operation in ((f"{part}_post_norm", "norm"), (f"{part}_residual", "residual")):
                number, found = program.names.index(operator), 0
                for index in pieces.order:
                    table = pieces.pieces[index].tables["MISC"]
                    some = (table["operator"] == number) & (table["operation"] == OPERATIONS.index(operation))
                    found += int((table["vectors"] * table["elements"])[some].sum())
                assert found == layers * groups * hidden, (operator, operation)
            # the sum of each row is written once, beside the rows of o or down that all cores exchange
            number, stored = program.names.index(f"{part}_residual"), 0
            for index in pieces.order:
                table = pieces.pieces[index].tables["ST"]
                stored += int((table["bytes"] * table["channels"])[table["operator"] == number].sum())
            assert 0 <= stored - 2 * layers * groups * hidden * 4 < 0.01 * stored, part


def test_weights_stream_once_a_block_from_where_a_decode_step_finds_them():
    machine = accelerator_named("flightllm-u280")
    for recipe in ("w4a8g32", "w8a8", "w4a8g128"):
        model = "llama2-7b" if recipe == "w4a8g128" else "smollm2-135m"
        compiler = CoreCompiler(machine)
        decode = compiler.compile(next(iter(decode_traces(model_named(model), recipe_named(recipe), 9, 1))))
        prefill = compiler.compile(prefill_trace(model_named(model), recipe_named(recipe), 130))
        for name in ("weights", "scales", "indices", "parameters", "cache"):
            assert decode.bytes[name] == prefill.bytes[name], (recipe, name)
        for one, other in zip(decode.registers, prefill.registers, strict=True):
            assert all(one[name] == other[name] for name in ("WEIGHTS", "SCALES", "INDICES", "PARAMETERS", "CACHE"))


def test_every_length_is_the_same_text():
    machine, model, recipe = accelerator_named("flightllm-u280"), model_named("llama2-7b"), recipe_named("w4a8g32")
    compiler = CoreCompiler(machine)
    short, long = (compiler.compile(prefill_trace(model, recipe, tokens)) for tokens in (16, 300))
    assert all(a is b for a, b in zip(short.texts, long.texts, strict=True))
    assert long.instruction_bytes < 400_000
    assert long.streams[0].count("MM") > 2 * short.streams[0].count("MM")


@pytest.mark.parametrize("tokens", [1, 8, 9, 128, 130, 256])
def test_logits_are_of_the_last_token(tokens):
    machine, model = accelerator_named("flightllm-u280"), model_named("smollm2-135m")
    _, program = compiled("flightllm-u280", "smollm2-135m", "w8a8", tokens, 1, repeat=False)
    pieces = program.streams[0]
    head = program.names.index("final_norm")

    def of_head(kind, name):
        return np.concatenate(
            [item.tables[kind][name][item.tables[kind]["operator"] == head] for item in pieces.pieces]
        )

    load = {name: of_head("LD", name)[-1] for name in ("address", "buffer_address")}
    stores = np.concatenate([item.tables["ST"]["address"][item.tables["ST"]["bytes"] > 0] for item in pieces.pieces])
    first = stores[0]  # the embedding writes the first group of rows first
    row = (load["address"] - first) // (4 * model.hidden)
    assert row == (tokens - 1) // machine.hbm.channels_per_core
    place = of_head("MISC", "a_address")[of_head("MISC", "vectors") == 1][0] - load["buffer_address"]
    assert place == (tokens - 1) % machine.hbm.channels_per_core * 4 * model.hidden


def bytes_of(program, pieces, kind, operator):
    """Ranges of one channel's bytes that ``operator`` moves, joined: [[first, end], ...]."""
    found = set()
    for item in pieces.pieces:
        table = item.tables[kind]
        own = (table["operator"] == program.names.index(operator)) & (table["bytes"] > 0)
        found |= set(zip(table["address"][own].tolist(), table["bytes"][own].tolist(), strict=True))
    joined = []
    for first, size in sorted(found):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], first + size)
        else:
            joined.append([first, first + size])
    return joined


@pytest.mark.parametrize("arch", ["flightllm-u280", "flightllm-vhk158"])
@pytest.mark.parametrize(("model", "tokens"), [("smollm2-135m", 130), ("gemma2-2b", 20)])
def test_rows_that_pass_through_memory_are_read_where_they_were_written(arch, model, tokens):
    _, program = compiled(arch, model, "w8a8", tokens, repeat=False)  # a scale a token: a linear's input waits in memory for it
    behind = [("av", "attention_output_quantise"), ("ffn_activation", "ffn_hidden_quantise")]
    for pieces in program.streams:
        for writer, reader in behind:
            assert bytes_of(program, pieces, "LD", reader) == bytes_of(program, pieces, "ST", writer), reader
    assert len(bytes_of(program, program.streams[0], "LD", "attention_output_quantise")) > 1  # rows lie apart
