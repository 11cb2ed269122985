import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.mapping.block_mask import block_mask, in_units, is_dense
from mixflight.mapping.core_compile import CoreCompiler
from mixflight.mapping.core_masks import mask_unit
from mixflight.mapping.core_shares import shares_of
from mixflight.sim.queues import Layer, execute_fully
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import prefill_trace

MODEL = "smollm2-135m"
CASES = [
    ("flightllm-u280", 320, 1, 0.5), ("flightllm-u280", 449, 2, 0.3), ("flightllm-vhk158", 512, 1, 0.8),
    ("mixpe-core", 190, 1, 0.6),
]  # fmt: skip


def trace_of(tokens, batch=1, recipe="w8a8"):
    return prefill_trace(model_named(MODEL), recipe_named(recipe), tokens, batch)


def table_of(program, stream, kind, *operators):
    """Columns of the instructions of some operators, every repetition, one after the other."""
    pieces, wanted = program.streams[stream], [program.names.index(name) for name in operators]
    found = {}
    for name in pieces.pieces[0].tables[kind]:
        found[name] = np.concatenate(
            [pieces.pieces[i].tables[kind][name][np.isin(pieces.pieces[i].tables[kind]["operator"], wanted)]
             for i in pieces.order]
        )  # fmt: skip
    return found


def oracle(mask, unit, parts):
    """(Blocks computed, blocks of keys loaded, scores of a row summed over rows) of the heads of ``mask``, in units."""
    computed = loaded = 0
    for head in mask:
        for row in range(0, len(head), parts):
            computed += int(head[row : row + parts].sum())
            loaded += int(head[row : row + parts].any(axis=0).sum())
    return computed, loaded, computed * unit * unit


@pytest.mark.parametrize(("arch", "tokens", "batch", "density"), CASES)
def test_macs_bytes_and_scores_are_those_of_the_mask(arch, tokens, batch, density):
    machine, model = accelerator_named(arch), model_named(MODEL)
    mask = block_mask(model.heads, tokens, 64, density)
    compiler = CoreCompiler(machine, masks=[mask])
    program = compiler.compile(trace_of(tokens, batch))
    unit = mask_unit(machine)
    parts, times = machine.mm_rows // unit, batch * model.layers
    network, _, texts = compiler._texts[0]
    queries = model.heads // model.kv_heads
    for core, share in enumerate(shares_of(network, machine)):
        first, number = share.heads
        mine = in_units(mask, tokens, unit)[first * queries : (first + number) * queries]
        computed, loaded, scores = oracle(mine, unit, parts)
        stream, cache = program.core_of[core], texts[core].cache
        for name, each in (("qk", cache.key_bytes), ("av", cache.value_bytes)):
            mm = table_of(program, stream, "MM", name)
            assert (mm["rows"] * mm["columns"] * mm["k"]).sum() == times * computed * unit * unit * model.head_dim
            ld = table_of(program, stream, "LD", name)
            act = ld["target"] == 3
            assert (ld["bytes"] * ld["channels"])[act].sum() == times * loaded * unit * each
            scale = (ld["bytes"] * ld["channels"])[ld["target"] == 1].sum()
            assert scale == (times * loaded * unit * cache.scale_bytes if name == "qk" else 0)
        softmax = table_of(program, stream, "MISC", "softmax")
        assert (softmax["vectors"] * softmax["elements"]).sum() == times * scores
        stored = table_of(program, stream, "ST", "qk")
        assert (stored["bytes"] * stored["channels"]).sum() == times * scores * 4
        read = table_of(program, stream, "LD", "softmax", "probability_quantise")
        moved = (read["bytes"] * read["channels"])[read["address"] >= 0]
        blocks = -(-tokens // machine.mm_rows)
        values = sum((row + 1) * machine.mm_rows * cache.scale_bytes for row in range(blocks)) * len(mine)
        assert moved.sum() == times * (scores * 4 + values)


@pytest.mark.parametrize(("arch", "tokens", "batch", "density"), [*CASES, ("flightllm-u280", 130, 1, 0.4)])
def test_programs_run_to_their_end(arch, tokens, batch, density):
    mask = block_mask(model_named(MODEL).heads, tokens, 64, density)
    program = CoreCompiler(accelerator_named(arch), masks=[mask]).compile(trace_of(tokens, batch))
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


def test_keys_are_those_of_the_listed_blocks():
    """Addresses of the keys of the first head: block numbers of its list, in order, the diagonal last."""
    machine, tokens = accelerator_named("flightllm-u280"), 384
    mask = block_mask(model_named(MODEL).heads, tokens, 64, 0.4)
    compiler = CoreCompiler(machine, masks=[mask])
    program = compiler.compile(trace_of(tokens))
    cache = compiler._texts[0][2][0].cache
    ld = table_of(program, 0, "LD", "qk")
    at = ld["address"][(ld["target"] == 3) & (ld["bytes"] > 0)] - program.registers[0]["CACHE"]
    blocks = at // (64 // 8 * cache.key_bytes)
    expected = []
    head = mask[0]
    for row in range(0, 6, 2):
        top, bottom = head[row, :row], head[row + 1, :row]
        for chosen in (top & bottom, top & ~bottom, bottom & ~top):
            expected += np.flatnonzero(chosen).tolist()
        expected += [row, row + 1]
        start = len(expected)
        if row == 0:
            assert blocks[:start].tolist() == expected
    assert set(at[:2] % (64 // 8 * cache.key_bytes)) == {0}


def test_a_mask_of_all_blocks_is_the_dense_program():
    machine, trace = accelerator_named("flightllm-u280"), trace_of(300)
    everything = np.tril(np.ones((model_named(MODEL).heads, 5, 5), bool))
    dense = CoreCompiler(machine).compile(trace)
    masked = CoreCompiler(machine, masks=[everything]).compile(trace)
    for one, other in zip(dense.streams, masked.streams, strict=True):
        assert one.order.tolist() == other.order.tolist()
        for a, b in zip(one.pieces, other.pieces, strict=True):
            assert a.kinds.tobytes() == b.kinds.tobytes()
            assert all(
                (a.tables[kind][name] == b.tables[kind][name]).all() for kind in CLASSES for name in a.tables[kind]
            )


def test_one_text_serves_all_masks_and_lengths_and_layers_have_their_own():
    machine, model = accelerator_named("flightllm-u280"), model_named(MODEL)
    masks = [block_mask(model.heads, 512, 64, 0.3 + 0.02 * layer) for layer in range(model.layers)]
    own = CoreCompiler(machine, masks=masks).compile(trace_of(512))
    one = CoreCompiler(machine, masks=masks[:1]).compile(trace_of(200))
    assert own.texts[0].tables["SYS"]["value"].tobytes() == one.texts[0].tables["SYS"]["value"].tobytes()
    unit = 64 * 64 * model.head_dim
    macs = table_of(own, 0, "MM", "qk")
    kv_heads = -(-model.kv_heads // machine.cores)
    heads = kv_heads * (model.heads // model.kv_heads)
    assert (macs["rows"] * macs["columns"] * macs["k"]).sum() == unit * sum(int(m[:heads].sum()) for m in masks)


def test_the_recipes_density_is_used():
    machine, model = accelerator_named("flightllm-u280"), model_named("llama2-7b")
    trace = prefill_trace(model, recipe_named("flightllm"), 512)
    program = CoreCompiler(machine).compile(trace)
    mm = table_of(program, 0, "MM", "qk")
    blocks = (mm["rows"] * mm["columns"] * mm["k"]).sum() / (64 * 64 * model.head_dim) / model.layers / 11
    assert blocks == round(0.802 * 36)
    assert program.instruction_bytes == sum(
        16 * len(text) + 4 * len(words) for text, words in zip(program.texts, program.constants, strict=True)
    )
    short = CoreCompiler(machine).compile(prefill_trace(model, recipe_named("flightllm"), 128))
    assert all(len(words) < 512 for words in short.constants)


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: m[:3], "must have 9 heads, not 3"),
    (lambda m: m[:, :2, :2], "must cover 300 tokens, 5 blocks of 64, not 2 blocks"),
    (lambda m: m & ~np.eye(5, dtype=bool), "must have every block of the diagonal"),
])  # fmt: skip
def test_bad_masks_are_one_line(change, message):
    mask = change(block_mask(9, 300, 64, 0.5))
    with pytest.raises(InputError, match=message):
        CoreCompiler(accelerator_named("flightllm-u280"), masks=[mask]).compile(trace_of(300))


def test_masks_that_the_constants_do_not_hold_are_one_line():
    model = model_named("llama2-7b")
    masks = [block_mask(model.heads, 1024, 64, 0.5 + layer / 100) for layer in range(model.layers)]
    with pytest.raises(InputError, match="must fit the 8192 constants"):
        CoreCompiler(accelerator_named("flightllm-u280"), masks=masks).compile(
            prefill_trace(model, recipe_named("w4a8g32"), 1024)
        )


def test_masks_in_other_units():
    mask = block_mask(2, 256, 64, 0.5)
    assert (in_units(mask, 256, 128) == (mask.reshape(2, 2, 2, 2, 2).any(axis=(2, 4)))).all()
    fine = in_units(mask, 256, 32)
    assert fine.shape == (2, 8, 8)
    assert not fine[:, 0, 1].any()
    assert is_dense(in_units(np.tril(np.ones((1, 4, 4), bool)), 200, 32))
