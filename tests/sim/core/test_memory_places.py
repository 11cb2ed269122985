"""Places of transfers in DRAM rows that are alike."""

import numpy as np
import pytest

from mixflight.arch.core import Channels
from mixflight.arch.dram_standard import dram_standard_named
from mixflight.sim.core.memory import ChannelTiming, alike_bytes
from mixflight.sim.dram import ends


@pytest.mark.parametrize(
    ("standard", "alike"), [("hbm2", 8192), ("hbm2e-3200", 8192), ("ddr4-2400", 16384), ("ddr4-3200", 16384)]
)
def test_transfers_moved_together_to_a_place_alike_take_as_long(standard, alike):
    table, random = dram_standard_named(standard), np.random.default_rng(7)
    stripe = table.stripe_bytes
    assert alike_bytes(table) == alike < stripe
    count = 120
    size = random.choice([32, 96, 512, 700, 4096, 16384, 20000, stripe], count)
    start, before = (512 * random.integers(0, stripe // 512, count) for _ in range(2))
    moved = alike * random.integers(1, stripe // alike, count)
    times = []
    for shift in (np.zeros(count, np.int64), moved):
        jobs = np.zeros((count, 2, 3), np.int64)
        jobs[:, 0, 0], jobs[:, 0, 1] = 4 * stripe + (before + shift) % stripe - 512, 512
        jobs[:, 1, 0], jobs[:, 1, 1] = 8 * stripe + (start + shift) % stripe, size
        times.append(ends(table, jobs, request_bytes=512, outstanding=16))
    assert np.array_equal(*times)
    assert len(np.unique(times[0])) > 10


def test_a_transfer_and_the_one_ahead_are_moved_to_the_first_place_alike():
    channels = Channels(
        standard="hbm2", channels=32, channels_per_core=8, port_bytes_per_cycle=64, request_bytes=512, outstanding=16,
        capacity_gib=8, cross_channel_factor=2.0,
    )  # fmt: skip
    timing = ChannelTiming(channels=channels, clock_mhz=225.0)
    size, address = np.array([1024, 1024, 512]), np.array([8192, 9216, 12 * 1024])
    offset, lead = timing.places(size, address, write=False)
    # the second goes on where the first ended; the third begins 2 KB behind it, in the second half of the rows
    assert offset.tolist() == [0, 2, 8] and lead.tolist()[1:] == [-1, 4]
    known = timing.places(size, address, write=False, known=np.array([2]), ended=np.array([12 * 1024]))
    assert known[1].tolist()[1:] == [-1, -1]
