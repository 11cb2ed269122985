"""A batch in groups: the sum of its groups, the fewest that fit, caches of all of them in memory."""

import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.errors import InputError
from mixflight.sim.core.groups import run_grouped
from mixflight.sim.core.scenario import Cores
from mixflight.sim.core.simulate import is_plain
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

U280 = core_machines()["flightllm-u280"]
MODEL = model_named("smollm2-135m")
RECIPE = recipe_named("w4a8g32")
PREFILL, DECODE = 8, 1


def cores(batch, at_most=10**9, max_context=PREFILL + DECODE):
    if batch > at_most:
        raise InputError(f"the buffer must hold {batch} sequences")
    return Cores(U280, MODEL, RECIPE, max_context=max_context, batch=batch)


def test_a_batch_that_fits_runs_at_once():
    found = run_grouped(cores, 2, PREFILL, DECODE)
    whole = cores(2)
    assert found.groups == 1
    assert found.decode.cycles == whole.decode(PREFILL, DECODE).cycles
    assert found.prefill.cycles == whole.run(prefill_trace(MODEL, RECIPE, PREFILL, 2, DECODE)).cycles


def test_groups_follow_one_another_and_load_weights_again():
    found = run_grouped(lambda batch: cores(batch, at_most=2), 5, PREFILL, DECODE)
    two, one = (cores(batch).decode(PREFILL, DECODE) for batch in (2, 1))
    assert found.groups == 3
    assert found.decode.cycles == pytest.approx(2 * two.cycles + one.cycles)
    for key, values in found.decode.counts.items():
        assert values.sum() == pytest.approx(2 * two.counts[key].sum() + one.counts[key].sum()), key
    assert found.decode.busy.keys() == two.busy.keys()
    assert all(0 <= share <= 1 for share in found.decode.busy.values())


def test_what_fits_in_no_groups_is_the_refusal_of_the_whole():
    with pytest.raises(InputError, match="the buffer must hold 6 sequences"):
        run_grouped(lambda batch: cores(batch, at_most=0), 6, PREFILL, DECODE)


def test_caches_of_all_groups_must_fit():
    with pytest.raises(InputError, match=r"of 268,435,456 bytes in each of the 8 channels .* the caches of 600 groups"):
        run_grouped(lambda batch: cores(batch, at_most=1, max_context=4096), 600, PREFILL, DECODE)


def test_flightllm_is_a_plain_decoder():
    """Its scales of 8 bits, which are laid out in 16, are no reason to leave the fused program."""
    model, recipe = model_named("llama2-7b"), recipe_named("flightllm")
    first = prefill_trace(model, recipe, 128, 1, 4)
    assert is_plain(first, list(decode_traces(model, recipe, 128, 4, 1)), 128)
