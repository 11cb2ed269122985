"""``mixflight prices``: what an action costs in each technology, by which source, and how far sources differ."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import prices as known
from mixflight.cli.options import JsonOption
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def prices(
        name: Annotated[
            str | None, typer.Argument(help="Technology or its TOML file, DRAM standard, or sram.", metavar="[NAME]",
                                       autocompletion=known)
        ] = None,
        operands: Annotated[str | None, typer.Option("--operands", metavar="MODEL", help=(
            "Price our PEs on this model's own operands: smollm2 or a .gguf file of Q4_1."))] = None,
        text: Annotated[str | None, typer.Option("--text", help="What the model of --operands reads.")] = None,
        pe: Annotated[list[str] | None, typer.Option("--pe", metavar="KIND", help="Only this PE; repeatable.")] = None,
        output: Annotated[Path | None, typer.Option(
            "-o", "--output", metavar="FILE.toml", help="The table that --operands writes.")] = None,
        json: JsonOption = False,
    ) -> None:
        """Price tables with units, bands, sources and dates; without a name, which there are.

        --operands maps our PEs to osu018 cells, drives them with the recorded operands, counts what toggles and writes
        a table that a machine takes as ARCH@FILE.toml.
        """
        from mixflight.arch.sram_energy import sram_nodes

        if operands is not None:
            _record(operands, text, pe or [], name, output, json)
            return
        if text is not None or pe or output is not None:
            raise InputError("--text, --pe and -o must stand with --operands")
        if name is None:
            found = _tables()
            if json:
                print_json({"rows": found}, "price-tables/1")
                return
            print_table("price tables", ("name", "of", "summary"), [tuple(row.values()) for row in found])
            return
        if name == "sram":
            rows = [row for node in sram_nodes() for row in _sram_rows(node)]
            if json:
                print_json({"rows": rows}, "sram-prices/1")
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
            print_json({"rows": rows}, "prices/1")
            return
        print_table(
            f"{name}: pJ an action (a bit of *_bit, a nanosecond of *_ns)",
            ("component", "action", "pJ", "low", "high", "date", "basis and sources"),
            [(row["component"], row["action"], row["value"], row["low"], row["high"], row["date"], _said(row))
             for row in rows],
        )  # fmt: skip


def _record(model: str, text: str | None, kinds: list[str], name: str | None, output: Path | None, json: bool) -> None:
    from mixflight.cli.output import progress
    from mixflight.generate import model_path
    from mixflight.pe_prices import record_prices

    if name is not None or output is None:
        raise InputError("--operands must stand with -o FILE.toml and without a NAME")
    with progress() as bars:
        task = bars.add_task("reading the model", total=None)

        def tell(kind: str) -> None:
            bars.update(task, description=f"mapping and simulating {kind}")

        found = record_prices(model_path(model), output, text=text, kinds=kinds, tell=tell)
    rows = [
        {"pe": row.pe, "action": row.action, "unit": "pJ", "recorded_180nm": row.recorded_pj,
         "uniform_180nm": row.uniform_pj, "ratio": row.ratio, "value": row.price.value_pj, "low": row.price.low_pj,
         "high": row.price.high_pj}
        for row in found
    ]  # fmt: skip
    if json:
        print_json({"output": str(output), "rows": rows}, "recorded-prices/1")
        return
    print_table(
        f"{output}: pJ a MAC on the recorded operands, at 180 nm and as priced",
        ("PE", "action", "recorded", "uniform", "ratio", "price", "low", "high"),
        [(row["pe"], row["action"], row["recorded_180nm"], row["uniform_180nm"], row["ratio"], row["value"], row["low"],
          row["high"]) for row in rows],
    )  # fmt: skip
    print(f"a machine takes it as ARCH@{output}")


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
