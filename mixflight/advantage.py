"""Who beats whom, by energy and by cost: FlightLLM's claims from their own numbers, and ratios of simulated machines.

token_cost    cost of a token of one simulation, by stated prices
claims        the four published ratios, each from the published rates, powers and prices
advantages    the same ratios between every accelerator and every GPU of a comparison, with bands
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mixflight.arch.costs import Costs
from mixflight.sim.reproduction import Row, compare
from mixflight.sim.simulate import Simulation

SOURCE = "FlightLLM (FPGA 2024), abstract"
U280_TOKENS_PER_S, U280_W = 55.0, 45.0
V100S_TOKENS_PER_S, V100S_W = 45.0, 220.0
A100_TOKENS_PER_S = 3 / (1 / 89.4 + 1 / 87.9 + 1 / 87.5)
"""Harmonic mean of vLLM's decode rates in the README of FlightLLM's artifact."""
A100_LIMIT_W = 300.0
TOLERANCE = 0.1
PUBLISHED = {"energy/v100s": 6.0, "energy/a100": 4.2, "cost/v100s": 1.8, "cost/a100": 1.4}


def token_cost(simulation: Simulation, costs: Costs, *, strict: bool = False) -> dict[str, float | None]:
    """Cost of a million decoded tokens with its band; None where the machine has no price, unless ``strict``."""
    decode = simulation.decode
    keys = ("usd_per_million_tokens", "usd_per_million_tokens_low", "usd_per_million_tokens_high")
    if simulation.accelerator not in costs.machine and not strict:
        return dict.fromkeys(keys)
    seconds = decode.time_ms * 1e-3
    watts = (decode.power_w, decode.energy.low_pj * 1e-12 / seconds, decode.energy.high_pj * 1e-12 / seconds)
    picks = zip(keys, ("value", "low", "high"), watts, strict=True)
    return {
        key: 1e6 * costs.usd_per_token(simulation.accelerator, decode.tokens / seconds, power, pick)  # type: ignore[arg-type]
        for key, pick, power in picks
    }


def claims(costs: Costs) -> list[Row]:
    """FlightLLM's energy (token/J) and cost (token/s/$) efficiency over GPUs, from its own published numbers.

    The A100's power is not published: the claim is turned round, and gives the power it needs.
    """
    price = {name: costs.price_of(name).amount.value for name in ("flightllm-u280", "v100s", "a100")}
    u280 = U280_TOKENS_PER_S / U280_W
    needed = A100_TOKENS_PER_S / (u280 / 4.2)
    return [
        compare(
            "claim/energy/v100s", PUBLISHED["energy/v100s"], u280 / (V100S_TOKENS_PER_S / V100S_W), "published",
            unit="times token/J", relative=TOLERANCE, source=SOURCE,
            note="55 token/s / 45 W over 45 token/s / 220 W, Fig. 1",
        ),
        compare(
            "claim/energy/a100", PUBLISHED["energy/a100"], u280 / (A100_TOKENS_PER_S / A100_LIMIT_W), "published",
            unit="times token/J", relative=TOLERANCE, source=SOURCE,
            note=f"no power of the A100 is published: 4.2 needs {needed:.0f} W at vLLM's {A100_TOKENS_PER_S:.1f} "
            f"token/s (artifact's README); here the card's limit, {A100_LIMIT_W:g} W",
        ),
        compare(
            "claim/cost/v100s", PUBLISHED["cost/v100s"],
            U280_TOKENS_PER_S / price["flightllm-u280"] / (V100S_TOKENS_PER_S / price["v100s"]), "published",
            unit="times token/s/$", relative=TOLERANCE, source=SOURCE, note="55 / 45 x 12,000 $ / 8,000 $",
        ),
        compare(
            "claim/cost/a100", PUBLISHED["cost/a100"],
            U280_TOKENS_PER_S / price["flightllm-u280"] / (A100_TOKENS_PER_S / price["a100"]), "published",
            unit="times token/s/$", relative=TOLERANCE, source=SOURCE,
            note=f"55 / {A100_TOKENS_PER_S:.1f} x 17,000 $ / 8,000 $; 1.4 needs "
            f"{55 / 1.4 * price['a100'] / price['flightllm-u280']:.1f} token/s",
        ),
    ]  # fmt: skip


def corrected_claims(machines: Sequence[Simulation], gpus: Sequence[Simulation], costs: Costs) -> list[Row]:
    """The same ratios of ``flightllm-u280`` over the GPUs simulated beside it, at every batch of both.

    Published are those of 16 bits at a batch of one.
    """
    found = []
    for item in advantages([m for m in machines if m.accelerator == "flightllm-u280"], gpus, costs):
        gpu, alone = item.gpu.partition(":")[0], item.batch == 1
        batch = "" if alone else f"/batch-{item.batch}"
        for kind, ours in (("energy", item.energy), ("cost", item.cost)):
            published = PUBLISHED.get(f"{kind}/{gpu}") if alone and item.gpu.endswith(":fp16") else None
            if ours is not None:
                found.append(compare(
                    f"claim/{kind}/{item.gpu}{batch}", published, ours, "corrected", relative=TOLERANCE,
                    unit="times token/J" if kind == "energy" else "times token/$", source=SOURCE if published else "",
                    note="both simulated; cost with electricity and lifetime" if kind == "cost" else "both simulated",
                ))  # fmt: skip
    return found


class Advantage(msgspec.Struct, frozen=True, kw_only=True):
    """``machine`` over ``gpu`` in the decode of one scenario: above 1 the machine is better.

    ``energy`` is a ratio of tokens a joule, ``speed`` of tokens a second, ``cost`` of tokens a dollar (None without
    both prices); bands set one side at its best and the other at its worst.
    """

    machine: str
    gpu: str
    batch: int
    speed: float
    energy: float
    energy_low: float
    energy_high: float
    cost: float | None
    cost_low: float | None
    cost_high: float | None


def advantages(machines: Sequence[Simulation], gpus: Sequence[Simulation], costs: Costs) -> list[Advantage]:
    """Every machine over every GPU of the same batch."""
    return [_advantage(a, b, costs) for a in machines for b in gpus if a.batch == b.batch]


def _advantage(a: Simulation, b: Simulation, costs: Costs) -> Advantage:
    def per_token(simulation: Simulation) -> tuple[float, float, float]:
        energy, tokens = simulation.decode.energy, simulation.decode.tokens
        return energy.pj / tokens, energy.low_pj / tokens, energy.high_pj / tokens

    (ours, low, high), (theirs, least, most) = per_token(a), per_token(b)
    mine: Any = list(token_cost(a, costs).values())
    other: Any = list(token_cost(b, costs).values())
    priced = None not in (mine[0], other[0])
    speed = (a.decode.tokens / a.decode.time_ms) / (b.decode.tokens / b.decode.time_ms)
    return Advantage(
        machine=f"{a.accelerator}:{a.formats}", gpu=f"{b.accelerator}:{b.formats}", batch=a.batch, speed=speed,
        energy=theirs / ours, energy_low=least / high, energy_high=most / low,
        cost=other[0] / mine[0] if priced else None, cost_low=other[1] / mine[2] if priced else None,
        cost_high=other[2] / mine[1] if priced else None,
    )  # fmt: skip
