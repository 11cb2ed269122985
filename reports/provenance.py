"""Where a number of the page comes from, in one sentence: what a reader sees who points at it."""

from mixflight.arch.prices import Price
from mixflight.reports.component_groups import group_of
from mixflight.reports.document import Document, Gpu, Machine, Sweep

ENGINE = "derived: the cycle engine's time of every operator"
READ = "read from the model: its dimensions and stored formats"
COUNTED = "derived: counted actions times the prices below"
RTL = "measured: the emitted Verilog under Verilator"
TEXT = "measured: the emitted Verilog as Pyverilog reads it"
TABLE = "quoted: a table of prices, each of which has its source below"
SCENARIO = "chosen: the scenario that was asked for"
FINDINGS = "derived: from the tables and figures below, each of whose numbers says where it comes from"


def parameter(machine: Machine, *names: str) -> str:
    """The sources of parameters of ``machine``; of one that has none its table's."""
    said = {item.name: f"{item.basis}: {item.source}" for item in machine.parameters}
    return "; ".join(dict.fromkeys(said.get(name, said.get(name.partition(".")[0], "not stated")) for name in names))


def time(machine: Machine) -> str:
    """Of a time or a rate."""
    return f"{ENGINE}, at {machine.clock_mhz:g} MHz ({parameter(machine, 'clock_mhz')})"


def energy(document: Document, group: str | None = None) -> str:
    """Of an energy: the prices of its actions, of a ``group`` of components or of all."""
    if group is None:
        return f"{COUNTED}; its band takes all prices at their lowest and all at their highest at once"
    said = [
        f"{item.component} {item.action} {item.value_pj:g} pJ ({item.basis}: {item.source})"
        for item in document.prices if group_of_price(item) == group
    ]  # fmt: skip
    return f"{COUNTED}: {'; '.join(said)}" if said else COUNTED


def group_of_price(price: Price) -> str:
    """The group of components that a price belongs to."""
    leaks = price.component.startswith("pe.") and price.action.startswith("leak")
    return group_of(f"{price.component} leakage" if leaks else price.component)


def resources(document: Document) -> str:
    """Of counts of synthesis."""
    assert document.synthesis is not None
    found = document.synthesis
    return f"measured: {found.tool} on the emitted Verilog, mapped to {found.target}, not placed"


def gpu(found: Gpu) -> str:
    """Of a time or an energy of a GPU."""
    first, _, rest = found.evidence.partition("; ")
    return f"measured: on this GPU; {rest}" if first == "measured" else f"derived: {found.evidence}"


def ratio(document: Document) -> str:
    """Of a machine over a GPU."""
    assert document.gpus is not None
    scopes = " or ".join(sorted({item.scope for item in document.gpus.gpus}))
    return (
        f"derived: decode of both, simulated; energy of a GPU's {scopes} over that of a machine's "
        f"{document.gpus.machine_scope}; the band has one side at its best and the other at its worst"
    )


def front(sweep: Sweep) -> str:
    """Of the points of a sweep as a whole."""
    tier = "the cycle engine" if sweep.fidelity != "closed-form" else "the closed form"
    digests = f"code {sweep.code_sha256[:16]}, space {sweep.space_sha256[:16]}"
    return f"derived: {tier} on every point of the front; {digests}"
