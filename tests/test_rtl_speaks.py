"""What the README shows of a model that spoke on RTL: the recorded run of ``mixflight generate --backend rtl --json``."""

import hashlib
import json
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.isa import CLASS_INDEX
from mixflight.record_rtl_demo import recorded_demo
from mixflight.rtl_energy import ComponentEnergy, RecordedStep
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.decode import from_file
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf

ROOT = Path(__file__).resolve().parent.parent
RUN = json.loads((ROOT / "tests" / "data" / "rtl_speaks_smollm2.json").read_text())
GOLDEN = json.loads((ROOT / "tests" / "data" / "generation_smollm2.json").read_text())
README = " ".join((ROOT / "README.md").read_text().split())


def test_it_said_what_the_golden_model_says():
    said = RUN["tokens"]
    assert len(said) == 16 and GOLDEN["int8"]["tokens"] == said and GOLDEN["int8"]["text"] == RUN["text"]
    assert RUN["prompt_tokens"] == GOLDEN["prompt_tokens"] and RUN["text"].startswith(" Paris.")
    assert RUN["logits_sha256_per_token"][-1] == GOLDEN["int8"]["logits_sha256"]


def test_all_logits_of_all_steps_were_the_golden_models(smollm2_path):
    steps = len(RUN["logits_sha256_per_token"])
    tokens = [*RUN["prompt_tokens"], *RUN["tokens"]][:steps]
    logits = Session(load_llama(open_gguf(smollm2_path))).extend(tokens, every=True)
    assert [hashlib.sha256(row.astype("<f4").tobytes()).hexdigest() for row in logits] == RUN["logits_sha256_per_token"]


def test_what_the_heads_second_pass_costs(smollm2_path):
    machine = accelerator_named(RUN["arch"])
    step = from_file(machine, smollm2_path, 512).step(RUN["prompt_tokens"][0], 0)
    run = execute(Units(machine), compile_streams(Units(machine), [step.text.sequencer.expand(step.numbered)], [0]))
    used = run.used[0, step.text.text.names.index("head")]
    assert used[CLASS_INDEX["MV"]] == 221_760 == 2 * 110_880      # arch/decisions/0008
    assert used[CLASS_INDEX["LD"]] == pytest.approx(119_808, abs=1)
    assert run.total == pytest.approx(812_927, rel=1e-4)


def test_the_engine_says_its_cycles(smollm2_path):
    made = from_file(accelerator_named(RUN["arch"]), smollm2_path, 512)
    tokens = [*RUN["prompt_tokens"], *RUN["tokens"]]
    for position in (0, len(RUN["cycles_per_token"]) - 1):
        engine = made.engine(made.step(tokens[position], position), loads=position == 0).total
        assert engine == pytest.approx(RUN["cycles_per_token"][position], rel=0.0002)


def test_the_readmes_numbers():
    cycles = RUN["cycles_per_token"]
    assert "about 815,000 cycles" in README and sum(cycles) / len(cycles) == pytest.approx(815_000, rel=0.001)
    assert "97.4 to 97.6 MB read through AXI" in README
    read = RUN["axi_read_bytes_per_token"]
    assert 97.35e6 < min(read) < 97.45e6 and 97.55e6 < max(read) < 97.65e6


def test_energy_seen_and_estimated_are_as_near_as_the_readme_says():
    assert "for what the RTL was seen to do they are the same to 0.01 %" in README
    for seen, estimated in zip(RUN["energy_recorded_j_per_token"], RUN["energy_j_per_token"], strict=True):
        assert seen == pytest.approx(estimated, rel=1e-4)


def test_the_picture_shows_the_run():
    console = Console(record=True, width=76, quiet=True)
    console.print(recorded_demo(RUN))
    picture = (ROOT / "docs" / "rtl-speaks.svg").read_text().replace("&#160;", " ")
    assert "http" not in picture.replace("http://www.w3.org", "").replace("https://www.textualize.io", "")
    for cycles in RUN["cycles_per_token"][-6:]:
        assert f"{cycles:,}" in picture
    assert "Paris." in picture and "The capital of France is" in picture


def test_recorded_energy_stands_beside_the_estimate():
    priced = ComponentEnergy(recorded_j=0.0123, low_j=0.01, high_j=0.02, estimated_j=0.012)
    seen = RecordedStep(busy_cycles={}, ended={}, executed=1, read_bytes={}, written_bytes={}, products=1, sfu_elements=1,
                        components={"hbm": priced, "ddr": priced})  # fmt: skip
    demo = recorded_demo(RUN)
    demo.steps = [*demo.steps[:-1], msgspec.structs.replace(demo.steps[-1], recorded=seen)]
    console = Console(width=76, file=StringIO())
    console.print(demo)
    *_, before, last = [line.split() for line in console.file.getvalue().splitlines() if "97.6" in line]
    assert len(last) == len(before) + 1 and last[6] == "24.6"
