"""Random orthogonal rotations of a linear's input, which spread outliers over its channels before it is quantised.

    Rotation   x -> (x·signs)(left ⊗ right), applied to activations and to the rows of the weights that take them
    random     ``kronecker``: two dense orthogonal matrices of the most nearly square factors of the width, the shapes
               that FlatQuant trains (arXiv 2410.09426); ``hadamard``: random signs, a Hadamard matrix of the power of
               two in the width, and an orthogonal matrix of what is left

A rotation changes no product: (x R)(w R)ᵀ = x wᵀ, up to FP32 rounding. It is made from a seed and is not trained.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["kronecker", "hadamard"]
SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Rotation:
    """``left`` [n1, n1] and ``right`` [n2, n2] orthogonal, ``signs`` [n1·n2] of plus and minus one."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    signs: NDArray[np.float64]

    @property
    def macs(self) -> int:
        """Multiplications of one rotated vector: n (n1 + n2)."""
        return len(self.signs) * (len(self.left) + len(self.right))

    def apply(self, x: NDArray[Any]) -> NDArray[Any]:
        """Rows [..., n1·n2], rotated, in their own type."""
        shape, kind = x.shape, x.dtype
        grid = (x * self.signs.astype(kind)).reshape(-1, len(self.left), len(self.right))
        turned: NDArray[Any] = self.left.T.astype(kind) @ grid @ self.right.astype(kind)
        return turned.reshape(shape)


def square_factors(n: int) -> tuple[int, int]:
    """The factors n1 <= n2 of n that are nearest to each other: 24, 24 for 576 and 32, 48 for 1,536."""
    first = next(factor for factor in range(math.isqrt(n), 0, -1) if n % factor == 0)
    return first, n // first


def random(kind: Kind, n: int, seed: int = SEED) -> Rotation:
    """The rotation of width ``n`` that ``seed`` gives."""
    rng = np.random.default_rng([seed, n])
    if kind == "kronecker":
        first, second = square_factors(n)
        return Rotation(left=_orthogonal(rng, first), right=_orthogonal(rng, second), signs=np.ones(n))
    power = n & -n
    return Rotation(
        left=_orthogonal(rng, n // power), right=_hadamard(power), signs=rng.choice(np.array([-1.0, 1.0]), n)
    )


def _orthogonal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Uniform among orthogonal matrices: QR of a Gaussian matrix, R's diagonal made positive."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    turned: NDArray[np.float64] = q * np.sign(np.diag(r))
    return turned


def _hadamard(n: int) -> NDArray[np.float64]:
    found = np.ones((1, 1))
    while len(found) < n:
        found = np.block([[found, found], [found, -found]])
    return found / math.sqrt(n)
