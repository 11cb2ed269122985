"""From a compressed LLM file to an accelerator whose numbers can be believed.

    simulate(arch, model, ...)        time and energy of a prefill and a decode on one machine
    compare(archs, model, ...)        several machines as a pandas table
    sweep(space, folder, ...)         the front of a design space as a pandas table
    load_model(model, recipe)         what a model must compute and in which formats
    build_rtl(top, folder, ...)       a top as Verilog, FuseSoC core and Vivado project
    verify(top, ...)                  its Verilog against golden values and computed cycles, as a pandas table
    report(folder)                    the page of a run or a sweep: a file, figures, a notebook's output
    InputError                        what is raised for what a user gave and cannot be used

The subpackages ``arch``, ``workloads``, ``mapping``, ``sim``, ``rtl`` and ``reports`` are the folders of the same names
beside this one, each with a paragraph at its head; what stands here joins them into commands and this interface.
"""

from typing import TYPE_CHECKING, Any

try:
    from mixflight._version import version as __version__
except ImportError:  # neither built nor installed
    __version__ = "0.0.0"
__all__ = [
    "InputError", "Report", "Simulation", "__version__", "build_rtl", "compare", "load_model", "load_workload",
    "report", "simulate", "sweep", "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from mixflight.api import build_rtl, compare, load_model, simulate, sweep, verify
    from mixflight.arch.errors import InputError
    from mixflight.reporting import Report, report
    from mixflight.sim.simulate import Simulation
    from mixflight.workload import load_workload

_HOMES = {
    "InputError": "mixflight.arch.errors",
    "Report": "mixflight.reporting",
    "Simulation": "mixflight.sim.simulate",
    "load_workload": "mixflight.workload",
    "build_rtl": "mixflight.api",
    "compare": "mixflight.api",
    "load_model": "mixflight.api",
    "report": "mixflight.reporting",
    "simulate": "mixflight.api",
    "sweep": "mixflight.api",
    "verify": "mixflight.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import mixflight`` stays fast."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mixflight' has no attribute {name!r}")
