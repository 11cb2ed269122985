"""The control registers that MISC reads: constants of a model, and the position of the token.

The host writes them before a run (``arch/core_execution.md``, MISC). FP32 values are given as their bits.
"""

import decimal
import functools

import msgspec
import numpy as np

PHASE_BITS = 40
"""RoPE's phases are fractions of a turn of so many bits."""

_PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510")


class ControlConstants(msgspec.Struct, frozen=True, kw_only=True):
    """``eps``, ``inverse_hidden`` = f32(1/n) of the hidden vector, ``inverse_head`` of a head, ``inverse_root`` =
    f32(1/sqrt(head)): bits of FP32. ``position`` of the token, ``head_elements``; ``rope_steps`` T_i of every pair of a
    head, empty where nothing is rotated."""

    eps: int
    inverse_hidden: int
    inverse_head: int
    inverse_root: int
    position: int
    head_elements: int
    rope_steps: tuple[int, ...] = ()


def control_constants(
    *, hidden: int, head: int, epsilon: float, rope_base: float | None, position: int
) -> ControlConstants:  # fmt: skip
    """The constants of a model with vectors of ``hidden`` and heads of ``head`` elements."""
    return ControlConstants(
        eps=f32_bits(epsilon), inverse_hidden=f32_bits(1.0 / hidden), inverse_head=f32_bits(1.0 / head),
        inverse_root=f32_bits(1.0 / float(np.sqrt(np.float64(head)))), position=position, head_elements=head,
        rope_steps=phase_steps(rope_base, head) if rope_base is not None else (),
    )  # fmt: skip


def score_cap(cap: float, head: int) -> float:
    """The soft cap of scores that come without their 1/sqrt(head): ``cap`` times sqrt(head)."""
    return cap * float(np.sqrt(np.float64(head)))


def cap_constants(cap: float) -> tuple[np.float32, np.float32]:
    """What a soft cap multiplies with: f32(2 / C), and C itself as FP32."""
    return np.float32(2.0 / cap), np.float32(cap)


def f32_bits(value: float) -> int:
    """The bits of ``value`` rounded to FP32."""
    return int(np.float32(value).view(np.uint32))


def f32_of(bits: int) -> np.float32:
    """The FP32 value of ``bits``."""
    return np.uint32(bits).view(np.float32)


@functools.cache
def phase_steps(base: float, width: int) -> tuple[int, ...]:
    """Turns per position of each pair, times 2^40, rounded: base^(-2i/width) / (2·pi)."""
    with decimal.localcontext() as context:
        context.prec = 50
        angles = (decimal.Decimal(base) ** (decimal.Decimal(-2 * i) / width) for i in range(width // 2))
        steps = (2**PHASE_BITS * angle / (2 * _PI) for angle in angles)
        return tuple(int(step.to_integral_value(decimal.ROUND_HALF_EVEN)) for step in steps)
