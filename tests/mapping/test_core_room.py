"""What fits the buffers of a core, and what does not."""

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.mapping.core_compile import CoreCompiler
from mixflight.mapping.core_memory import Arena
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace


def test_stages_share_lines_and_what_follows_lies_behind_the_longest():
    arena = Arena("global", 1024)
    assert arena.take(64, "x") == 0
    arena.stages()
    assert arena.take(256, "a") == 1
    arena.stage()
    assert arena.take(64, "b") == 1
    arena.together()
    assert arena.take(64, "c") == 5
    with pytest.raises(InputError, match="the global buffer must hold 1,344 of 1,024 bytes, 960 of them"):
        arena.take(960, "d")


def test_a_prefill_of_llama2_13b_fits_the_vhk158():
    trace = prefill_trace(model_named("llama2-13b"), recipe_named("w4a8g32"), 128)
    assert CoreCompiler(accelerator_named("flightllm-vhk158")).compile(trace).phase == "prefill"


@pytest.mark.parametrize(("model", "batch"), [("llama2-7b", 5), ("smollm2-135m", 8)])
def test_decode_batches_fit_the_u280(model, batch):
    trace = next(iter(decode_traces(model_named(model), recipe_named("w4a8g32"), 511, 1, batch)))
    compiler = CoreCompiler(accelerator_named("flightllm-u280"), max_context=512)
    assert compiler.compile(trace).streams[0].count("MV")


def test_what_does_not_fit_says_operator_and_bytes():
    trace = next(iter(decode_traces(model_named("llama2-7b"), recipe_named("w4a8g32"), 511, 1, 16)))
    with pytest.raises(InputError, match=r"the (act|global) buffer must hold [\d,]+ of [\d,]+ bytes, .* for operator"):
        CoreCompiler(accelerator_named("flightllm-u280"), max_context=512).compile(trace)
