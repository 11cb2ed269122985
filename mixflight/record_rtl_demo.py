"""Draw what ``mixflight generate --backend rtl`` shows in a terminal, from a run's own JSON document.

    python -m mixflight.record_rtl_demo RUN.json docs/rtl-speaks.svg
"""

import re
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.cli.generate_demo import Demo
from mixflight.rtl_session import TokenRun

WIDTH = 76
_FONTS = re.compile(r"^ *@font-face \{.*?^ *\}\n", re.S | re.M)
"""Fonts that a browser would fetch from elsewhere."""


def recorded_demo(document: dict[str, Any]) -> Demo:
    """The view as it stood when the run of ``document`` ended."""
    machine = accelerator_named(document["arch"])
    if not isinstance(machine, CoreMachine) or not document["cycles_per_token"]:
        raise InputError("the document must be that of a generation on a core's RTL, with a step at least")
    demo = Demo(document["prompt"])
    known = [*document["prompt_tokens"], *document["tokens"]]
    demo.begins(machine, document["layers"], document["prompt_tokens"], len(document["tokens"]))
    demo.said = document["text"]
    columns = ("cycles_per_token", "engine_cycles_per_token", "axi_read_bytes_per_token", "axi_written_bytes_per_token",
               "energy_j_per_token", "seconds_per_token")  # fmt: skip
    for position, (cycles, engine, read, written, energy, seconds) in enumerate(
        zip(*(document[name] for name in columns), strict=True)
    ):
        demo.steps.append(TokenRun(
            position=position, token=known[position], cycles=cycles, engine_cycles=engine, read_bytes=read,
            written_bytes=written, energy_j=energy, seconds=seconds,
        ))  # fmt: skip
    return demo


def main() -> None:
    """Read the document, write the picture."""
    document = msgspec.json.decode(Path(sys.argv[1]).read_bytes())
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(recorded_demo(document))
    drawn = console.export_svg(title="mixflight generate --backend rtl")
    Path(sys.argv[2]).write_text(re.sub(r"[ \t]+$", "", _FONTS.sub("", drawn), flags=re.M))


if __name__ == "__main__":
    main()
