"""Prices of our own PEs from counted switching, so that they depend on the bits of a model's operands.

    preset_text    arch/technology/osu018-scaled.toml: SmolLM2's operands, as arch/synthesis/osu018.toml has them
    record_prices  a price table for other operands: a model and a text through the mapped cells

    python -m mixflight.pe_prices       writes the preset

The cells are of 180 nm at 1.8 V; a price is their energy on the model's recorded operands times a factor to 45 nm at
0.9 V, the node and supply of the literature that prices the rest of the machine (``node_scaling``). Its band spans the
same without hazards, uniform random operands, those under the other rule of scaling (``classical_energy``), and what
the literature says of such a PE at 45 nm.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from mixflight.arch.cell_counts import OperandEnergy, cell_counts_named
from mixflight.arch.errors import InputError
from mixflight.arch.node_scaling import CLASSICAL, classical_energy, node_scaling
from mixflight.arch.prices import Price, Quote, price_table, technologies

PRESET = "osu018-scaled"
BASE = "45nm-literature"
FACTOR = node_scaling("180", 1.8, "45-hp", 0.9).energy
OTHER_FACTOR = classical_energy(180, 1.8, 45, 0.9)

_YEAR = "2026"
_RULE = f"times {FACTOR:.5f}: 180 nm at 1.8 V to 45 nm at 0.9 V by arch/node_scaling.toml"


class PricedPe(msgspec.Struct, frozen=True, kw_only=True):
    """A PE kind of machines and an action of it, the row of cells that has its energy, and on which operands.

    ``operands``: ``real``, or ``real-codes``, the model's own 4-bit codes on an INT8 PE.
    """

    kind: str
    row: str
    action: str = "mac"
    operands: str = "real"


PRICED = (
    PricedPe(kind="shift-add-4x8", row="mixpe-w4a8-pe"),
    PricedPe(kind="centred-4x8", row="mixpe-w4a8-centred-pe"),
    PricedPe(kind="multiply-4x8", row="mul4x8-pe"),
    PricedPe(kind="multiply-8x8", row="int8-pe"),
    PricedPe(kind="multiply-8x8", row="int8-pe", action="mac_4bit", operands="real-codes"),
    PricedPe(kind="shift-add-4x16-aligned", row="mixpe-w4a16-aligned-pe"),
    PricedPe(kind="shift-add-4x16-float", row="mixpe-w4a16-pe"),
    PricedPe(kind="fp16-mac", row="fp16-pe"),
)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One price with the energies that it comes from, pJ a MAC at 180 nm."""

    pe: str
    action: str
    recorded_pj: float
    uniform_pj: float
    price: Price

    @property
    def ratio(self) -> float:
        """What the recorded operands take of what uniform ones do."""
        return self.recorded_pj / self.uniform_pj


def recorded_price(pe: PricedPe, energy: Mapping[str, OperandEnergy], whose: str) -> Recorded:
    """The price of ``pe`` from its energies by operands (``real``, ``random``, ``real-codes``); ``whose`` they are."""
    found, uniform = energy[pe.operands], energy["random"]
    literature = price_table(BASE).of(f"pe.{pe.kind}", pe.action)
    wide = "" if pe.operands == "real" else ", weights of 8 bits"

    def derived(pj: float, factor: float, source: str) -> Quote:
        return Quote(value_pj=_digits(pj * factor), basis="derived", date=_YEAR, source=source)

    others = (
        derived(found.settled_pj_per_mac, FACTOR, f"the same without hazards: {found.settled_pj_per_mac:g} pJ"),
        derived(uniform.pj_per_mac, FACTOR, f"uniform random operands{wide}: {uniform.pj_per_mac:g} pJ"),
        derived(uniform.pj_per_mac, OTHER_FACTOR,
                f"uniform random operands{wide}, times {OTHER_FACTOR:g} by the other rule: {CLASSICAL}"),
        Quote(value_pj=literature.value_pj, basis=literature.basis, date=literature.date,
              source=f"{BASE}: {literature.source}"),
    )  # fmt: skip
    source = f"{pe.row} in osu018 cells on {whose}, hazards counted: {found.pj_per_mac:g} pJ, {_RULE}"
    price = Price(
        component=f"pe.{pe.kind}", action=pe.action, value_pj=_digits(found.pj_per_mac * FACTOR), basis="derived",
        date=_YEAR, source=source, others=others,
    )  # fmt: skip
    return Recorded(
        pe=pe.kind, action=pe.action, recorded_pj=found.pj_per_mac, uniform_pj=uniform.pj_per_mac, price=price
    )


def preset_text() -> str:
    """The preset table, as its file must be."""
    whose = {"real": "SmolLM2-135M's operands", "real-codes": "SmolLM2-135M's own 4-bit codes"}
    rows = [recorded_price(pe, cell_counts_named(pe.row).energy, whose[pe.operands]) for pe in PRICED]
    return _as_toml(
        "energy of our own PEs, switching counted in osu018 cells on SmolLM2-135M's operands, scaled to 45 nm at "
        "0.9 V; the rest of 45 nm literature", BASE, rows, "# Written by `python -m mixflight.pe_prices`; do not edit.",
    )  # fmt: skip


def record_prices(
    model: Path, output: Path, *, text: str | None = None, kinds: Sequence[str] = (),
    tell: Callable[[str], None] = lambda kind: None,
) -> list[Recorded]:  # fmt: skip
    """Write ``output``, a price table whose PEs are priced on the operands that ``model`` has while it reads ``text``.

    ``model`` is a GGUF file with Q4_1 linears, ``kinds`` the PEs (all without), ``tell`` hears each before it is
    simulated. A machine takes the table as ``ARCH@OUTPUT``; PEs that are not in it keep their price of the preset.
    """
    from mixflight.energy import measure_operands, real_operands
    from mixflight.files import whole_file
    from mixflight.rtl.cell_libraries import library_path
    from mixflight.rtl.cell_synthesis import synthesise_cells
    from mixflight.rtl.design import choose_top
    from mixflight.verify_tiles import PROMPT

    if output.suffix != ".toml" or output.stem in technologies():
        raise InputError(f"the price table must be a .toml file with a name of its own, not {output}")
    chosen = [pe for pe in PRICED if not kinds or pe.kind in kinds]
    for kind in kinds:
        if kind not in {pe.kind for pe in PRICED}:
            raise InputError(f"--pe must be one of {', '.join(dict.fromkeys(pe.kind for pe in PRICED))}, not {kind!r}")
    text = PROMPT if text is None else text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    whose = f"the operands of {model.name} reading a text of SHA-256 {digest}"
    liberty, operands = library_path("osu018"), real_operands(model, text)
    energies: dict[str, dict[str, OperandEnergy]] = {}
    with whole_file(output) as part:
        for pe in chosen:
            if pe.row not in energies:
                tell(pe.kind)
                top = choose_top(pe.row)
                mapped = synthesise_cells(top.emit(), top=top.module, liberty=liberty)
                energies[pe.row] = {
                    **msgspec.convert(measure_operands(top, mapped, {"real": operands}), dict[str, OperandEnergy]),
                    "random": cell_counts_named(pe.row).energy["random"],
                }
        rows = [recorded_price(pe, energies[pe.row], whose) for pe in chosen]
        part.write_text(_as_toml(f"our own PEs on {whose}; the rest of {PRESET}", PRESET, rows), encoding="utf-8")
    return rows


def _as_toml(summary: str, base: str, rows: Sequence[Recorded], *head: str) -> str:
    lines = [*head, f"summary = {_string(summary)}", f"base = {_string(base)}"]
    for row in rows:
        price = row.price
        lines += ["", "[[price]]", f"component = {_string(price.component)}", f"action = {_string(price.action)}"]
        lines += _quote(price)
        for other in price.others:
            lines += ["[[price.others]]", *_quote(other)]
    return "\n".join(lines) + "\n"


def _quote(quote: Quote) -> list[str]:
    return [f"value_pj = {quote.value_pj}", f"basis = {_string(quote.basis)}", f"date = {_string(quote.date)}",
            f"source = {_string(quote.source)}"]  # fmt: skip


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _digits(pj: float) -> float:
    return float(f"{pj:.3g}")


if __name__ == "__main__":
    with technologies()[PRESET].open("w", encoding="utf-8") as file:
        file.write(preset_text())
