"""A session on two small joined cores: logits, cycles, activity, timeline and checkpoint as of one core."""

import numpy as np
import pytest
from small_duo import smallest, write_gguf
from tiny_llama import TinyLlama, bits

from mixflight.rtl.core_cluster import CoreCluster
from mixflight.rtl.core_harness import build_core
from mixflight.rtl_session import RtlSession
from mixflight.rtl_timeline import timeline_of
from mixflight.sim.core_values.decode import machine_from_file
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf

PROMPT, CONTEXT = [3, 0, 41, 7, 99, 15, 2], 128


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", TinyLlama(head_dim=64, heads=2, kv_heads=2))


def test_blocks_of_all_cores_are_beside_their_steps(path):
    """The same texts and bytes as where blocks were asked for at first; the executor's logits are the golden model's."""
    made = machine_from_file(smallest(), path, CONTEXT)
    asked, added = machine_from_file(smallest(), path, CONTEXT, block=8), made.with_blocks(made.block_size(len(PROMPT)))
    assert [core.block_tokens for core in added.cores] == [8, 8]
    logits = [one.prompt(PROMPT) for one in (asked, added)]
    assert np.array_equal(*map(bits, logits))
    assert np.array_equal(bits(logits[0]), bits(Session(load_llama(open_gguf(path))).extend(PROMPT)[-1]))
    assert all(np.array_equal(*pair) for pair in zip(asked.hbm, added.hbm, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(3600)      # the cores are compiled
def test_a_block_steps_and_a_checkpoint(path, tmp_path):
    machine, golden = smallest(), Session(load_llama(open_gguf(path)))
    built = build_core(CoreCluster(machine, generic=True), quick=True)
    seen = []
    with RtlSession(built, machine_from_file(machine, path, CONTEXT), prompt=len(PROMPT)) as session:
        run, logits = session.prompt(PROMPT)
        assert np.array_equal(bits(logits), bits(golden.extend(PROMPT)[-1]))
        assert (run.position, run.tokens) == (0, 7) and run.recorded.ended["MM"] > 0
        assert run.engine_cycles == pytest.approx(run.cycles, rel=0.006)
        run, logits = session.step(3, seen.append)
        assert np.array_equal(bits(logits), bits(golden.extend([3])[-1]))
        assert run.engine_cycles == pytest.approx(run.cycles, rel=0.006)
        assert run.recorded.energy_j == pytest.approx(run.energy_j, rel=0.005)
        programs = session.made.instructions(session.last)
        assert run.recorded.ended["MISC"] == sum(item.kind == "MISC" and not item.empty for each in programs for item in each)
        assert {moment.layer for moment in seen} <= {0, 1, 2} and seen[-1].layer == 2
        _timeline(session)
        session.save(tmp_path / "kept")
    with RtlSession(built, machine_from_file(machine, path, CONTEXT)) as session:
        session.load(tmp_path / "kept")
        _, logits = session.step(9)
    assert np.array_equal(bits(logits), bits(golden.extend([9])[-1]))


def _timeline(session):
    """Of both cores, as seen and as timed; they end alike."""
    events = timeline_of(session)["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == [f"mixpe-small-duo core {core}, {what}" for what in ("RTL", "engine") for core in range(2)]
    ends = [max(event["ts"] + event["dur"] for event in events if (event["ph"], event["pid"]) == ("X", process))
            for process in range(4)]  # fmt: skip
    assert ends == pytest.approx([ends[2]] * 4, rel=0.02)
