"""``mixflight generate --backend rtl``: a model speaks on the compiled Verilog of a core, one layer of it here."""

import json
import math
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.generate import generate
from mixflight.generate_rtl import Listener, Outputs, generate_rtl
from mixflight.rtl.toolchain import WAVES_HINT, find_toolchain, missing_wave_headers
from mixflight.rtl_session import RtlSession, context_for, open_core
from mixflight.sim.core_values import products, transfers
from mixflight.sim.core_values.decode import from_file, machine_from_file
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf

ARCH, PROMPT = "mixpe-mini", "The capital"
MV = CLASSES.index("MV")
pytestmark = pytest.mark.timeout(2400)     # the first one compiles the core


class Watcher(Listener):
    """All logits, and the layers that a step was seen in."""

    def __init__(self):
        self.logits, self.layers, self.said = [], set(), ""

    def progress(self, moment):
        self.layers.add(moment.layer)

    def stepped(self, run, logits):
        self.logits.append(logits.copy())

    def text(self, piece):
        self.said += piece


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "mixflight.cli.app", "generate", *arguments], capture_output=True,
                          text=True, timeout=300)  # fmt: skip


@pytest.fixture(scope="module")
def first(smollm2_path, tmp_path_factory):
    """A layer's first word, with its checkpoint and its timeline."""
    folder, watcher = tmp_path_factory.mktemp("rtl"), Watcher()
    outputs = Outputs(checkpoint=folder / "kept", timeline=folder / "units.json")
    said = generate_rtl(smollm2_path, PROMPT, 1, arch=ARCH, layers=1, outputs=outputs, listener=watcher)
    return folder, watcher, said


def test_every_logit_is_the_golden_models(smollm2_path, first):
    _, watcher, said = first
    llama = load_llama(open_gguf(smollm2_path))
    session = Session(replace(llama, model=msgspec.structs.replace(llama.model, layers=1)))
    assert len(watcher.logits) == len(said.prompt_tokens) == 2
    for token, logits in zip(said.prompt_tokens, watcher.logits, strict=True):
        assert np.array_equal(logits.view(np.uint32), session.extend([token])[-1].view(np.uint32))
    golden = generate(smollm2_path, PROMPT, 1, layers=1)
    assert (said.tokens, said.text, said.stopped) == (golden.tokens, golden.text, "length")
    assert said.logits_sha256[-1] == golden.logits_sha256 and watcher.said == said.text
    assert watcher.layers <= {0, 1} and 1 in watcher.layers


def test_what_is_counted(first):
    _, _, said = first
    for run in said.steps:
        assert run.engine_cycles == pytest.approx(run.cycles, rel=0.02)
        assert 31.5e6 < run.read_bytes < 34e6      # a layer's 1.99 MB and the head's 30.1 MB, and the cache
        assert 0 < run.energy_j < 1 and run.seconds > 0
    assert said.tokens_per_s == pytest.approx(225e6 / np.mean([run.cycles for run in said.steps]))


def executed_work(monkeypatch, made, token, position):
    """What the executor touches in a step: bytes of memories, and products of codes that it multiplies."""
    found, memory, linear, dots = Counter(), transfers._memory, products._linear, products._dots

    def touched(state, fields, channel):
        part = memory(state, fields, channel)
        found["ddr" if fields["ddr"] else "hbm"] += len(part)
        return part

    def grouped(weight, scales, minimum, a, s_a, group, columns, sums):
        found["products"] += a.size * columns
        linear(weight, scales, minimum, a, s_a, group, columns, sums)

    def whole(a, matrix):
        found["products"] += a.size * len(matrix)
        return dots(a, matrix)

    with monkeypatch.context() as patch:
        patch.setattr(transfers, "_memory", touched)
        patch.setattr(products, "_linear", grouped)
        patch.setattr(products, "_dots", whole)
        made.decode(token, position)
    return found


def test_what_was_recorded_is_what_program_and_executor_say(monkeypatch, smollm2_path, first):
    _, _, said = first
    made = from_file(accelerator_named(ARCH), smollm2_path, 512, layers=1)
    for run in said.steps:
        step, seen = made.step(run.token, run.position), run.recorded
        program = Counter(item.kind for item in made.instructions(step) if not item.empty)
        assert {kind: program[kind] for kind in CLASSES if kind != "SYS"} == {
            kind: seen.ended[kind] for kind in CLASSES if kind != "SYS"}  # fmt: skip
        work = executed_work(monkeypatch, made, run.token, run.position)
        assert seen.products == work["products"]
        linears = 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 49152 * 576
        tokens = 16 * math.ceil((run.position + 1) / 16)      # values are multiplied in blocks of 16 tokens
        assert 0 <= linears + 2 * 576 * tokens - seen.products <= 576 * tokens
        # ports move whole beats: at most one more an instruction and channel
        moved = seen.read_bytes["hbm"] + seen.written_bytes["hbm"]
        assert 0 <= moved - work["hbm"] < 64 * 4 * (seen.ended["LD"] + seen.ended["ST"]) and moved < 1.001 * work["hbm"]
        assert 0 <= seen.read_bytes["ddr"] - work["ddr"] < 64
        code = step.text.text
        text = 16 * len(code.stream) + 4 * len(code.constants)
        assert text <= seen.read_bytes["text"] < text + 128 if run.position == 0 else seen.read_bytes["text"] == 0
        assert seen.read_bytes["hbm"] + seen.read_bytes["ddr"] + seen.read_bytes["text"] == run.read_bytes


def test_recorded_energy_beside_the_estimate(first):
    _, _, said = first
    for run in said.steps:
        seen = run.recorded
        assert 0 < seen.low_j < seen.energy_j < seen.high_j
        assert seen.estimated_j == run.energy_j and seen.energy_j == pytest.approx(run.energy_j, rel=0.001)
        apart = {name for name, item in seen.components.items()
                 if item.recorded_j != pytest.approx(item.estimated_j, rel=1e-12)}  # fmt: skip
        assert apart <= {"hbm", "ddr", "memory_path", "sram.instruction"}      # whole beats, and the fetch of the text
        assert max(seen.busy_cycles.values()) <= run.cycles
        assert seen.products <= 256 * seen.busy_cycles["MV"] * 1.01


def test_the_units_in_both_timelines(first):
    events = json.loads((first[0] / "units.json").read_text())["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {0: "mixpe-mini, RTL", 1: "mixpe-mini, engine"}
    ends, counts = [], []
    for process in (0, 1):
        mine = [event for event in events if (event["ph"], event["pid"], event.get("tid")) == ("X", process, MV)]
        ends.append(max(event["ts"] + event["dur"] for event in mine))
        counts.append({event["name"]: event["args"]["instructions"] for event in mine if event["name"] in ("q", "head")})
    assert ends[0] == pytest.approx(ends[1], rel=0.02)
    assert counts[0] == counts[1] and min(counts[0].values()) > 1


def test_a_checkpoint_goes_on(smollm2_path, first):
    folder, _, _ = first
    watcher = Watcher()
    said = generate_rtl(smollm2_path, PROMPT, 2, arch=ARCH, layers=1, outputs=Outputs(checkpoint=folder / "kept"),
                        listener=watcher)  # fmt: skip
    golden = generate(smollm2_path, PROMPT, 2, layers=1)
    assert (said.tokens, said.logits_sha256[-1]) == (golden.tokens, golden.logits_sha256)
    assert len(said.steps) == 3 and len(watcher.logits) == 1      # the others were kept
    for prompt, layers, message in (("Another", 1, "a checkpoint must be of this prompt"),
                                    (PROMPT, 2, "a checkpoint must be of this machine, model and context")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            generate_rtl(smollm2_path, prompt, 2, arch=ARCH, layers=layers, outputs=Outputs(checkpoint=folder / "kept"))


def test_a_prompt_in_a_block(smollm2_path):
    """One step with the last token's logits; rows that no token fills change nothing."""
    prompt, watcher = "The capital of France is", Watcher()
    said = generate_rtl(smollm2_path, prompt, 1, arch=ARCH, layers=1, blocks=True, listener=watcher)
    golden = generate(smollm2_path, prompt, 1, layers=1)
    [run], [digest] = said.steps, said.logits_sha256
    assert (said.tokens, digest) == (golden.tokens, golden.logits_sha256)
    assert (run.position, run.tokens, run.token) == (0, 5, said.prompt_tokens[-1]) and said.positions == 5
    assert run.engine_cycles == pytest.approx(run.cycles, rel=0.005)
    made = from_file(accelerator_named(ARCH), smollm2_path, 512, layers=1).with_blocks(8)
    program = made.instructions(made.block_step(said.prompt_tokens, 0))
    assert run.recorded.ended["MM"] == sum(item.kind == "MM" and not item.empty for item in program) > 0
    assert run.recorded.energy_j == pytest.approx(run.energy_j, rel=0.01)
    linears = 8 * 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 49152 * 576
    assert run.recorded.products == linears + 9 * 8 * 64 * (16 + 16)      # scores and values of whole blocks of 16
    assert watcher.layers <= {0, 1} and 1 in watcher.layers


@pytest.mark.slow
def test_a_prompt_of_several_blocks_on_the_whole_model(smollm2_path, tmp_path):
    """As few blocks of one size as there can be, the last one filled up; logits behind it, then steps."""
    prompt, kept = "Once upon a time there was a core that could speak, and it said:", tmp_path / "kept"
    outputs = Outputs(checkpoint=kept, timeline=tmp_path / "units.json")
    said = generate_rtl(smollm2_path, prompt, 2, arch=ARCH, blocks=True, outputs=outputs)
    golden = generate(smollm2_path, prompt, 2)
    *blocks, step = said.steps
    assert len(blocks) == 2 and sum(run.tokens for run in blocks) == len(said.prompt_tokens) and step.tokens == 1
    assert said.logits_sha256[0] is None and said.logits_sha256[-1] == golden.logits_sha256
    assert said.tokens == golden.tokens
    assert all(run.engine_cycles == pytest.approx(run.cycles, rel=0.005) for run in said.steps)
    # a checkpoint of blocks goes on without them
    again = generate_rtl(smollm2_path, prompt, 2, arch=ARCH, outputs=Outputs(checkpoint=kept))
    assert (again.tokens, len(again.steps)) == (said.tokens, 3)


def test_a_nibble_in_the_memory_changes_both_logits_alike(smollm2_path):
    machine = accelerator_named(ARCH)
    executed = from_file(machine, smollm2_path, 512, layers=1)
    plain = executed.decode(504, 0).copy()
    place = executed.text.memory.weights[0] + 430_000      # of the FFN's last linear: rounding hides most others
    made = machine_from_file(machine, smollm2_path, 512, layers=1)
    with RtlSession(open_core(machine), made) as session:
        for memory in (executed.hbm[0], session.made.hbm[0]):
            memory[place] ^= 0x80      # the highest bit of one code of four
        _, logits = session.step(504)
    flipped = executed.decode(504, 0)
    assert np.array_equal(logits.view(np.uint32), flipped.view(np.uint32))
    assert not np.array_equal(flipped, plain)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [ARCH, "flightllm-mini"])
def test_the_whole_model_on_rtl(smollm2_path, arch):
    said = generate_rtl(smollm2_path, "The capital of France is", 2, arch=arch)
    golden = generate(smollm2_path, "The capital of France is", 2)
    assert said.text == golden.text == " Paris." and said.logits_sha256[-1] == golden.logits_sha256
    assert all(run.read_bytes >= 96.4e6 for run in said.steps)
    assert all(run.engine_cycles == pytest.approx(run.cycles, rel=0.02) for run in said.steps)


@pytest.mark.slow
def test_waves_are_of_the_cycles_asked_for(smollm2_path, tmp_path):
    if missing_wave_headers(find_toolchain().compiler):
        pytest.skip(WAVES_HINT)
    path = tmp_path / "w.fst"
    generate_rtl(smollm2_path, "The", 1, arch=ARCH, layers=1, outputs=Outputs(waves=(path, 1000, 500)))
    kind, _, first, last = struct.unpack(">BQQQ", path.read_bytes()[:25])    # FST's header block; a cycle is two steps
    assert (kind, last - first + 1) == (0, 1000)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--arch", "mixpe-mini"), "--arch must come with --backend rtl"),
    (("--waves-from", "3"), "--waves-from must come with --backend rtl"),
    (("--blocks",), "--blocks must come with --backend rtl"),
    (("--backend", "rtl", "--waves-from", "3"), "--waves-from and --waves-cycles must come with --waves"),
    (("--backend", "rtl", "--waves", "f.fst"), "--waves must come with --waves-from, at least 0, and --waves-cycles"),
    (("--backend", "rtl", "--kv", "fp16"), "--kv must be int8 with --backend rtl, not fp16"),
    (("--backend", "rtl", "--arch", "int8"), "--arch must be a machine of a core with RTL, such as mixpe-mini, not int8"),
    (("--backend", "rtl", "--arch", "flightllm-u280"), "several cores with RTL must have units in RTL"),
    (("--layers", "31"), "layers must be 1 ... 30, not 31"),
])  # fmt: skip
def test_bad_input_is_one_line_and_status_2(smollm2_path, arguments, message):
    done = command("--model", str(smollm2_path), "--prompt", PROMPT, "--tokens", "1", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_too_long_a_context_is_refused():
    assert [context_for(tokens) for tokens in (1, 512, 513, 2048)] == [512, 512, 1024, 2048]
    with pytest.raises(InputError, match="prompt and tokens must be at most 2,048 on a core, not 2,049"):
        context_for(2049)
