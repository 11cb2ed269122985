"""Where a tensor between two operators lives: on chip if it fits its buffer, else in DRAM."""

from mixflight.arch.accelerator import Accelerator

FP32_BYTES = 4


def vector_in_dram(elements: int, accelerator: Accelerator) -> bool:
    """Whether ``elements`` FP32 values (residual stream, operator inputs and outputs) exceed the output buffer."""
    return elements * FP32_BYTES > accelerator.buffers.output_kib * 1024


def operand_in_dram(bytes_: int, accelerator: Accelerator) -> bool:
    """Whether the quantised input of a matrix operator exceeds the activation buffer."""
    return bytes_ > accelerator.buffers.act_kib * 1024
