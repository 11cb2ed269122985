"""A machine of cores as a TOML file that reads back as the same machine, and the command that writes its Verilog."""

import json
from typing import Any

import msgspec

from mixflight.arch.core import Chains, CoreMachine
from mixflight.workloads.recipe import Recipe


def to_toml(machine: CoreMachine, changed: tuple[str, ...] = ()) -> str:
    """The machine's text; ``changed`` are the steps of a walk, named in a comment. The file's name is its name."""
    table: dict[str, Any] = msgspec.to_builtins(machine)
    del table["name"]
    lines = [f"# {text}" for text in changed]
    lines += [f"{key} = {_value(value)}" for key, value in table.items() if not _is_table(value) and value is not None]
    for key, value in table.items():
        if _is_table(value):
            lines += _table(key, value)
    return "\n".join(lines) + "\n"


def _table(path: str, table: dict[str, Any]) -> list[str]:
    own = {key: value for key, value in table.items() if not _is_table(value) and value is not None}
    lines = ["", f"[{path}]", *(f"{_key(key)} = {_value(value)}" for key, value in own.items())] if own else []
    for key, value in table.items():
        if _is_table(value):
            lines += _table(f"{path}.{key}", value)
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def verilog_command(machine: CoreMachine, recipe: Recipe, path: str) -> str:
    """``mixflight rtl`` for the matrix engine of the design in the file ``path``: its whole array, or one of its
    chains."""
    if isinstance(machine.mpe, Chains):
        top = "csd-chain-dsp58" if machine.mpe.dsp_kind == "dsp58" else "csd-chain"
        return f"mixflight rtl {top} --arch {path} -o rtl"
    zeros = {recipe.weight_format(name).zero for name in ("q", "down")}
    zero = "f16-min" if "f16-min" in zeros else "int4" if "int4" in zeros else "none"
    return f"mixflight rtl mixpe-array --arch {path} --zero {zero} -o rtl"
