"""DRAM timing: rules tight on both sides, closed forms, an independent checker, measured figures of the U280."""

import itertools
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch import dram_standard
from mixflight.arch.dram_standard import MapField, dram_standard_named, dram_standards
from mixflight.arch.errors import InputError
from mixflight.sim.dram import Requests, device, interleaved, kernel, serve, stream, stream_time
from mixflight.sim.dram.shuhai import rows

HBM2 = dram_standard_named("hbm2")
DDR4 = dram_standard_named("ddr4-2400")

# Every row a number of its own, so that no rule hides behind another.
DISTINCT = msgspec.structs.replace(
    HBM2,
    command_clocks=1,
    timing=msgspec.structs.replace(
        HBM2.timing, nCL=20, nCWL=7, nRCDRD=13, nRCDWR=9, nRP=14, nRAS=30, nRC=47, nRRDS=4, nRRDL=6, nFAW=31, nCCDS=3,
        nCCDL=5, nWR=17, nRTP=8, nWTRS=10, nWTRL=12, nRTW=3, nRFC=234, nREFI=3510,
    ),
)  # fmt: skip


class Channel:
    """A device with the commands by name; a bank of four to a group."""

    def __init__(self):
        self.t = device.timing_table(DISTINCT)
        self.banks, self.groups, self.channel = device.new_state(DISTINCT)

    def issue(self, command, bank, at):
        row, group = self.banks[bank], self.groups[bank // 4]
        if command == "ACT":
            device.activate.py_func(row, group, self.channel, 1, at)
        elif command == "PRE":
            device.precharge.py_func(row, at)
        elif command == "REF":
            self.channel[device.REFRESH] = at
        else:
            device.access.py_func(row, group, self.channel, device.COMMANDS.index(command), at)

    def legal(self, command, bank, at):
        row, group = self.banks[bank], self.groups[bank // 4]
        ready = {
            "ACT": lambda: device.ready_activate.py_func(self.t, row, group, self.channel),
            "PRE": lambda: device.ready_precharge.py_func(self.t, row),
            "RD": lambda: device.ready_read.py_func(self.t, row, group, self.channel),
            "WR": lambda: device.ready_write.py_func(self.t, row, group, self.channel),
            "REF": lambda: device.ready_refresh.py_func(self.t, self.banks, self.channel),
        }[command]()
        return at >= ready


OPEN = [("ACT", 0, -100), ("ACT", 1, -90), ("ACT", 4, -80)]


@pytest.mark.parametrize(
    ("before", "command", "bank", "clock"),
    [
        pytest.param([("ACT", 0, 0)], "RD", 0, 13, id="read waits nRCDRD for its row"),
        pytest.param([("ACT", 0, 0)], "WR", 0, 9, id="write waits nRCDWR for its row"),
        pytest.param([("ACT", 0, 0)], "PRE", 0, 30, id="row stays open for nRAS"),
        pytest.param([("ACT", 0, -47), ("PRE", 0, 0)], "ACT", 0, 14, id="activate waits nRP after precharge"),
        pytest.param([("ACT", 0, 0), ("PRE", 0, 30)], "ACT", 0, 47, id="activates of a bank are nRC apart"),
        pytest.param([("ACT", 0, 0)], "ACT", 4, 4, id="activates in two groups are nRRDS apart"),
        pytest.param([("ACT", 0, 0)], "ACT", 1, 6, id="activates in a group are nRRDL apart"),
        pytest.param(
            [("ACT", 0, 0), ("ACT", 4, 4), ("ACT", 8, 8), ("ACT", 12, 12)], "ACT", 1, 31,
            id="fifth activate within nFAW is blocked",
        ),
        pytest.param(
            [("ACT", 0, -9), ("ACT", 4, 4), ("ACT", 8, 8), ("ACT", 12, 12)], "ACT", 1, 22,
            id="nFAW counts from the fourth activate back",
        ),
        pytest.param([*OPEN, ("RD", 0, 0)], "RD", 4, 3, id="reads in two groups are nCCDS apart"),
        pytest.param([*OPEN, ("RD", 0, 0)], "RD", 1, 5, id="reads in a group are nCCDL apart"),
        pytest.param([*OPEN, ("WR", 0, 0)], "WR", 4, 3, id="writes in two groups are nCCDS apart"),
        pytest.param([*OPEN, ("WR", 0, 0)], "WR", 1, 5, id="writes in a group are nCCDL apart"),
        pytest.param([*OPEN, ("RD", 0, 0)], "WR", 4, 18, id="write data follows read data after nRTW"),
        pytest.param([*OPEN, ("WR", 0, 0)], "RD", 4, 19, id="read in another group waits nWTRS after write data"),
        pytest.param([*OPEN, ("WR", 0, 0)], "RD", 1, 21, id="read in the group waits nWTRL after write data"),
        pytest.param([*OPEN, ("RD", 0, 0)], "PRE", 0, 8, id="precharge waits nRTP after read"),
        pytest.param([*OPEN, ("WR", 0, 0)], "PRE", 0, 26, id="precharge waits nWR after write data"),
        pytest.param([("ACT", 0, -40), ("PRE", 0, 0)], "REF", 0, 14, id="refresh waits nRP after precharge"),
        pytest.param([("REF", 0, 0)], "ACT", 0, 234, id="activate waits nRFC after refresh"),
    ],
)  # fmt: skip
def test_blocked_one_clock_before_and_ready_on_the_clock(before, command, bank, clock):
    channel = Channel()
    for item in before:
        channel.issue(*item)
    assert not channel.legal(command, bank, clock - 1)
    assert channel.legal(command, bank, clock)


# An independent reading of the table: (first, second, scope, least distance).
def rules(standard):
    t, burst = standard.timing, math.ceil(standard.burst_length / 2)
    return [
        ("ACT", "ACT", "bank", t.nRC), ("ACT", "ACT", "group", t.nRRDL), ("ACT", "ACT", "channel", t.nRRDS),
        ("ACT", "RD", "bank", t.nRCDRD), ("ACT", "WR", "bank", t.nRCDWR), ("ACT", "PRE", "bank", t.nRAS),
        ("ACT", "PREA", "channel", t.nRAS), ("PRE", "ACT", "bank", t.nRP), ("PRE", "REF", "channel", t.nRP),
        ("PREA", "REF", "channel", t.nRP), ("RD", "PRE", "bank", t.nRTP), ("RD", "PREA", "channel", t.nRTP),
        ("WR", "PRE", "bank", t.nCWL + burst + t.nWR), ("WR", "PREA", "channel", t.nCWL + burst + t.nWR),
        ("RD", "RD", "channel", max(burst, t.nCCDS)), ("WR", "WR", "channel", max(burst, t.nCCDS)),
        ("RD", "RD", "group", t.nCCDL), ("WR", "WR", "group", t.nCCDL),
        ("RD", "WR", "channel", t.nCL + burst + t.nRTW - t.nCWL),
        ("WR", "RD", "channel", t.nCWL + burst + t.nWTRS), ("WR", "RD", "group", t.nCWL + burst + t.nWTRL),
        ("REF", "ACT", "channel", t.nRFC), ("REF", "REF", "channel", t.nRFC),
    ]  # fmt: skip


def violations(standard, trace, first_refresh):
    commands = [(int(c), device.COMMANDS[k], int(b), int(r)) for c, k, b, r in trace]
    per_group = standard.banks >> standard.bits("group")
    by_pair = {}
    for first, second, scope, distance in rules(standard):
        by_pair.setdefault((first, second), []).append((scope, distance))
    reach = max(distance for *_, distance in rules(standard))
    found = []
    for index, (clock, name, bank, _) in enumerate(commands):
        for earlier, other, bank_before, _ in reversed(commands[:index]):
            if clock - earlier >= reach:
                break
            same = {"bank": bank == bank_before, "group": bank // per_group == bank_before // per_group}
            for scope, distance in by_pair.get((other, name), ()):
                if same.get(scope, True) and clock - earlier < distance:
                    found.append((earlier, other, clock, name, scope, distance))
        if clock % standard.command_clocks:
            found.append(("off the controller's clock", clock, name))
    activates = [clock for clock, name, *_ in commands if name == "ACT"]
    fifths = zip(activates, activates[4:], strict=False)
    found += [("nFAW", *pair) for pair in fifths if pair[1] - pair[0] < standard.timing.nFAW]
    rows = {}
    for clock, name, bank, row in commands:
        legal = {
            "ACT": bank not in rows, "PRE": bank in rows, "RD": rows.get(bank) == row, "WR": rows.get(bank) == row,
            "PREA": bool(rows), "REF": not rows,
        }[name]  # fmt: skip
        if not legal:
            found.append(("state", clock, name, bank, row))
        if name == "ACT":
            rows[bank] = row
        elif name == "PRE":
            rows.pop(bank, None)
        elif name == "PREA":
            rows.clear()
    for index, clock in enumerate(clock for clock, name, *_ in commands if name == "REF"):
        due = first_refresh + index * standard.timing.nREFI
        t = standard.timing
        latest = due + t.nRC + t.nCWL + standard.burst_clocks + t.nWR + t.nRP + 2 * standard.command_clocks
        if not due <= clock <= latest:
            found.append(("refresh", clock, due))
    columns = [clock for clock, name, *_ in commands if name in ("RD", "WR")]
    others = [clock for clock, name, *_ in commands if name not in ("RD", "WR")]
    buses = [columns + others] if standard.shared_command_bus else [columns, others]
    for bus in buses:
        ordered = sorted(bus)
        found += [("bus", a) for a, b in itertools.pairwise(ordered) if b - a < standard.command_clocks]
    return found


def trace_requests(items):
    return Requests(
        address=np.array([item[0] for item in items], np.int64), bytes=np.array([item[1] for item in items], np.int64),
        write=np.array([item[2] for item in items], bool),
        arrival_clock=np.cumsum([item[3] for item in items], dtype=np.int64),
    )  # fmt: skip


requests = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 1 << 15), st.integers(0, (1 << 28) - 4096), st.integers(0, 40).map(lambda i: i << 14)),
        st.sampled_from([1, 32, 64, 100, 512]), st.booleans(), st.sampled_from([0, 0, 0, 3, 40, 900]),
    ),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(requests, st.sampled_from([HBM2, DDR4, DISTINCT]), st.sampled_from([1, 3, 64]), st.sampled_from([1, 4, 16]),
       st.integers(0, 3510))  # fmt: skip
def test_no_command_violates_a_constraint(items, standard, outstanding, reorder, first):
    served = serve(
        standard, trace_requests(items), outstanding=outstanding, reorder=reorder,
        first_refresh_ns=first * standard.clock_ns, trace=True,
    )  # fmt: skip
    assert violations(standard, served.trace, first) == []
    names = [device.COMMANDS[row[1]] for row in served.trace]
    size = standard.burst_bytes
    bursts = {False: 0, True: 0}
    for address, count, write, _ in items:
        bursts[write] += (address + count - 1) // size - address // size + 1
    assert (names.count("RD"), names.count("WR")) == (bursts[False], bursts[True])
    assert served.commands == {name: names.count(name) for name in device.COMMANDS}


def test_the_checker_finds_a_command_one_clock_early():
    served = serve(HBM2, trace_requests([(0, 32, False, 0), (1 << 14, 32, False, 0)]), outstanding=2, trace=True)
    assert violations(HBM2, served.trace, 3510) == []
    for index in range(1, len(served.trace)):
        early = served.trace.copy()
        early[index, 0] -= HBM2.command_clocks
        assert violations(HBM2, early, 3510)


def test_data_stays_in_order_without_reorder():
    items = [(i * 5 % 7 << 14, 64, False, 0) for i in range(40)]
    served = serve(HBM2, trace_requests(items), outstanding=40, trace=True)
    reads = [int(row[3]) for row in served.trace if device.COMMANDS[row[1]] == "RD"]
    assert reads == [address >> 14 for address, *_ in items for _ in range(2)]
    assert (np.diff(served.issue_ns + served.latency_ns) > 0).all()


def latencies(*addresses):
    return serve(HBM2, trace_requests([(a, 32, False, 0) for a in addresses]), outstanding=1).latency_ns


def test_latencies_of_the_u280_in_axi_clocks():
    closed, hit, conflict = latencies(0, 64, 1 << 14)
    axi = 1000 / 450
    assert [closed / axi, hit / axi, conflict / axi] == pytest.approx([55, 48, 62])


def test_linear_bandwidth_against_the_closed_form():
    # Each refresh interval loses the precharge of the row being read, the refresh and the opening of the row again.
    c = HBM2.clocks
    lost = c("nRTP") + c("nRP") + c("nRFC") + c("nRCDRD") - HBM2.burst_clocks
    expected = HBM2.peak_gb_s * (1 - lost / HBM2.timing.nREFI)
    found = stream(HBM2, bytes=1 << 24, request_bytes=512, outstanding=32)
    assert found.gb_s == pytest.approx(expected, rel=0.0015)
    assert found.commands["REF"] == int(found.time_ns / HBM2.clock_ns) // HBM2.timing.nREFI


def test_outstanding_requests_bound_the_bandwidth():
    found = stream(HBM2, bytes=1 << 16, request_bytes=64, outstanding=1, first_refresh_ns=1e9)
    # A request is a burst in each of two groups; its rows are opened nRRDS apart. A row pair is 2 KiB, 8 are closed at
    # first and 24 hold another row.
    hit = HBM2.path_clocks + HBM2.timing.nCL + 2 * HBM2.burst_clocks
    opening = HBM2.clocks("nRCDRD") + HBM2.clocks("nRRDS") - HBM2.burst_clocks
    assert found.time_ns / HBM2.clock_ns == pytest.approx(1024 * hit + 32 * opening + 24 * HBM2.clocks("nRP"))


def test_conflicts_in_a_bank_are_a_row_cycle_apart():
    served = serve(HBM2, trace_requests([(i << 14, 32, False, 0) for i in range(20)]), outstanding=20, trace=True)
    activates = [int(row[0]) for row in served.trace if device.COMMANDS[row[1]] == "ACT"]
    assert set(np.diff(activates)) == {HBM2.clocks("nRC")}


def test_two_streams_in_one_bank_take_a_row_cycle_a_chunk():
    served = serve(HBM2, interleaved([0, 1 << 22], chunk_bytes=64, chunks=4000), outstanding=64)
    refreshed = 1 - (HBM2.timing.nRFC + HBM2.clocks("nRP")) / HBM2.timing.nREFI
    expected = 64 / (HBM2.clocks("nRC") * HBM2.clock_ns) * refreshed
    assert 8000 * 64 / served.end_ns == pytest.approx(expected, rel=0.02)


def test_turns_between_reading_and_writing_cost_their_turnarounds():
    both = interleaved([0, 1 << 11], chunk_bytes=512, chunks=8, writes=(1,))
    assert both.write.tolist() == [False, True] * 8
    served = serve(HBM2, both, outstanding=64)
    t, burst, grid = HBM2.timing, HBM2.burst_clocks, HBM2.command_clocks
    # A turn is 16 bursts each way, two groups by turns; the first read waits for the last write but one, in its group.
    to_write = -(-(t.nCL + burst + t.nRTW - t.nCWL) // grid) * grid
    to_read = -(-(t.nCWL + burst + t.nWTRL) // grid) * grid - burst
    turn = 2 * 15 * burst + to_write + to_read
    opening = HBM2.clocks("nRCDRD") + HBM2.clocks("nRRDS") - burst
    end = opening + 8 * turn - to_read + t.nCWL + burst + HBM2.path_clocks
    assert served.end_ns / HBM2.clock_ns == pytest.approx(end)


def test_channels_share_a_stream():
    one = stream_time(HBM2, bytes=1 << 16, request_bytes=512, outstanding=8)
    assert stream_time(HBM2, bytes=32 << 16, request_bytes=512, outstanding=8, channels=32) == one
    assert stream_time(HBM2, bytes=1, request_bytes=512, outstanding=8, channels=32) == pytest.approx(122.22, abs=0.01)


SMALL_STRIPE = msgspec.structs.replace(
    HBM2, map=(MapField(field="group", bits=1), MapField(field="column", bits=2), MapField(field="bank", bits=1),
               MapField(field="row", bits=20)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("standard", "size", "options"),
    [
        (HBM2, 26 << 20, {"request_bytes": 512, "outstanding": 64}),
        (SMALL_STRIPE, 2_000_000, {"request_bytes": 64, "outstanding": 7, "start_address": 12345}),
        (SMALL_STRIPE, 2_000_000, {"request_bytes": 100, "outstanding": 3, "write": True, "reorder": 8}),
        (SMALL_STRIPE, 2_000_000, {"request_bytes": 32, "outstanding": 1, "first_refresh_ns": 0.0}),
        (SMALL_STRIPE, 2_000_000, {"request_bytes": 4096, "outstanding": 4, "write": True}),
    ],
)
@pytest.mark.parametrize("more", [0, 77, 4321])
def test_shortcut_is_full_simulation(standard, size, options, more):
    full = stream(standard, bytes=size + more, **options, shortcut=False)
    short = stream(standard, bytes=size + more, **options)
    assert short.skipped_ns > 0
    assert msgspec.structs.replace(short, skipped_ns=0.0) == full


def test_kernel_is_its_python(monkeypatch):
    items = [(i * 7919 % 50000, 100, i % 3 == 0, i % 5) for i in range(40)]
    options = {"bytes": 70_000, "request_bytes": 192, "outstanding": 5, "first_refresh_ns": 500.0, "reorder": 4}
    compiled = stream(HBM2, **options), serve(DDR4, trace_requests(items), outstanding=4, trace=True)
    monkeypatch.setattr(kernel, "run", kernel.run.py_func)
    python = stream(HBM2, **options), serve(DDR4, trace_requests(items), outstanding=4, trace=True)
    assert compiled[0] == python[0]
    assert (compiled[1].trace == python[1].trace).all()
    assert (compiled[1].latency_ns == python[1].latency_ns).all()


@pytest.mark.parametrize("name", dram_standards())
def test_a_standard_says_what_its_peak_is(name):
    standard = dram_standard_named(name)
    assert {"hbm2": 460.8, "ddr4-2400": 19.2, "ddr4-3200": 25.6, "hbm2e-3200": 819.2}[name] == pytest.approx(
        standard.peak_gb_s * standard.channels
    )
    assert stream(standard, bytes=1 << 20, request_bytes=4096, outstanding=32).gb_s < standard.peak_gb_s


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bytes": 0}, "bytes must be at least 1, not 0"),
        ({"outstanding": 0}, "outstanding must be at least 1, not 0"),
        ({"channels": 33}, "channels must be at most the 32 of hbm2, not 33"),
        ({"start_address": 1 << 28}, "a stream must lie in the channel's 268435456 bytes"),
    ],
)
def test_bad_streams_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        stream(HBM2, **{"bytes": 64, "request_bytes": 64, "outstanding": 1, **change})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nRP = 13", "nRP = 0", "nRP must be at least 1, not 0"),
        ("nRFC = 234", "nRFCab = 234", "unknown key 'nRFCab' in table .timing.; the nearest valid key is 'nRFC'"),
        ("nRC = 43", "nRC = 42", "nRC must be at least nRAS . nRP = 43, not 42"),
        ("nRFC = 234", "nRFC = 40", "nRFC must be at least every other distance, 43, not 40"),
        ('nRFC = "', 'nRFX = "', "sources must name every value, nRFC is missing"),
        ('field = "row"', 'field = "bank"', "map must end with the row"),
        ("bits = 2", "bits = 4", "map must have at most 5 bits of banks and groups, not 64 banks"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path, old, new, message):
    text = (Path(dram_standard.__file__).parent / "dram/hbm2.toml").read_text()
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        dram_standard_named(str(path))


def test_measured_figures_are_met():
    found = {row.id: row for row in rows("published")}
    assert [name for name, row in found.items() if not row.within] == ["bandwidth/write-one-channel"]
    assert found["bandwidth/linear-read-32-channels"].ours == pytest.approx(425.5, abs=0.1)
    assert found["bandwidth/write-one-channel"].rel_error == pytest.approx(0.024, abs=0.001)
    with pytest.raises(InputError, match="mode must be one of published, corrected, not 'best', for study 'shuhai'"):
        rows("best")
