"""``mixflight generate --backend rtl`` on several cores: what it counts, says and writes is as of one."""

import json
import math

import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.cli.generate import document
from mixflight.generate import generate
from mixflight.generate_rtl import Listener, Outputs, generate_rtl
from mixflight.sim.core_values.decode import machine_from_file

ARCH, PROMPT = "mixpe-duo", "The capital"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]     # the first one compiles both cores


class Watcher(Listener):
    """The layers that a step was seen in."""

    def __init__(self):
        self.layers = set()

    def progress(self, moment):
        self.layers.add(moment.layer)


@pytest.fixture(scope="module")
def first(smollm2_path, tmp_path_factory):
    """A layer's first word, with its checkpoint and its timeline."""
    folder, watcher = tmp_path_factory.mktemp("rtl"), Watcher()
    outputs = Outputs(checkpoint=folder / "kept", timeline=folder / "units.json")
    return folder, watcher, generate_rtl(smollm2_path, PROMPT, 1, arch=ARCH, layers=1, outputs=outputs, listener=watcher)


def test_the_golden_models_word(smollm2_path, first):
    _, watcher, said = first
    golden = generate(smollm2_path, PROMPT, 1, layers=1)
    assert (said.tokens, said.text, said.logits_sha256[-1]) == (golden.tokens, golden.text, golden.logits_sha256)
    assert watcher.layers <= {0, 1} and 1 in watcher.layers
    for run in said.steps:
        assert run.engine_cycles == pytest.approx(run.cycles, rel=0.001)


def test_what_is_counted_is_of_all_cores(smollm2_path, first):
    _, _, said = first
    made = machine_from_file(accelerator_named(ARCH), smollm2_path, 512, layers=1)
    for run in said.steps:
        programs = made.instructions(made.steps(run.token, run.position))
        for kind in ("LD", "ST", "MV", "MISC"):
            assert run.recorded.ended[kind] == sum(item.kind == kind and not item.empty for each in programs for item in each)
        linears = 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 49152 * 576
        tokens = 16 * math.ceil((run.position + 1) / 16)
        assert 0 <= linears + 2 * 576 * tokens - run.recorded.products <= 576 * tokens
        assert 31.5e6 < run.read_bytes < 34e6
        assert run.recorded.energy_j == pytest.approx(run.energy_j, rel=0.01)
        assert run.recorded.components["exchange"].recorded_j == run.recorded.components["exchange"].estimated_j > 0
    found = document("smollm2", said)
    assert len(found["cycles_per_token"]) == len(found["engine_cycles_per_token"]) == len(said.prompt_tokens)
    assert found["activity_per_token"][0]["busy_cycles"].keys() == {"LD", "ST", "MM", "MV", "MISC", "SYS"}


def test_the_units_of_each_core_in_the_timeline(first):
    events = json.loads((first[0] / "units.json").read_text())["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {2 * by + core: f"mixpe-duo core {core}, {what}" for by, what in enumerate(("RTL", "engine"))
                     for core in range(2)}  # fmt: skip
    ends = [max(event["ts"] + event["dur"] for event in events if (event["ph"], event["pid"]) == ("X", process))
            for process in names]  # fmt: skip
    assert ends == pytest.approx([ends[2]] * 4, rel=0.02)


def test_a_checkpoint_goes_on(smollm2_path, first):
    kept = Outputs(checkpoint=first[0] / "kept")
    said = generate_rtl(smollm2_path, PROMPT, 2, arch=ARCH, layers=1, outputs=kept)
    golden = generate(smollm2_path, PROMPT, 2, layers=1)
    assert (said.tokens, said.logits_sha256[-1], len(said.steps)) == (golden.tokens, golden.logits_sha256, 3)


def test_a_prompt_in_blocks(smollm2_path):
    prompt = "Once upon a time there was a core"
    said = generate_rtl(smollm2_path, prompt, 2, arch=ARCH, layers=1, blocks=True)
    golden = generate(smollm2_path, prompt, 2, layers=1)
    *blocks, step = said.steps
    assert sum(run.tokens for run in blocks) == len(said.prompt_tokens) and step.tokens == 1 < blocks[0].tokens
    assert (said.tokens, said.logits_sha256[-1]) == (golden.tokens, golden.logits_sha256)
    assert all(run.engine_cycles == pytest.approx(run.cycles, rel=0.005) for run in said.steps)
    assert np.all([run.recorded.ended["MM"] > 0 for run in blocks])
