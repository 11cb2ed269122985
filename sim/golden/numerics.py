"""Which formats of the contract a forward pass uses for activations and the KV cache."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mixflight.arch.errors import InputError
from mixflight.sim.golden.quantise import LEVELS


@dataclass(frozen=True, kw_only=True)
class Activation:
    """The input of a linear: integers from -levels to levels in groups along K (0: per token), or FP16 (levels 0)."""

    group: int = 32
    levels: int = LEVELS

    @staticmethod
    def named(name: str) -> "Activation":
        """By the format's name: int8-g32, int8 (per token), int4-g32, f16…"""
        if name == "f16":
            return Activation(group=0, levels=0)
        match = re.fullmatch(r"int([2-8])(?:-g([1-9]\d*))?", name)
        if match is None:
            raise InputError(f"activations must be f16 or int2 to int8, per token or in groups (-gN), not {name!r}")
        return Activation(group=int(match[2] or 0), levels=2 ** (int(match[1]) - 1) - 1)


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """``activations`` by the weight's name in the file, ``activation`` where it is not named; formats of the cache."""

    activation: Activation = Activation()
    activations: Mapping[str, Activation] = field(default_factory=dict)
    k: str = "int8"
    v: str = "int8"

    def of(self, weight: str) -> Activation:
        """The input of the linear ``weight``."""
        return self.activations.get(weight, self.activation)
