# amaranth: UnusedElaboratable=no
"""LD and ST against a model of arch/core_execution.md; cycles; what goes wrong."""

import dataclasses

import numpy as np
import pytest
from core_memory_model import (
    BUFFERS,
    LAYOUTS,
    Model,
    Shape,
    arrays_of,
    compared,
    job_of,
    ld,
    random_phases,
    run_jobs,
    st,
)

from mixflight.arch.core_memory_pipeline import load_cycles, store_cycles
from mixflight.arch.errors import InputError
from mixflight.rtl.core_load import CoreLoad
from mixflight.rtl.core_memory import CoreMemory
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import build_model
from mixflight.rtl.lint import lint

SMALL = Shape(channels=2, lanes=8)
LARGER = [(Shape(channels=1, lanes=4), 64), (Shape(channels=2, lanes=4), 32), (Shape(channels=8, lanes=4), 64),
          (Shape(channels=8, lanes=8), 64), (Shape(channels=2, lanes=8, weight_depth=128), 128)]


def text_of(shape):
    return emit_verilog(CoreMemory(**dataclasses.asdict(shape)), "core_memory")


@pytest.fixture(scope="module")
def small():
    return build_model(text_of(SMALL), top="core_memory")


def lone(shape, transfers, *, latency, head=64):
    """A job with one transfer a phase, so that each runs alone."""
    model = Model(shape, head, np.random.default_rng(0))
    arrays, phases = arrays_of(model), []
    for kind, f in transfers:
        (model.load if kind == "load" else model.store)(f)
        phases.append({kind: [f]})
    return job_of(model, phases, latency=latency), arrays


def random_jobs(shape, head, seeds, stalls=(0.0, 0.3, 0.6), phases=3):
    models, jobs = [], []
    for seed in seeds:
        random = np.random.default_rng(seed)
        model = Model(shape, head, random)
        if models:
            model.keep_banks(models[-1])
        arrays = arrays_of(model)
        made = random_phases(model, random, phases, 8)
        stall, latency = stalls[seed % len(stalls)], (1, 3, 40)[seed // 3 % 3]
        models.append(model)
        jobs.append((job_of(model, made, stall=stall, latency=latency, seed=seed), arrays))
    return models, jobs


def assert_as_the_model(models, results):
    for seed, (model, (row, after)) in enumerate(zip(models, results, strict=True)):
        assert row["errors"] == [], seed
        assert compared(model, after) == [], seed
        assert row["refused"] == 0
        assert not any(row["memory_errors"])


def test_random_transfers_leave_what_the_page_says(small):
    models, jobs = random_jobs(SMALL, 64, range(6))
    assert_as_the_model(models, run_jobs(small, jobs))


@pytest.mark.parametrize("seed", [0, 1])
def test_memories_that_we_did_not_write_are_served_as_well(small, seed):
    models, jobs = random_jobs(SMALL, 64, [seed], phases=1)
    jobs[0][0]["patience"] = 1000
    assert_as_the_model(models, run_jobs(small, jobs, "bench_core_memory_axi_ram"))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "head"), LARGER, ids=lambda value: str(value))
def test_random_transfers_on_other_shapes(shape, head):
    models, jobs = random_jobs(shape, head, range(9))
    assert_as_the_model(models, run_jobs(build_model(text_of(shape), top="core_memory"), jobs))


def cases():
    weight = [ld(address=address, bytes=size, code_bits=bits, layout=LAYOUTS[layout], slotted=1)
              for address, size in ((0, 64), (4032, 960), (32, 320))
              for bits in (2, 3, 4, 5, 8)
              for layout in ("linear", "keys", "values")
              if layout == "linear" and size % (16 * min(bits, 4)) == 0 or bits in (4, 8)]
    weight = [f for f in weight if f["layout"] or f["code_bits"] == 8 or f["bytes"] % (16 * f["code_bits"]) == 0]
    other = [ld(buffer=BUFFERS[name], address=address, bytes=size, slotted=1)
             for name in ("scale", "index") for address, size in ((0, 4), (48, 200))]
    vector = [ld(buffer=BUFFERS["global"], address=address, bytes=size, wide=wide, ddr=ddr)
              for address, size in ((0, 64), (48, 612), (16, 20), (64, 96)) for wide, ddr in ((1, 0), (0, 0), (0, 1))]
    stores = [st(buffer=BUFFERS[name], address=address, bytes=size, wide=wide)
              for name in ("act", "global") for wide in (0, 1)
              for address, size in ((0, 64), (64, 4), (1024, 356), (612, 172), (60, 8)) if not wide or address % 64 == 0]
    return [*[("load", f) for f in (*weight, *other, *vector)], *[("store", f) for f in stores]]


def test_lone_transfers_take_the_computed_cycles(small):
    transfers = cases()
    jobs = [lone(SMALL, transfers, latency=latency) for latency in (1, 30)]
    for latency, (row, _) in zip((1, 30), run_jobs(small, jobs), strict=True):
        assert row["errors"] == []
        assert_cycles(row, transfers, latency)


def assert_cycles(row, transfers, latency):
    times = {kind: iter(zip(row["taken"][kind], row["ended"][kind], strict=True)) for kind in ("load", "store")}
    names = {code: name for name, code in BUFFERS.items()}
    layouts = {code: name for name, code in LAYOUTS.items()}
    for kind, f in transfers:
        taken, ended = next(times[kind])
        where = {"latency": latency, "address": f["address"], "size": f["bytes"], "channels": SMALL.channels,
                 "wide": bool(f["wide"])}
        computed = store_cycles(**where) if kind == "store" else load_cycles(
            **where, buffer=names[f["buffer"]], layout=layouts[f["layout"]], bits=f["code_bits"] or 8, lanes=SMALL.lanes,
            ddr=bool(f["ddr"]))
        assert ended - taken == computed, f


def test_linear_loads_back_to_back_leave_no_cycle_between(small):
    model, count, jobs, computed = Model(SMALL, 64, np.random.default_rng(0)), 12, [], []
    for bits, latency, size in ((4, 10, 512), (5, 10, 640), (8, 10, 512), (4, 100, 512)):  # whole beats, whole words
        loads = [ld(address=size * number, bytes=size, code_bits=bits, slotted=1, slot=number % 4)
                 for number in range(count)]
        jobs.append((job_of(model, [{"load": loads}], latency=latency), arrays_of(model)))
        computed.append(load_cycles(latency=latency, buffer="weight", address=0, size=size * count, channels=2, lanes=8,
                                    bits=bits))
    rows = [row for row, _ in run_jobs(small, jobs)]
    assert [row["ended"]["load"][-1] - row["taken"]["load"][0] for row in rows] == computed
    assert max(row["most"] for row in rows) == 16  # bursts on their way: the limit


def test_a_channel_of_its_own_goes_on_while_another_is_busy(small):
    model = Model(SMALL, 64, np.random.default_rng(0))
    arrays = arrays_of(model)
    loads = [ld(bytes=1024, code_bits=4, wide=0, channel=number % 2, slotted=1, slot=number % 4) for number in range(8)]
    [(row, _)] = run_jobs(small, [(job_of(model, [{"load": loads}]), arrays)])
    alone = load_cycles(latency=3, buffer="weight", address=0, size=4 * 1024, channels=2, lanes=8, bits=4)
    assert row["ended"]["load"][-1] - row["taken"]["load"][0] <= alone + 1


def test_an_error_of_a_memory_stays_with_its_address(small):
    model = Model(SMALL, 64, np.random.default_rng(0))
    arrays = arrays_of(model)
    phases = [{"load": [ld(address=512 * number, bytes=512)], "store": [st(address=25600 + 512 * number, channel=1)]}
              for number in range(4)]
    job = job_of(model, phases, bad=[512, 1024, 26112])
    [(row, _)] = run_jobs(small, [(job, arrays)])
    assert row["errors"] == []
    found = lambda word: (word & 1, word >> 1 & 3, word >> 3)  # noqa: E731
    reads, writes = row["memory_errors"][:3], row["memory_errors"][3:]
    assert [found(word) for word in reads] == [(1, 2, 512), (1, 2, 512), (0, 0, 0)]
    assert [found(word) for word in writes] == [(0, 0, 0), (1, 2, 26112)]


REFUSED = [
    ("load", ld(buffer=BUFFERS["act"])), ("load", ld(ddr=1, wide=0)), ("load", ld(layout=LAYOUTS["values"], wide=0)),
    ("load", ld(buffer=BUFFERS["global"], slotted=1)), ("load", ld(wide=0, channel=2)),
    ("store", st(buffer=BUFFERS["weight"])), ("store", st(ddr=1)), ("store", st(slotted=1)), ("store", st(channel=2)),
    ("store", st(wide=1, address=32)),
]


def test_what_is_not_carried_out_is_refused_and_holds_nothing_up(small):
    models, jobs = [], []
    for kind, f in REFUSED:
        model = Model(SMALL, 64, np.random.default_rng(0))
        arrays, good = arrays_of(model), ld(buffer=BUFFERS["global"]) if kind == "load" else st(address=25600)
        jobs.append((job_of(model, [{kind: [f]}, {kind: [good]}]), arrays))
        (model.load if kind == "load" else model.store)(good)
        models.append(model)
    for (kind, f), model, (row, after) in zip(REFUSED, models, run_jobs(small, jobs), strict=True):
        assert row["errors"] == [], f
        assert row["refused"] == (1 if kind == "load" else 2), f
        assert [item for item in compared(model, after) if "hbm" in item or "vector" in item] == [], f


def test_the_layout_of_a_slot_stays_until_it_is_loaded_again(small):
    model = Model(SMALL, 64, np.random.default_rng(0))
    arrays = arrays_of(model)
    layouts = (0, 1, 2, 0, 2)
    loads = [ld(layout=layout, slotted=1, slot=number % 4) for number, layout in enumerate(layouts)]
    [(row, _)] = run_jobs(small, [(job_of(model, [{"load": loads}]), arrays)])
    assert [row["slot_layouts"] >> 2 * slot & 3 for slot in range(4)] == [2, 1, 2, 0]


def test_the_text_is_clean():
    assert lint(text_of(Shape(channels=1, lanes=4)), top="core_memory") == []


@pytest.mark.parametrize(("channels", "lanes"), [(3, 8), (2, 16), (16, 8)])
def test_shapes_without_wires_are_refused(channels, lanes):
    with pytest.raises(InputError, match=f"at most 64 lanes in all, not {channels} of {lanes}"):
        CoreLoad(channels=channels, lanes=lanes, weight_depth=64, scale_lines=16, index_lines=16)
