"""What LD and ST do, byte by byte, as arch/core_execution.md has it; and jobs of random transfers for the RTL."""

import dataclasses
import json
from typing import Any

import numpy as np

from mixflight.arch.compact import SLOTS, codes
from mixflight.rtl.core_ports import primitive
from mixflight.sim.golden.widen import widened

BUFFERS = codes("LD", "buffer")
LAYOUTS = codes("LD", "layout")
PIECE, LINE = 32, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A machine's memory side: words of a bank, lines of the others."""

    channels: int
    lanes: int
    weight_depth: int = 64
    scale_depth: int = 64
    index_depth: int = 64
    vector_depth: int = 128
    act_depth: int = 64

    @property
    def step(self) -> int:
        return self.channels * self.lanes


def packed(kind: str, fields: dict[str, int]) -> int:
    """The bits of an evaluated instruction."""
    layout, word = primitive(kind), 0
    for name, value in fields.items():
        field = layout[name]
        assert 0 <= value < 1 << field.width, (name, value)
        word |= value << field.offset
    return word


class Model:
    """Memories and buffers."""

    def __init__(self, shape: Shape, head: int, random: np.random.Generator, memory_bytes: int = 1 << 15) -> None:
        self.shape, self.head = shape, head
        octets = lambda *size: random.integers(0, 256, size, np.uint8)  # noqa: E731
        self.hbm = [octets(memory_bytes) for _ in range(shape.channels)]
        self.ddr = octets(memory_bytes)
        self.weight = np.zeros((shape.weight_depth, shape.channels, shape.lanes, 16), np.uint8)
        self.scale = np.zeros((shape.channels, shape.scale_depth * 4 * shape.lanes), np.uint8)
        self.index = np.zeros((shape.channels, shape.index_depth * 2 * shape.lanes), np.uint8)
        self.vector = octets(shape.vector_depth, LINE)
        self.act = octets(shape.act_depth, 4, 18)
        self.slot_layouts = [0] * SLOTS

    def keep_banks(self, before: "Model") -> None:
        """Banks as another job left them; a reset clears no memory."""
        self.weight, self.scale, self.index = before.weight.copy(), before.scale.copy(), before.index.copy()

    # -- LD ----------------------------------------------------------------------------------------------------------

    def load(self, f: dict[str, int]) -> None:
        """One LD."""
        address, size = f["address"], f["bytes"]
        channels = range(self.shape.channels) if f["wide"] else [f["channel"]]
        streams = {c: (self.ddr if f["ddr"] else self.hbm[c])[address : address + size] for c in channels}
        if f["buffer"] == BUFFERS["global"]:
            flat = self.vector.reshape(-1)
            for channel, octets in streams.items():
                self._deal(flat, f["line"] * LINE, channel if f["wide"] else 0, octets, bool(f["wide"]))
            return
        slot = f["slot"] if f["slotted"] else 0
        if f["buffer"] == BUFFERS["weight"]:
            first = slot * self.shape.weight_depth // SLOTS + f["line"] * LINE // (16 * self.shape.lanes)
            if f["slotted"]:
                self.slot_layouts[slot] = f["layout"]
            for channel, octets in streams.items():
                self._weights(f, first, channel, octets)
            return
        banks = self.scale if f["buffer"] == BUFFERS["scale"] else self.index
        at = slot * banks.shape[1] // SLOTS + f["line"] * LINE
        for channel, octets in streams.items():
            banks[channel, at : at + size] = octets

    def _deal(self, flat: np.ndarray, at: int, channel: int, octets: np.ndarray, wide: bool) -> None:
        if not wide:
            flat[at : at + len(octets)] = octets
            return
        for place in range(0, len(octets), PIECE):
            piece = octets[place : place + PIECE]
            to = at + (place // PIECE * self.shape.channels + channel) * PIECE
            flat[to : to + len(piece)] = piece

    def _weights(self, f: dict[str, int], first: int, channel: int, octets: np.ndarray) -> None:
        shape, bits = self.shape, f["code_bits"] or 8
        number = len(octets) * 8 // bits
        values = widened(octets, bits=bits, signed=bool(f["signed"]), codes=number)
        step, lanes, banks, head = shape.step, shape.lanes, shape.channels, self.head
        for at, value in enumerate(values):
            token, code = divmod(at, head)
            if f["layout"] == LAYOUTS["linear"]:
                word, bank, lane, position = at // (16 * lanes), channel, at // 16 % lanes, at % 16
            elif f["layout"] == LAYOUTS["keys"]:
                word, bank = token // lanes * (head // 16) + code // 16, channel
                lane, position = token % lanes, code % 16
            else:
                t = token * banks + channel
                bank, lane = code % step // lanes, code % lanes
                word, position = t // 16 * -(-head // step) + code // step, t % 16
            self.weight[first + word, bank, lane, position] = value

    # -- ST ----------------------------------------------------------------------------------------------------------

    def store(self, f: dict[str, int]) -> None:
        """One ST."""
        act = f["buffer"] == BUFFERS["act"]
        flat = (self.act[:, :, :16].reshape(-1) if act else self.vector.reshape(-1))[f["line"] * LINE :]
        if not f["wide"]:
            self.hbm[f["channel"]][f["address"] : f["address"] + f["bytes"]] = flat[: f["bytes"]]
            return
        for channel, memory in enumerate(self.hbm):
            for place in range(0, f["bytes"], PIECE):
                size = min(PIECE, f["bytes"] - place)
                at = (place // PIECE * self.shape.channels + channel) * PIECE
                memory[f["address"] + place : f["address"] + place + size] = flat[at : at + size]


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """What the bench puts into memories and buffers."""
    act = np.ascontiguousarray(model.act).reshape(model.shape.act_depth, -1)
    return {**{f"hbm{c}": octets.copy() for c, octets in enumerate(model.hbm)}, "ddr": model.ddr.copy(),
            "vector": model.vector.copy(), "act": act.copy()}


def compared(model: Model, after: dict[str, np.ndarray]) -> list[str]:
    """What the RTL left that is not as the model has it."""
    shape, wrong = model.shape, []
    def banks(x: np.ndarray, words: int) -> np.ndarray:
        return x.reshape(shape.channels, words, -1).transpose(1, 0, 2).reshape(words, -1)
    expected = {
        **{f"hbm{c}": octets for c, octets in enumerate(model.hbm)}, "ddr": model.ddr,
        "weight": model.weight.reshape(shape.weight_depth, -1), "scale": banks(model.scale, shape.scale_depth),
        "index": banks(model.index, shape.index_depth), "vector_read__0": model.vector[:-1],
        "vector_read__1": model.vector[:-1],
    }
    for name, values in expected.items():
        seen = after[name][: len(values)]
        if not np.array_equal(seen, values):
            at = np.argwhere(seen != values)
            wrong.append(f"{name}: {len(at)} bytes differ, first at {at[0].tolist()}: {values[tuple(at[0])]} expected, "
                         f"{seen[tuple(at[0])]} found")
    return wrong


def job_of(model: Model, phases: list[dict[str, list[dict[str, int]]]], **settings: Any) -> dict[str, Any]:
    """The bench's job; ``phases`` of ``load`` and ``store`` that do not touch what the other touches."""
    shape = model.shape
    kinds = {"load": "LD", "store": "ST"}
    return {
        "channels": shape.channels, "head": model.head, "scratch": shape.vector_depth - 1, "bad": [], "latency": 3,
        "stall": 0.0, "seed": 0, "patience": 400,
        "phases": [{name: [hex(packed(kinds[name], f)) for f in phase.get(name, [])] for name in kinds} for phase in phases],
        "dump": {
            "weight": {"depth": shape.weight_depth, "bytes": 16 * shape.step},
            "scale": {"depth": shape.scale_depth, "bytes": 4 * shape.step},
            "index": {"depth": shape.index_depth, "bytes": 2 * shape.step},
            "vector_read__0": {"depth": shape.vector_depth, "bytes": LINE},
            "vector_read__1": {"depth": shape.vector_depth, "bytes": LINE},
        },
        **settings,
    }


def run_jobs(build: Any, jobs: list[tuple[dict[str, Any], dict[str, np.ndarray]]],
             bench: str = "mixflight.rtl.bench_core_memory") -> list[tuple[dict, dict]]:
    """(What the bench saw, arrays after) of each job."""
    import tempfile
    from pathlib import Path

    from mixflight.rtl.harness import simulate

    with tempfile.TemporaryDirectory(prefix="mixflight-run-") as name:
        folder = Path(name)
        np.savez(folder / "jobs.npz", jobs=np.array(json.dumps([job for job, _ in jobs])),
                 **{f"{index}/{key}": value for index, (_, arrays) in enumerate(jobs) for key, value in arrays.items()})
        with np.load(simulate(build, folder, bench, 600)) as stored:
            rows = json.loads(str(stored["results"]))
            return [(row, {key.split("/", 2)[2]: stored[key] for key in stored.files if key.startswith(f"{index}/after/")})
                    for index, row in enumerate(rows)]


# -- random transfers ------------------------------------------------------------------------------------------------

READ_ONLY = 3 << 13
"""HBM below this is never stored to, in jobs where ST runs beside LD."""


def ld(**fields: int) -> dict[str, int]:
    """An LD; by default 64 bytes of every channel to weight word 0."""
    return {"buffer": BUFFERS["weight"], "ddr": 0, "wide": 1, "channel": 0, "address": 0, "bytes": 64, "slotted": 0, "slot": 0,
            "line": 0, "code_bits": 0, "signed": 0, "layout": 0} | fields


def st(**fields: int) -> dict[str, int]:
    """An ST; by default 64 bytes of line 0 of global to channel 0."""
    return {"buffer": BUFFERS["global"], "ddr": 0, "wide": 0, "channel": 0, "address": 0, "bytes": 64, "slotted": 0, "slot": 0,
            "line": 0} | fields


def random_weight(model: Model, random: np.random.Generator) -> dict[str, int]:
    """An LD to a slot of the weight buffer."""
    shape, head = model.shape, model.head
    layout, bits = str(random.choice(list(LAYOUTS))), int(random.choice([2, 3, 4, 5, 8]))
    words, grain = shape.weight_depth // SLOTS, 2 * shape.lanes
    if layout == "linear":
        unit = 64 if bits == 8 else 2 * shape.lanes * bits
        size = unit * int(random.integers(1, words * 16 * shape.lanes * bits // 8 // unit + 1))
    else:
        room = words // (head // 16) * shape.lanes if layout == "keys" else words // (head // shape.step) * 16 // shape.channels
        size = head * bits // 8 * int(random.integers(1, room + 1))
    wide = layout == "values" or random.random() < 0.7
    return ld(code_bits=0 if bits == 8 and random.random() < 0.5 else bits, signed=int(random.integers(2)), layout=LAYOUTS[layout],
              slotted=1, slot=int(random.integers(SLOTS)), bytes=size, wide=int(wide),
              channel=0 if wide else int(random.integers(shape.channels)),
              address=grain * int(random.integers((READ_ONLY - size) // grain)))


def random_bank(model: Model, random: np.random.Generator) -> dict[str, int]:
    """An LD to a slot of the scale or index buffer."""
    shape = model.shape
    name = str(random.choice(["scale", "index"]))
    room = (4 * shape.scale_depth if name == "scale" else 2 * shape.index_depth) * shape.lanes // SLOTS
    size, wide = 4 * int(random.integers(1, room // 4 + 1)), int(random.integers(2))
    line = int(random.integers((room - size) // LINE + 1))
    return ld(buffer=BUFFERS[name], slotted=1, slot=int(random.integers(SLOTS)), line=line, bytes=size, wide=wide,
              channel=0 if wide else int(random.integers(shape.channels)),
              address=2 * shape.lanes * int(random.integers((READ_ONLY - size) // (2 * shape.lanes))))


def random_global(model: Model, random: np.random.Generator, first: int, lines: int) -> dict[str, int]:
    """An LD to some of ``lines`` lines of the global buffer from ``first`` on."""
    shape, kind = model.shape, str(random.choice(["wide", "single", "ddr"]))
    at = int(random.integers(lines // 2))
    room = (lines - at) * LINE // (shape.channels if kind == "wide" else 1)
    size = 4 * int(random.integers(1, room // 4 - 7))
    grain = 4 if kind == "ddr" else 2 * shape.lanes
    return ld(buffer=BUFFERS["global"], wide=int(kind == "wide"), ddr=int(kind == "ddr"), bytes=size, line=first + at,
              channel=int(random.integers(shape.channels)) if kind == "single" else 0,
              address=grain * int(random.integers((READ_ONLY - size) // grain)))


def random_store(model: Model, random: np.random.Generator, first: int, lines: int) -> dict[str, int]:
    """An ST of some of ``lines`` lines of the global buffer from ``first`` on, or of act."""
    shape, act, wide = model.shape, int(random.integers(2)), int(random.integers(2))
    at, most = int(random.integers(lines // 2)), shape.act_depth if act else lines
    room = (most - at) * LINE // (shape.channels if wide else 1)
    size = 4 * int(random.integers(1, min(room // 4 - 7, 256)))
    grain, start = (LINE, READ_ONLY) if wide else (4, READ_ONLY)
    return st(buffer=BUFFERS["act" if act else "global"], wide=wide, bytes=size, line=at + (0 if act else first),
              channel=0 if wide else int(random.integers(shape.channels)),
              address=start + grain * int(random.integers(((1 << 15) - start - size) // grain)))


def random_phases(model: Model, random: np.random.Generator, phases: int, count: int) -> list[dict[str, list[dict[str, int]]]]:
    """Phases of ``count`` LDs and half as many STs that do not meet, carried out on the model."""
    half, found = (model.shape.vector_depth - 2) // 2, []
    for number in range(phases):
        mine, theirs = (0, half) if number % 2 else (half, 0)
        loads = [random_global(model, random, mine, half) if kind == 0 else random_bank(model, random) if kind == 1
                 else random_weight(model, random) for kind in random.integers(0, 4, count)]
        stores = [random_store(model, random, theirs, half) for _ in range(count // 2)]
        for f in loads:
            model.load(f)
        for f in stores:
            model.store(f)
        found.append({"load": loads, "store": stores})
    return found
