"""A recipe's tables as what can be evaluated on the real model: golden arithmetic where it is defined, else emulation.

    numerics_of      activations and cache in golden arithmetic, or None where the recipe is beyond it
    compression_of   the same recipe for ``emulated``; what that cannot do either is refused by name

Golden arithmetic takes formats alone: integers or tables for weights, integers or FP16 for inputs, a cache of one
format for all tokens, no pattern, no inserted operator.
"""

from collections.abc import Mapping

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format, format_named
from mixflight.sim.evaluation.compression import Blocks, Cached, Compression, Pruning, TopKeys, Window
from mixflight.sim.evaluation.prepare import operators
from mixflight.sim.evaluation.rotation import Kind
from mixflight.sim.golden.llama import Llama
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.workloads import attention_pattern
from mixflight.workloads.codec import Codec, Float, Int, Nm, Tern, operand_format
from mixflight.workloads.recipe import Recipe

ROTATIONS: dict[str, Kind] = {"kronecker": "kronecker", "hadamard": "hadamard"}
LINEARS_AT = {
    "qkv.in": ("q", "k", "v"), "o.in": ("o",), "upgate.in": ("gate", "up"), "down.in": ("down",), "head.in": ("head",)
}  # fmt: skip
PLAIN_FLOATS = ("f16", "f32")


def numerics_of(recipe: Recipe, llama: Llama) -> Numerics | None:
    """Activations and cache of ``recipe``; None where it needs what golden arithmetic does not define."""
    names = operators(llama)
    stored = [recipe.weight_codec(operator) for operator in names]
    if not recipe.plain or any(_pruning(codec) or weight_format(codec).name in PLAIN_FLOATS for codec in stored):
        return None
    k, v = recipe.kv.k, recipe.kv.v
    if not isinstance(k, str) or not isinstance(v, str) or "f32" in (k, v):
        return None
    inputs = {operator: recipe.act_format(operator).name for operator in names}
    if "f32" in inputs.values():
        return None
    wanted = "f16" if k == v == "f16" else "int8"
    attention = recipe.act_format("attention").name
    if attention != wanted:
        raise InputError(
            f"queries and probabilities must be {wanted} with keys in {k} and values in {v}, not {attention}, "
            f"in recipe {recipe.name!r}"
        )
    return Numerics(
        activations={weight: Activation.named(inputs[operator]) for operator, weight in names.items()}, k=k, v=v
    )


def compression_of(recipe: Recipe, llama: Llama, stored: Mapping[str, Format]) -> Compression:
    """``recipe`` by the weights' names; a weight that is neither in another format nor rotated stays as ``stored``."""
    where = f"recipe {recipe.name!r}"
    for table in ("topology", "tokens", "decode"):
        if getattr(recipe, table):
            raise InputError(f"a recipe must leave {table} as the model has it to be evaluated, in {where}")
    names = operators(llama)
    rotations = _rotations(recipe, names, where)
    formats, pruned, activations = {}, {}, {}
    for operator, name in names.items():
        codec = recipe.weight_codec(operator)
        wanted, pruning = weight_format(codec), _pruning(codec)
        if pruning:
            pruned[name] = pruning
        if wanted != stored[name] or pruning or name in rotations:
            formats[name] = wanted
        activation = recipe.act_format(operator).name
        if activation != "f32":
            activations[name] = Activation.named(activation)
    return Compression(
        weights=formats, pruned=pruned, activations=activations, rotations=rotations,
        keys=_cached(recipe.kv.k, recipe, where), values=_cached(recipe.kv.v, recipe, where),
        pattern=_pattern(recipe, where),
    )  # fmt: skip


def weight_format(codec: Codec) -> Format:
    """The format in which a weight is stored, its absent values apart; sums, products and splits are refused."""
    if isinstance(codec, str):
        return format_named(codec, "a weight")
    if (isinstance(codec, Int | Tern) and codec.scale == "f16") or (isinstance(codec, Float) and codec.b == 16):
        return operand_format(codec)
    raise InputError(f"a weight must be an integer with FP16 scales or a named format to be evaluated, not {codec}")


def _pruning(codec: Codec) -> Pruning | None:
    sparse = None if isinstance(codec, str) else getattr(codec, "sparse", None)
    if sparse is None:
        return None
    if not isinstance(sparse, Nm):
        raise InputError(f"absent weights must be n of every m to be evaluated, not {sparse}")
    return Pruning(n=sparse.n, m=sparse.m)


def _rotations(recipe: Recipe, names: Mapping[str, str], where: str) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for op in recipe.ops:
        if op.name not in ROTATIONS or not set(op.at) <= set(LINEARS_AT) or op.layers:
            raise InputError(
                f"an inserted operator must be {' or '.join(ROTATIONS)} at the inputs of linears to be evaluated, "
                f"not {op.name!r}, in {where}"
            )
        roles = {role for port in op.at for role in LINEARS_AT[port]}
        found |= {name: ROTATIONS[op.name] for operator, name in names.items() if operator.split(".")[-1] in roles}
    return found


def _cached(codec: Codec, recipe: Recipe, where: str) -> Cached | None:
    """FP16 and FP32 are both None: the rounding of an FP16 cache is left out."""
    kv = recipe.kv
    if kv.layers or kv.pivot or kv.latent or kv.evict or kv.window:
        raise InputError(f"kv must be alike for all layers and heads (but for residual) to be evaluated, in {where}")
    if isinstance(codec, str):
        item = format_named(codec, where)
        if item.kind == "float":
            return None
        return Cached(bits=item.bits, symmetric=item.signed, group=item.group, residual=kv.residual)
    if not isinstance(codec, Int) or not isinstance(codec.b, int) or codec.sparse or codec.scale != "f16":
        raise InputError(f"a cache must hold integers with FP16 scales to be evaluated, not {codec}, in {where}")
    return Cached(
        bits=codec.b, symmetric=codec.sym, per_channel=codec.per == "channel", group=codec.group, residual=kv.residual
    )


def _pattern(recipe: Recipe, where: str) -> Window | TopKeys | Blocks | None:
    if not recipe.attn:
        return None
    pattern = recipe.attn[-1]
    everywhere = len(recipe.attn) == 1 and not pattern.layers and pattern.phase == "both" and not pattern.refresh
    match pattern:
        case attention_pattern.Window() if everywhere:
            return Window(tokens=pattern.tokens, sink=pattern.sink)
        case attention_pattern.Block(share=float(share)) if everywhere:
            return Blocks(size=pattern.block, density=share)
        case attention_pattern.TopK(budget=float(budget), block=1, sink=0, local=0) if everywhere and budget >= 1:
            return TopKeys(budget=int(budget))
    raise InputError(
        f"attn must be a window, a topk (budget alone) or a block (share a number) for all layers to be evaluated, "
        f"in {where}"
    )
