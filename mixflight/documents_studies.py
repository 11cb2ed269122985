"""Documents of ``--json`` that speak of many designs, prices and methods: sweeps, advice, sensitivity, tables."""

import msgspec

from mixflight.advising.footprint import Footprint
from mixflight.arch.core import Device
from mixflight.recipe_runs import RecipeRun
from mixflight.sensitivity import Moved
from mixflight.sim.evaluation.record import CodeStatistics
from mixflight.sim.gpu.validate import Row as GpuRow
from mixflight.sweeping.run import Outcome
from mixflight.workloads.recipe_checks import CheckRow


class Sweep(Outcome, frozen=True, kw_only=True):
    """``sweep``: counts, how far the tiers disagree, and the front, best first."""

    schema: str


class Step(msgspec.Struct, kw_only=True):
    """One kept change. ``gain``: the target's quantity after over before, as the search saw it; ``checked_gain`` the
    same over the whole scenario, and whether the two agree. ``tried`` changes, ``fitting`` of which could be built."""

    change: str
    reason: str
    bottleneck: str
    gain: float
    checked_gain: float
    agrees: bool
    tried: int
    fitting: int
    values: dict[str, float]
    accuracy: str | msgspec.UnsetType = msgspec.UNSET


class Alternative(msgspec.Struct, kw_only=True):
    """A design one change from the final one, over the whole scenario."""

    change: str
    meets: bool
    values: dict[str, float]
    accuracy: str | msgspec.UnsetType = msgspec.UNSET


class Advise(msgspec.Struct, kw_only=True):
    """``advise``: the walk from ``start`` by ``steps``, the design as TOML, its blocks, and what stands nearby."""

    schema: str
    start: str
    start_values: dict[str, float]
    steps: list[Step]
    values: dict[str, float]
    meets: bool
    ended: str
    alternatives: list[Alternative]
    design: str
    design_path: str
    verilog: str
    resources: Footprint
    device: Device
    of_device: dict[str, float]
    recipe: str | msgspec.UnsetType = msgspec.UNSET


class Conclusion(msgspec.Struct, kw_only=True):
    """The first machine's metric over that of ``against``, and the numbers that turn it over."""

    against: str
    ratio: float
    flipped_by: list[str]
    sentence: str


class Sensitivity(msgspec.Struct, kw_only=True):
    """``sensitivity``: every price and assumption moved alone to its ends."""

    schema: str
    metric: str
    metrics: list[str]
    conclusions: list[Conclusion]
    rows: list[Moved]


class GpuValidation(msgspec.Struct, kw_only=True):
    """``gpu --validate``: errors of the model, as shares, beside the goals."""

    schema: str
    goal_mape_time: float
    goal_mape_energy: float
    rows: list[GpuRow]


class PriceTable(msgspec.Struct, kw_only=True):
    """A table of prices and what it prices."""

    name: str
    of: str
    summary: str


class PriceTables(msgspec.Struct, kw_only=True):
    """``prices`` without a name."""

    schema: str
    rows: list[PriceTable]


class Quote(msgspec.Struct, kw_only=True):
    """What another source says of an action."""

    value_pj: float
    basis: str
    source: str
    date: str


class PriceRow(msgspec.Struct, kw_only=True):
    """An action of a component: its price in ``unit`` with the band that its sources span."""

    component: str
    action: str
    unit: str
    value: float
    low: float
    high: float
    basis: str
    date: str
    source: str
    others: list[Quote]


class Prices(msgspec.Struct, kw_only=True):
    """``prices NAME``."""

    schema: str
    rows: list[PriceRow]


class SramRow(msgspec.Struct, kw_only=True):
    """A published point of an SRAM's energy and what the fitted formula says there."""

    node: str
    action: str
    bytes: int
    unit: str
    published: float
    value: float
    rel_error: float
    formula: str
    source: str
    date: str


class SramPrices(msgspec.Struct, kw_only=True):
    """``prices sram``."""

    schema: str
    rows: list[SramRow]


class RecordedPrice(msgspec.Struct, kw_only=True):
    """A PE's action on recorded operands and on uniform ones at 180 nm, their ratio, and the price with its band."""

    pe: str
    action: str
    unit: str
    recorded_180nm: float
    uniform_180nm: float
    ratio: float
    value: float
    low: float
    high: float


class RecordedPrices(msgspec.Struct, kw_only=True):
    """``prices --operands``: the table that was written."""

    schema: str
    output: str
    rows: list[RecordedPrice]


class Method(msgspec.Struct, kw_only=True):
    """A preset recipe and its row in the list of methods."""

    id: str
    name: str
    family: str


class RecipeChecks(msgspec.Struct, kw_only=True):
    """``recipes --check``: reported values recomputed; recipes with equal traces, and those without a check."""

    schema: str
    rows: list[CheckRow]
    identical: list[list[str]]
    unchecked: list[str]
    recipes: list[Method]


class RecipeRuns(msgspec.Struct, kw_only=True):
    """``recipes --simulate``."""

    schema: str
    rows: list[RecipeRun]


class Lengths(msgspec.Struct, kw_only=True):
    """What costs and speed are of."""

    prefill: int
    decode: int
    batch: int


class Evaluation(msgspec.Struct, kw_only=True):
    """Perplexity of a recipe with its interval, and what a token costs; ratios with ``--reference``."""

    model: str
    recipe: str
    summary: str
    arithmetic: str
    perplexity: float
    perplexity_low: float
    perplexity_high: float
    interval: str
    tokens: int
    text_tokens: int
    text_sha256: str
    windows: int
    window_tokens: int
    preparation: list[str]
    weight_bytes: float
    kv_bytes: float
    macs: int
    arch: str | None
    scenario: Lengths
    energy_mj_per_token: float | None
    energy_mj_per_token_low: float | None
    energy_mj_per_token_high: float | None
    energy_note: str
    decode_tokens_per_s: float | None
    scoring_s: float
    tokens_per_s: float
    ratio_to_unquantised: float | msgspec.UnsetType = msgspec.UNSET
    ratio_to_unquantised_low: float | msgspec.UnsetType = msgspec.UNSET
    ratio_to_unquantised_high: float | msgspec.UnsetType = msgspec.UNSET


class Evaluate(Evaluation, kw_only=True):
    """``evaluate`` of one recipe."""

    schema: str


class Evaluations(msgspec.Struct, kw_only=True):
    """``evaluate`` of several recipes."""

    schema: str
    rows: list[Evaluation]


class Record(msgspec.Struct, kw_only=True):
    """``trace --record``: histograms of the codes of weights by role, and of activations by the input they are."""

    schema: str
    model: str
    tokens: int
    activation_group: int
    weights: dict[str, CodeStatistics]
    activations: dict[str, CodeStatistics]


