"""The products that one batch of tokens becomes, with the extra products that stand for dequantisation."""

from collections import Counter

import msgspec

from mixflight.sim.published_mixpe.machines import Machine, Model, Workload


class Gemm(msgspec.Struct, frozen=True, kw_only=True):
    """A convolution of ``batch`` images (``kernel`` x ``kernel``, ``out_side`` x ``out_side``), or a product (1, 1)."""

    batch: int
    inputs: int
    outputs: int
    act_bits: int
    weight_bits: int
    kernel: int = 1
    out_side: int = 1


def layer_shapes(hidden: int) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a layer's four products."""
    return {
        "qkv": (hidden, 3 * hidden),
        "output": (hidden, hidden),
        "up": (hidden, 4 * hidden),
        "down": (4 * hidden, hidden),
    }


def model_gemms(model: Model, machine: Machine, workload: Workload) -> Counter[Gemm]:
    """Each distinct product of ``model`` on ``machine`` with its number of uses."""
    gemms: Counter[Gemm] = Counter()
    if model.patch_embedding:
        gemms[_patch_embedding(model, machine, workload)] += 1
    wide = machine.wide_layers.get(model.name, 0)
    for name, (inputs, outputs) in layer_shapes(model.hidden).items():
        wide_here = wide if name in machine.wide_products else 0
        for bits, uses in ((machine.gemm_bits, model.layers - wide_here), (machine.wide_bits, wide_here)):
            if uses:
                gemms[_gemm(workload.batch, inputs, outputs, machine.gemm_act_bits or bits, bits)] += uses
        gemms[dequant_gemm(inputs, outputs, machine, workload)] += model.layers
    return gemms


def dequant_gemm(inputs: int, outputs: int, machine: Machine, workload: Workload) -> Gemm:
    """The extra product: outputs / divisor before a product, inputs / divisor and outputs / group after it."""
    bits = machine.dequant_bits
    if machine.dequant == "before":
        return _gemm(workload.batch, inputs, outputs // workload.dequant_divisor, bits, bits)
    return _gemm(workload.batch, inputs // workload.dequant_divisor, outputs // workload.group, bits, bits)


def _gemm(batch: int, inputs: int, outputs: int, act_bits: int, weight_bits: int) -> Gemm:
    return Gemm(batch=batch, inputs=inputs, outputs=outputs, act_bits=act_bits, weight_bits=weight_bits)


def _patch_embedding(model: Model, machine: Machine, workload: Workload) -> Gemm:
    return Gemm(
        batch=workload.batch, inputs=workload.patch_channels, outputs=model.hidden, kernel=workload.patch,
        out_side=workload.patches_per_side, act_bits=machine.dequant_bits, weight_bits=machine.dequant_bits,
    )  # fmt: skip
