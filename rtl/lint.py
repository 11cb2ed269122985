"""Verilator's lint over emitted text.

An error refuses the text, a warning is collected, a waiver has its reason.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mixflight.rtl.primitive_models import models_for
from mixflight.rtl.toolchain import Toolchain, find_toolchain, last_lines, run_tool

WAIVERS = {
    "WIDTHEXPAND": "Amaranth extends and truncates at the assignment; its own shape rules define both sides",
    "WIDTHTRUNC": "as WIDTHEXPAND, for the narrowing side",
    "DECLFILENAME": "one file holds every module of a design",
    "UNUSEDSIGNAL": "a struct port is also given as one named wire a field, and a field may go unread",
    "PROCASSINIT": "registers carry their reset value as initialiser too, which FPGA synthesis uses",
    "PINCONNECTEMPTY": "an output that nothing reads is left open by name",
    "PINMISSING": "an output of a device's primitive that nothing reads is left out",
}
"""Warning → why it says nothing about emitted text. All are about style, none about behaviour."""

_PRIMITIVES = "primitives.v"
"""The models of a device's primitives, whose warnings are not the text's."""

_MESSAGE = re.compile(r"^%(Error|Warning)(?:-([A-Z0-9_]+))?: (.*)$")


class LintError(RuntimeError):
    """The emitted text has an error: a defect of the generator, not of the user's input."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One warning: its Verilator name and its line."""

    rule: str
    message: str


def lint(text: str, *, top: str, toolchain: Toolchain | None = None) -> list[Finding]:
    """Lint ``text`` with every warning on but the waived ones.

    Returns
    -------
    The warnings, in the order of the text; an empty list is a clean text.

    Raises
    ------
    LintError
        The text does not parse or elaborate.
    """
    tools = toolchain or find_toolchain()
    with tempfile.TemporaryDirectory(prefix="mixflight-lint-") as folder:
        source = Path(folder) / f"{top}.v"
        source.write_text(text)
        (Path(folder) / _PRIMITIVES).write_text(models_for(text).removeprefix(text))
        done = run_tool(
            ["perl", str(tools.verilator), "--lint-only", "--default-language", "1364-2005", "-Wall", "-Wno-fatal",
             *(f"-Wno-{rule}" for rule in WAIVERS), "--top-module", top, source.name, _PRIMITIVES],
            environment=tools.environment, folder=Path(folder))
    findings, errors = [], []
    for line in done.stdout.splitlines():
        match = _MESSAGE.match(line)
        if match and match[1] == "Error":
            errors.append(match[3])
        elif match and not match[3].startswith(_PRIMITIVES):
            findings.append(Finding(rule=match[2] or "", message=match[3]))
    if errors or done.returncode != 0:
        said = errors[0] if errors else last_lines(done.stdout)
        raise LintError(f"{top}: the emitted Verilog must be accepted by Verilator: {said}")
    return findings
