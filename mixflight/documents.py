"""What the documents of ``--json`` look like: a type for each, from which its JSON Schema is made.

    DOCUMENTS     the types by name and version (``simulate/1``), as the documents' own key ``schema`` says it
    schema_of     one of them as JSON Schema
    write_schemas all of them as files, which ``docs/schemas`` holds

Within a version keys are only added: a reader may meet keys that it does not know. A key that goes, or whose meaning or
unit changes, makes a new version. Energies carry their band as ``_low`` and ``_high``; units are in the keys.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from mixflight import documents_hardware as hardware
from mixflight import documents_studies as studies
from mixflight.advantage import Advantage
from mixflight.arch.errors import InputError
from mixflight.comparison import Refusal
from mixflight.doctor import Diagnosis
from mixflight.reports.component_groups import GroupEnergy
from mixflight.sim.reproduction import Row

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Preset(msgspec.Struct, kw_only=True):
    """A name that commands take, and what it stands for."""

    name: str
    summary: str


class Presets(msgspec.Struct, kw_only=True):
    """``models``, ``archs``, ``recipes``, ``gpu`` and ``fetch --list``."""

    schema: str
    rows: list[Preset]


class Fetched(msgspec.Struct, kw_only=True):
    """``fetch NAME``: the file in the cache and its SHA-256."""

    schema: str
    path: str
    sha256: str


class Pass(msgspec.Struct, kw_only=True):
    """One prefill or one decode step of a trace; ``context`` is the tokens that it sees."""

    phase: str
    context: int
    ops: int
    macs: int
    weight_bytes: float
    kv_bytes: float


class Trace(msgspec.Struct, kw_only=True):
    """``trace MODEL``: sums over all passes; ``path`` is the Parquet file where one was asked for."""

    schema: str
    model: str
    recipe: str
    batch: int
    prefill_tokens: int
    decode_tokens: int
    ops: int
    macs: int
    weight_bytes: float
    kv_bytes: float
    parameter_bytes: float
    passes: list[Pass]
    path: str | msgspec.UnsetType = msgspec.UNSET


class ComponentEnergy(msgspec.Struct, kw_only=True):
    """Energy of a component in mJ a token, with its band."""

    component: str
    energy_mj_per_token: float
    energy_mj_per_token_low: float
    energy_mj_per_token_high: float


class Operator(msgspec.Struct, kw_only=True):
    """All passes of an operator in a phase; ``utilisation`` is the share of MACs that do useful work."""

    operator: str
    kind: str
    cycles: float
    bound_by: str
    next_bound: str
    utilisation: float
    energy_mj: float
    energy_mj_low: float
    energy_mj_high: float


class Phase(msgspec.Struct, kw_only=True):
    """Prefill or decode: ``time_ms`` and ``energy_mj`` in all, the rest a token or a second.

    ``busy`` (cores) is the share of time of each queue, ``source`` (GPUs) says what is measured and what is modelled.
    """

    tokens: int
    time_ms: float
    time_ms_per_token: float
    tokens_per_s: float
    energy_mj: float
    energy_mj_low: float
    energy_mj_high: float
    energy_mj_per_token: float
    energy_mj_per_token_low: float
    energy_mj_per_token_high: float
    hbm_bytes_per_token: float
    power_w: float
    power_w_low: float
    power_w_high: float
    tokens_per_joule: float
    tokens_per_joule_low: float
    tokens_per_joule_high: float
    macs: int
    bound_by: str
    components: list[ComponentEnergy]
    component_groups: list[GroupEnergy]
    operators: list[Operator]
    next_bound: str | msgspec.UnsetType = msgspec.UNSET
    busy: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.UNSET


class Gain(msgspec.Struct, kw_only=True):
    """How many times as fast the phase is with one change."""

    change: str
    speedup: float


class Explanation(msgspec.Struct, kw_only=True):
    """What binds a phase: shares of its time by limit, and what one change at a time would bring."""

    sentence: str
    phase: str
    limits: dict[str, float]
    next_limit: str | None
    gains: list[Gain]


class _Scenario(msgspec.Struct, kw_only=True):
    """Machine, model and phases; ``path`` and ``groups`` (cores) say how a batch ran."""

    arch: str
    model: str
    recipe: str
    mode: str
    batch: int
    bound_by: str
    float_operands: list[str]
    prefill: Phase
    decode: Phase
    path: str | msgspec.UnsetType = msgspec.UNSET
    groups: int | msgspec.UnsetType = msgspec.UNSET


class Simulate(_Scenario, kw_only=True):
    """``simulate``; ``explain`` is there with ``--explain``."""

    schema: str
    explain: list[Explanation] | msgspec.UnsetType = msgspec.UNSET


class PublishedOperator(msgspec.Struct, kw_only=True):
    """Time of an operator over all blocks."""

    operator: str
    time_ms: float


class PublishedPhase(msgspec.Struct, kw_only=True):
    """A phase under the rules of a publication; None where it reports no power."""

    tokens: int
    time_ms: float
    time_ms_per_token: float
    tokens_per_s: float
    hbm_bytes_per_token: float
    bound_by: str
    power_w: float | None
    tokens_per_joule: float | None
    energy_mj_per_token: float | None
    energy_mj_per_token_low: float | None
    energy_mj_per_token_high: float | None
    instructions: int
    barriers: int
    busy: dict[str, float]
    operators: list[PublishedOperator]


class SimulatePublished(msgspec.Struct, kw_only=True):
    """``simulate --mode published``; ``infeasible`` says in words why the machine could not be built."""

    schema: str
    arch: str
    model: str
    recipe: str
    mode: str
    batch: int
    bound_by: str
    infeasible: str | None
    correction_factor: float
    prefill: PublishedPhase
    decode: PublishedPhase


class CompareRow(_Scenario, kw_only=True):
    """A machine or a GPU; ``energy_scope`` is what its energy covers, costs are None without a stated price."""

    name: str
    energy_scope: str
    usd_per_million_tokens: float | None
    usd_per_million_tokens_low: float | None
    usd_per_million_tokens_high: float | None


class Compare(msgspec.Struct, kw_only=True):
    """``compare``: machines and GPUs, what is claimed of them, ratios, what could not run, and the folder of ``-o``."""

    schema: str
    rows: list[CompareRow]
    claims: list[Row]
    advantages: list[Advantage]
    refused: list[Refusal]
    folder: str | None = None


class Reproduce(msgspec.Struct, kw_only=True):
    """``reproduce STUDY``."""

    schema: str
    study: str
    mode: str
    rows: list[Row]


class Port(msgspec.Struct, kw_only=True):
    """A port of a module, in bits."""

    name: str
    direction: str
    width: int


class Rtl(msgspec.Struct, kw_only=True):
    """``rtl TOP``: what was written into ``folder``; ``sha256`` is that of the Verilog's text."""

    schema: str
    top: str
    module: str
    parameters: dict[str, Any]
    folder: str
    files: list[str]
    ports: list[Port]
    register_bits: int
    memory_bits: int
    sha256: str


class Board(msgspec.Struct, kw_only=True):
    """Power of an FPGA board as published and as modelled, with its parts."""

    name: str
    device: str
    scope: str
    calibrates: bool
    published_w: float
    power_w: float
    power_w_low: float
    power_w_high: float
    rel_error: float
    in_band: bool
    parts_w: dict[str, float]
    source: str
    luts_basis: str


class Power(msgspec.Struct, kw_only=True):
    """``power``; ``mean_error`` with ``--validate``: of the boards that did not calibrate the model."""

    schema: str
    rows: list[Board]
    mean_error: float | msgspec.UnsetType = msgspec.UNSET


class Doctor(Diagnosis, frozen=True, kw_only=True):
    """``doctor``: what was looked for; ``core_ok`` and ``rtl_ok`` say whether all of it that is needed is there."""

    schema: str


DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "presets/1": Presets, "fetch/1": Fetched, "trace/1": Trace, "simulate/1": Simulate,
    "simulate-published/1": SimulatePublished, "compare/1": Compare, "reproduce/1": Reproduce, "rtl/1": Rtl,
    "power/1": Power, "doctor/1": Doctor, "verify/1": hardware.Verify, "coverage/1": hardware.Coverage,
    "synth/1": hardware.Synth,
    "compile/1": hardware.Compile, "report/1": hardware.Page, "demo/1": hardware.Demo,
    "generate/1": hardware.Generate,
    "generate-rtl/1": hardware.GenerateRtl, "recorded-prices/1": studies.RecordedPrices, "sweep/1": studies.Sweep,
    "advise/1": studies.Advise, "sensitivity/1": studies.Sensitivity, "gpu-validation/1": studies.GpuValidation,
    "price-tables/1": studies.PriceTables, "prices/1": studies.Prices, "sram-prices/1": studies.SramPrices,
    "recipe-checks/1": studies.RecipeChecks, "recipe-runs/1": studies.RecipeRuns, "evaluate/1": studies.Evaluate,
    "evaluations/1": studies.Evaluations, "record/1": studies.Record,
}  # fmt: skip
"""The documents whose form is promised."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of the document ``name``: ``simulate/1``, or ``simulate`` for the newest version."""
    versions = [known for known in DOCUMENTS if known == name or known.partition("/")[0] == name]
    if not versions:
        raise InputError(f"NAME must be one of {', '.join(DOCUMENTS)}, not {name!r}")
    newest = max(versions, key=lambda known: int(known.partition("/")[2]))
    (made,), definitions = msgspec.json.schema_components([DOCUMENTS[newest]], ref_template="#/$defs/{name}")
    own = definitions.pop(made["$ref"].removeprefix("#/$defs/"))
    own["properties"]["schema"] = {"const": newest}
    return {"$schema": DIALECT, "$id": f"mixflight/{newest}", **own, "$defs": definitions}


def file_name(name: str) -> str:
    """The file in ``docs/schemas`` that holds the schema ``name``."""
    return name.replace("/", "-") + ".json"


def schema_text(name: str) -> str:
    """The schema ``name`` as the file has it."""
    return msgspec.json.format(msgspec.json.encode(schema_of(name)), indent=2).decode() + "\n"


def write_schemas(folder: Path) -> None:
    """Write every schema into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        (folder / file_name(name)).write_text(schema_text(name))


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
