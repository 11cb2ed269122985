"""A closed form of plain decoders on FlightLLM cores: the sum of what its instructions take, without running them.

Each distinct instruction (``sim.core.closed_rows``) takes what its unit takes (``sim.core.units``), a transfer what its
bytes take in a long linear stream of its memory. A decode step takes the longer of what it streams, linear by linear
the longer of channels and buffers' ports, and of its units one after the other: products, and beside them what no
product hides, with the latencies for which something waits. A prefill, whose slots hold little, takes the longer of
both in each linear. Waiting for a slot, a queue or another core is left out, so the engine takes longer. Energies come
from the same counts as the engine's; instructions that only pass tokens are left out of them.

What the engine refuses for its memory or its buffers is refused. Of a decode ``CONTEXTS`` contexts stand for all.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from mixflight.arch.compact import LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints
from mixflight.arch.prices import machine_prices
from mixflight.mapping.core_decode import FP32, DecodeText
from mixflight.mapping.core_memory import cache_of, channel_share, map_memory
from mixflight.mapping.core_network import Network, network_of
from mixflight.mapping.core_prefill import PrefillText
from mixflight.mapping.core_program import BUFFERS
from mixflight.mapping.core_shares import Share, shares_of
from mixflight.sim.activity import Activity
from mixflight.sim.core.activity import counts_of_class
from mixflight.sim.core.closed_rows import DecodeRows, PrefillRows, Rows
from mixflight.sim.core.memory import ChannelTiming
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.row import TICKS
from mixflight.sim.core.simulate import is_plain
from mixflight.sim.core.units import Floats, Units
from mixflight.sim.cost import total_energy
from mixflight.sim.table_engine import PhaseResult
from mixflight.workloads.model import Model
from mixflight.workloads.trace import Formats, decode_traces, prefill_trace

CONTEXTS = 2
_HEAD = ("times", "own", "late", "attention", "stage")
_MATRIX = ("rows", "columns", "k", "keep_n", "weight_bits", "group", "zero", "accumulate", "last")
_COLUMNS = {
    "LD": ("memory", "target", "channels", "bytes"), "ST": ("memory", "source", "channels", "bytes"),
    "MM": _MATRIX, "MV": _MATRIX, "MISC": ("operation", "vectors", "elements", "passes", "causal", "target"),
    "SYS": ("operation", "bytes"),
}  # fmt: skip


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A phase: cycles, what binds it, and counts of all cores."""

    cycles: float
    bound_by: str
    counts: dict[tuple[str, str], float]


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario of a plain decoder: the pass of a prefill, and passes of a decode, each for so many steps."""

    prefill: Network
    decode: tuple[tuple[Network, float], ...]
    max_context: int


def decoder_of(model: Model, formats: Formats, prefill: int, decode: int, batch: int) -> Decoder | None:
    """The passes of a scenario; None where they are not those of a plain decoder, or leave blocks out."""
    first = prefill_trace(model, formats, prefill, batch, decode)
    if not is_plain(first, list(decode_traces(model, formats, prefill, decode, batch)), prefill):
        return None
    network = network_of(first)
    if any(density < 1 for density in network.density):
        return None
    number = min(CONTEXTS, decode)
    bounds = [prefill + decode * place / number for place in range(number + 1)]
    step = network_of(next(iter(decode_traces(model, formats, prefill, 1, batch))))
    steps = tuple(
        (msgspec.structs.replace(step, context=round((low + high + 1) / 2)), decode / number)
        for low, high in itertools.pairwise(bounds)
    )
    return Decoder(prefill=network, decode=steps, max_context=prefill + decode)


class ClosedForm:
    """Scenarios of plain decoders on one machine; ``groups`` of sequences have their caches in memory."""

    def __init__(self, machine: CoreMachine, decoder: Decoder, groups: int = 1) -> None:
        self.machine, self.decoder, self.groups = machine, decoder, groups
        self.units = Units(machine)
        self.stored: dict[int, dict[str, int]] = {}

    def phases(self) -> tuple[Estimate, Estimate]:
        """Prefill and decode; what does not fit is an InputError."""
        decode = self.run(self.decoder.decode)
        return self.run(((self.decoder.prefill, 1.0),)), decode

    def run(self, passes: Sequence[tuple[Network, float]]) -> Estimate:
        """Passes, each so many times."""
        shares = shares_of(passes[0][0], self.machine)
        alike: dict[tuple[int, ...], list[Share]] = {}
        for share in shares:
            alike.setdefault((share.heads[1], share.hidden[1], share.ffn[1], share.vocab[1]), []).append(share)
        found = [
            (self._rows(network, group[0], shares), weight * len(group))
            for network, weight in passes for group in alike.values()
        ]  # fmt: skip
        cycles, names, counts = self._time(found)
        cycles = cycles.reshape(len(passes), len(alike))
        return Estimate(
            cycles=float(cycles.max(axis=1) @ np.array([weight for _, weight in passes])),
            bound_by=names[int(cycles[0].argmax())], counts=counts,
        )  # fmt: skip

    def _rows(self, network: Network, share: Share, shares: list[Share]) -> Rows:
        machine, limit = self.machine, self.decoder.max_context
        cache = cache_of(network, machine, limit)
        # the writers of the texts lay out the buffers; nothing is written
        rows: Rows
        if network.phase == "prefill":
            text: DecodeText = PrefillText(network, machine, share, cache, limit, shares)
            rows = PrefillRows(network, machine, share, cache).write(network.tokens)
        else:
            text = DecodeText(network, machine, share, cache, limit)
            rows = DecodeRows(network, machine, share, cache).write(network.context)
            self.stored[share.heads[0]] = rows.stored
        logits = channel_share(network.batch * share.vocab[1] * FP32, machine.hbm.channels_per_core)
        sizes = {**self.stored[share.heads[0]], "cache": self.groups * text.cache_bytes,
                 "results": text.scratch_bytes + logits}  # fmt: skip
        map_memory(sizes, network.head.n * network.embedding_stride, machine, network.model)
        return rows

    def _time(self, passes: list[tuple[Rows, float]]) -> tuple[Floats, list[str], dict[tuple[str, str], float]]:
        """(Cycles of each pass, what binds it, counts of all, each so many times)."""
        weights = np.array([weight for _, weight in passes])
        first = np.cumsum([0, *(1 + rows.stage for rows, _ in passes)])
        stages = int(first[-1])
        counts: dict[tuple[str, str], float] = {}
        busy, shown = np.zeros((len(CLASSES), stages)), np.zeros((len(CLASSES), 2, stages))
        channels, ports = np.zeros(stages), np.zeros((stages, len(BUFFERS)))
        for kind in CLASSES:
            found = [row for rows, _ in passes for row in rows.found[kind]]
            if not found:
                continue
            which = np.repeat(np.arange(len(passes)), [len(rows.found[kind]) for rows, _ in passes])
            times, own, late, attention, stage = np.array([row[: len(_HEAD)] for row in found]).T
            at = first[which] + stage.astype(np.int64)
            table = _table(kind, found)
            for key, values in counts_of_class(self.machine, kind, table).items():
                counts[key] = counts.get(key, 0.0) + float(values @ (times * weights[which]))
            if kind in ("LD", "ST"):
                occupancy, latency = self._transfers(kind, table)
                share = table["channels"] / self.machine.hbm.channels_per_core * (table["memory"] == 0)
                channels += np.bincount(at, occupancy * times * share, stages)
                if kind == "LD":
                    moved = times * table["bytes"] * table["channels"] / self.units.port_bytes[table["target"]]
                    np.add.at(ports, (at, table["target"]), moved)
            else:
                columns = self.units.of_class(kind, table)
                occupancy, latency = columns["occupancy"] / TICKS, columns["latency"] / TICKS
            busy[CLASS_INDEX[kind]] = np.bincount(at, occupancy * times, stages)
            waited = occupancy * own + latency * late
            for part in (0, 1):
                shown[CLASS_INDEX[kind], part] = np.bincount(at, waited * (attention == part), stages)
        stream = np.maximum(channels, ports.max(axis=1))
        products = [CLASS_INDEX["MM"], CLASS_INDEX["MV"]]
        work, rest = shown[products].sum(axis=0), np.delete(shown, products, axis=0).sum(axis=0)
        units = work[0] + rest[0] + np.maximum(work[1], rest[1])
        # slots hold little of what a prefill streams: its loads wait for the stage ahead
        linear = np.concatenate([[at in rows.linears for at in range(1 + rows.stage)] for rows, _ in passes])
        along = np.where(linear, np.maximum(work[0], stream) + rest[0], np.maximum(units, stream))
        prefill = np.concatenate([[isinstance(rows, PrefillRows)] * (1 + rows.stage) for rows, _ in passes])
        units = np.where(prefill, along, units)

        def each(values: Floats) -> Floats:
            return np.array(np.add.reduceat(values, first[:-1]), np.float64)

        limits = np.stack([each(channels), each(stream), each(units)])
        most = np.stack([each(busy[products].sum(axis=0)), each(busy[CLASS_INDEX["MISC"]])])
        names = [
            ("dram", "port", ("compute", "sfu")[int(most[:, at].argmax())])[int(limits[:, at].argmax())]
            for at in range(len(passes))
        ]  # fmt: skip
        return limits.max(axis=0), names, counts

    def _transfers(self, kind: str, table: Mapping[str, Ints]) -> tuple[Floats, Floats]:
        """(Cycles on each channel, latency) of transfers in a long stream."""
        found, latency = np.zeros(len(table["bytes"])), np.zeros(len(table["bytes"]))
        for index, timing in enumerate(self.units.memories):
            here = table["memory"] == index
            if here.any():
                found[here] = table["bytes"][here] * _cycles_per_byte(timing, write=kind == "ST")
                latency[here] = timing.latency_cycles
        return found, latency


@functools.lru_cache(maxsize=256)
def _cycles_per_byte(timing: ChannelTiming, *, write: bool) -> float:
    """Of a channel, in the long run: a transfer of 1 MiB at the beginning of a row, behind another one."""
    size = 1 << 20
    where = np.zeros(1, np.int64)
    return float(timing.added(where + size, where, where - (not write), write=write)[0]) / size


def _table(kind: str, found: list[tuple[float, ...]]) -> dict[str, Ints]:
    """The rows of one class as columns."""
    columns = np.array([row[len(_HEAD) :] for row in found], np.int64).T
    table = dict(zip(_COLUMNS[kind], columns, strict=True))
    zeros = np.zeros(len(found), np.int64)
    table["operator"] = zeros
    if kind == "SYS":
        table["controls"] = zeros
        table["lines"] = table["bytes"] // LINE_BYTES
    if kind == "MISC":
        table["group"] = zeros
    return table


def estimate_cores(
    machine: CoreMachine, decoder_with: Callable[[int], Decoder | None], batch: int, prefill: int, decode: int
) -> tuple[PhaseResult, PhaseResult] | None:
    """Prefill and decode of ``batch`` sequences, in the fewest groups that fit the buffers, as the engine runs them;
    None where there is no closed form. ``decoder_with`` gives the passes of so many sequences."""
    refusal: InputError | None = None
    for groups in range(1, batch + 1):
        size, rest = divmod(batch, groups)
        if groups > 1 and -(-batch // groups) == -(-batch // (groups - 1)):
            continue
        parts: list[tuple[tuple[Estimate, Estimate], float]] = []
        try:
            for each, count in ((size + 1, rest), (size, groups - rest)):
                if count:
                    decoder = decoder_with(each)
                    if decoder is None or machine.units == "rtl":
                        return None
                    parts.append((ClosedForm(machine, decoder, groups).phases(), float(count)))
        except InputError as error:
            refusal = refusal or error
            continue
        first, second = ([(phases[at], count) for phases, count in parts] for at in (0, 1))
        return _phase(machine, first, batch * prefill), _phase(machine, second, batch * decode)
    assert refusal is not None
    raise refusal


def _phase(machine: CoreMachine, parts: list[tuple[Estimate, float]], tokens: int) -> PhaseResult:
    """Groups, each so many times, as a phase with its energy."""
    cycles = sum(item.cycles * number for item, number in parts)
    whole = Activity(cycles, {})
    for item, number in parts:
        for key, value in item.counts.items():
            whole.counts[key] = whole.counts.get(key, 0.0) + value * number
    whole.counts.update(counts_over_time(machine, cycles))
    moved = [(memory, f"{way}_bit") for memory in machine.memories for way in ("read", "write")]
    return PhaseResult(
        tokens=tokens, time_ms=cycles / (machine.clock_mhz * 1e3),
        dram_bytes=sum(whole.counts.get(key, 0.0) for key in moved) / 8,
        energy=total_energy(whole, machine_prices(machine.technology, machine.memories)),
        bound_by=parts[0][0].bound_by,
    )  # fmt: skip
