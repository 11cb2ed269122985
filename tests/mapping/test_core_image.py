import hashlib
import json

import msgspec
import numpy as np
import pytest
from command_line import document, refusal

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import read_program
from mixflight.arch.errors import InputError
from mixflight.arch.formats import format_named
from mixflight.compile_program import compile_model
from mixflight.mapping.core_contents import deal, gather
from mixflight.mapping.core_image import read_tile, streamed, tile_image
from mixflight.mapping.core_network import Linear
from mixflight.mapping.core_tiles import index_bits, tiling_of
from mixflight.workload import model_file
from mixflight.workloads.model_file import open_model
from mixflight.workloads.pruning import pruned
from mixflight.workloads.tensor import pack_tensor


@pytest.mark.parametrize("name", ["q4_1", "q8_0", "q4_0", "q5_0"])
def test_a_tile_comes_back_exactly(name):
    rng, fmt = np.random.default_rng(3), format_named(name, "test")
    n, k = 100, 2048
    codes = rng.integers(0, 1 << fmt.bits, (n, k)).astype(np.uint8)
    codes = codes.view(np.int8) if fmt.signed else codes
    halves = rng.standard_normal((2, n, k // 32)).astype(np.float16)
    tensor = pack_tensor("w", name, codes=codes, scales=halves[0], minima=halves[1] if fmt.zero == "f16-min" else None)
    linear = Linear(name="w", n=n, k=k, weight=fmt, act=format_named("int8-g32", "test"))
    tiling = tiling_of(linear, 0, n, accelerator_named("flightllm-u280"))
    found = tile_image(tensor, tiling, 0, n)
    check_tile(tensor, tiling, found)


def check_tile(tensor, tiling, found):
    """A tile's bytes are as many as stated and have all that the tensor has."""
    for slab, (k_slab, *parts) in enumerate(zip(tiling.slabs(), *found, strict=True)):
        sizes = tiling.slab_of(tensor.n, k_slab, slab == len(tiling.slabs()) - 1)
        assert [part.shape[1] for part in parts] == [sizes.weight_bytes, sizes.scale_bytes, sizes.index_bytes]
    codes, scales, places = (np.concatenate(part, axis=1) for part in found)
    back, scales = read_tile(codes, scales, tiling, tensor.n, places if tiling.linear.keep_n < 16 else None)
    assert np.array_equal(back, tensor.codes().view(np.uint8))
    assert np.array_equal(scales[..., 0], tensor.scales())


def sparse_tile(n, m, columns=100, k=2048, **linear):
    """A random tensor with N:M weights, and its tiling on a small core."""
    fmt, rng = format_named("q8_0", "test"), np.random.default_rng(n)
    dense = pack_tensor("w", "q8_0", codes=rng.integers(-127, 128, (columns, k)).astype(np.int8),
                        scales=rng.standard_normal((columns, k // 32)).astype(np.float16))
    given = {"name": "w", "n": columns, "k": k, "weight": fmt, "act": format_named("int8-g32", "test"), "keep_n": n * 16 // m}
    machine = accelerator_named("flightllm-mini-sparse")
    return pruned(dense, n, m), tiling_of(Linear(**given | linear), 0, columns, machine)


@pytest.mark.parametrize(("n", "m"), [(8, 16), (4, 8), (2, 4)])
def test_a_tile_of_sparse_weights_comes_back_exactly(n, m):
    tensor, tiling = sparse_tile(n, m)
    assert len(tiling.slabs()) == 2 and (tensor.codes().reshape(100, -1, m) != 0).sum(-1).max() == n
    found = tile_image(tensor, tiling, 0, 100)
    check_tile(tensor, tiling, found)
    dense = tiling_of(msgspec.structs.replace(tiling.linear, keep_n=16), 0, 100, accelerator_named("flightllm-mini-sparse"))
    assert sum(part.size for part in found[0]) * 2 == sum(part.size for part in tile_image(tensor, dense, 0, 100)[0])


def test_sparse_weights_that_have_no_image():
    with pytest.raises(InputError, match="every 16 weights along K must keep at most 8, not 12, in 'w'"):
        tile_image(sparse_tile(12, 16)[0], sparse_tile(8, 16)[1], 0, 100)
    with pytest.raises(InputError, match="must keep 2, 4 or 8 of 16, with places of four bits, not 12 of 16"):
        tile_image(*sparse_tile(12, 16), 0, 100)
    with pytest.raises(InputError, match="4 of 16 weights must have groups and slabs of whole 64 along K, not groups of 32"):
        tile_image(*sparse_tile(4, 16), 0, 100)
    with pytest.raises(InputError, match="must have codes in which 0 is zero, not q4_1"):
        tile_image(*sparse_tile(8, 16, weight=format_named("q4_1", "test")), 0, 100)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prog")
    return folder, document("compile", "--arch", "flightllm-u280", "--model", "smollm2", "-o", folder)


def test_a_program_for_chunks(tmp_path):
    arguments = ("--arch", "flightllm-mini", "--model", "smollm2-135m", "--recipe", "w4a8g32", "--max-context", "256")
    document("compile", *arguments, "--chunk", "8", "-o", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["chunk"] == 8 and {item["stage"] for item in manifest["files"] if "stage" in item} == {
        "decode", "prefill", "chunk"
    }
    assert len(read_program((tmp_path / "core0.chunk.bin").read_bytes())) > 300
    assert "a chunk must be whole rows of 4 tokens" in refusal("compile", *arguments, "--chunk", "5", "-o", tmp_path)


def test_a_program_for_blocks_of_a_prompt(tmp_path):
    arguments = ("--arch", "flightllm-mini", "--model", "smollm2-135m", "--recipe", "w4a8g32", "--max-context", "256")
    document("compile", *arguments, "--prefill", "8", "-o", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["block"] == 8 and {item["stage"] for item in manifest["files"] if "stage" in item} == {
        "decode", "prefill", "block"
    }
    stream = read_program((tmp_path / "core0.block.bin").read_bytes())
    assert len(stream.tables["MM"]["rows"]) > 20 and set(stream.tables["MM"]["rows"].tolist()) == {0, 8}
    assert "LOGIT_ROW" in (tmp_path / "registers.h").read_text()
    assert "at most the 16 rows of an MM, not 20 tokens" in refusal("compile", *arguments, "--prefill", "20", "-o", tmp_path)


def test_files_are_what_the_manifest_says(written):
    folder, printed = written
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {item["path"] for item in printed["files"]} == {path.name for path in folder.iterdir()}
    for item in manifest["files"]:
        data = (folder / item["path"]).read_bytes()
        assert len(data) == item["bytes"] and hashlib.sha256(data).hexdigest() == item["sha256"]
        if item["what"] == "text":
            read_program(data, item["path"])
    control = manifest["control"]
    assert (control["head_elements"], control["position"], len(control["rope_steps"])) == (64, 0, 32)
    assert np.uint32(control["inverse_root"]).view(np.float32) == np.float32(0.125)
    texts = sum(item["bytes"] for item in manifest["files"] if item["what"] in ("text", "constants"))
    assert printed["bytes_total"] == texts == manifest["instructions"]["compact"]
    assert printed["bytes_unshared"] > 1e6 * texts
    assert "#define R_WEIGHTS 1u" in (folder / "registers.h").read_text()


def read_back(folder, wanted):
    """Every weight in ``wanted`` put together from the channels of all cores, and compared with the file."""
    compiled = compile_model("flightllm-u280", "smollm2", None, None)
    stored = open_model(model_file("smollm2"))
    network, machine = compiled.networks["decode"], compiled.machine
    seen = {name: np.zeros(stored.linears[name].n, int) for name in wanted}
    for core, text in enumerate(compiled.texts["decode"]):
        channels = [
            np.fromfile(folder / f"core{core}.channel{c}.bin", np.uint8) for c in range(machine.hbm.channels_per_core)
        ]
        whole = np.stack(channels)
        codes, scales = text.memory.weights[0], text.memory.scales[0]
        for name, tiling, column, columns in streamed(network, machine, text.share):
            slabs = [tiling.slab_of(columns, k, False) for k in tiling.slabs()]
            code_end, scale_end = codes + sum(s.weight_bytes for s in slabs), scales + sum(s.scale_bytes for s in slabs)
            if name in wanted:
                rows, tensor = slice(column, column + columns), stored.linears[name]
                back, halves = read_tile(whole[:, codes:code_end], whole[:, scales:scale_end], tiling, columns)
                assert np.array_equal(back, tensor.codes(rows).view(np.uint8))
                assert np.array_equal(halves[..., 0], tensor.scales(rows))
                if tensor.format.zero == "f16-min":
                    assert np.array_equal(halves[..., 1], tensor.minima(rows))
                seen[name][rows] += 1
            codes, scales = code_end, scale_end
    assert all((count == 1).all() for count in seen.values())


def test_weights_come_back_from_the_image(written):
    read_back(
        written[0],
        {f"layers.{layer}.{name}" for layer in (0, 29) for name in ("q", "k", "v", "o", "gate", "up", "down")},
    )


@pytest.mark.slow
def test_every_weight_comes_back_from_the_image(written):
    read_back(written[0], set(open_model(model_file("smollm2")).linears))


def test_norms_lie_in_the_order_of_the_program(written):
    compiled = compile_model("flightllm-u280", "smollm2", None, None)
    stored, memory = open_model(model_file("smollm2")), compiled.texts["decode"][0].memory
    channels = [np.fromfile(written[0] / f"core0.channel{c}.bin", np.uint8) for c in range(8)]
    first = gather(channels, memory.parameters[0], 576 * 4).view("<f4")
    assert np.array_equal(first, stored.vectors["blk.0.attn_norm.weight"].dequantise()[0])


def test_the_embedding_lies_row_by_row(written):
    rows, head = np.fromfile(written[0] / "ddr.bin", np.uint8).reshape(49152, 640), smollm2_head()
    codes, scales = rows[:, :576].view(np.int8), rows[:, 576:612].copy().view("<f2")
    assert np.array_equal(codes, head.codes()) and np.array_equal(scales, head.scales())
    assert not rows[:, 612:].any()


def smollm2_head():
    return open_model(model_file("smollm2")).linears["head"]


@pytest.mark.parametrize(("size", "channels"), [(1, 2), (64, 2), (100, 8), (2304, 8), (2304, 2)])
def test_what_is_dealt_comes_back(size, channels):
    data = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    dealt = deal(data, channels)
    assert dealt.shape[1] % 32 == 0
    assert np.array_equal(dealt[1 % channels, :32][: max(0, size - 32)], data[32:64])
    assert np.array_equal(gather(list(dealt), 0, size), data)


def test_index_codings():
    assert [index_bits(n, "four_bit") for n in (16, 8, 4, 2)] == [0, 2, 1, 0.5]
    assert [index_bits(n, "bitmap") for n in (16, 8, 4, 2)] == [0, 1, 1, 1]
    assert [index_bits(n, "rank") for n in (8, 4, 2)] == [14 / 16, 11 / 16, 7 / 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "int8", "--model", "smollm2-135m"], "ARCH must be a machine of FlightLLM cores"),
        (
            ["--arch", "flightllm-u280", "--model", "smollm2-135m", "--encoding", "packed"],
            "encoding must be one of compact, published",
        ),
        (
            ["--arch", "flightllm-u280", "--model", "llama2-7b", "--recipe", "w8a8", "--max-context", "4096"],
            "must fit the memory",
        ),
        (
            ["--arch", "flightllm-u280", "--model", "smollm2-135m", "--recipe", "w4a8g32", "--max-context", "9000"],
            "context length",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path):
    assert message in refusal("compile", *arguments, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_corrupted_program_is_one_line(written, tmp_path):
    data = bytearray((written[0] / "core0.decode.bin").read_bytes())
    data[7 * 16 + 3] ^= 0x80
    with pytest.raises(InputError, match=r"core0\.decode\.bin"):
        read_program(bytes(data), "core0.decode.bin")
