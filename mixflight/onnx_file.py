"""An ONNX model of matrix products: shapes and notes, no weights.

The format is protocol buffers; the messages and numbers of fields are those of ``onnx.proto3`` of ONNX 1.16, whose
version 10 of the format gives nodes their notes (``metadata_props``). What is written passes ONNX's own checker.
"""

from collections.abc import Iterable, Mapping

import msgspec

FORMAT_VERSION, OPERATOR_SET = 10, 21
FLOAT = 1
"""Type of every tensor: ONNX multiplies no codes of 4 bits; how many bits one has is in the notes."""
_VARINT, _BYTES = 0, 2


class MatMul(msgspec.Struct, frozen=True, kw_only=True):
    """[m, k] by [k, n], both inputs of the graph, into an output of it; ``notes`` are text beside the node."""

    name: str
    m: int
    k: int
    n: int
    notes: Mapping[str, str]


def model(name: str, products: Iterable[MatMul]) -> bytes:
    """The bytes of a model whose graph has each of ``products`` by itself; names must differ."""
    nodes = inputs = outputs = b""
    for item in products:
        left, right, out = (f"{item.name}/{part}" for part in ("act", "weight", "out"))
        notes = (_field(9, _field(1, key) + _field(2, value)) for key, value in item.notes.items())
        nodes += _field(1, _field(1, left) + _field(1, right) + _field(2, out) + _field(3, item.name)
                        + _field(4, "MatMul") + b"".join(notes))  # fmt: skip
        inputs += _field(11, _tensor(left, item.m, item.k)) + _field(11, _tensor(right, item.k, item.n))
        outputs += _field(12, _tensor(out, item.m, item.n))
    graph = nodes + _field(2, name) + inputs + outputs
    operators = _field(1, "") + _field(2, OPERATOR_SET)
    return _field(1, FORMAT_VERSION) + _field(2, "mixflight") + _field(7, graph) + _field(8, operators)


def _tensor(name: str, *shape: int) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, sizes)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a message: a number, or text, or a message in turn, with its length before it."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the highest bit set."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
