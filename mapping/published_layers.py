"""An operator trace as the fused layers of FlightLLM's published generator: one barrier each.

Softmax follows QK^T; SiLU, residual additions, the gate's product and RoPE (two products and a sum) follow the linear
that feeds them; norms stand alone. A decode step reads the whole cache once more to append to it (``concat``).
"""

from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.mapping.published_recipe import PublishedRecipe
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Trace

ROPE = ("multiply", "multiply", "add")


class FusedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One fused layer: ``count`` products [m, k] x [k, n], or ``m`` vectors of ``n``, then the ``fused`` operations.

    ``density`` is the weights' share of non-zeros, ``widening`` how many bytes of INT8 one stored byte of the dense
    weight becomes.
    """

    name: str
    kind: Literal["norm", "linear", "concat", "qk", "av"]
    m: int
    n: int
    k: int = 0
    count: int = 1
    fused: tuple[str, ...] = ()
    density: float = 1.0
    widening: float = 1.0
    bias: bool = False


class FusedTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The fused layers of one pass: those of a block, run ``blocks`` times, then those behind the blocks."""

    blocks: int
    block: tuple[FusedLayer, ...]
    after: tuple[FusedLayer, ...]

    @property
    def barriers(self) -> int:
        """Fused layers of the pass; each ends with a barrier."""
        return self.blocks * len(self.block) + len(self.after)


def fuse(trace: Trace, recipe: PublishedRecipe) -> FusedTrace:
    """The fused layers of ``trace``. The LM head runs for every token of a prefill, as published."""
    if trace.batch != 1:
        raise InputError(f"batch must be 1 under the published rules, not {trace.batch}")
    operators = {item.name: item for item in trace.operators}
    blocks = len(operators["attention_norm"].layers)
    for item in trace.operators:
        if len(item.layers) not in (1, blocks) or item.kind == "bias":
            raise InputError(f"every block must be alike under the published rules, but {item.name!r} differs")
    if "rope_q" not in operators or operators["ffn_activation"].variant != "silu:gated":
        raise InputError(f"the published rules cover RoPE and a SiLU-gated FFN only, not {trace.model}")
    qk, av = operators["qk"], operators["av"]
    if qk.m != trace.tokens:
        raise InputError(f"the published rules need as many KV heads as query heads, which {trace.model} has not")

    def linear(name: str, *fused: str) -> FusedLayer:
        return _linear(operators[name], recipe, trace.tokens, fused)

    def norm(name: str) -> FusedLayer:
        return FusedLayer(name=name, kind="norm", m=trace.tokens, n=operators[name].n, fused=("rmsnorm",))

    appends = [
        FusedLayer(name=name, kind="concat", m=trace.context - 1, n=qk.k, count=qk.count)
        for name in ("append_k", "append_v")
        if trace.phase == "decode"
    ]
    return FusedTrace(
        blocks=blocks,
        block=(
            norm("attention_norm"), linear("q", *ROPE), linear("k", *ROPE), linear("v"), *appends,
            FusedLayer(name="qk", kind="qk", m=qk.m, n=qk.n, k=qk.k, count=qk.count, fused=("softmax",)),
            FusedLayer(name="av", kind="av", m=av.m, n=av.n, k=av.k, count=av.count),
            linear("o", "add"), norm("ffn_norm"), linear("gate", "silu"), linear("up", "multiply"),
            linear("down", "add"),
        ),
        after=(norm("final_norm"), linear("head")),
    )  # fmt: skip


def _linear(item: Operator, recipe: PublishedRecipe, tokens: int, fused: tuple[str, ...]) -> FusedLayer:
    density = recipe.density.get(item.name, 1.0)
    return FusedLayer(
        name=item.name, kind="linear", m=tokens, n=item.n, k=item.k, fused=fused, density=density,
        widening=8 / recipe.weight_bits, bias=item.name in recipe.biases,
    )  # fmt: skip
