"""Operators of a recipe's ``ops`` table and of scorers, with their costs worked out."""

import math

import msgspec

from mixflight.arch.formats import format_named
from mixflight.workloads.expansion import Expansion, Pass, weighted
from mixflight.workloads.expression import Number, evaluate
from mixflight.workloads.inserted import Op
from mixflight.workloads.operators import Operator


def inserted(e: Expansion, step: Pass, layer: int, port: str, width: int, kept: int = 0) -> list[Operator]:
    """Operators of the ``ops`` table at ``port``, ``width`` values wide; ``layer`` -1 outside the blocks."""
    ops = [op for op in e.ops_at(port, layer, step.phase) if _runs(op, step)]
    if not ops:
        return []
    shape = e.graph.layers[layer if layer >= 0 else e.layers[0]]
    symbols = {**e.symbols(step, layer if layer >= 0 else e.layers[0], shape), "x": width, "kept": kept}
    return [found for op in ops for found in operators_of(op, symbols, name=f"{op.name}@{port}")]


def _runs(op: Op, step: Pass) -> bool:
    return step.phase == "prefill" or step.number % op.every == 0


def operators_of(op: Op, symbols: dict[str, Number], name: str) -> list[Operator]:
    """The operators of ``op``; the first carries the bytes that are not weights."""
    found: list[Operator] = []

    def whole(text: str | Number) -> int:
        return math.ceil(evaluate(text, symbols) - 1e-9)

    for place, item in enumerate(op.matmul):
        n, k, m, count = (whole(getattr(item, field)) for field in ("n", "k", "m", "count"))
        if min(n, k, m, count) < 1:
            continue
        act = format_named(item.act, f"ops {op.name!r}")
        label = name if len(op.matmul) == 1 else f"{name}.{place}"
        found += weighted(label, item.weight, act, n, k, m, count=count, reads=item.stored)
    for place, work in enumerate(op.elementwise):
        elements = whole(work.elements)
        label = f"{name}.elements" if len(op.elementwise) == 1 else f"{name}.elements{place}"
        if elements > 0:
            found.append(Operator(
                name=label, kind="elementwise", layers=(), m=1, n=elements, multiplies=whole(work.multiplies),
                adds=whole(work.adds), table_reads=whole(work.tables),
            ))  # fmt: skip
    for fetch in op.lookup:
        vectors = whole(fetch.vectors)
        if vectors > 0:
            found.append(Operator(name=f"{name}.lookup", kind="lookup", layers=(), m=vectors, n=whole(fetch.length)))
    parameters, read, written = whole(op.parameter_bytes), whole(op.read_bytes), whole(op.write_bytes)
    if parameters or read or written:
        found.append(Operator(
            name=f"{name}.bytes", kind="elementwise", layers=(), m=1, n=1, parameter_bytes=parameters,
            kv_read_bytes=read, kv_write_bytes=written,
        ))  # fmt: skip
    return [_expected(operator, op.probability) for operator in found] if op.probability != 1 else found


def _expected(operator: Operator, probability: float) -> Operator:
    return msgspec.structs.replace(operator, probability=operator.probability * probability)
