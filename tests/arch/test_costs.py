from pathlib import Path

import pytest

from mixflight.arch import costs as module
from mixflight.arch.costs import costs_of
from mixflight.arch.errors import InputError
from mixflight.arch.gpu import gpus

COSTS = costs_of()
TEXT = Path(module.__file__).with_name("costs.toml").read_text()


def test_a_bought_machine_by_hand():
    # 8,000 $ over 3 years of half the time is 169 u$ a second; 45 W at 0.10 $/kWh is 1.25 u$ a second.
    seconds = 3 * 365.25 * 86400 * 0.5
    per_second = 8000 / seconds + 45 * 0.10 / 3.6e6
    assert COSTS.usd_per_token("flightllm-u280", 55, 45) == pytest.approx(per_second / 55)


def test_a_rented_machine_by_hand():
    assert COSTS.usd_per_token("h100", 100, 700) == pytest.approx(3.4 / 3600 / 100)
    assert COSTS.price_of("h100").amount.value == pytest.approx((1.65 * 6.88) ** 0.5, rel=0.01)
    assert COSTS.price_of("h200").amount.value == pytest.approx((1.99 * 63.296 / 8) ** 0.5, rel=0.01)


@pytest.mark.parametrize("name", gpus())
def test_every_gpu_has_a_price(name):
    amount = COSTS.price_of(name).amount
    assert amount.source
    assert amount.date[:4].isdigit()


@pytest.mark.parametrize("machine", COSTS.machine)
def test_bands_hold_the_value(machine):
    low, value, high = (COSTS.usd_per_token(machine, 50, 100, pick) for pick in ("low", "value", "high"))
    assert 0 < low < value < high


def test_published_prices():
    assert [COSTS.price_of(name).amount.value for name in ("flightllm-u280", "v100s", "a100", "rtx4090")] == [
        8000, 12000, 17000, 1599,
    ]  # fmt: skip


def test_a_machine_without_a_price_is_refused():
    with pytest.raises(InputError, match="every machine must have a price: mixpe-w4a8 has none, only flightllm-u280, v100s"):
        COSTS.usd_per_token("mixpe-w4a8", 1, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value = 0.10", "value = -0.10", "0 < low <= value <= high must hold"),
        ("high = 1.0", "high = 1.5", "utilisation must be at most 1, not 1.5"),
        ("[machine.h100]\nusd_per_hour", "[machine.h100]\nusd_per_day", "unknown key 'usd_per_day'"),
        ("[machine.h100]\n", "[machine.tpu]\n[machine.h100]\n", "a machine must have one of usd and usd_per_hour"),
        ("[utilisation]", "[use]", "unknown key 'use'"),
    ],
)
def test_bad_costs_are_refused(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=message):
        costs_of(str(path))
