"""The controller of a core on compiled Verilog: operands, cycles, tokens, errors, resets."""

import numpy as np
import pytest
from core_programs import (
    SLOT_BYTES,
    Expected,
    Programs,
    executed,
    expand,
    is_empty,
    same_columns,
    words_of,
)

from mixflight.arch.compact import codes, compact
from mixflight.arch.core_errors import CoreError
from mixflight.arch.isa import CLASSES, encode, stream_of, token_mask
from mixflight.mapping.core_program import SYS_OPERATIONS
from mixflight.rtl.controller_bench import ControllerJob, build_controller, run_controller
from mixflight.rtl.core_controller import Controller
from mixflight.sim.queues import Layer, execute_fully

DEPTH, QUEUE_DEPTH, IN_FLIGHT = 1024, 16, 16
WITHOUT_MM = tuple(kind for kind in CLASSES if kind != "MM")
LOADING = 9
"""Cycles from START to the sequencer's own start beside those in which instructions and constants are written, of a
memory that answers at once."""


@pytest.fixture(scope="module")
def model():
    return build_controller(Controller(depth=DEPTH, queue_depth=QUEUE_DEPTH, in_flight=IN_FLIGHT, slot_bytes=SLOT_BYTES,
                                       classes=WITHOUT_MM))  # fmt: skip


def drawn(seeds, **options):
    """(Text, constants, registers, job) of random programs without MM."""
    found = []
    for seed in seeds:
        programs = Programs(seed, classes=WITHOUT_MM)
        text, registers = programs.text(), programs.registers()
        job = ControllerJob(text=words_of(text), constants=programs.constants, registers=registers, seed=seed, **options)
        found.append((text, programs.constants, registers, job))
    return found


def check_operands(text, constants, registers, result):
    """Every unit was given what the compiler's unrolling has, in order."""
    assert result.done
    assert result.error == CoreError.NONE
    assert result.executed == len(executed(text, constants, registers))
    unrolled = expand(text, constants, registers)
    for kind in CLASSES:
        wanted = [row for name, _, _, row in unrolled if name == kind and not is_empty(kind, row)]
        assert len(result.given[kind]) == len(wanted)
        for given, row in zip(result.given[kind], wanted, strict=True):
            assert same_columns(kind, given, row) == []


def test_units_are_given_what_the_compiler_unrolls_in_the_cycle_that_the_contract_says(model):
    cases = drawn(range(40), latency=(2, 40))
    for (text, constants, registers, _), result in zip(cases, run_controller(model, [case[-1] for case in cases]), strict=True):
        check_operands(text, constants, registers, result)
        latency = {kind: (result.ends[kind] - result.starts[kind]).tolist() for kind in CLASSES}
        expected = Expected(
            executed(text, constants, registers), expand(text, constants, registers), latency, depth=QUEUE_DEPTH,
            in_flight=IN_FLIGHT, began=len(text.kinds) + len(constants) + LOADING,
        ).run()  # fmt: skip
        assert {kind: starts.tolist() for kind, starts in result.starts.items()} == expected.starts
        assert result.cycles == expected.finished


def test_units_that_overlap_and_stall_are_given_the_same(model):
    cases = drawn(range(100, 140), latency=(1, 60), overlap=4, stall=0.4)
    for (text, constants, registers, _), result in zip(cases, run_controller(model, [case[-1] for case in cases]), strict=True):
        check_operands(text, constants, registers, result)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [1, 3, 15])
def test_many_programs(model, overlap):
    cases = drawn(range(1000 * overlap, 1000 * overlap + 500), latency=(1, 90), overlap=overlap, stall=0.2)
    for (text, constants, registers, _), result in zip(cases, run_controller(model, [case[-1] for case in cases]), strict=True):
        check_operands(text, constants, registers, result)


def test_tokens_order_as_in_the_queue_model(model):
    """Nothing starts before the queue model lets it, and of long instructions dispatch costs next to nothing."""
    cases = drawn(range(200, 220), latency=(300, 900))
    for (text, constants, registers, _), result in zip(cases, run_controller(model, [case[-1] for case in cases]), strict=True):
        unrolled = expand(text, constants, registers)
        columns = {name: [] for name in ("wait", "release", "duration")}
        for kind in CLASSES:
            mine = [row for row in unrolled if row[0] == kind]
            ends = iter((result.ends[kind] - result.starts[kind] + 1).tolist())
            columns["wait"].append(np.array([wait for _, wait, _, _ in mine], np.uint8))
            columns["release"].append(np.array([release for _, _, release, _ in mine], np.uint8))
            columns["duration"].append(
                np.array([0.0 if is_empty(kind, row) or done(row, kind) else next(ends) for *_, row in mine])
            )
        layer = Layer(**{name: tuple(value) for name, value in columns.items()})
        model_run = execute_fully((layer,), np.zeros(1, np.int64), with_starts=True, whole=False)
        for kind in WITHOUT_MM:
            full = [not is_empty(kind, row) for name, _, _, row in unrolled if name == kind]
            modelled = model_run.starts[kind][np.array(full, bool)]
            assert (result.starts[kind] >= modelled).all()
        assert result.cycles <= model_run.total + 10 * len(unrolled) + len(constants) + len(text.kinds)


def done(row, kind):
    """Whether an unrolled instruction ends the run."""
    return kind == "SYS" and row["operation"] == SYS_OPERATIONS.index("done")


def written(rows):
    """Words of a program of (class, fields)."""
    tables = {kind: [fields for name, fields in rows if name == kind] for kind in CLASSES}
    stream = stream_of(
        np.array([CLASSES.index(kind) for kind, _ in rows], np.uint8),
        {kind: {name: np.array([row.get(name, 0) for row in found]) for name in {n for row in found for n in row}}
         for kind, found in tables.items()},
        compact(),
    )  # fmt: skip
    return encode(stream, compact()).reshape(-1, 4)


def sys(operation, **fields):
    return "SYS", {"operation": codes("SYS", "operation")[operation], **fields}


SET, DONE = sys("set", destination=1, value=3), sys("done")
LOOP, END = sys("loop", value=1, limit=1), sys("end")


def bad(words, at, word, flip):
    words = words.copy()
    words[at, word] ^= flip
    return words


ERRORS = {
    "opcode": (bad(written([SET, DONE]), 1, 0, 9 << 28), CoreError.OPCODE, 1),
    "reserved bit": (bad(written([SET, DONE]), 1, 2, 1 << 30), CoreError.MALFORMED, 1),
    "code of a buffer": (bad(written([("LD", {"buffer": 4, "bytes": 64}), DONE]), 0, 0, 3 << 15), CoreError.MALFORMED, 0),
    "SET of R0": (bad(written([SET, DONE]), 0, 0, 1 << 9), CoreError.WRITES_R0, 0),
    "advance of R0": (written([("LD", {"advance": 1, "bytes": 4}), DONE]), CoreError.WRITES_R0, 0),
    "tokens on SET": (bad(written([SET, DONE]), 0, 0, 1 << 23), CoreError.SEQUENCED_TOKENS, 0),
    "nine loops": (written([*[sys("loop", value=1, limit=17 - 2 * i) for i in range(9)], *[END] * 9, DONE]),
                   CoreError.LOOP_DEPTH, 8),
    "END alone": (written([SET, END, DONE]), CoreError.LOOP_END, 1),
    "END too early": (written([sys("loop", value=1, limit=2), END, DONE]), CoreError.LOOP_END, 1),
    "no DONE": (written([SET, SET]), CoreError.PAST_END, 2),
    "constant": (written([sys("fetch", destination=1, value=1 << 13), DONE]), CoreError.CONSTANT, 0),
    "no unit": (written([("MM", {"columns": 1, "rows": 1}), DONE]), CoreError.NO_UNIT, 0),
}  # fmt: skip


def test_what_is_not_well_formed_is_an_error_and_not_carried_out(model):
    jobs = [ControllerJob(text=text, constants=[1]) for text, _, _ in ERRORS.values()]
    for (name, (_, error, at)), result in zip(ERRORS.items(), run_controller(model, jobs), strict=True):
        assert (result.busy, result.done, result.error, result.error_at) == (False, False, error, at), name
        assert result.idle, name
        assert not any(result.given.values()), name


def test_every_reserved_bit_and_unknown_opcode_is_refused(model):
    jobs, wanted = [], []
    for kind in WITHOUT_MM:
        first = (kind, {"columns": 1, "rows": 1}) if kind == "MV" else (kind, {"operation": 0}) if kind == "SYS" else (kind, {})
        text = written([first, DONE])
        for word, mask in enumerate(compact().instructions[kind].reserved):
            for bit in range(32):
                if mask >> bit & 1:
                    jobs.append(ControllerJob(text=bad(text, 0, word, 1 << bit)))
                    wanted.append(CoreError.MALFORMED)
    known = {item.opcode for item in compact().instructions.values()}
    for opcode in set(range(16)) - known:
        jobs.append(ControllerJob(text=np.array([[opcode << 28, 0, 0, 0]], np.uint32)))
        wanted.append(CoreError.OPCODE)
    assert [result.error for result in run_controller(model, jobs)] == wanted


def test_tokens_that_never_come_and_too_many_are_errors_and_no_hang(model):
    waits = written([("LD", {"wait": token_mask("LD", ["MV"]), "bytes": 32}), DONE])
    gives = [("MISC", {"release": token_mask("MISC", ["LD"])})]
    many = written([sys("loop", value=256, limit=2), *gives, END, DONE])
    enough = written([sys("loop", value=255, limit=2), *gives, END, DONE])
    full = written([*[("LD", {"wait": token_mask("LD", ["MV"]), "bytes": 32})] * (QUEUE_DEPTH + 3), DONE])
    jobs = [ControllerJob(text=text, limit=20_000) for text in (waits, many, enough, full)]
    found = run_controller(model, jobs)
    assert [(result.error, result.done) for result in found] == [
        (CoreError.DEADLOCK, False), (CoreError.TOKENS, False), (CoreError.NONE, True), (CoreError.DEADLOCK, False)
    ]  # fmt: skip
    assert not found[0].given["LD"]


def test_a_text_that_does_not_fit_is_an_error(model):
    job = ControllerJob(text=np.zeros((DEPTH + 1, 4), np.uint32))
    result, = run_controller(model, [job])
    assert (result.error, result.busy, result.done) == (CoreError.TEXT_LENGTH, False, False)


@pytest.mark.parametrize("after", [3, 60, 130, 400])
def test_a_core_reset_in_the_middle_of_a_run_runs_again(model, after):
    cases = drawn(range(300, 304), latency=(2, 40), reset_at=after)
    for (text, constants, registers, _), result in zip(cases, run_controller(model, [case[-1] for case in cases]), strict=True):
        check_operands(text, constants, registers, result)


def test_loops_of_no_iterations_and_empty_ones(model):
    text = written([
        sys("loop", value=0, limit=2), ("LD", {"bytes": 1}), END,
        sys("loop", value=3, limit=1), END,
        sys("loop", value=2, limit=3), sys("loop", value=0, limit=1), END, END,
        ("LD", {"bytes": 7}), DONE,
    ])  # fmt: skip
    result, = run_controller(model, [ControllerJob(text=text)])
    assert result.done
    assert [row["bytes"] for row in result.given["LD"]] == [7]
    assert result.executed == 1 + (1 + 3) + (1 + 2 * 2) + 2


def test_busy_counts_the_cycles_in_which_a_unit_has_work(model):
    (_, _, _, job), = drawn([7], latency=(5, 50))
    result, = run_controller(model, [job])
    for kind in WITHOUT_MM:
        assert result.busy_cycles[kind] == (result.ends[kind] - result.starts[kind]).sum()


