"""The engine on streams written by hand, each against what must come out in closed form."""

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.array import Array
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, CLASSES, token_mask
from mixflight.mapping.core_program import BUFFERS, COLUMNS, OPERATIONS, SYS_OPERATIONS, Piece, Pieces
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.memory import ChannelTiming, refresh_factor
from mixflight.sim.core.units import LIMITS, Units
from mixflight.sim.dram import stream_time
from mixflight.sim.stationary_timing import stationary_cycles

U280 = core_machines()["flightllm-u280"]
ONE = msgspec.structs.replace(U280, cores=1)
UNITS = Units(ONE)
DISPATCH = 1


def piece(*instructions):
    """(class, {column: value}) in program order; ``wait`` and ``release`` name classes."""
    kinds = np.array([CLASS_INDEX[kind] for kind, _ in instructions], np.uint8)
    tables = {}
    for kind in CLASSES:
        rows = [dict(row) for name, row in instructions if name == kind]
        for row in rows:
            for mask in ("wait", "release"):
                row[mask] = token_mask(kind, row.get(mask, ()))
        tables[kind] = {name: np.array([row.get(name, 0) for row in rows], np.int64) for name in COLUMNS[kind]}
    return Piece(kinds=kinds, tables=tables)


def program(*pieces, order=None):
    return Pieces(pieces=pieces, order=np.arange(len(pieces)) if order is None else np.array(order))


def run(*streams, units=UNITS, **options):
    compiled = compile_streams(units, streams, range(len(streams)))
    return execute(units, compiled, **options)


def ld(size, address=0, target="weight", channels=8, **more):
    return "LD", {"bytes": size, "address": address, "target": BUFFERS.index(target), "channels": channels, **more}


def st(size, address=0, **more):
    return "ST", {"bytes": size, "address": address, "channels": 8, **more}


def mv(columns=512, k=4096, kind="MV", rows=1, **more):
    row = {"rows": rows, "columns": columns, "k": k, "keep_n": 16, "weight_bits": 4, "group": 128, "last": 1, **more}
    return kind, row


def misc(name, vectors, elements, passes, **more):
    row = {"operation": OPERATIONS.index(name), "vectors": vectors, "elements": elements, "passes": passes, **more}
    return "MISC", row


def sys(name="barrier", size=0, **more):
    return "SYS", {"operation": SYS_OPERATIONS.index(name), "bytes": size, **more}


def test_a_stream_of_loads_is_the_dram_stream():
    size = 32768
    done = run(program(piece(*(ld(size, i * size) for i in range(64)))))
    nanoseconds = stream_time(U280.hbm.dram, bytes=64 * size, request_bytes=512, outstanding=16)
    assert done.total == pytest.approx(nanoseconds * 0.225, rel=0.002)
    assert done.shares["LD"] > 0.99
    assert done.spent[0].sum() == pytest.approx(done.total)


def test_without_rows_a_load_is_bytes_over_peak():
    done = run(program(piece(ld(64000))), units=Units(ONE, rows=False))
    latency = ChannelTiming(channels=U280.hbm, clock_mhz=225.0).latency_cycles
    assert done.total == pytest.approx(DISPATCH + 1000 + latency, abs=0.2)  # the port's 64 bytes a cycle


def test_a_stream_of_products_is_macs_over_rate_and_a_fill():
    done = run(program(piece(*(mv() for _ in range(100)))))
    fill = 1 + 15 + 4 + 10  # input, cascade, product; a lane of dequantisation
    assert done.total == DISPATCH + 100 * 512 * 4096 / 1024 + fill
    limits = dict(zip(LIMITS, done.spent[0, 0], strict=True))
    assert limits["compute"] == 100 * 2048
    assert limits["latency"] == fill


@pytest.mark.parametrize(
    ("kind", "row", "cycles", "limit"),
    [
        ("MM", {"rows": 128, "columns": 16, "k": 4096}, 16 * 4096 * 128 / 4096, "compute"),
        ("MM", {"rows": 1, "columns": 16, "k": 4096}, 8 * 256, "array edge"),
        ("MM", {"rows": 128, "columns": 16, "k": 4096, "group": 16}, 128 * 16 * 256 / 128, "lanes"),
        ("MV", {"keep_n": 4}, 512 * 4096 / 4 / 1024, "compute"),
        ("MV", {"rows": 2}, 2048, "compute"),
        ("MV", {"rows": 3}, 4096, "compute"),
        ("MV", {"columns": 16}, 256, "array edge"),
        ("MV", {"columns": 0}, 1, "compute"),
    ],
)
def test_cycles_of_the_matrix_engine(kind, row, cycles, limit):
    table = piece(mv(kind=kind, **row)).tables[kind]
    busy, latency, found = UNITS.matrix(kind, table)
    assert busy[0] == cycles
    assert LIMITS[found[0]] == limit
    assert latency[0] == (0 if row.get("columns") == 0 else 30)


def test_an_array_in_a_core_takes_what_the_arrays_formula_says():
    from mixflight.sim.array_timing import array_cycles

    machine = core_machines()["mixpe-core"]
    units = Units(machine)
    done = run(program(piece(mv(columns=64, k=1024, kind="MM", rows=32, zero=2))), units=units)
    shape = {"rows": 32, "cols": 64, "lanes": 64, "k": 1024, "group": 128, "passes": 1}
    assert done.total - DISPATCH == pytest.approx(array_cycles(**shape, zero="f16-min"), abs=1)
    wide = run(program(piece(mv(columns=256, k=1024))), units=units)
    narrow = run(program(piece(mv(columns=64, k=1024))), units=units)
    assert wide.total == narrow.total  # a split array has 4 x 64 columns for a row


STATIONARY = msgspec.structs.replace(
    core_machines()["mixpe-core"],
    array=Array(dataflow="weight-stationary", pe="shift-add-4x8", rows=32, cols=64, lanes=64, tokens=48),
)


@pytest.mark.parametrize(("rows", "tiles"), [(48, 1), (5, 1), (96, 2)])
def test_an_array_whose_weights_stay_takes_what_its_own_formula_says(rows, tiles):
    """Up to 48 tokens pass each weight tile; a group of 128 codes is four tiles of 32 rows."""
    units = Units(STATIONARY)
    assert STATIONARY.mm_rows == 48
    done = run(program(piece(mv(columns=64, k=1024, kind="MM", rows=rows, zero=2))), units=units)
    shape = {"rows": 32, "cols": 64, "lanes": 64, "tokens": min(rows, 48), "k": 1024, "group": 128, "passes": 1}
    assert done.total - DISPATCH == stationary_cycles(**shape, tiles=tiles, zero="f16-min")
    wide = run(program(piece(mv(columns=256, k=1024, kind="MM", rows=48))), units=units)
    narrow = run(program(piece(mv(columns=64, k=1024, kind="MM", rows=48))), units=units)
    assert wide.total - narrow.total == 3 * 8 * 4 * 48  # groups, tiles of a group, tokens


def test_loads_overlap_products():
    """Double buffered: the longer of the two every time, and the other at one end."""
    size, count = 65536, 20
    load = {"release": ["MV"]}
    items = [mv(0, release=["LD"]), mv(0, release=["LD"])]
    for i in range(count):
        items += [ld(size, i * size, wait=["MV"], **load), mv(wait=["LD"], release=["LD"])]
    items += [ld(0, wait=["MV"]), ld(0, wait=["MV"])]
    done = run(program(piece(*items)))
    one_load = UNITS.memories[0].occupancy(np.array([size]), np.array([0]), write=False)[0]
    assert one_load < 2048
    assert done.total == pytest.approx(one_load + count * 2048, rel=0.003)
    assert done.shares["MV"] > 0.95


def test_mm_and_mv_share_the_engine():
    both = run(program(piece(mv(), mv(kind="MM", rows=128, columns=16))))
    assert both.total == DISPATCH + 2048 + 2048 + 30


def test_tokens_order_and_the_sfu_waits_for_its_passes():
    done = run(program(piece(mv(release=["MISC"]), misc("softmax", 1, 512, 3, wait=["MV"]))))
    assert done.total == DISPATCH + 2048 + 30 + 3 * 32 + 3 * 16
    many = run(program(piece(misc("softmax", 8, 512, 3))))
    assert many.total == DISPATCH + 8 * 3 * 32 + 3 * 16  # later vectors hide the wait between passes
    causal = run(program(piece(misc("softmax", 64, 128, 1, causal=1))))
    assert causal.total == DISPATCH + sum(-(-n // 16) for n in range(65, 129)) + 16


def test_the_dispatcher_hands_out_in_program_order_and_stops_at_a_full_queue():
    count = 100
    done = run(program(piece(*(misc("residual", 1, 16, 1) for _ in range(count)))))
    assert done.total == DISPATCH + count + 16
    depth = ONE.controller.queue_depth
    blocked = [mv() for _ in range(depth + 2)] + [misc("residual", 1, 16, 1)]
    done = run(program(piece(*blocked)), with_slices=True)
    last = next(row for row in done.slices[0] if row[0] == CLASS_INDEX["MISC"])
    assert last[2] == pytest.approx(DISPATCH + 2048 + 1, abs=1)  # not before the second product left the queue
    assert run(program(piece(sys("control", controls=10), misc("residual", 1, 16, 1)))).total == 10 * 2 + 1 + 1 + 16


def test_exchanges_join_the_cores():
    slow, fast = piece(mv(release=["SYS"]), sys("exchange", 6400, wait=["MV"])), piece(sys("exchange", 6400))
    done = run(program(slow), program(fast), program(fast), units=Units(U280))
    assert done.total == DISPATCH + 2048 + 30 + 100 + 16
    exchange = dict(zip(LIMITS, done.spent[1, 0], strict=True))["exchange"]
    assert exchange == pytest.approx(done.total - 16, abs=2)  # the fast core waits in it
    with pytest.raises(InputError, match="all cores must meet"):
        run(program(slow), program(fast), program(piece(mv())), units=Units(U280))
    with pytest.raises(InputError, match="must be for the 3 cores of flightllm-u280, not 1"):
        run(program(slow), units=Units(U280))


def test_a_small_buffer_lags_behind_its_channels():
    """Scales arrive at eight ports and enter one: the load that follows is held once all requests wait there."""
    weights = run(program(piece(*(ld(4096, i * 4096) for i in range(8)))))
    scales = run(program(piece(*(ld(4096, i * 4096, "scale") for i in range(8)))))
    assert scales.total == pytest.approx(8 * 4096 * 8 / 64, rel=0.02)
    assert weights.total < scales.total / 6
    limits = dict(zip(LIMITS, scales.spent[0, 0], strict=True))
    assert limits["port"] > 0.9 * scales.total


def test_loads_and_stores_share_their_channels():
    loads = [ld(65536, i * 65536) for i in range(4)]
    both = run(program(piece(*loads, *(st(65536, i * 65536) for i in range(4)))))
    alone = run(program(piece(*loads))).total, run(program(piece(*(st(65536, i * 65536) for i in range(4))))).total
    assert both.total == pytest.approx(sum(alone), rel=0.01)
    apart = run(program(piece(ld(65536, channels=1), ld(65536, channels=1, channel=1))))
    assert apart.total == pytest.approx(run(program(piece(ld(65536, channels=1)))).total, abs=2)


def test_channels_across_the_switch_take_longer():
    own, across = (run(program(piece(ld(65536, channels=1, channel=channel)))).total for channel in (7, 8))
    assert across - 28 == pytest.approx(2 * (own - 28), rel=0.01)


def test_a_text_is_fetched_before_it_runs():
    text = 16384
    done = run(program(piece(mv())), text_bytes=text)
    late = done.total - run(program(piece(mv()))).total
    assert late == done.start_up == pytest.approx(text / 64 + UNITS.memories[1].latency_cycles)


def test_a_program_that_waits_in_vain_is_refused():
    with pytest.raises(InputError, match="MV number 0 of core 0 waits for a token that never comes"):
        run(program(piece(mv(wait=["LD"]))))


@pytest.mark.parametrize("cores", [1, 3])
def test_repetition_is_exact(cores):
    """Layers that come again are skipped, and nothing changes: not the total, not who owned the time."""
    machine = msgspec.structs.replace(U280, cores=cores)
    units = Units(machine)
    random = np.random.default_rng(cores)

    def layer(core):
        items = []
        for _ in range(6):
            size = int(random.integers(1, 2000)) * 32
            items += [ld(size, int(random.integers(1 << 20)) * 32, wait=["MV"]),
                      ld(512, 0, "scale", release=["MV"]),
                      mv(int(random.integers(1, 512)), int(random.integers(1, 256)) * 16, wait=["LD"],
                         release=["LD", "MISC"], operator=1),
                      misc("residual", 1, int(random.integers(1, 5000)), 2, wait=["MV"], operator=2),
                      st(int(random.integers(1, 50)) * 32)]  # fmt: skip
        if cores > 1:
            items += [misc("residual", 1, 64, 1, release=["SYS"]), sys("exchange", 4096, wait=["MISC"], operator=3)]
        return piece(*items)

    opening = piece(*(mv(0, release=["LD"]) for _ in range(3)))
    streams = [program(opening, layer(core), layer(core), order=[0] + [1] * 40 + [2] * 7 + [1, 2] * 20)
               for core in range(cores)]  # fmt: skip
    short = run(*streams, units=units)
    full = run(*streams, units=units, repeat=False)
    assert short.total == full.total
    np.testing.assert_allclose(short.spent, full.spent)
    np.testing.assert_allclose(short.busy, full.busy)
    assert full.spent[0].sum() == pytest.approx(full.total, rel=0.2 if cores > 1 else 1e-9)


def test_refresh_and_rows_cost_what_the_dram_model_says():
    assert refresh_factor("hbm2") == pytest.approx(1.08, abs=0.005)
    timing = ChannelTiming(channels=U280.hbm, clock_mhz=225.0)
    plain = ChannelTiming(channels=U280.hbm, clock_mhz=225.0, rows=False)
    size, at = np.full(50, 32), np.arange(50) * U280.hbm.dram.stripe_bytes  # a row of the same bank every time
    assert timing.occupancy(size, at, write=False).mean() > 2 * plain.occupancy(size, at, write=False).mean()
    assert timing.occupancy(np.zeros(2, np.int64), np.zeros(2, np.int64), write=True).sum() == 0
