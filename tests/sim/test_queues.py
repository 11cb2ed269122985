import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES, token_mask
from mixflight.sim.queues import Layer, execute, execute_fully


def layer(*instructions):
    """Instructions (class, duration, waits, releases) as a piece of a program."""
    by_class = {kind: [item for item in instructions if item[0] == kind] for kind in CLASSES}
    return Layer(
        wait=tuple(np.array([token_mask(k, i[2]) for i in by_class[k]], np.uint8) for k in CLASSES),
        release=tuple(np.array([token_mask(k, i[3]) for i in by_class[k]], np.uint8) for k in CLASSES),
        duration=tuple(np.array([i[1] for i in by_class[k]], float) for k in CLASSES),
    )


def once(*instructions, **options):
    return execute((layer(*instructions),), np.array([0]), **options)


def slow(instructions):
    """The rules said again, the earliest start first, as an independent check."""
    queues = {kind: [item for item in instructions if item[0] == kind] for kind in CLASSES}
    free, tokens, total = dict.fromkeys(CLASSES, 0.0), {}, 0.0
    while any(queues.values()):
        ready = []
        for kind, queue in queues.items():
            if queue and all(tokens.get((other, kind)) for other in queue[0][2]):
                ready.append((max([free[kind], *(tokens[other, kind][0] for other in queue[0][2])]), kind))
        start, kind = min(ready)
        _, duration, waits, releases = queues[kind].pop(0)
        for other in waits:
            tokens[other, kind].pop(0)
        free[kind] = start + duration
        total = max(total, free[kind])
        for other in releases:
            tokens.setdefault((kind, other), []).append(start + duration)
    return total


def test_queues_run_side_by_side():
    done = once(("LD", 3, (), ()), ("MM", 5, (), ()), ("LD", 4, (), ()))
    assert (done.total, done.busy["LD"], done.busy["MM"]) == (7, 7, 5)
    assert done.count["LD"] == 2
    assert done.shares["MM"] == pytest.approx(5 / 7)


def test_a_token_orders_two_queues():
    done = once(("LD", 3, (), ("MM",)), ("MM", 5, ("LD",), ("ST",)), ("ST", 1, ("MM",), ()), with_starts=True)
    assert done.total == 9
    assert {kind: list(done.starts[kind]) for kind in ("LD", "MM", "ST")} == {"LD": [0], "MM": [3], "ST": [8]}


def test_a_wait_may_stand_before_its_release_in_the_program():
    assert once(("MM", 5, ("LD",), ()), ("LD", 3, (), ("MM",))).total == 8


def test_double_buffering():
    """Loads of 2, products of 3, two buffers: load i waits for product i - 2."""
    stream = []
    for i in range(10):
        stream.append(("LD", 2, ("MM",) if i >= 2 else (), ("MM",)))
        stream.append(("MM", 3, ("LD",), ("LD",) if i + 2 < 10 else ()))
    assert once(*stream).total == 2 + 10 * 3


def test_pieces_repeat():
    piece = layer(("LD", 3, (), ("MM",)), ("MM", 5, ("LD",), ()))
    done = execute((piece,), np.zeros(100, np.int64))
    assert done.total == 3 + 100 * 5
    assert done.ends[0] == 8
    assert done.ends[-1] == done.total
    assert done.count["MM"] == 100


@pytest.mark.parametrize(
    ("instructions", "text"),
    [
        ([("MM", 1, ("LD",), ()), ("LD", 1, ("MM",), ("MM",))], "LD number 0 waits for a token that never comes"),
        ([("LD", 1, (), ("MM",))], "every released token must be awaited, but a program leaves 1 from LD to MM"),
        ([("LD", 1, (), ("MM",))] * 2000, "LD number 1024 releases more than 1024 tokens ahead"),
    ],
)
def test_programs_that_cannot_run_are_refused(instructions, text):
    with pytest.raises(InputError, match=text):
        once(*instructions)


@st.composite
def programs(draw):
    """Instructions in an order in which they can run: a wait only for a token that is there."""
    held, stream = [], []
    for _ in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(CLASSES))
        waits = tuple({one for one, other in held if other == kind and draw(st.booleans())})
        for one in waits:
            held.remove((one, kind))
        releases = tuple(draw(st.sets(st.sampled_from([other for other in CLASSES if other != kind]), max_size=2)))
        held += [(kind, other) for other in releases]
        stream.append((kind, draw(st.integers(0, 9)), waits, releases))
    for one, other in held:
        stream.append((other, 1, (one,), ()))
    return stream


@settings(deadline=None, max_examples=60)
@given(programs())
def test_against_the_rules_said_again(stream):
    assert once(*stream).total == slow(stream)


@settings(deadline=None, max_examples=60)
@given(st.lists(programs(), min_size=1, max_size=3), st.data())
def test_known_states_give_what_full_execution_gives(streams, data):
    pieces = tuple(layer(*stream) for stream in streams)
    order = np.array(data.draw(st.lists(st.integers(0, len(pieces) - 1), min_size=1, max_size=12)))
    short, full = execute(pieces, order), execute_fully(pieces, order)
    assert short.total == full.total
    assert list(short.ends) == list(full.ends)
    assert short.busy == full.busy
    assert short.count == full.count
