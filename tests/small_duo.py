"""Two joined cores with as little of everything as a made model needs, so that their Verilog compiles soon, and such a
model's file."""

import gguf
import msgspec
import numpy as np

from mixflight.arch.accelerator import accelerator_named


def smallest():
    """The machine."""
    machine, replace = accelerator_named("mixpe-duo"), msgspec.structs.replace
    buffers = machine.buffers
    return replace(
        machine, name="mixpe-small-duo", memory_unit=replace(machine.memory_unit, lanes=1),
        hbm=replace(machine.hbm, channels_per_core=2), sfu=replace(machine.sfu, elements_per_cycle=1),
        buffers=replace(
            buffers, weight=replace(buffers.weight, depth=256), act=replace(buffers.act, depth=256),
            vector=replace(buffers.vector, depth=1024), index=replace(buffers.index, depth=16),
            scale=replace(buffers.scale, depth=128), instruction=replace(buffers.instruction, depth=256),
        ),
        controller=replace(machine.controller, queue_depth=4),
    )  # fmt: skip


def write_gguf(path, made):
    """The file of a ``TinyLlama``."""
    writer, model = gguf.GGUFWriter(path, "llama"), made.model
    for name, value in (("block_count", model.layers), ("context_length", model.context_length),
                        ("embedding_length", model.hidden), ("feed_forward_length", model.ffn),
                        ("attention.head_count", model.heads), ("attention.head_count_kv", model.kv_heads)):  # fmt: skip
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", model.norm_epsilon)
    writer.add_float32("llama.rope.freq_base", model.rope_theta)
    for name, tensor in {item.name: item for item in (made.embedding, *made.linears.values(), *made.vectors.values())}.items():
        kind = gguf.GGMLQuantizationType[tensor.format.name.upper()]
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, tensor.dequantise()[0].astype(np.float32))
        else:
            writer.add_tensor(name, np.asarray(tensor.raw).reshape(tensor.n, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
