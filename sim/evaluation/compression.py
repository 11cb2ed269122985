"""What compression does to the numbers of a model, as plain values: what ``emulated`` computes with.

    Compression   formats of weights by operator, inputs, rotations, cache and attention pattern
    Pruning       n of every m weights along K kept, the largest
    Cached        how keys or values are rounded
    Window, TopKeys, Blocks   which keys a query sees
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mixflight.arch.formats import Format
from mixflight.sim.evaluation.rotation import Kind
from mixflight.sim.golden.numerics import Activation


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """The ``n`` largest magnitudes of every ``m`` weights along K are kept, the others absent."""

    n: int
    m: int


@dataclass(frozen=True, kw_only=True)
class Cached:
    """Integers of ``bits`` with an FP16 scale (and minimum, unless ``symmetric``).

    A scale is shared along the head by ``group`` channels of one token and head (0: all), or, ``per_channel``, by
    ``group`` tokens of one channel. Per channel a group is rounded when its tokens are complete; until then, and among
    the latest ``residual`` tokens, they are seen unrounded.
    """

    bits: int
    symmetric: bool = False
    per_channel: bool = False
    group: int = 0
    residual: int = 0


@dataclass(frozen=True, kw_only=True)
class Window:
    """The latest ``tokens`` and the first ``sink``."""

    tokens: int
    sink: int = 0


@dataclass(frozen=True, kw_only=True)
class TopKeys:
    """The ``budget`` keys of highest score of each query and head: an oracle, no predictor."""

    budget: int


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """In each row of causal ``size`` x ``size`` blocks of a head the share ``density``, rounded up, of most attention
    mass, the diagonal always: an oracle.
    """

    size: int
    density: float


@dataclass(frozen=True, kw_only=True)
class Compression:
    """By the weight's name in the file; what is not named stays as it is, in FP32.

    ``weights``      formats that the weights are rounded to, after pruning and rotation.
    ``pruned``       weights of which some are absent.
    ``activations``  what the input of a linear is rounded to, after its rotation; FP16 where ``levels`` is 0.
    ``rotations``    kinds of random rotations of a linear's input.
    ``keys``, ``values``   of the cache, keys after the rotary embedding; None: FP32.
    ``pattern``      which keys a query sees; None: all of the past.
    """

    weights: Mapping[str, Format] = field(default_factory=dict)
    pruned: Mapping[str, Pruning] = field(default_factory=dict)
    activations: Mapping[str, Activation] = field(default_factory=dict)
    rotations: Mapping[str, Kind] = field(default_factory=dict)
    keys: Cached | None = None
    values: Cached | None = None
    pattern: Window | TopKeys | Blocks | None = None

    def sentences(self) -> tuple[str, ...]:
        """What is done to the weights, a sentence for each kind of change."""
        names = {**self.rotations, **self.pruned, **self.weights}
        kinds = Counter((self.rotations.get(name), self.pruned.get(name), self.weights.get(name)) for name in names)
        return tuple(f"{count} weights {_said(*kind)}" for kind, count in kinds.items())


def _said(turned: Kind | None, pruning: Pruning | None, form: Format | None) -> str:
    said = []
    if turned:
        said.append(f"rotated ({turned}, random)")
    if pruning:
        said.append(f"pruned to {pruning.n} of {pruning.m}")
    if form:
        said.append(f"rounded to {form.name}")
    return ", ".join(said)
