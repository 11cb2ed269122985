"""Functional and instruction-field coverage: what counts, what is excluded, and what the campaign's programs reach."""

import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.sim.core_coverage import model as models
from mixflight.sim.core_coverage.campaign import programs
from mixflight.sim.core_coverage.executed import executed
from mixflight.sim.core_coverage.features import hazards
from mixflight.sim.core_coverage.measure import ProgramCoverage, share
from mixflight.sim.core_coverage.model import Counter, Exclusion, Group, Model, Sample, functional_model
from mixflight.sim.core_coverage.overlap import overlaps
from mixflight.sim.core_values.random_program import random_program
from mixflight.sim.core_values.state import shape_of

MACHINE = accelerator_named("mixpe-mini")


def named(bins, group, name):
    [found] = [item for item in bins if (item.group, item.name) == (group, name)]
    return found


def test_the_campaign_reaches_its_goal():
    """Every class, mode, width, edge and hazard: at least 95 % of all bins, every field of every instruction."""
    coverage = ProgramCoverage(MACHINE)
    for made in programs(MACHINE):
        coverage.add(made)
    functional, fields = coverage.functional(), coverage.fields()
    assert share(functional) >= 0.95
    assert share(fields) >= 0.98
    assert [item.unexpected for item in (*functional, *fields) if item.unexpected] == []
    for group in ("transfer", "vector", "control", "hazard", "overlap", "token"):
        assert share(item for item in functional if item.group == group) >= 0.95


def test_a_program_of_transfers_reaches_nothing_of_products():
    coverage = ProgramCoverage(MACHINE)
    coverage.add(random_program(MACHINE, 0, families=["transfer"]))
    functional = coverage.functional()
    assert share(item for item in functional if item.group == "product") == 0
    assert 0 < share(item for item in functional if item.group == "transfer") < 0.6
    assert named(functional, "hazard", "meeting").covered < 10
    assert "write, read: MV, MISC, global" in str(named(functional, "hazard", "meeting").holes)
    assert named(coverage.fields(), "MV", "rows").covered == 0


def test_a_core_without_matrices_does_not_owe_them():
    machine = accelerator_named("flightllm-mini")
    coverage = ProgramCoverage(machine, ("LD", "ST", "MV", "MISC", "SYS"))
    queue = named(coverage.functional(), "product", "queue")
    assert (queue.reachable, queue.holes, queue.excluded) == (1, ["queue MV"], {"the core carries out no MM": 1})
    assert not any(item.group == "MM" for item in coverage.fields())
    keep = named(coverage.functional(), "product", "keep")
    assert (keep.reachable, keep.excluded) == (1, {"the machine keeps no such part of weights": 3})


def test_a_machine_of_sparse_weights_owes_what_it_keeps():
    machine = accelerator_named("flightllm-mini-sparse")
    coverage = ProgramCoverage(machine, CLASSES)
    for made in programs(machine, CLASSES, range(1, 12, 3)):
        coverage.add(made)
    keep = named(coverage.functional(), "product", "keep")
    assert (keep.covered, keep.reachable) == (4, 4)
    assert "index" not in str(named(coverage.functional(), "transfer", "buffer").holes)
    assert named(coverage.fields(), "MV", "keep").covered == 4


MODEL = Model(group=[Group(
    name="door", meaning="doors", points={"side": ["left", "right"], "state": ["open", "shut"], "lock": ["on"]},
    crosses=[["side", "state"]], excluded=[Exclusion(where={"side": ["left"], "state": ["shut"]}, reason="it sticks")],
)])  # fmt: skip


def test_bins_are_counted_crossed_and_excluded():
    counter = Counter(MODEL)
    counter.add([Sample("door", {"side": "left", "state": "open"}), Sample("door", {"side": "right"})])
    side, state, lock, cross = counter.bins()
    assert (side.covered, side.reachable, side.holes) == (2, 2, [])
    assert (state.covered, state.holes) == (1, ["state shut"])
    assert (lock.covered, lock.holes) == (0, ["lock on"])
    assert (cross.covered, cross.reachable, cross.excluded) == (1, 3, {"it sticks": 1})
    assert cross.holes == ["side right, state open", "side right, state shut"]
    counter.add([Sample("door", {"side": "left", "state": "shut"})])
    assert counter.bins()[3].unexpected == ["side left, state shut"]
    with pytest.raises(InputError, match="a bin of door, state, must be one of open, shut, not ajar"):
        counter.add([Sample("door", {"state": "ajar"})])


def test_the_model_names_only_what_it_has(monkeypatch):
    table = {"group": [{"name": "door", "meaning": "doors", "points": {"side": ["left"]}, "crosses": [["side", "state"]]}]}
    monkeypatch.setattr(models, "read_toml", lambda _: table)
    functional_model.cache_clear()
    with pytest.raises(InputError, match="points of door must be among side, not state, in model.toml"):
        functional_model()
    table["group"][0] |= {"crosses": [], "excluded": [{"where": {"side": ["right"]}, "reason": "none"}]}
    with pytest.raises(InputError, match="bins of side must be among left, not right, in model.toml"):
        functional_model()
    monkeypatch.undo()
    functional_model.cache_clear()


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_what_a_run_executes_is_what_the_sequencer_unrolls(seed):
    made = random_program(MACHINE, seed, families=["loops", "lengths", "tiles", "matrix", "moves"])
    count = len(made.text)
    sequencer = Sequencer(made.text, np.zeros(count, np.int64), made.words, slot_bytes(MACHINE), 4)
    sources, _ = sequencer.unrolled(made.registers)
    steps = list(executed(made.text, made.registers, made.words))
    queued = [step.number for step in steps if step.kind != "SYS" or step.fields["operation"] < 3]
    assert queued == sources.tolist()
    assert max(step.depth for step in steps) == 8
    skipped = set(range(count)) - {step.number for step in steps}
    assert skipped and {step.iterations for step in steps} >= {0, 1, 2}


def test_hazards_are_meetings_of_two_classes():
    made = random_program(MACHINE, 0, count=0)
    found = [item.bins["meeting"] for item in hazards(made.instructions, shape_of(MACHINE))]
    assert found == ["write, read: LD, MISC, global", "write, read: LD, ST, global", "write, read: MISC, ST, act"]


def test_overlaps_are_of_times():
    times = {"LD": np.array([[0.0, 10.0]]), "MV": np.array([[10.0, 20.0]]), "MISC": np.array([[9.0, 11.0]])}
    assert [item.bins["pair"] for item in overlaps(times)] == ["LD + MISC", "MV + MISC"]
