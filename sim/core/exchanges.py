"""Exchanges of cores in RTL: how long each core's takes follows from the lines that every core sends."""

from collections.abc import Sequence

import msgspec
import numpy as np

from mixflight.arch.compact import LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.exchange_pipeline import lines_awaited, link_stages
from mixflight.arch.isa import Ints
from mixflight.mapping.core_program import SYS_OPERATIONS, Piece, Pieces

_EXCHANGE = SYS_OPERATIONS.index("exchange")


def exchange_in_rtl(machine: CoreMachine) -> bool:
    """Whether cores of ``machine`` exchange as those in RTL do: a line a cycle."""
    return machine.units == "rtl" and machine.cores > 1 and machine.exchange.bytes_per_cycle == LINE_BYTES


def with_lines_awaited(streams: Sequence[Pieces], core_of: Sequence[int], machine: CoreMachine) -> list[Pieces]:
    """``streams`` whose exchanges have for ``lines`` not those that the core sends but those that it waits for.

    Cores that meet at different exchanges, or a piece whose exchanges differ from one time to the next, are an
    InputError.
    """
    link = link_stages(cores=machine.cores, latency_cycles=machine.exchange.latency_cycles,
                       barrier_cycles=machine.controller.barrier_cycles)  # fmt: skip
    sent = [_in_order(streams[stream]) for stream in core_of]
    if len({len(mine) for mine in sent}) > 1:
        raise InputError("all cores must meet at every barrier and exchange, but some have more exchanges than others")
    known: dict[tuple[int, ...], Ints] = {}
    awaited = np.zeros((len(sent), len(sent[0])), np.int64)
    for at, lines in enumerate(zip(*(mine.tolist() for mine in sent), strict=True)):
        if lines not in known:
            known[lines] = np.array([lines_awaited(lines, core, link=link) for core in range(len(lines))], np.int64)
        awaited[:, at] = known[lines]
    first = [core_of.index(stream) for stream in range(len(streams))]
    return [_replaced(stream, awaited[core]) for stream, core in zip(streams, first, strict=True)]


def _exchanges(piece: Piece) -> Ints:
    return np.flatnonzero(piece.tables["SYS"]["operation"] == _EXCHANGE)


def _in_order(stream: Pieces) -> Ints:
    """Lines of all exchanges of a stream."""
    found = [piece.tables["SYS"]["lines"][_exchanges(piece)] for piece in stream.pieces]
    return np.concatenate([found[piece] for piece in stream.order]) if len(stream.order) else np.zeros(0, np.int64)


def _replaced(stream: Pieces, awaited: Ints) -> Pieces:
    """A stream whose exchanges, all its repetitions in order, wait for so many lines."""
    places = [_exchanges(piece) for piece in stream.pieces]
    columns = [piece.tables["SYS"]["lines"].copy() for piece in stream.pieces]
    seen: set[int] = set()
    at = 0
    for piece in stream.order.tolist():
        mine = awaited[at : at + len(places[piece])]
        at += len(mine)
        if piece in seen and not np.array_equal(columns[piece][places[piece]], mine):
            raise InputError("a piece of a program must meet the same exchanges of other cores each time that it runs")
        columns[piece][places[piece]] = mine
        seen.add(piece)
    pieces = tuple(
        msgspec.structs.replace(piece, tables={**piece.tables, "SYS": {**piece.tables["SYS"], "lines": column}})
        for piece, column in zip(stream.pieces, columns, strict=True)
    )
    return msgspec.structs.replace(stream, pieces=pieces)
