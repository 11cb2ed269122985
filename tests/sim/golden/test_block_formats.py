"""A llama file whose linears are in GGUF's block formats: read, computed in golden arithmetic, near the same in FP32."""

import gguf
import numpy as np
import pytest

from mixflight.arch.formats import FORMATS
from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.pack import pack
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf

WIDE, HEADS, VOCAB = 256, 4, 48
NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
KINDS = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4"]
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]


def llama_file(path, kind):
    writer, rng = gguf.GGUFWriter(path, "llama"), np.random.default_rng(1)
    for key, value in {
        "block_count": 1, "context_length": 64, "embedding_length": WIDE, "feed_forward_length": WIDE,
        "attention.head_count": HEADS, "attention.head_count_kv": HEADS,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDE, np.float32))
    for name in ("token_embd", *(f"blk.0.{part}" for part in NAMES)):
        values = rng.standard_normal((VOCAB if name == "token_embd" else WIDE, WIDE)) / np.sqrt(WIDE)
        packed = pack(name, values, FORMATS[kind]).raw.reshape(len(values), -1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=getattr(gguf.GGMLQuantizationType, kind.upper()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return load_llama(open_gguf(path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_block_formats_runs(tmp_path, kind):
    llama = llama_file(tmp_path / "tiny.gguf", kind)
    compiled = Session(llama).extend(TOKENS, every=True)
    reference = Session(llama, compiled=False).extend(TOKENS, every=True)
    np.testing.assert_array_equal(compiled.view(np.uint32), reference.view(np.uint32))
    single = Session(llama)
    one_by_one = np.concatenate([single.extend([token]) for token in TOKENS])
    np.testing.assert_array_equal(compiled.view(np.uint32), one_by_one.view(np.uint32))
    plain = np.concatenate(list(Emulated(llama).logits()(TOKENS)))
    rms = float(np.sqrt(((compiled - plain) ** 2).mean()))
    assert 0 < rms < 0.03 * plain.std()  # what INT8 activations and cache cost: a fraction of their step, 1/127
