"""Where a number of the page comes from, in one sentence: what a reader sees who points at it."""

from mixflight.arch.prices import Price
from mixflight.reports.component_groups import group_of
from mixflight.reports.document import Document, Machine

ENGINE = "derived: the cycle engine's time of every operator"
READ = "read from the model: its dimensions and stored formats"
COUNTED = "derived: counted actions times the prices below"
RTL = "measured: the emitted Verilog under Verilator"


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
