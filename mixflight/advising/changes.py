"""Single changes of a machine of cores: each one field or the few that must go with it.

A change gives a machine, or None where it does not apply. Clocks are only lowered: how fast a design could run is not
known without placement, the start's clock was measured. What a change takes of the device is counted afterwards
(``mixflight.advising.footprint``).
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from mixflight.advising.footprint import WIDENED, sfu_dsp
from mixflight.arch.array import Array
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.pe import PES, PeKind

MOST_PES = 4096
"""Of an array: larger ones are not emitted."""
SLOWER = 0.9
_CODINGS = ("four_bit", "bitmap", "rank")
_replace: Any = msgspec.structs.replace


def changes(machine: CoreMachine) -> Iterator[tuple[str, CoreMachine]]:
    """(What is changed, the machine with it) of every single change, always in the same order; the machines may not
    fit their device. Structures that refuse a value are left out."""
    for name, tables, fields in (*_of_cores(machine), *_of_engine(machine)):
        try:
            new = {key: _replace(getattr(machine, key), **values) for key, values in tables.items()}
            changed: CoreMachine = _replace(machine, luts=1, device=_open(machine), **new, **fields)
            yield name, _replace(fed(changed), device=machine.device)
        except ValueError:
            continue


_Change = tuple[str, dict[str, dict[str, Any]], dict[str, Any]]


def _open(machine: CoreMachine) -> Any:
    return _replace(machine.device, dsp=0, lut=0, ff=0, bram36=0, uram=0)


def _of_cores(machine: CoreMachine) -> Iterator[_Change]:
    for cores in (machine.cores + 1, machine.cores - 1):
        yield f"cores {machine.cores} -> {cores}", {}, {"cores": cores}
    own = machine.hbm.channels_per_core
    for channels in (2 * own, own // 2):
        yield f"HBM channels of a core {own} -> {channels}", {"hbm": {"channels_per_core": channels}}, {}
    slower = round(machine.clock_mhz * SLOWER, 1)
    # Ports move as many bytes a cycle as before: they are slower too.
    yield f"clock {machine.clock_mhz:g} -> {slower:g} MHz", {}, {"clock_mhz": slower}
    width = machine.sfu.elements_per_cycle
    for wide in (2 * width, width // 2):
        yield f"SFU {width} -> {wide} elements a cycle", {"sfu": {"elements_per_cycle": wide, "dsp": sfu_dsp(wide)}}, {}
    for coding in _CODINGS:
        if isinstance(machine.mpe, Chains) and coding != machine.memory_unit.index_coding:
            yield f"N:M positions as {coding}", {"memory_unit": {"index_coding": coding}}, {}
    for name, title in (("weight", "weight"), ("act", "activation"), ("vector", "global"), ("index", "index"),
                        ("scale", "scale")):  # fmt: skip
        buffer = getattr(machine.buffers, name)
        for depth in (2 * buffer.depth, buffer.depth // 2):
            changed = {name: _replace(buffer, depth=depth)} if depth else None
            if changed:
                yield f"depth of the {title} buffer {buffer.depth} -> {depth}", {"buffers": changed}, {}


def _of_engine(machine: CoreMachine) -> Iterator[_Change]:
    engine = machine.mpe
    yield from _of_chains(engine) if isinstance(engine, Chains) else _of_array(engine)


def _of_array(array: Array) -> Iterator[_Change]:
    def change(name: str, **fields: Any) -> _Change:
        return f"array {name}", {"array": fields}, {}

    for rows in (2 * array.rows, array.rows // 2):
        if rows and rows * array.cols <= MOST_PES:
            yield change(f"rows {array.rows} -> {rows}", rows=rows, split=min(array.split, rows))
    for cols, lanes in ((2 * array.cols, 2 * array.lanes), (array.cols // 2, max(1, array.lanes // 2))):
        if array.rows * cols <= MOST_PES:
            yield change(f"columns {array.cols} -> {cols}", cols=cols, lanes=lanes)
    for split in (2 * array.split, array.split // 2):
        if 1 <= split <= array.rows:
            yield change(f"split {array.split} -> {split}", split=split)
    for lanes in (2 * array.lanes, array.lanes // 2):
        if lanes and lanes <= array.cols:
            yield change(f"lanes {array.lanes} -> {lanes}", lanes=lanes)
    kinds: tuple[PeKind, ...] = ("shift-add-4x8", "centred-4x8", "multiply-4x8", "multiply-8x8")
    for pe in kinds:
        if pe != array.pe and PES[pe].arithmetic == "integer":
            yield change(f"PEs {pe}", pe=pe)


def _of_chains(chains: Chains) -> Iterator[_Change]:
    def whole(fields: dict[str, int]) -> dict[str, int]:
        """What an instruction covers, in whole steps of the changed engine."""
        new = {name: fields.get(name, getattr(chains, name)) for name in _STEPS}
        step = new["mpus"] * (new["mv_chains_per_mpu"] + new["fabric_chains_per_mpu"])
        rows = new["mpus"] * chains.packed_rows
        return {"mm_rows": max(1, chains.mm_rows // rows) * rows, "mv_columns": max(1, _MV_COLUMNS // step) * step}

    def tried() -> Iterator[tuple[str, dict[str, int]]]:
        own = chains.mv_chains_per_mpu
        for new in (2 * chains.mpus, chains.mpus // 2):
            yield f"units of chains {chains.mpus} -> {new}", {"mpus": new}
        if chains.mpus > 1:
            # As many chains on vectors as before: units of which more chains are fed.
            both = {"mpus": chains.mpus // 2, "mv_chains_per_mpu": 2 * own}
            yield f"units of chains {chains.mpus} -> {chains.mpus // 2}, {2 * own} chains of each on vectors", both
        for new in (own + 1, own - 1):
            yield f"DSP chains of a unit that work on vectors {own} -> {new}", {"mv_chains_per_mpu": new}
        fabric = chains.fabric_chains_per_mpu
        for new in (fabric + 1, fabric - 1):
            if new >= 0:
                yield f"chains of a unit in LUTs {fabric} -> {new}", {"fabric_chains_per_mpu": new}

    for name, fields in tried():
        if all(value > 0 or field == "fabric_chains_per_mpu" for field, value in fields.items()):
            yield name, {"chains": {**fields, **whole(fields)}}, {}


_STEPS = ("mpus", "mv_chains_per_mpu", "fabric_chains_per_mpu")
_MV_COLUMNS = 512


def fed(machine: CoreMachine) -> CoreMachine:
    """``machine`` with the codes a cycle that its engine takes on a vector widened, and the lanes of its array."""
    engine = machine.mpe
    if isinstance(engine, Chains):
        unit = {"widen_codes_per_cycle": engine.column_step * engine.chain}
    else:
        unit = {"widen_codes_per_cycle": max(WIDENED, engine.cols * engine.split), "lanes": engine.lanes}
    found: CoreMachine = _replace(machine, memory_unit=_replace(machine.memory_unit, **unit))
    return found
