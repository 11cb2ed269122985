import msgspec
import pytest

from mixflight.advantage import A100_TOKENS_PER_S, PUBLISHED, advantages, claims, corrected_claims, token_cost
from mixflight.arch.costs import costs_of
from mixflight.arch.errors import InputError
from mixflight.machines import Machine, run, run_gpu

COSTS = costs_of()


def test_the_four_claims_follow_from_their_own_numbers():
    found = {row.id: row for row in claims(COSTS)}
    assert found["claim/energy/v100s"].ours == pytest.approx((55 / 45) / (45 / 220))
    assert found["claim/energy/a100"].ours == pytest.approx((55 / 45) / (A100_TOKENS_PER_S / 300))
    assert found["claim/cost/v100s"].ours == pytest.approx(55 / 45 * 12 / 8)
    assert found["claim/cost/a100"].ours == pytest.approx(55 / A100_TOKENS_PER_S * 17 / 8)
    assert {row.id.removeprefix("claim/"): row.published for row in found.values()} == PUBLISHED
    assert all(row.within for row in found.values())
    assert pytest.approx(88.26, abs=0.01) == A100_TOKENS_PER_S


def test_claims_of_simulated_machines_stand_beside_the_published_ones():
    machine = run(Machine.parse("mixpe-w4a8:w4a8g128"), "llama2-7b", 16, 2)
    flightllm = msgspec.structs.replace(machine, accelerator="flightllm-u280")
    gpus = [run_gpu(name, "llama2-7b", 16, 2) for name in ("v100s:fp16", "h100:w4a16g128")]
    rows = {row.id: row for row in corrected_claims([machine, flightllm], gpus, COSTS)}
    assert set(rows) == {
        f"claim/{kind}/{gpu}" for kind in ("energy", "cost") for gpu in ("v100s:fp16", "h100:w4a16g128")
    }
    assert rows["claim/energy/v100s:fp16"].published == 6.0
    assert rows["claim/energy/h100:w4a16g128"].published is None
    batched = [msgspec.structs.replace(item, batch=16) for item in (flightllm, *gpus)]
    more = {row.id: row.published for row in corrected_claims([flightllm, batched[0]], [*gpus, *batched[1:]], COSTS)}
    assert {f"{name}/batch-16" for name in rows} | set(rows) == set(more)
    assert more["claim/cost/v100s:fp16/batch-16"] is None
    [found] = [item for item in advantages([flightllm], gpus, COSTS) if item.gpu == "v100s:fp16"]
    assert rows["claim/cost/v100s:fp16"].ours == found.cost
    assert found.cost == pytest.approx(
        token_cost(gpus[0], COSTS)["usd_per_million_tokens"] / token_cost(flightllm, COSTS)["usd_per_million_tokens"]
    )


def test_a_machine_without_a_price_costs_nothing_known():
    machine = run(Machine.parse("mixpe-w4a8:w4a8g128"), "llama2-7b", 16, 2)
    assert set(token_cost(machine, COSTS).values()) == {None}
    with pytest.raises(InputError, match="mixpe-w4a8 has none"):
        token_cost(machine, COSTS, strict=True)
