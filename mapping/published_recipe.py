"""The recipe ``flightllm-artifact``: formats as any recipe, and the density of each weight."""

import functools
from pathlib import Path

import msgspec

from mixflight.arch.formats import Format
from mixflight.arch.strict_toml import convert, read_toml


class PublishedRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bits of weights, activations and cache; ``density`` of the weights that are not dense, by name.

    Scales are left out, as the published timing leaves them out. ``biases`` names the linears with an INT32 bias.
    """

    name: str
    summary: str
    weight_bits: int
    act_bits: int
    kv_bits: int
    biases: tuple[str, ...]
    density: dict[str, float]
    sources: dict[str, str]

    def __post_init__(self) -> None:
        for name, value in self.density.items():
            if not 0 < value <= 1:
                raise ValueError(f"density must be in (0, 1], not {value}, for {name!r}")

    def weight_format(self, operator: str) -> Format:
        """Stored format of a weight."""
        return _packed(self.weight_bits)

    def act_format(self, operator: str) -> Format:
        """Format of a linear's input, of queries and probabilities."""
        return _packed(self.act_bits)

    def kv_formats(self) -> tuple[Format, Format]:
        """Formats of cached keys and values."""
        return _packed(self.kv_bits), _packed(self.kv_bits)


@functools.cache
def _packed(bits: int) -> Format:
    """Codes without scales."""
    return Format(name=f"int{bits}-packed", bits=bits)


@functools.cache
def flightllm_artifact() -> PublishedRecipe:
    """The recipe of the public profiler's LLaMA2-7B."""
    path = Path(__file__).with_name("flightllm_artifact.toml")
    return convert({"name": "flightllm-artifact", **read_toml(path)}, PublishedRecipe, path.name)
