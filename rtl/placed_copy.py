"""Parts that occur many times in a parent: one is elaborated, the others are stand-ins while Verilog is written."""

from amaranth import *
from amaranth.lib import wiring

WRITING = object()
"""The platform for which Verilog is written; for every other one (a simulation) all parts are elaborated."""

COPY_OF = "copy-of:"
"""What the type of a stand-in's only instance begins with; the name of the sibling that is elaborated follows."""


def place(m: Module, platform, name: str, part: wiring.Component, *, like: str):
    """Make ``part`` the submodule ``name`` of ``m``; its sibling ``like``, which may be itself, is of equal hardware.

    Equal hardware is the same class with the same parameters and as much of every port connected. Under ``WRITING`` a
    part that is not ``like`` itself becomes a module with the part's ports and nothing but an instance in it, which
    :func:`mixflight.rtl.emit.emit_verilog` resolves; that saves elaborating what would be merged again.
    """
    m.submodules[name] = part if platform is not WRITING or name == like else _StandIn(part, like)


class _StandIn(Elaboratable):
    """A part's ports, clock and reset, connected to an instance of what the sibling ``like`` is."""

    def __init__(self, part, like):
        self.part = part
        self.like = like

    def elaborate(self, platform):
        """One instance, each of its ports named after the part's."""
        self.part._MustUse__used = True
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, value in self.part.signature.flatten(self.part):
            direction = "i" if member.flow == wiring.In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        m = Module()
        m.submodules.copy = Instance(COPY_OF + self.like, **ports)
        return m
