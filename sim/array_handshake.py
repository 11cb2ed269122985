"""The arrays' cycles with stalled streams: their flow rules, cycle by cycle, without a value.

The closed forms of ``sim.array_timing`` and ``sim.stationary_timing`` hold where nothing stalls. Here every stream may
stall in any cycle; what is told is which beats end a group or a tile, and when each stream offers or takes. The rules
are those in the docstrings of ``rtl.systolic_array`` and ``rtl.weight_stationary_array``; a *step* is a cycle in which
the array advances.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from mixflight.arch.array_pipeline import (
    GROUP_SUM_STAGES,
    INPUT_STAGES,
    columns_per_lane,
    group_gap,
    lane_latency,
)
from mixflight.arch.formats import Zero
from mixflight.arch.stationary_pipeline import ACCUMULATE_STAGES, STATIONARY_INPUT_STAGES, stationary_gap
from mixflight.sim.golden.array import TileBeats
from mixflight.sim.golden.stationary import StationaryBeats

Stalls = Callable[[], bool]
"""Asked once a cycle in which a stream could begin to offer, or for an output in every cycle: whether it stalls."""

_PATIENCE = 10_000
"""Cycles without a transfer after which the rules are taken to be stuck."""


class Span(NamedTuple):
    """First beat taken and last output taken, in cycles from the first in which anything is offered."""

    first: int
    last: int

    @property
    def cycles(self) -> int:
        """Both ends counted."""
        return self.last - self.first + 1


class Rules(Protocol):
    """What an array does in a cycle, given which input streams are valid."""

    first: str
    """The stream whose first beat begins the span."""
    beats: dict[str, int]
    """Input stream -> beats of the whole run."""

    def stops(self, step: int, valid: Mapping[str, bool]) -> bool:
        """Whether a beat that is due and missing holds the array."""

    def takes(self, step: int, valid: Mapping[str, bool], lanes: "Lanes") -> Sequence[str]:
        """The streams whose beats are taken in this step; outputs that follow are announced to ``lanes``."""


class Lanes:
    """When each lane offers its outputs, in steps."""

    def __init__(self, *, lanes: int, columns: int, latency: int) -> None:
        self._columns, self._latency = columns, latency
        self._due: list[deque[tuple[int, int]]] = [deque() for _ in range(lanes)]
        self.left = 0

    def emit(self, select: int, elements: int) -> None:
        """Lane 0 selects the first of ``elements`` outputs in step ``select``, lane l its own later."""
        for lane, due in enumerate(self._due):
            start = select + lane * self._columns + self._latency
            due.append((start, start + elements))
            self.left += elements

    def offering(self, step: int) -> list[int]:
        """The lanes that have an output for this step."""
        found = []
        for lane, due in enumerate(self._due):
            while due and due[0][1] <= step:
                due.popleft()
            if due and due[0][0] <= step:
                found.append(lane)
        return found


class OutputStationaryRules:
    """The flow of ``rtl.systolic_array``, split steps included."""

    first = "act"

    def __init__(self, tiles: Sequence[TileBeats], *, rows: int, cols: int, lanes: int, split: int, zero: Zero) -> None:
        columns = columns_per_lane(cols=cols, lanes=lanes)
        self._elements = rows * columns
        self._gap = group_gap(rows=rows, cols=cols, lanes=lanes, zero=zero)
        self._split, self._block_rows = split, rows // split
        self._acts = [(beat.last_in_group, beat.last_in_tile, tile.split) for tile in tiles for beat in tile.act]
        below = [sum(len(tile.wgt_below[i]) for tile in tiles if tile.split) for i in range(split - 1)]
        self._below = [f"wgt_below__{i}" for i in range(split - 1)]
        self.beats = {
            "act": len(self._acts),
            "wgt": len(self._acts),
            "params": sum(len(tile.params) for tile in tiles),
            **dict(zip(self._below, below, strict=True)),
        }
        self._taken = 0
        self._may_end = 0
        self._scales: deque[int] = deque()
        self._weights: list[deque[int]] = [deque() for _ in self._below]

    def stops(self, step: int, valid: Mapping[str, bool]) -> bool:
        """A block's weights or scales are due."""
        late = bool(self._scales) and self._scales[0] == step and not valid["params"]
        return late or any(
            due and due[0] == step and not valid[name] for name, due in zip(self._below, self._weights, strict=True)
        )

    def takes(self, step: int, valid: Mapping[str, bool], lanes: Lanes) -> Sequence[str]:
        """A step's activations and weights, a group's scales, and what is due for the blocks below."""
        taken = []
        for name, due in zip(self._below, self._weights, strict=True):
            if due and due[0] == step:
                due.popleft()
                taken.append(name)
        if self._scales and self._scales[0] == step:
            self._scales.popleft()
            taken.append("params")
        if not (valid["act"] and valid["wgt"]):
            return taken
        ends, emits, split = self._acts[self._taken]
        if ends and not (valid["params"] and step >= self._may_end):
            return taken
        self._taken += 1
        taken += ["act", "wgt"]
        if split:
            for block, due in enumerate(self._weights, 1):
                due.append(step + block * self._block_rows)
        if ends:
            taken.append("params")
            self._may_end = step + self._gap
            if split:
                self._scales.extend(step + block for block in range(1, self._split))
            if emits:
                lanes.emit(step + INPUT_STAGES + GROUP_SUM_STAGES, self._elements)
        return taken


class WeightStationaryRules:
    """The flow of ``rtl.weight_stationary_array``."""

    first = "wgt"

    def __init__(self, tiles: Sequence[StationaryBeats], *, rows: int, cols: int, lanes: int, zero: Zero) -> None:
        self._shape = {"cols": cols, "lanes": lanes}
        self._columns = columns_per_lane(**self._shape)
        self._zero: Zero = zero
        self._select = STATIONARY_INPUT_STAGES + rows + ACCUMULATE_STAGES
        self._acts = [beat for tile in tiles for beat in tile.act]
        self._last_rows = [beat.last_row for tile in tiles for beat in tile.wgt]
        self.beats = {
            "wgt": len(self._last_rows),
            "act": len(self._acts),
            "params": sum(len(tile.params) for tile in tiles),
        }
        self._act = self._wgt = self._token = self._may_end = 0
        self._complete = False

    def stops(self, step: int, valid: Mapping[str, bool]) -> bool:
        """Nothing that is missing stops what was accepted."""
        return False

    def takes(self, step: int, valid: Mapping[str, bool], lanes: Lanes) -> Sequence[str]:
        """An activation if its weights are loaded, and a row of weights if the next ones are not."""
        taken = []
        starts = False
        complete = self._complete
        if valid["act"] and (complete or self._token):
            beat = self._acts[self._act]
            ends = beat.last_token and beat.last_in_group
            if not ends or (valid["params"] and step >= self._may_end):
                taken.append("act")
                starts = not self._token
                self._act += 1
                self._token = 0 if beat.last_token else self._token + 1
                if ends:
                    taken.append("params")
                    self._end_group(step, beat.last_in_tile, lanes)
        if starts:
            self._complete = False
        if valid["wgt"] and (not complete or starts):
            taken.append("wgt")
            self._complete = bool(self._last_rows[self._wgt])
            self._wgt += 1
        return taken

    def _end_group(self, step: int, emits: int, lanes: Lanes) -> None:
        first = self._act - 1
        while first and not self._acts[first - 1].last_token:
            first -= 1
        tokens = self._act - first
        self._may_end = step + stationary_gap(**self._shape, tokens=tokens, zero=self._zero)
        if emits:
            lanes.emit(step + self._select, tokens * self._columns)


def output_stationary_span(
    tiles: Sequence[TileBeats], stalls: Mapping[str, Stalls], *, rows: int, cols: int, lanes: int, split: int,
    zero: Zero,
) -> Span:  # fmt: skip
    """The span of ``tiles`` on an output-stationary array; ``stalls`` by stream, outputs ``out__0`` and on."""
    rules = OutputStationaryRules(tiles, rows=rows, cols=cols, lanes=lanes, split=split, zero=zero)
    return _span(rules, stalls, cols=cols, lanes=lanes, zero=zero)


def weight_stationary_span(
    tiles: Sequence[StationaryBeats], stalls: Mapping[str, Stalls], *, rows: int, cols: int, lanes: int, zero: Zero
) -> Span:
    """The span of ``tiles`` on a weight-stationary array, from the first weights on."""
    rules = WeightStationaryRules(tiles, rows=rows, cols=cols, lanes=lanes, zero=zero)
    return _span(rules, stalls, cols=cols, lanes=lanes, zero=zero)


def _span(rules: Rules, stalls: Mapping[str, Stalls], *, cols: int, lanes: int, zero: Zero) -> Span:
    outputs = Lanes(lanes=lanes, columns=columns_per_lane(cols=cols, lanes=lanes), latency=lane_latency(zero))
    left = dict(rules.beats)
    never: Stalls = lambda: False  # noqa: E731
    sources = {name: stalls.get(name, never) for name in left}
    sinks = [stalls.get(f"out__{lane}", never) for lane in range(lanes)]
    valid = {name: not stall() for name, stall in sources.items()}
    ready = [not stall() for stall in sinks]
    step = cycle = idle = 0
    first: int | None = None
    last = 0
    waiting = set(outputs.offering(0))
    while any(left.values()) or outputs.left:
        passing = {lane for lane in waiting if ready[lane]}
        taken: Sequence[str] = ()
        if passing:
            outputs.left -= len(passing)
            last = cycle
        if passing == waiting and not rules.stops(step, valid):
            taken = rules.takes(step, valid, outputs)
            step += 1
            waiting = set(outputs.offering(step))
        else:
            waiting -= passing
        if first is None and rules.first in taken:
            first = cycle
        for name in taken:
            left[name] -= 1
            valid[name] = False
        for name, stall in sources.items():
            if left[name] and not valid[name]:
                valid[name] = not stall()
        ready = [not stall() for stall in sinks]
        cycle += 1
        idle = 0 if taken or passing else idle + 1
        if idle > _PATIENCE:
            raise AssertionError(f"the flow rules made no progress for {_PATIENCE} cycles")
    assert first is not None
    return Span(first, last)
