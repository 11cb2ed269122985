"""``mixflight prices``: what an action costs in each technology, by which source, and how far sources differ."""

from typing import Annotated, Any

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.options import JsonOption
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def prices(
        name: Annotated[
            str | None, typer.Argument(help="Technology or its TOML file, DRAM standard, or sram.", metavar="[NAME]")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Price tables with units, bands, sources and dates; without a name, which there are.

        Example: mixflight prices 45nm-literature
        """
        from mixflight.arch.sram_energy import sram_nodes

        if name is None:
            found = _tables()
            if json:
                print_json({"rows": found})
                return
            print_table("price tables", ("name", "of", "summary"), [tuple(row.values()) for row in found])
            return
        if name == "sram":
            rows = [row for node in sram_nodes() for row in _sram_rows(node)]
            if json:
                print_json({"rows": rows})
                return
            print_table(
                "SRAM: pJ a bit = a + b bytes^p, fitted to CACTI points",
                ("node", "action", "bytes", "CACTI", "formula", "error %"),
                [(row["node"], row["action"], row["bytes"], row["published"], row["value"], 100 * row["rel_error"])
                 for row in rows],
            )  # fmt: skip
            for line in dict.fromkeys(f"{row['node']} {row['action']}: {row['formula']}; {row['source']}, {row['date']}"
                                      for row in rows):  # fmt: skip
                print(line)
            return
        rows = _price_rows(name)
        if json:
            print_json({"rows": rows})
            return
        print_table(
            f"{name}: pJ an action (a bit of *_bit, a nanosecond of *_ns)",
            ("component", "action", "pJ", "low", "high", "date", "basis and sources"),
            [(row["component"], row["action"], row["value"], row["low"], row["high"], row["date"], _said(row))
             for row in rows],
        )  # fmt: skip


def _tables() -> list[dict[str, Any]]:
    from mixflight.arch.prices import dram_energies, price_table, technologies
    from mixflight.arch.sram_energy import sram_nodes

    chips = [{"name": name, "of": "chip", "summary": price_table(name).summary} for name in technologies()]
    drams = [{"name": name, "of": "DRAM", "summary": table.summary} for name, table in dram_energies().items()]
    nodes = " and ".join(sram_nodes())
    return [*chips, *drams, {"name": "sram", "of": "SRAM", "summary": f"by size at {nodes}, with the formula's error"}]


def _price_rows(name: str) -> list[dict[str, Any]]:
    from mixflight.arch.prices import dram_energies, price_table, technologies

    if name not in dram_energies() and name not in technologies() and not name.endswith(".toml"):
        known = ", ".join((*technologies(), *dram_energies(), "sram"))
        raise InputError(f"prices must be those of a .toml file or of one of {known}, not {name!r}")
    table = dram_energies().get(name) or price_table(name)
    return [
        {
            "component": price.component, "action": price.action, "unit": "pJ", "value": price.value_pj,
            "low": price.low_pj, "high": price.high_pj, "basis": price.basis, "date": price.date,
            "source": price.source, "others": price.others,
        }
        for price in table.price
    ]  # fmt: skip


def _said(row: dict[str, Any]) -> str:
    others = [f"{other.value_pj:g}: {other.basis}, {other.date}, {other.source}" for other in row["others"]]
    return "; ".join([f"{row['basis']}: {row['source']}", *others])


def _sram_rows(name: str) -> list[dict[str, Any]]:
    from mixflight.arch.sram_energy import Action, sram_node

    node = sram_node(name)
    actions: tuple[Action, ...] = ("read", "write")
    found = []
    for action in actions:
        base, slope, power = node.coefficients(action)
        for point, error in zip(node.points, node.errors(action), strict=True):
            found.append({
                "node": name, "action": f"{action}_bit", "bytes": point.bytes, "unit": "pJ",
                "published": point.pj_per_bit(action), "value": node.pj_per_bit(action, point.bytes),
                "rel_error": error, "formula": f"{base:.4g} + {slope:.4g} bytes^{power:g}", "source": node.source,
                "date": node.date,
            })  # fmt: skip
    return found
