"""A trace for machines that multiply integers only: float operands become INT8, what is stored stays as it is.

Recipes with FP16 activations, codebooks of FP16 vectors or FP16 keys and values cannot run on an integer PE
(``arch/numerics.md``). This is the explicit choice to run them all the same: their weights, keys and values are read
off-chip in the bytes of the recipe and converted to INT8 with a scale a row by the memory unit; activations, queries
and probabilities are converted by a ``quantise`` operator that is added before the product. Values are then no longer
those of the recipe, so accuracy figures of it do not hold for the run. A machine of FP16 needs the same for what FP16
cannot hold: BF16, and the F32 in which files keep the routers of experts.
"""

import msgspec

from mixflight.arch.formats import FORMATS, Format
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Trace

INT8 = FORMATS["int8"]
# Kinds whose output is another product's input: what was converted before is not at hand any more.
_NEW_INPUTS = ("embed", "norm", "layernorm", "rope", "softmax", "activation", "residual")


class IntegerOperands:
    """Replaces float operands of traces by INT8 and remembers the operators that it changed; with ``fp16_runs`` only
    those that are not exact in FP16."""

    def __init__(self, *, fp16_runs: bool = False) -> None:
        self._fp16_runs = fp16_runs
        self._changed: dict[str, None] = {}
        self._known: dict[Operator, Operator] = {}

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the operators changed so far, in the order of execution."""
        return tuple(self._changed)

    def of(self, trace: Trace) -> Trace:
        """``trace`` with INT8 in place of float operands, and the conversions of activations.

        One conversion serves consecutive products with the same rows and K; an operator that a recipe inserts converts
        for itself.
        """
        found: list[Operator] = []
        converted: set[tuple[object, ...]] = set()
        for operator in trace.operators:
            if operator.kind in _NEW_INPUTS:
                converted.clear()
            if operator.is_matrix and operator.act is not None and self._replaces(operator.act):
                key = operator.count, operator.m, operator.k, operator.layers
                if key not in converted or "@" in operator.name:
                    found.append(_conversion(operator))
                converted.add(key)
            found.append(self._replaced(operator))
        return msgspec.structs.replace(trace, operators=tuple(found))

    def _replaced(self, operator: Operator) -> Operator:
        weight, act = operator.weight, operator.act
        if weight is None or act is None or not (self._replaces(weight) or self._replaces(act)):
            return operator
        if operator not in self._known:
            self._known[operator] = msgspec.structs.replace(
                operator, weight=INT8 if self._replaces(weight) else weight, act=INT8 if self._replaces(act) else act
            )
        self._changed[operator.name] = None
        return self._known[operator]

    def _replaces(self, item: Format) -> bool:
        return item.kind == "float" and not (self._fp16_runs and item.exact_in_f16)


def _conversion(operator: Operator) -> Operator:
    """The conversion of the [m, k] operand: probabilities keep the mask of their product."""
    masked = operator.kind == "av"
    return Operator(
        name=f"{operator.name}.to_int8", kind="quantise", layers=operator.layers, m=operator.count * operator.m,
        n=operator.k, act=INT8, causal_step=operator.count * operator.causal_step if masked else 0,
        density=operator.density if masked else 1.0, probability=operator.probability,
    )  # fmt: skip


def with_integer_operands(trace: Trace) -> tuple[Trace, tuple[str, ...]]:
    """``trace`` with INT8 in place of float operands, and the names of the operators that were changed."""
    operands = IntegerOperands()
    return operands.of(trace), operands.changed
