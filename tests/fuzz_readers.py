"""Readers of model files on mutated inputs: one line of InputError, or a result; no crash, no hang, little memory.

    python tests/fuzz_readers.py COUNT [SEED]

runs COUNT inputs and prints what came of them; the test suite runs a few thousand (tests/workloads/test_fuzz.py).
"""

import json
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import safetensors_files as files
from model_folders import CONFIGS, arrays_of

from mixflight.arch.errors import InputError
from mixflight.arch.formats import NF4_TABLE
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.folder_families import FAMILIES
from mixflight.workloads.folder_model import open_model_folder
from mixflight.workloads.gguf import SUPPORTED, open_gguf
from mixflight.workloads.gguf_model import stored_model_of
from mixflight.workloads.packed_weights import Quantiser, weight_at
from mixflight.workloads.safetensors_reader import open_safetensors
from mixflight.workloads.trace import decode_traces

SLOW = 2.0  # seconds of the processor for one input, which is a defect
NUMBERS = [0, 1, 2, 3, 7, 8, 31, 32, 33, 64, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
TOKENS = [b"0", b"-1", b"1e9", b"1e999", b"9" * 20, b"9" * 5000, b"null", b"true", b"[]", b"{}", b'""', b'"a"', b"NaN", b"[",
          b"{", b'"', b"\\u0000", b"\\ud800", b"\xff", b",", b":", b"0.5", b'"F32"', b'"U8"', b'"I32"', b'"nf4"']  # fmt: skip


def mutated(raw, rng, header):
    """``raw`` with 1 to 4 changes, most of them within the first ``header`` bytes."""
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        at = rng.randrange(max(1, min(len(raw), header if rng.random() < 0.9 else len(raw))))
        kind = rng.randrange(8)
        if kind == 0 and raw:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            raw[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            size = rng.choice((1, 2, 4, 8))
            raw[at : at + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 3:
            del raw[at : at + rng.choice((1, 2, 4, 8, 16, 100))]
        elif kind == 4:
            raw[at:at] = raw[at : at + rng.choice((1, 4, 8, 24, 60))]
        elif kind == 5:
            raw[at : at + rng.randrange(0, 4)] = rng.choice(TOKENS)
        elif kind == 6:
            other = rng.randrange(max(1, min(len(raw), header)))
            raw[at : at + 8] = raw[other : other + 8]
        elif rng.random() < 0.3:
            del raw[at:]
    return bytes(raw)


def _gguf_seed(folder):
    """A llama of one layer in which every type has a tensor."""
    path = folder / "seed.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {"block_count": 1, "context_length": 64, "embedding_length": 256, "feed_forward_length": 256,
                       "attention.head_count": 2, "attention.head_count_kv": 1}.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é", "日本"])
    writer.add_array("tokenizer.ggml.token_type", [1, 2, 3])
    shapes = {"token_embd": (3, 256), "output": (3, 256), "blk.0.attn_q": (256, 256), "blk.0.attn_k": (128, 256),
              "blk.0.attn_v": (128, 256), "blk.0.attn_output": (256, 256), "blk.0.ffn_gate": (256, 256),
              "blk.0.ffn_up": (256, 256), "blk.0.ffn_down": (256, 256)}  # fmt: skip
    kinds = [gguf.GGMLQuantizationType[name] for name in SUPPORTED.values()]
    for index, (name, (n, k)) in enumerate(shapes.items()):
        kind = kinds[index % 4 + 2]
        codes, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor(f"{name}.weight", np.zeros((n, k // codes * size), np.uint8), raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(256, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes(), open_gguf(path).data_offset


def _mixture_seed(folder):
    """A qwen2moe of one layer: a router, experts, shared experts and their gate."""
    path = folder / "mixture.gguf"
    writer = gguf.GGUFWriter(path, "qwen2moe")
    for key, value in {"block_count": 1, "context_length": 64, "embedding_length": 64, "feed_forward_length": 64,
                       "attention.head_count": 2, "attention.head_count_kv": 1, "expert_count": 3, "expert_used_count": 2,
                       "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 64}.items():  # fmt: skip
        writer.add_uint32(f"qwen2moe.{key}", value)
    writer.add_float32("qwen2moe.attention.layer_norm_rms_epsilon", 1e-5)
    shapes = {"token_embd": (3, 64), "blk.0.attn_q": (64, 64), "blk.0.attn_k": (32, 64), "blk.0.attn_v": (32, 64),
              "blk.0.attn_output": (64, 64), "blk.0.ffn_gate_exps": (3, 32, 64), "blk.0.ffn_up_exps": (3, 32, 64),
              "blk.0.ffn_down_exps": (3, 64, 32), "blk.0.ffn_gate_shexp": (64, 64), "blk.0.ffn_up_shexp": (64, 64),
              "blk.0.ffn_down_shexp": (64, 64)}  # fmt: skip
    kind = gguf.GGMLQuantizationType.Q4_0
    for name, (*leading, k) in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros((*leading, k // 32 * 18), np.uint8), raw_dtype=kind)
    for name, shape in {"output_norm.weight": 64, "blk.0.attn_norm.weight": 64, "blk.0.ffn_norm.weight": 64,
                        "blk.0.attn_q.bias": 64, "blk.0.attn_k.bias": 32, "blk.0.attn_v.bias": 32,
                        "blk.0.ffn_gate_inp.weight": (3, 64), "blk.0.ffn_gate_inp_shexp.weight": 64}.items():  # fmt: skip
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes(), open_gguf(path).data_offset


def _types_seed(folder):
    """One tensor of every type."""
    path = folder / "types.gguf"
    writer = gguf.GGUFWriter(path, "x")
    for name in SUPPORTED.values():
        kind = gguf.GGMLQuantizationType[name]
        codes, size = gguf.GGML_QUANT_SIZES[kind]
        if codes == 1:
            stored = np.ones(4 * size, np.uint8).view(np.uint8)[None]
        else:
            stored = np.full((1, 256 // codes * size), 17, np.uint8)
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes(), open_gguf(path).data_offset


def _packings_seed(folder):
    """A weight of every packing."""
    codes, zeros, scales = np.full((32, 32), 3), np.full((2, 32), 1), np.ones((2, 32), np.float16)
    signed, rows = np.full((32, 32), -1), np.ones((32, 2), np.float16)
    dense = np.zeros((32, 32), np.float16)
    dense[:, ::2] = 1
    absmax = np.ones(64, np.uint8)
    nested = 0.5, np.ones(1, np.float32), np.ones(256, np.float32)
    parts = {
        "gptq": files.gptq(codes, zeros, scales, 4, order=np.arange(32)[::-1] // 16), "awq": files.awq(codes, zeros, scales),
        "packed": files.packed_integers(signed, rows, np.full((32, 2), 1)), "sparse": files.sparse(dense),
        "nf4": files.four_bits(codes, absmax, NF4_TABLE, block=16, nested=nested),
        "int8": {"weight": np.ones((32, 32), np.int8), "SCB": np.ones(32, np.float32)},
        "plain": {"weight": np.ones((32, 32), np.float16)}, "fp8": {"weight": np.ones((32, 32), np.uint8),
        "weight_scale": np.ones((32, 1), np.float32)},
    }  # fmt: skip
    arrays = {f"{name}.{part}": array for name, found in parts.items() for part, array in found.items()}
    raw = files.write(folder / "seed.safetensors", arrays, {"fp8.weight": "F8_E4M3"}).read_bytes()
    return raw, 8 + int.from_bytes(raw[:8], "little"), list(parts)


def _folder_seed(folder, kind):
    """(config, index, shard) of a family's folder."""
    arrays = arrays_of(kind)
    files.write(folder / "1.safetensors", arrays)
    index = {"metadata": {}, "weight_map": dict.fromkeys(arrays, "1.safetensors")}
    config = {"quantization_config": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq"}, "sliding_window": 32}
    config = json.dumps(CONFIGS[kind] | (config if kind == "llama" else {"sliding_window": 32}))
    return config.encode(), json.dumps(index).encode(), (folder / "1.safetensors").read_bytes()


class Fuzz:
    """Seeds, and one way of reading for each."""

    def __init__(self, folder):
        self.folder = folder
        self.seeds = {
            "gguf model": _gguf_seed(folder), "gguf mixture": _mixture_seed(folder), "gguf types": _types_seed(folder)
        }  # fmt: skip
        *packings, self.packings = _packings_seed(folder)
        self.seeds["packings"] = tuple(packings)
        self.parts = folder / "parts"
        self.parts.mkdir()
        self.folders = {kind: _folder_seed(self.parts, kind) for kind in FAMILIES}

    def run(self, rng):
        """One input; what it was and whether it was read or refused."""
        kind = rng.choice((*self.seeds, "config", "index", "shard"))
        attempts = self._folder(kind, rng) if kind in ("config", "index", "shard") else self._file(kind, rng)
        refused = False
        for attempt in attempts:
            try:
                attempt()
            except InputError as error:
                refused = True
                lines = len(str(error).splitlines())
                if lines != 1:
                    raise AssertionError(f"a message of {lines} lines: {error}") from error
        return f"{kind} {'refused' if refused else 'read'}"

    def _file(self, kind, rng):
        path = self.folder / "input"
        path.write_bytes(mutated(self.seeds[kind][0], rng, self.seeds[kind][1]))
        if kind == "packings":
            file = self._opened(open_safetensors, path)
            for name in self.packings if file else ():
                method = Quantiser(method=name if name in ("gptq", "awq") else "", bits=rng.choice((0, 4)))
                yield lambda name=name, method=method: weight_at(file, name, (32, 32), method).dequantise()
            if file is None:
                yield lambda: open_safetensors(path)
            return
        file = self._opened(open_gguf, path)
        if file is None:
            yield lambda: open_gguf(path)
            return
        for key in file.metadata:
            yield lambda key=key: file.metadata[key]
        for tensor in [*file.tensors.values()][:40]:
            yield tensor.dequantise
        if kind != "gguf types":
            yield lambda: self._trace(stored_model_of(file))

    def _folder(self, kind, rng):
        family = rng.choice([*self.folders])
        raw = dict(zip(("config", "index", "shard"), self.folders[family], strict=True))
        raw[kind] = mutated(raw[kind], rng, 8 + int.from_bytes(raw["shard"][:8], "little"))
        for name, file in (("config", "config.json"), ("index", "model.safetensors.index.json"), ("shard", "1.safetensors")):
            (self.parts / file).write_bytes(raw[name])
        yield lambda: self._trace(open_model_folder(self.parts))

    @staticmethod
    def _opened(reader, path):
        try:
            return reader(path)
        except InputError:
            return None

    @staticmethod
    def _trace(stored):
        recipe = recipe_of("as-stored", stored)
        for step in decode_traces(stored.model, recipe, 0, 1):
            assert step.macs > 0
        for weight in stored.linears.values():
            weight.dequantise([0])


def fuzz(count, seed):
    """Run ``count`` inputs; how often each came, and the longest time."""
    rng, found, slowest = random.Random(seed), Counter(), 0.0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        machine = Fuzz(Path(folder))
        for number in range(count):
            state = rng.getstate()
            start = time.process_time()
            try:
                found[machine.run(rng)] += 1
            except Exception as error:
                raise AssertionError(f"input {number} of seed {seed}, state {hash(state)}") from error
            slowest = max(slowest, time.process_time() - start)
    return found, slowest


if __name__ == "__main__":
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    total, start = int(sys.argv[1]), time.perf_counter()
    outcomes, longest = fuzz(total, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for outcome in sorted(outcomes):
        print(f"{outcomes[outcome]:8} {outcome}")
    print(
        f"{total:8} inputs in {time.perf_counter() - start:.0f} s, the longest {longest:.3f} s, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
    )
