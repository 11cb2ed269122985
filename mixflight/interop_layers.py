"""Matrix products of traces as layer lists that other tools read: SCALE-Sim's topology, ZigZag's workload, ONNX.

    products        traces to distinct products with how often each stands in them
    write_scalesim  topology and layout as CSV, for ``scalesim -i gemm``
    write_zigzag    loop nests as YAML
    write_onnx      MatMul nodes with shapes, without weights

All describe dense products of [m, k] by [k, n]: what a mask, N:M sparsity or a pattern of attention leaves out stands
in them whole, and vector operators are left out. How often a layer is repeated the name says at its end
(``prefill_q_x32``: 32 times), heads counted one by one.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.onnx_file import MatMul, model
from mixflight.workloads.trace import Trace

SUM_BITS = 32
"""Of a sum over k on its way and of a result: what the arrays of this package keep and store."""
_LAYOUT_FIELDS = 30
"""SCALE-Sim wants a line of a layout for every layer, layouts used or not."""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """[m, k] activations by a [k, n] weight, or cached keys or values, ``uses`` times; bits of one code of each."""

    name: str
    m: int
    n: int
    k: int
    act_bits: int
    weight_bits: int
    uses: int

    @property
    def label(self) -> str:
        """The name and how often it stands in the traces."""
        return f"{self.name}_x{self.uses}"


def products(traces: Iterable[Trace]) -> list[Product]:
    """The distinct products of ``traces``, in the order in which they first run.

    ``uses`` counts layers, heads and passes; of an operator that is expected a fraction of the time it is rounded, at
    least 1. Where a name has several shapes, as heads of a decode have, each is called after its shape too.
    """
    found: dict[tuple[str, int, int, int, int, int], float] = {}
    for trace in traces:
        for op in trace.operators:
            if op.is_matrix:
                assert op.act is not None
                assert op.weight is not None
                key = f"{trace.phase}_{_plain(op.name)}", op.m, op.n, op.k, op.act.bits, op.weight.bits
                found[key] = found.get(key, 0.0) + op.count * len(op.layers) * op.probability
    if not found:
        raise InputError("a list of layers must have matrix products: the trace has none")
    names = [key[0] for key in found]
    return [
        Product(name=name if names.count(name) == 1 else f"{name}_{m}x{k}x{n}", m=m, n=n, k=k, act_bits=act,
                weight_bits=weight, uses=max(1, round(uses)))
        for (name, m, n, k, act, weight), uses in found.items()
    ]  # fmt: skip


def _plain(name: str) -> str:
    """Letters, digits and underscores: SCALE-Sim splits at commas, and makes folders of names."""
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def layout_path(path: Path) -> Path:
    """Where the layout of the topology ``path`` goes."""
    return path.with_suffix(".layout.csv")


def write_scalesim(found: Sequence[Product], path: Path) -> None:
    """Write a topology of GEMMs to ``path``, and the layout that SCALE-Sim wants beside it (``layout_path``)."""
    rows = [f"{item.label},{item.m},{item.n},{item.k},\n" for item in found]
    layout = [f"{item.label}," + "1," * _LAYOUT_FIELDS + "\n" for item in found]
    with whole_file(path) as part, whole_file(layout_path(path)) as beside:
        part.write_text("".join(["Layer,M,N,K,\n", *rows]))
        beside.write_text("".join(["Layer name," + "value," * _LAYOUT_FIELDS + "\n", *layout]))


def write_zigzag(found: Sequence[Product], path: Path) -> None:
    """Write a workload of ZigZag to ``path``: one GEMM a product, each by itself, operands of its own bits."""
    lines = ["# Names end with how often a layer stands in the model: multiply by it.\n"]
    for place, item in enumerate(found):
        lines.append(
            f"- id: {place}\n"
            f"  name: {item.label}\n"
            "  operator_type: Gemm\n"
            '  equation: "O[b][k]+=I[b][c]*W[c][k]"\n'
            "  dimension_relations: []\n"
            "  loop_dims: [B, K, C]\n"
            f"  loop_sizes: [{item.m}, {item.n}, {item.k}]\n"
            f"  operand_precision: {{O: {SUM_BITS}, O_final: {SUM_BITS}, W: {item.weight_bits}, I: {item.act_bits}}}\n"
            f"  operand_source: {{I: {place}, W: {place}}}\n"
        )
    with whole_file(path) as part:
        part.write_text("".join(lines))


def write_onnx(found: Sequence[Product], path: Path) -> None:
    """Write an ONNX model to ``path``: one MatMul a product, each by itself; notes say its bits and uses."""
    nodes = (
        MatMul(name=item.label, m=item.m, k=item.k, n=item.n, notes={
            "uses": str(item.uses), "act_bits": str(item.act_bits), "weight_bits": str(item.weight_bits),
            "sum_bits": str(SUM_BITS),
        })
        for item in found
    )  # fmt: skip
    with whole_file(path) as part:
        part.write_bytes(model("products", nodes))


WRITERS = {"scalesim": (".csv", write_scalesim), "zigzag": (".yaml", write_zigzag), "onnx": (".onnx", write_onnx)}
"""``--export`` -> end of the file's name, and what writes it."""


def export(traces: Iterable[Trace], form: str, path: Path | None) -> list[Product]:
    """Write the products of ``traces`` as ``form`` has them to ``path``."""
    if form not in WRITERS:
        raise InputError(f"--export must be one of {', '.join(WRITERS)}, not {form!r}")
    end, write = WRITERS[form]
    if path is None or path.suffix != end:
        raise InputError(f"--export {form} must have -o with a {end} file, not {path or 'none'}")
    found = products(traces)
    write(found, path)
    return found
