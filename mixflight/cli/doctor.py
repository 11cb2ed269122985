"""``mixflight doctor``: what is installed, and how to mend what is not."""

from typing import TYPE_CHECKING

import typer

from mixflight.cli.options import JsonOption

if TYPE_CHECKING:
    from mixflight.doctor import Check

LONGEST_PATH = 18
"""Characters of a path in the table, its end; the document has all of it."""


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
            "what is installed", ("need", "name", "status", "found"),
            [(row.need, row.name, row.status, _shown(row)) for row in found.rows],
        )  # fmt: skip
        for row in found.rows:
            if row.mend:
                print(f"{row.name} ({row.used_by}): {row.mend}")
        print(f"core: {'whole' if found.core_ok else 'not whole'}; Verilog, synthesis and verification: "
              f"{'whole' if found.rtl_ok else 'not whole'}")  # fmt: skip
        return 0 if found.core_ok else 1


def _shown(row: "Check") -> str:
    """What was found, and what was wanted where it is something else."""
    words = (f"…{word[1 - LONGEST_PATH :]}" if word.startswith("/") and len(word) > LONGEST_PATH else word
             for word in row.found.split())  # fmt: skip
    wanted = f"wanted {row.wanted}" if row.wanted and row.status != "ok" else ""
    return " ".join((*words, wanted)).strip()
