"""Documents of ``--json`` that speak of hardware, programs and pages: ``verify``, ``synth``, ``generate``, ``demo``."""

from typing import Any

import msgspec

from mixflight.core_coverage_results import CoreCoverage
from mixflight.mapping.core_storage import Storage


class Verified(msgspec.Struct, kw_only=True):
    """One top in one configuration; ``messages`` say what failed, the first of it.

    ``cycles_rtl`` and ``cycles_sim`` are sums over the runs that nothing stalls; ``values`` were compared bit for bit.
    """

    top: str
    configuration: dict[str, Any]
    tests: int
    failures: int
    cycles_rtl: int
    cycles_sim: int
    real_tiles: int
    values: int
    messages: list[str]
    build_s: float
    run_s: float


class Verify(msgspec.Struct, kw_only=True):
    """``verify``; why no tiles of a real model were run, where none were."""

    schema: str
    rows: list[Verified]
    failures: int
    real_tiles: int
    real_tiles_absent_because: str | None


class Coverage(CoreCoverage, kw_only=True, frozen=True):
    """``verify --coverage``: what random programs reach of a core (docs/coverage.md)."""

    schema: str


class Library(msgspec.Struct, kw_only=True):
    """A cell library and its corner."""

    name: str
    sha256: str
    voltage_v: float
    temperature_c: float


class MacEnergy(msgspec.Struct, kw_only=True):
    """Energy of a MAC on one set of operands, in pJ, and its parts; ``settled`` without hazards."""

    pj_per_mac: float
    settled_pj_per_mac: float
    switching: float
    internal: float
    clock: float
    leakage: float
    macs: int
    sums_checked: int


class CorePart(msgspec.Struct, kw_only=True):
    """A part of a core, all of it: counts, and LUT levels of its longest path with its ports taken for registers."""

    part: str
    lut: int
    ff: int
    dsp: int
    bram: float
    uram: int
    lutram: int
    carry: int
    muxf: int
    lut_levels: int
    sha256: str


class Synth(msgspec.Struct, kw_only=True):
    """``synth``: of an FPGA the counts, of a cell library area, delay and energy; the others are None or absent."""

    schema: str
    top: str
    target: str
    parameters: dict[str, Any]
    lut: int | None
    ff: int | None
    dsp: int | None
    bram: float | None
    uram: int | None
    lutram: int | None
    carry: int | None
    muxf: int | None
    area_um2: float | None
    delay_ns: float | None
    fmax_mhz: float | None
    energy_pj_per_mac: float | None
    sha256: str
    tools: dict[str, str]
    script: str
    cells: dict[str, int]
    fmax_basis: str | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET
    modules: dict[str, dict[str, float]] | msgspec.UnsetType = msgspec.UNSET
    lut_levels: int | msgspec.UnsetType = msgspec.UNSET
    longest_path: str | msgspec.UnsetType = msgspec.UNSET
    parts: list[CorePart] | msgspec.UnsetType = msgspec.UNSET
    sequential_area_um2: float | msgspec.UnsetType = msgspec.UNSET
    area_unit: str | msgspec.UnsetType = msgspec.UNSET
    flip_flops: int | msgspec.UnsetType = msgspec.UNSET
    delay_basis: str | msgspec.UnsetType = msgspec.UNSET
    delay_ends_at: str | msgspec.UnsetType = msgspec.UNSET
    overloaded_nets: int | msgspec.UnsetType = msgspec.UNSET
    energy_basis: str | msgspec.UnsetType = msgspec.UNSET
    energy: dict[str, MacEnergy] | msgspec.UnsetType = msgspec.UNSET
    library: Library | msgspec.UnsetType = msgspec.UNSET


class Compile(msgspec.Struct, kw_only=True):
    """``compile``: what was written, and the bytes of instructions under each way of storing them."""

    schema: str
    machine: str
    model: str
    recipe: str
    encoding: str
    max_context: int
    files: list[str]
    bytes_total: int
    bytes_unshared: int
    storage: Storage


class Generate(msgspec.Struct, kw_only=True):
    """``generate``: what the model said; ``logits_sha256`` is of the last logits as little-endian FP32.

    ``stopped`` is ``end`` where the model ended the text, ``length`` where the wanted number of tokens came.
    """

    schema: str
    model: str
    backend: str
    kv: str
    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    stopped: str
    logits_sha256: str
    prefill_s: float
    decode_s: float
    tokens_per_s: float | None


class RecordedComponent(msgspec.Struct, kw_only=True):
    """J of a component by the price table: of recorded activity, with its band, and of the engine's actions."""

    recorded_j: float
    low_j: float
    high_j: float
    estimated_j: float


class RecordedActivity(msgspec.Struct, kw_only=True):
    """What a core was seen to do in a step: by class of instruction, by port (``hbm``, ``ddr``, ``text``), in all."""

    busy_cycles: dict[str, int]
    ended: dict[str, int]
    executed: int
    read_bytes: dict[str, int]
    written_bytes: dict[str, int]
    products: int
    sfu_elements: int


class GenerateRtl(msgspec.Struct, kw_only=True):
    """``generate --backend rtl``: lists have an entry a step, the prompt's tokens first; energies by prices.

    ``tokens_per_step`` is 1 but for blocks of the prompt, whose entries are of the whole block; those in front of its
    last one have no logits.
    ``energy_j_per_token`` is of the engine's actions, ``energy_recorded_j_per_token`` of what the RTL was seen to do;
    null: a step of a checkpoint that was written without.
    """

    schema: str
    model: str
    backend: str
    arch: str
    clock_mhz: float
    layers: int
    prompt: str
    prompt_tokens: list[int]
    tokens: list[int]
    text: str
    stopped: str
    logits_sha256: str
    tokens_per_step: list[int]
    cycles_per_token: list[int]
    engine_cycles_per_token: list[int]
    axi_read_bytes_per_token: list[int]
    axi_written_bytes_per_token: list[int]
    energy_j_per_token: list[float]
    energy_recorded_j_per_token: list[float | None]
    energy_recorded_low_j_per_token: list[float | None]
    energy_recorded_high_j_per_token: list[float | None]
    energy_components_per_token: list[dict[str, RecordedComponent] | None]
    activity_per_token: list[RecordedActivity | None]
    seconds_per_token: list[float]
    logits_sha256_per_token: list[str | None]
    tokens_per_s_at_clock: float


class Page(msgspec.Struct, kw_only=True):
    """``report``: the page and the figures that were written."""

    schema: str
    path: str
    figures: list[str]


class Demo(msgspec.Struct, kw_only=True):
    """``demo``: the page, a row of ``simulate`` a machine, and the array as emitted, synthesised and verified.

    What could not be done without a network or tools is None, and ``note`` says so; it is None where all was done.
    """

    schema: str
    path: str
    note: str | None
    verilog: dict[str, Any] | None
    synthesis: dict[str, Any] | None
    verification: dict[str, Any] | None
    rows: list[dict[str, Any]]
