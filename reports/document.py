"""``results.json``: what a run found, as plain values; the page and the figures are functions of it.

    read_document    the document of a folder, or a refusal in one line
    machine_of       an accelerator and its simulation as the document has them
    prices_of        the prices that those simulations could use
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.errors import InputError
from mixflight.arch.prices import Price, PriceTable, machine_prices

DOCUMENT = "results.json"
VERSION = 1


class _Values(msgspec.Struct, frozen=True, kw_only=True):
    """Keyword-only plain values; a key that a later version adds is passed over."""


class Component(_Values, frozen=True):
    """Energy of one component over a phase; leakage of ``pe.x`` stands as ``pe.x leakage``."""

    component: str
    energy_mj_per_token: float
    energy_mj_per_token_low: float
    energy_mj_per_token_high: float


class OperatorShare(_Values, frozen=True):
    """What one operator took of a phase."""

    operator: str
    kind: str
    cycles: float
    bound_by: str
    utilisation: float
    energy_mj: float | None = None
    """Of the whole phase, with its band; None in documents of before it was kept."""
    energy_mj_low: float | None = None
    energy_mj_high: float | None = None


class Phase(_Values, frozen=True):
    """A prefill or a decode: the keys of ``mixflight simulate --json``."""

    tokens: int
    time_ms: float
    time_ms_per_token: float
    tokens_per_s: float
    energy_mj_per_token: float
    energy_mj_per_token_low: float
    energy_mj_per_token_high: float
    hbm_bytes_per_token: float
    power_w: float
    macs: int
    bound_by: str
    components: tuple[Component, ...]
    operators: tuple[OperatorShare, ...]
    source: str = ""
    """Of a GPU: measured or modelled, and how its band was found."""


class Simulation(_Values, frozen=True):
    """What ``mixflight simulate --json`` says."""

    arch: str
    model: str
    recipe: str
    mode: str
    batch: int
    prefill: Phase
    decode: Phase


class Parameter(_Values, frozen=True):
    """One given parameter of a machine, where it comes from, and whether that is a quotation or an assumption."""

    name: str
    value: str
    basis: str
    source: str


class Machine(_Values, frozen=True):
    """One machine of the comparison. ``evidence``: how far it is verified, in words."""

    name: str
    summary: str
    pe: str
    rows: int
    cols: int
    lanes: int
    clock_mhz: float
    dram_gb_s: float
    """Streaming bandwidth, after the efficiency."""
    dram: str
    evidence: str
    parameters: tuple[Parameter, ...]
    simulation: Simulation

    @property
    def peak_gmacs(self) -> float:
        """10^9 multiply-accumulates a second with every PE busy."""
        return self.rows * self.cols * self.clock_mhz * 1e-3

    def utilisation(self, phase: Phase) -> float:
        """Useful MACs over those that the array could have done in the phase's time."""
        return phase.macs / (self.peak_gmacs * 1e9 * phase.time_ms * 1e-3)

    def dram_busy(self, phase: Phase) -> float:
        """Part of the phase's time in which DRAM streams."""
        return phase.hbm_bytes_per_token * phase.tokens / (self.dram_gb_s * 1e9 * phase.time_ms * 1e-3)


class Layer(_Values, frozen=True):
    """One layer of a decode step, or all that is outside the layers (``layer`` -1: embedding, last norm, LM head).

    ``busy_us`` is by unit (array, dram, sfu): units work at the same time.
    """

    layer: int
    time_us: float
    busy_us: dict[str, float]
    components: tuple[Component, ...]


class Layers(_Values, frozen=True):
    """A decode step at ``context`` on ``machine``, layer by layer; what is outside the layers comes last."""

    machine: str
    context: int
    layers: tuple[Layer, ...]


class Gpu(_Values, frozen=True):
    """A GPU on the same scenario with its own ``recipe``. ``scope`` is what its energy covers, ``evidence`` whether
    its decode is measured or modelled and how its band was found."""

    name: str
    recipe: str
    summary: str
    scope: str
    evidence: str
    simulation: Simulation

    @property
    def label(self) -> str:
        """GPU and recipe, as the command line takes them."""
        return f"{self.name}:{self.recipe}"


class GpuComparison(_Values, frozen=True):
    """GPUs beside the machines; ``machine_scope`` is what the machines' energies cover."""

    machine_scope: str
    gpus: tuple[Gpu, ...]


class Sweep(_Values, frozen=True):
    """A finished sweep: what was looked at, and the points of its front.

    ``axes``          columns that vary on the front; ``by`` those for each of whose values there is a front of its own
    ``objectives``    quantity -> min or max
    ``front``         rows by column: axes, objectives, what bound them and ``disagreement`` of the two tiers
    ``sources``       column -> where its numbers come from, in the order of tables
    ``apart``         largest disagreement of the tiers in ``time`` and ``energy``, over all points that both measured
    """

    summary: str
    finding: str
    model: str
    recipe: str
    lengths: str
    fidelity: str
    objectives: dict[str, str]
    by: tuple[str, ...]
    axes: tuple[str, ...]
    points: int
    evaluated: int
    engine_evaluated: int
    excluded: int
    failed: int
    apart: dict[str, float]
    front: tuple[dict[str, Any], ...]
    sources: dict[str, str]
    code_sha256: str
    space_sha256: str


class Pass(_Values, frozen=True):
    """What one traced pass must compute and move."""

    phase: str
    context: int
    ops: int
    macs: int
    weight_bytes: int
    kv_bytes: int


class Scenario(_Values, frozen=True):
    """What was run. ``note`` says why the model is not the one that was asked for, where that is so."""

    model: str
    recipe: str
    prefill: int
    decode: int
    batch: int
    note: str | None = None
    sha256: str | None = None
    source: str | None = None
    """MODEL as the command line takes it; None in documents of before it was kept."""


class Port(_Values, frozen=True):
    """One port of a Verilog module."""

    name: str
    direction: str
    width: int


class Module(_Values, frozen=True):
    """One Verilog module: how many the design holds; register and memory bits of one."""

    name: str
    instances: int
    register_bits: int
    memory_bits: int


class Verilog(_Values, frozen=True):
    """Emitted Verilog, as an independent parser read it."""

    top: str
    folder: str
    parameters: dict[str, Any]
    ports: tuple[Port, ...]
    modules: tuple[Module, ...]
    register_bits: int
    memory_bits: int
    lines: int
    sha256: str


class Resources(_Values, frozen=True):
    """Counts of one module alone, and how many of it the design holds."""

    name: str
    instances: int
    lut: float
    ff: float
    dsp: float
    bram: float


class Synthesis(_Values, frozen=True):
    """What the Verilog takes on an FPGA: mapped, not placed."""

    target: str
    tool: str
    lut: int
    ff: int
    dsp: int
    bram: float
    uram: int
    modules: tuple[Resources, ...]


class TileRun(_Values, frozen=True):
    """One tile through the Verilog. Cycles are 0 where streams were stalled at random: nothing is computed for that."""

    name: str
    values: int
    wrong: bool
    cycles_rtl: int
    cycles_sim: int


class Verification(_Values, frozen=True):
    """The emitted Verilog under Verilator against golden values and computed cycles."""

    top: str
    tests: int
    failures: int
    values: int
    real_tiles: int
    runs: tuple[TileRun, ...]
    messages: tuple[str, ...]


class Slice(_Values, frozen=True):
    """While a unit is busy with an operator; microseconds from the layer's beginning."""

    track: str
    operator: str
    start_us: float
    duration_us: float


class Timeline(_Values, frozen=True):
    """One layer of a decode step on ``machine``; ``file`` beside the page has all of prefill and step for Perfetto."""

    machine: str
    layer: int
    context: int
    file: str
    slices: tuple[Slice, ...]


class Document(_Values, frozen=True):
    """Everything that the page shows."""

    version: int
    mixflight: str
    scenario: Scenario
    trace: tuple[Pass, ...]
    machines: tuple[Machine, ...]
    prices: tuple[Price, ...]
    technologies: dict[str, str]
    verilog: Verilog | None = None
    synthesis: Synthesis | None = None
    verification: Verification | None = None
    timeline: Timeline | None = None
    layers: Layers | None = None
    gpus: GpuComparison | None = None
    sweep: Sweep | None = None
    deviations: str = ""

    def __post_init__(self) -> None:
        if not self.machines:
            raise ValueError("at least one machine must be given")


def read_document(folder: Path) -> Document:
    """The document in ``folder``."""
    path = folder / DOCUMENT
    try:
        content = path.read_bytes()
    except OSError:
        raise InputError(
            f"DIR must be a folder with {DOCUMENT}, as mixflight demo or compare writes it, not {folder}") from None
    try:
        version = msgspec.json.decode(content, type=dict[str, Any]).get("version")
        if version != VERSION:
            raise InputError(f"{path} must be of version {VERSION}, not {version!r}")
        return msgspec.json.decode(content, type=Document)
    except msgspec.DecodeError as error:
        raise InputError(f"{path} must be a document as mixflight demo or compare writes it: {error}") from None


def encode_document(document: Document) -> bytes:
    """The document as JSON text."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def machine_of(
    accelerator: Accelerator, simulation: dict[str, Any], evidence: str, name: str | None = None
) -> Machine:
    """``accelerator`` with what ``mixflight simulate --json`` says of it; ``name`` where its own says too little."""
    array, dram = accelerator.array, accelerator.dram
    return Machine(
        name=name or accelerator.name, summary=accelerator.summary, pe=array.pe, rows=array.rows, cols=array.cols,
        lanes=array.lanes, clock_mhz=accelerator.clock_mhz, dram_gb_s=dram.peak_gb_s * dram.stream_efficiency,
        dram=dram.standard, evidence=evidence,
        parameters=tuple(
            Parameter(name=key, value=_value_of(accelerator, key), basis=basis_of(source), source=source)
            for key, source in accelerator.sources.items()
        ),
        simulation=msgspec.convert(simulation, Simulation),
    )  # fmt: skip


def _value_of(accelerator: Accelerator, key: str) -> str:
    value: Any = accelerator
    for part in key.split("."):
        value = getattr(value, part)
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{name} {item}" for name, item in msgspec.structs.asdict(value).items())
    return str(value)


def basis_of(source: str) -> str:
    """What kind of source a parameter's source text names: it begins with the word unless it is a quotation."""
    if source.startswith(("assumed", "as ")) or "provisional" in source:
        return "assumed"
    return "derived" if source.startswith("derived") else "quoted"


def prices_of(accelerators: Iterable[Accelerator]) -> tuple[tuple[Price, ...], dict[str, str]]:
    """The prices of the accelerators' technologies without those of PEs that none of them has, and their summaries."""
    machines = list(accelerators)
    elements = {f"pe.{machine.array.pe}" for machine in machines}
    tables: dict[tuple[str, str], PriceTable] = {}
    for machine in machines:
        key = machine.technology, machine.dram.standard
        tables[key] = machine_prices(machine.technology, machine.memories)
    found = {
        price: None for table in tables.values() for price in table.price
        if not price.component.startswith("pe.") or price.component in elements
    }  # fmt: skip
    return tuple(found), {name: table.summary for (name, _), table in tables.items()}
