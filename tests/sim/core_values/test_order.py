"""Tokens order what must be ordered: real programs have no races, damaged ones do, and any allowed order agrees."""

import random
from collections import Counter

import numpy as np
import pytest
from tiny_llama import TinyLlama

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.sim.core_values.decode import machine_model
from mixflight.sim.core_values.execute import execute
from mixflight.sim.core_values.order import clocks_of, races, received_by
from mixflight.sim.core_values.state import shape_of

MACHINES = ("flightllm-mini", "mixpe-mini")


@pytest.fixture(scope="module")
def model():
    return TinyLlama(seed=3, head_dim=64, heads=6, kv_heads=3, hidden=192)


def check(core, instructions, most=10):
    return races(instructions, shape_of(core.machine), most)


def without_token(instructions, taker, other):
    """``instructions`` but for the token of class ``other`` that number ``taker`` takes, and where it was given."""
    kind = instructions[taker].kind
    number = sum(other in item.wait for item in instructions[:taker] if item.kind == kind)
    givers = [at for at, item in enumerate(instructions) if item.kind == other and kind in item.release]
    found = list(instructions)
    found[taker] = found[taker]._replace(wait=tuple(name for name in found[taker].wait if name != other))
    giver = givers[number]
    found[giver] = found[giver]._replace(release=tuple(name for name in found[giver].release if name != kind))
    return found, giver


def any_order(instructions, seed):
    """The instructions in some order that classes and tokens allow."""
    chance = random.Random(seed)
    queues = {kind: [item for item in reversed(instructions) if item.kind == kind] for kind in CLASSES}
    tokens, found = Counter(), []
    while any(queues.values()):
        ready = [
            kind for kind, queue in queues.items()
            if queue and all(tokens[other, kind] for other in queue[-1].wait)
        ]  # fmt: skip
        item = queues[chance.choice(ready)].pop()
        tokens.subtract((other, item.kind) for other in item.wait)
        tokens.update((item.kind, other) for other in item.release)
        found.append(item)
    return found


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("position", [0, 130, 300])
def test_a_decode_step_has_no_races(model, machine, position):
    core = model.on(accelerator_named(machine), 512)
    assert check(core, core.instructions(core.step(1, position))) == []


@pytest.fixture(scope="module")
def wide():
    return TinyLlama(seed=4, head_dim=64, heads=6, kv_heads=3, hidden=384, ffn=640)


@pytest.mark.parametrize("machine", ["flightllm-u280", "flightllm-vhk158", "mixpe-duo"])
def test_several_cores_have_no_races(wide, machine):
    cores = wide.on(accelerator_named(machine), 1024, machine_model).cores
    programs = [core.instructions(core.step(1, 600)) for core in cores]
    assert [len(received_by(core, programs)) for core in range(len(cores))] == [8] * len(cores)
    for number, (core, program) in enumerate(zip(cores, programs, strict=True)):
        assert races(program, shape_of(core.machine), received=received_by(number, programs)) == []


def test_an_exchange_must_be_waited_for(wide):
    cores = wide.on(accelerator_named("flightllm-u280"), 1024, machine_model).cores
    programs = [core.instructions(core.step(1, 600)) for core in cores]
    first = next(at for at, item in enumerate(programs[0]) if item.kind == "SYS" and item.fields["lines"])
    taker = next(at for at, item in enumerate(programs[0]) if at > first and "SYS" in item.wait)
    damaged, _ = without_token(programs[0], taker, "SYS")
    found = races(damaged, shape_of(cores[0].machine), received=received_by(0, programs))
    assert "SYS" in (found[0].later.kind, found[0].earlier.kind)


@pytest.mark.parametrize("seed", range(4))
def test_every_order_that_tokens_allow_gives_the_same_bytes(model, seed):
    machine = accelerator_named("flightllm-mini")
    one, other = model.on(machine, 512), model.on(machine, 512)
    step = one.step(17, 200)
    execute(one.state(step), one.instructions(step))
    turned = any_order(other.instructions(step), seed)
    assert turned != one.instructions(step)
    execute(other.state(step), turned)
    assert all(np.array_equal(a, b) for a, b in zip(one.hbm, other.hbm, strict=True))


def test_nearly_every_token_is_needed(model):
    """Of the tokens between two instructions that compute or move something, all but three: those of rings whose LD
    waits for more, such as for the keys behind ST."""
    core = model.on(accelerator_named("flightllm-mini"), 512)
    instructions = core.instructions(core.step(1, 300))
    needed = total = 0
    for taker, item in enumerate(instructions[:150]):
        for other in item.wait:
            if item.empty:
                continue
            damaged, giver = without_token(instructions, taker, other)
            if instructions[giver].empty:
                continue
            total += 1
            needed += bool(check(core, damaged, most=1))
    assert total > 50
    assert needed >= total - 3


def test_a_race_is_one_line(model):
    core = model.on(accelerator_named("flightllm-mini"), 512)
    instructions = core.instructions(core.step(1, 3))
    taker = next(at for at, item in enumerate(instructions) if item.kind == "MV" and not item.empty)
    damaged, _ = without_token(instructions, taker, "LD")
    text = str(check(core, damaged)[0])
    assert text.startswith("MV of instruction") and "and LD of instruction" in text
    assert text.endswith("buffer from slot 0 on") and "\n" not in text


def test_a_token_that_comes_too_late_is_one_line(model):
    core = model.on(accelerator_named("flightllm-mini"), 512)
    instructions = core.instructions(core.step(1, 3))
    at = next(at for at, item in enumerate(instructions) if item.kind == "MISC" and item.wait == ("LD",))
    with pytest.raises(InputError, match="a token must be given before it is taken, but MISC of instruction"):
        list(clocks_of([instructions[at], *instructions[:at]]))
