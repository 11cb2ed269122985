"""A top with its parameters chosen: from its own defaults, an accelerator preset, and explicit values."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixflight.arch.accelerator import array_named
from mixflight.arch.errors import InputError
from mixflight.arch.pe import PeKind
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.tops import TOPS

ARCH_PES: Mapping[PeKind, str] = {
    "shift-add-4x8": "shift-add", "centred-4x8": "centred", "multiply-4x8": "multiply", "multiply-8x8": "int8",
    "shift-add-4x16-aligned": "aligned", "shift-add-4x16-float": "float", "fp16-mac": "fp16",
}
"""PE kinds of accelerator presets → the array's own names."""

MOST_PES = 4096
"""Of an array that is emitted: 2,048 take 20 to 30 s of a processor to write."""


@dataclass(frozen=True, kw_only=True)
class ChosenTop:
    """A component that can be emitted, and what it was built from."""

    top: str
    module: str
    component: Any
    parameters: Mapping[str, Any]
    clock_mhz: float

    def emit(self) -> str:
        """The Verilog text; its top module is ``module``."""
        return emit_verilog(self.component, self.top)


def choose_top(top: str, *, arch: str | None = None, **given: Any) -> ChosenTop:
    """Build the top named ``top``.

    ``given`` holds the builder's keyword parameters; one that is None is not given. With ``arch`` the array's
    shape and PE come from that accelerator where they are not given. Bad values are an ``InputError``.
    """
    if top not in TOPS:
        raise InputError(f"TOP must be one of {', '.join(TOPS)}, not {top!r}")
    build = TOPS[top]
    accepted = inspect.signature(build).parameters
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in accepted:
            raise InputError(f"--{name.replace('_', '-')} must not be given for {top}: "
                             f"its parameters are {', '.join(accepted)}")
    clock_mhz = 500.0
    if arch is not None:
        machine = array_named(arch)
        clock_mhz = machine.clock_mhz
        if "rows" not in accepted:
            raise InputError(f"--arch must not be given for {top}: it is no array")
        shape = {"dataflow": machine.array.dataflow, "rows": machine.array.rows, "cols": machine.array.cols}
        if not {"rows", "cols"} & set(chosen):
            shape |= {"lanes": machine.array.lanes, "split": machine.array.split}
            if machine.array.tokens is not None:
                shape["tokens"] = machine.array.tokens
        chosen = {**shape, "pe": ARCH_PES[machine.array.pe], **chosen}
    for name in ("rows", "cols", "lanes", "group", "group_max", "split", "tokens"):
        if name in chosen and chosen[name] < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {chosen[name]}, for {top}")
    pes = math.prod(chosen.get(name, accepted[name].default) for name in ("rows", "cols") if name in accepted)
    if pes > MOST_PES:
        raise InputError(f"an emitted array must have at most {MOST_PES:,} PEs, not {pes:,}, for {top}")
    component = build(**chosen)
    component._MustUse__used = True     # a top may be looked at and not emitted; Amaranth would warn
    parameters = {name: getattr(component, name, chosen.get(name, parameter.default))
                  for name, parameter in accepted.items()}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    return ChosenTop(top=top, module=top.replace("-", "_"), component=component, parameters=parameters,
                     clock_mhz=clock_mhz)
