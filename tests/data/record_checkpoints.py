"""Checkpoints of every family and packing, as the reference packages write them: what the readers are compared with.

    python tests/data/record_checkpoints.py FOLDER

writes ``families.json`` (of a tiny model of each family: config.json, and the arrays' types and shapes) and
``packings.safetensors`` (weights in the packing of each quantiser, beside their codes or their values) to FOLDER. It
needs PyTorch with CUDA, transformers, compressed-tensors, bitsandbytes, and the packing modules of AutoGPTQ and
AutoAWQ. ``record_checkpoints.py FOLDER older`` writes ``two_of_four.safetensors`` with compressed-tensors 0.9.4, because
later releases do not write 2:4 masks. Versions stand in the files.
"""

import json
import sys
import tempfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

N, K, GROUP = 64, 64, 32
SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 40, "max_position_embeddings": 128,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GEMMA = {"head_dim": 16, "sliding_window": 16}
CONFIGS = {
    "llama": ("Llama", SMALL),
    "mistral": ("Mistral", SMALL | {"sliding_window": 16}),
    "mixtral": ("Mixtral", SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("Qwen2", SMALL),
    "qwen2_moe": ("Qwen2Moe", SMALL | EXPERTS | {"shared_expert_intermediate_size": 64}),
    "qwen3": ("Qwen3", SMALL | {"head_dim": 16}),
    "qwen3_moe": ("Qwen3Moe", SMALL | EXPERTS | {"head_dim": 16}),
    "gemma2": ("Gemma2", SMALL | GEMMA),
    "gemma3_text": ("Gemma3", SMALL | GEMMA | {"num_hidden_layers": 7}),
    "phi3": ("Phi3", SMALL | {"pad_token_id": 0, "sliding_window": 16}),
    "opt": ("OPT", {
        "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40,
        "max_position_embeddings": 128, "word_embed_proj_dim": 64,
    }),
    "gpt2": ("GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 40}),
}  # fmt: skip


def family(name):
    """config.json, and name to (type, shape), of a tiny model as the library saves it."""
    kind, config = CONFIGS[name]
    text = getattr(transformers, f"{kind}TextConfig" if name == "gemma3_text" else f"{kind}Config")
    head = "LMHeadModel" if name == "gpt2" else "ForCausalLM"
    model = getattr(transformers, kind + head)(text(**config)).to(torch.float16)
    return saved(model)


def gemma3():
    """The Gemma 3 that sees images too."""
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = transformers.Gemma3Config(text_config=SMALL | GEMMA, vision_config=vision, mm_tokens_per_image=4)
    return saved(transformers.Gemma3ForConditionalGeneration(config).to(torch.float16))


def saved(model):
    """What ``save_pretrained`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        arrays = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    arrays[name] = [part.get_dtype(), list(part.get_shape())]
        return {"config": json.loads((Path(folder) / "config.json").read_text()), "arrays": arrays}


def grid(bits, generator):
    """Codes [N, K], zero points and scales [N, K / GROUP] of FP16, and the weight that they stand for, in FP32."""
    codes = torch.randint(0, 1 << bits, (N, K), generator=generator)
    zeros = torch.randint(1, 1 << bits, (N, K // GROUP), generator=generator)
    scales = (torch.rand((N, K // GROUP), generator=generator) + 0.5).half()
    spread = (codes - zeros.repeat_interleave(GROUP, 1)) * scales.float().repeat_interleave(GROUP, 1)
    return codes, zeros, scales, spread


def linear(weight, dtype=torch.float32):
    """A layer with ``weight`` and no bias."""
    layer = torch.nn.Linear(K, N, bias=False, dtype=dtype)
    layer.weight.data = weight.to(dtype)
    return layer


def gptq(bits, generator):
    """AutoGPTQ's packing."""
    codes, zeros, scales, weight = grid(bits, generator)
    quantised = import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda_old").QuantLinear(
        bits, GROUP, K, N, False, weight_dtype=torch.float32
    )
    quantised.pack(linear(weight), scales.float(), zeros.float(), None)
    parts = {name: getattr(quantised, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    return parts | {"scales": parts["scales"].half(), "codes": codes, "zeros": zeros, "values": weight}


def awq(generator):
    """AutoAWQ's packing."""
    codes, zeros, scales, weight = grid(4, generator)
    kind = import_module("awq.modules.linear.gemm").WQLinear_GEMM
    device = torch.device("cuda")
    quantised = kind.from_linear(
        linear(weight).to(device), 4, GROUP, scales=scales.t().contiguous().float().to(device),
        zeros=zeros.t().contiguous().float().to(device),
    )  # fmt: skip
    parts = {name: getattr(quantised, name).cpu() for name in ("qweight", "qzeros", "scales")}
    return parts | {"codes": codes, "zeros": zeros, "values": weight}


def packed(bits, symmetric, generator):
    """compressed-tensors' pack-quantized, its codes as its own unpacking gives them."""
    helpers = import_module("compressed_tensors.compressors.pack_quantized.helpers")
    args = import_module("compressed_tensors.quantization")
    compressor = import_module("compressed_tensors.compressors.pack_quantized.base").PackedQuantizationCompressor
    scheme = args.QuantizationScheme(
        targets=["Linear"],
        weights=args.QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy="group", group_size=GROUP),
    )
    half = 1 << (bits - 1)
    codes, zeros, scales, _ = grid(bits, generator)
    codes, zeros = codes - half, torch.zeros_like(zeros) if symmetric else zeros - half
    values = (codes - zeros.repeat_interleave(GROUP, 1)) * scales.float().repeat_interleave(GROUP, 1)
    state = {"weight": values, "weight_scale": scales.float(), "weight_zero_point": zeros.to(torch.int8)}
    found = compressor.compress(state, scheme)
    back = helpers.unpack_from_int32(found["weight_packed"], bits, torch.Size((N, K)))
    assert torch.equal(back.long(), codes)
    values = compressor.decompress(found, scheme)["weight"].float()
    return found | {"codes": codes, "values": values} | ({} if symmetric else {"zeros": zeros})


def two_of_four(generator):
    """compressed-tensors' 2:4 with a mask."""
    module = import_module("compressed_tensors.compressors.sparse_compressors.sparse_24_bitmask")
    dense = torch.randn((N, K), generator=generator).half()
    found = module.Sparse24BitMaskTensor.from_dense(dense)
    parts = {name.removeprefix("layer."): array for name, array in found.dict("layer.weight").items()}
    return parts | {"values": found.decompress().float()}


def four_bits(kind, nested, generator):
    """bitsandbytes' NF4 and FP4 as Linear4bit saves them."""
    import bitsandbytes as bnb

    weight = torch.randn((N, K), generator=generator)
    layer = bnb.nn.Linear4bit(K, N, bias=False, quant_type=kind, compress_statistics=nested, compute_dtype=torch.float32)
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type=kind, compress_statistics=nested)
    layer = layer.cuda()
    values = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return {name: array.cpu() for name, array in layer.state_dict().items()} | {"values": values.float().cpu()}


def eight_bits(generator):
    """bitsandbytes' INT8 as Linear8bitLt saves it."""
    import bitsandbytes as bnb

    layer = bnb.nn.Linear8bitLt(K, N, bias=False, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(torch.randn((N, K), generator=generator).half(), requires_grad=False)
    found = {name: array.cpu() for name, array in layer.cuda().state_dict().items()}
    codes = found["weight"].long()
    return found | {"codes": codes, "values": codes.float() * (found["SCB"].float()[:, None] / 127)}


def eight_bit_floats(generator):
    """E4M3: every finite code, by PyTorch's own conversion."""
    codes = torch.tensor([code for code in range(256) if code & 127 != 127] * 17)[: N * K].to(torch.uint8)
    weight = codes.reshape(N, K).view(torch.float8_e4m3fn)
    scale = torch.rand((N, 1), generator=generator)
    return {"weight": weight, "weight_scale": scale, "values": weight.float() * scale}


def packings():
    """Part to array of every packing; ``codes``, ``zeros`` and ``values`` are what a reader must find."""
    generator = torch.Generator().manual_seed(7)
    found = {f"gptq{bits}": gptq(bits, generator) for bits in (2, 3, 4, 8)} | {"awq": awq(generator)}
    for bits in (2, 4, 8):
        found |= {f"packed{bits}{'s' if symmetric else 'a'}": packed(bits, symmetric, generator) for symmetric in (True, False)}
    for kind in ("nf4", "fp4"):
        found |= {f"{kind}{'-nested' if nested else ''}": four_bits(kind, nested, generator) for nested in (False, True)}
    return found | {"int8": eight_bits(generator), "fp8": eight_bit_floats(generator)}


def write(folder, name, found):
    """One file of packings with the versions that made it."""
    arrays = {f"{kind}.{part}": array for kind, parts in found.items() for part, array in parts.items()}
    names = {"codes": torch.int16, "zeros": torch.int16, "values": torch.float32}
    arrays = {key: array.to(names.get(key.rpartition(".")[2], array.dtype)).contiguous() for key, array in arrays.items()}
    save_file(arrays, folder / name, metadata=versions())


def versions():
    """Versions of the packages."""
    found = {}
    for name in ("torch", "transformers", "compressed-tensors", "bitsandbytes", "auto-gptq", "autoawq"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def main(folder):
    """Write the files; ``older`` only the 2:4 masks."""
    if "older" in sys.argv[2:]:
        write(folder, "two_of_four.safetensors", {"sparse": two_of_four(torch.Generator().manual_seed(9))})
        return
    families = {name: family(name) for name in CONFIGS} | {"gemma3": gemma3()}
    (folder / "families.json").write_text(json.dumps({"made_with": versions(), "families": families}))
    write(folder, "packings.safetensors", packings())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
