"""The ``ops`` table: operators that a method adds, with costs as expressions over the model's symbols.

Symbols: d hidden, f FFN width, H query heads, K KV heads, h head width, L layers, V vocabulary, E experts; B batch,
n new tokens a sequence, rows = B n, T tokens of the prefill, S tokens in the cache, kept tokens of the cache that are
read, x width of the port, G tokens to decode.
"""

from typing import Literal, get_args

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.codec import Codec, check_codec
from mixflight.workloads.expression import Number, parse

Port = Literal[
    "embed.out", "layer.in", "qkv.in", "q.out", "k.out", "v.out", "q.post_rope", "k.post_rope", "kv.write", "kv.read",
    "scores", "o.in", "attention.out", "upgate.in", "ffn.mid", "down.in", "layer.out", "head.in", "head.out",
]  # fmt: skip
PORTS: tuple[str, ...] = get_args(Port)
STEP_PORTS = ("scores", "kv.read", "kv.write")  # expanded for every step; the others once for all of them
TEXT_FIELDS = ("name", "phase", "weight", "act")
SYMBOLS = ("d", "f", "H", "K", "h", "L", "V", "E", "B", "n", "rows", "T", "S", "kept", "x", "G")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Matmul(_Strict, frozen=True, kw_only=True):
    """``count`` products [m, k] x [k, n]; ``stored``: the [k, n] operand is a weight that is read, in ``weight``."""

    n: str | int
    k: str | int
    m: str | int = "rows"
    count: str | int = 1
    weight: Codec = "f16"
    act: str = "f16"
    stored: bool = True


class Elementwise(_Strict, frozen=True, kw_only=True):
    """``elements`` values, each with so many multiplies, adds (comparisons too) and table reads."""

    elements: str | int = "rows*x"
    multiplies: str | Number = 0
    adds: str | Number = 0
    tables: str | Number = 0


class Lookup(_Strict, frozen=True, kw_only=True):
    """``vectors`` of ``length`` values fetched from a table by index."""

    vectors: str | int
    length: str | int


class Op(_Strict, frozen=True, kw_only=True):
    """One method's operator: any of products, elementwise work, lookups and bytes, once at each of its ports.

    ``at``            ports; see ``PORTS``. Empty only in a scorer (it runs at ``scores``).
    ``layers``        only these; empty: all.
    ``phase``         prefill, decode or both.
    ``every``         only in every so-manieth decode step.
    ``probability``   expected number of times that it runs.
    ``read_bytes``, ``write_bytes``   of the cache or of a state, a pass; ``parameter_bytes`` of vectors and tables.
    ``state_bytes``   held in memory, all layers together; nothing moves for that.
    """

    name: str
    at: tuple[Port, ...] = ()
    layers: tuple[int, ...] = ()
    phase: Literal["both", "prefill", "decode"] = "both"
    every: int = 1
    probability: float = 1.0
    matmul: tuple[Matmul, ...] = ()
    elementwise: tuple[Elementwise, ...] = ()
    lookup: tuple[Lookup, ...] = ()
    parameter_bytes: str | Number = 0
    read_bytes: str | Number = 0
    write_bytes: str | Number = 0
    state_bytes: str | Number = 0

    def __post_init__(self) -> None:
        if self.every < 1 or self.probability < 0:
            raise ValueError("every must be at least 1 and probability at least 0")

    def _names(self, *symbols: str) -> bool:
        texts = [
            getattr(place, field)
            for place in (self, *self.matmul, *self.elementwise, *self.lookup)
            for field in place.__struct_fields__
            if field not in TEXT_FIELDS
        ]
        return any(parse(text).symbols() & set(symbols) for text in texts if isinstance(text, str))

    def check(self, where: str) -> None:
        """Refuse what is no expression, symbols that do not exist, and costs that change with the step elsewhere than
        at the ports that are expanded for every step."""
        for place in (self, *self.matmul, *self.elementwise, *self.lookup):
            for field in place.__struct_fields__:
                text = getattr(place, field)
                if isinstance(text, str) and field not in TEXT_FIELDS:
                    check_expression(text, f"{where}, ops {self.name!r}, {field}")
        fixed = [port for port in self.at if port not in STEP_PORTS]
        if fixed and self.phase != "prefill" and (self.every > 1 or self._names("S", "kept")):
            raise InputError(
                f"S, kept and every must stand at {', '.join(STEP_PORTS)} only, not at {fixed[0]}, "
                f"in {where}, ops {self.name!r}"
            )
        for item in self.matmul:
            check_codec(item.weight, f"{where}, ops {self.name!r}, weight")
            check_codec(item.act, f"{where}, ops {self.name!r}, act")


def check_expression(text: str, where: str) -> None:
    """Refuse ``text`` unless it is an expression over ``SYMBOLS``."""
    try:
        unknown = parse(text).symbols() - set(SYMBOLS)
    except InputError as error:
        raise InputError(f"{error}, in {where}") from None
    if unknown:
        raise InputError(f"a symbol must be one of {', '.join(SYMBOLS)}, not {min(unknown)!r}, in {where}")
