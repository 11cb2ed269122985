"""A top with its parameters chosen: from its own defaults, an accelerator preset, and explicit values."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mixflight.arch.accelerator import Accelerator, accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.csd_chain import RATIOS
from mixflight.arch.errors import InputError
from mixflight.arch.pe import PeKind
from mixflight.rtl.core import Core
from mixflight.rtl.core_cluster import CoreCluster
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.tops import TOPS

ARCH_PES: Mapping[PeKind, str] = {
    "shift-add-4x8": "shift-add", "centred-4x8": "centred", "multiply-4x8": "multiply", "multiply-8x8": "int8",
    "shift-add-4x16-aligned": "aligned", "shift-add-4x16-float": "float", "fp16-mac": "fp16",
}
"""PE kinds of accelerator presets → the array's own names."""


def cores_of(machine: CoreMachine, *, generic: bool = False) -> Core | CoreCluster:
    """The core of ``machine``, or all of them, joined; ``generic`` as of a core."""
    return Core(machine, generic=generic) if machine.cores == 1 else CoreCluster(machine, generic=generic)


CORES = {"flightllm-core": cores_of}
"""Top name -> what builds a whole core from its machine, or several."""

DEFAULT_CORE = "flightllm-mini"
"""The machine whose core is emitted if none is named."""

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

    @property
    def documents(self) -> Mapping[str, str]:
        """Files that whoever uses the component needs beside its Verilog: name -> content."""
        return getattr(self.component, "documents", {})

    def emit(self) -> str:
        """The Verilog text; its top module is ``module``."""
        return emit_verilog(self.component, self.top)


CHAIN_TOPS = {"csd-chain": "dsp48e2", "csd-chain-dsp58": "dsp58"}
"""Tops that are a chain of a machine of cores, with the DSP block of each."""


def _of_array(machine: Accelerator | CoreMachine, given: set[str]) -> dict[str, Any]:
    """Dataflow, shape and PE of the array of ``machine``; lanes and split too unless a shape is given."""
    array = machine.array
    if array is None:
        raise InputError(f"--arch must be a machine with an array, not the DSP chains of {machine.name}, for an array")
    found = {"dataflow": array.dataflow, "rows": array.rows, "cols": array.cols, "pe": ARCH_PES[array.pe]}
    if not {"rows", "cols"} & given:
        found |= {"lanes": array.lanes, "split": array.split}
        if array.tokens is not None:
            found["tokens"] = array.tokens
    return found


def _of_chain(machine: Accelerator | CoreMachine, top: str) -> dict[str, Any]:
    """Length and DSP group of a chain of ``machine``, and its N:M ratios as far as the top has them."""
    chains = machine.chains if isinstance(machine, CoreMachine) else None
    if chains is None or chains.dsp_kind != CHAIN_TOPS[top]:
        raise InputError(f"--arch must be a machine of {CHAIN_TOPS[top]} chains, not {machine.name}, for {top}")
    own = {"dense" if keep == chains.sparse_m else f"{keep}:{chains.sparse_m}" for keep in chains.sparse_n if keep}
    return {"length": chains.chain, "group": chains.group,
            "ratios": ",".join(name for name in RATIOS if name in own)}


def _core(top: str, arch: str, given: Mapping[str, Any]) -> ChosenTop:
    """The core of the machine ``arch``, or its joined cores; they have no parameters of their own."""
    machine = accelerator_named(arch)
    if not isinstance(machine, CoreMachine):
        raise InputError(f"--arch must be a machine of FlightLLM cores, which {arch} is not, for {top}")
    for name, value in given.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} must not be given for {top}: its sizes are its machine's")
    component = CORES[top](machine)
    component._MustUse__used = True     # as below
    several = {"cores": machine.cores} if machine.cores > 1 else {}
    return ChosenTop(top=top, module=top.replace("-", "_"), component=component, clock_mhz=machine.clock_mhz,
                     parameters={"arch": machine.name, **several, **asdict(component.shape)})


def choose_top(top: str, *, arch: str | None = None, **given: Any) -> ChosenTop:
    """Build the top named ``top``.

    ``given`` holds the builder's keyword parameters; one that is None is not given. With ``arch`` the array's
    shape and PE come from that accelerator where they are not given. Bad values are an ``InputError``.
    """
    if top in CORES:
        return _core(top, arch or DEFAULT_CORE, given)
    if top not in TOPS:
        raise InputError(f"TOP must be one of {', '.join((*TOPS, *CORES))}, not {top!r}")
    build = TOPS[top]
    accepted = inspect.signature(build).parameters
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in accepted:
            raise InputError(f"--{name.replace('_', '-')} must not be given for {top}: "
                             f"its parameters are {', '.join(accepted)}")
    clock_mhz = 500.0
    if arch is not None:
        machine = accelerator_named(arch)
        clock_mhz = machine.clock_mhz
        if "rows" in accepted:
            chosen = {**_of_array(machine, given=set(chosen)), **chosen}
        elif top in CHAIN_TOPS:
            chosen = {**_of_chain(machine, top), **chosen}
        else:
            raise InputError(f"--arch must not be given for {top}: it is no array and no chain")
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
