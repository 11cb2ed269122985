"""A prompt in blocks on a core's RTL, through the first layer of the real model: the executor's bytes, golden values."""

from types import SimpleNamespace

import pytest
from tiny_llama import TinyLlama

from mixflight import verify_prefill
from mixflight.arch.accelerator import accelerator_named
from mixflight.rtl.core import Core
from mixflight.rtl.core_harness import build_core
from mixflight.sim.core_values.decode import from_file
from mixflight.verification import PREFILL, verify_core
from mixflight.verify_prefill import CONTEXT, check_blocks, check_prefill, first_layer

MACHINE = accelerator_named("mixpe-mini")
SHAPE = {"head_dim": 64, "heads": 6, "kv_heads": 3, "hidden": 384, "ffn": 640, "vocab": 6200}


@pytest.fixture(scope="module")
def model():
    return build_core(Core(MACHINE, generic=True))


def test_a_block_of_a_layer_of_smollm2(model, smollm2_path):
    """Every operator of a layer on eight tokens, the cells of the cache and every residual vector."""
    found = check_prefill(model, MACHINE, smollm2_path, tokens=8, head=False)
    assert found.messages == () and found.tests == 1
    hidden, cache, heads = 8 * 576 * 4, 53_248, 4
    assert found.values >= hidden + heads * cache
    assert found.cycles_sim / found.cycles_rtl == pytest.approx(1, abs=0.005)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("name", "cycles"), [("mixpe-mini", (990_782, 990_701)), ("flightllm-mini", (603_276, 603_191))])
def test_32_tokens_through_a_layer_and_the_head_of_smollm2(smollm2_path, name, cycles):
    machine = accelerator_named(name)
    found = check_prefill(build_core(Core(machine, generic=True)), machine, smollm2_path)
    assert found.messages == () and found.tests == 5
    assert (found.cycles_rtl, found.cycles_sim) == pytest.approx(cycles, abs=200)      # D15
    assert found.cycles_sim / found.cycles_rtl == pytest.approx(1, abs=0.0002)


@pytest.mark.slow
def test_prompts_of_other_shapes_and_lengths(model):
    """Blocks of twelve and sixteen, the last one filled up; contexts before and over the end of a tile."""
    for block, tokens, past in ((12, 31, 0), (16, 20, 248)):
        tiny = TinyLlama(seed=block, **SHAPE)
        prompt, before = ([(7 * number + number // 5) % 6200 for number in range(count)] for count in (tokens, past))
        found = check_blocks(model, tiny.on(MACHINE, 320, block=block), tiny.golden, prompt, past=before)
        assert found.messages == () and found.tests == -(-tokens // block) + 1
        assert found.cycles_sim / found.cycles_rtl == pytest.approx(1, abs=0.005)


def test_wrong_weights_are_found(model, smollm2_path, monkeypatch):
    """A nibble of the core's memory: other bytes than the executor's, another residual vector than the golden model's."""
    made, process = from_file(MACHINE, smollm2_path, CONTEXT, layers=1, block=4), verify_prefill.CoreProcess

    def damaged(*arguments, hbm, **named):
        wrong = [channel.copy() for channel in hbm]
        wrong[2][made.text.memory.weights[0] + 430_000] ^= 0x80
        return process(*arguments, hbm=wrong, **named)

    monkeypatch.setattr(verify_prefill, "CoreProcess", damaged)
    found = check_blocks(model, made, first_layer(smollm2_path), [504, 3575, 282], head=False)
    assert any("residual vectors" in message for message in found.messages)
    assert any("channel 2: " in message for message in found.messages)


def test_without_the_model_there_is_nothing_to_run():
    chosen = SimpleNamespace(component=SimpleNamespace(machine=MACHINE), parameters={"programs": PREFILL}, top="t")
    row = verify_core(chosen)
    assert (row.tests, row.failures, row.values) == (0, 0, 0)
