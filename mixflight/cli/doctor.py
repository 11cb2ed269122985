"""``mixflight doctor``: what is installed, and how to mend what is not."""

import typer

from mixflight.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def doctor(json: JsonOption = False) -> int:
        """Packages, compiler, Verilator, Yosys, caches and GPU: version, and one line how to mend each.

        Exit status 0 when all of need "core" is there, 1 when not; what only rtl, synth, verify or one option needs
        does not count.
        """
        from mixflight.cli.output import print_json, print_table
        from mixflight.doctor import diagnose

        found = diagnose()
        if json:
            print_json(found, "doctor/1")
            return 0 if found.core_ok else 1
        print_table(
            "what is installed", ("need", "name", "status", "wanted", "found"),
            [(row.need, row.name, row.status, row.wanted, row.found) for row in found.rows],
        )  # fmt: skip
        for row in found.rows:
            if row.mend:
                print(f"{row.name} ({row.used_by}): {row.mend}")
        print(f"core: {'whole' if found.core_ok else 'not whole'}; Verilog, synthesis and verification: "
              f"{'whole' if found.rtl_ok else 'not whole'}")  # fmt: skip
        return 0 if found.core_ok else 1
