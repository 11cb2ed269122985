"""Our reader against the `gguf` package, and against files that are damaged or forged."""

import contextlib
import functools
import os
import struct
import time

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import DEFAULT_ALIGNMENT, GGML_TYPES, SUPPORTED, open_gguf
from mixflight.workloads.tensor import LAYOUTS

QUANTISED = {"q4_0": Type.Q4_0, "q4_1": Type.Q4_1, "q8_0": Type.Q8_0}
# What the reference package can write; of the others it only reads blocks, which are random here.
WRITTEN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "BF16")
RANDOM = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
TOKENS = ["a", "é", "", "日本"]


def _write(path, tensors=(), keys=None, alignment=None):
    """A file by the reference writer; tensors are (name, array as stored, type or None)."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in (keys or {}).items():
        getattr(writer, f"add_{value[0]}")(key, value[1])
    for name, stored, kind in tensors:
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(3).normal(size=(6, 96)).astype(np.float32)


@pytest.fixture(scope="module")
def sample(tmp_path_factory, weights):
    tensors = [(name, gguf.quants.quantize(weights, kind), kind) for name, kind in QUANTISED.items()]
    rng = np.random.default_rng(4)
    wide = rng.normal(size=(2, 256)).astype(np.float32)
    tensors += [(name, _stored(Type[name], wide, rng), Type[name]) for name in (*WRITTEN, *RANDOM)]
    tensors += [("f16", weights.astype(np.float16), None), ("norm", weights[0], None)]
    keys = {
        "x.tokens": ("array", TOKENS), "x.types": ("array", [1, 3, 4]), "x.flag": ("bool", True),
        "x.count": ("uint64", 2**40), "x.small": ("int8", -3), "x.rate": ("float32", 0.5),
        "x.text": ("string", "é"),
        "x.half": ("float64", 1e-300), "x.flags": ("array", [True, False]),
    }
    return _write(tmp_path_factory.mktemp("gguf") / "sample.gguf", tensors, keys)


def _reference_codes(kind, raw):
    """Codes from the reference's packed bytes, element by element."""
    skip = {"q4_0": 2, "q4_1": 4, "q8_0": 2}[kind]
    rows = []
    for row in raw:
        size = gguf.GGML_QUANT_SIZES[QUANTISED[kind]][1]
        codes = []
        for start in range(0, len(row), size):
            block = [int(byte) for byte in row[start + skip : start + size]]
            if kind == "q8_0":
                codes += [byte - 256 if byte > 127 else byte for byte in block]
            else:
                codes += [byte % 16 for byte in block] + [byte // 16 for byte in block]
        rows.append(codes)
    return rows


def test_codes_and_values_equal_the_reference(sample):
    ours, reference = open_gguf(sample), gguf.GGUFReader(sample)
    assert list(ours.tensors) == [tensor.name for tensor in reference.tensors]
    assert ours.data_offset == reference.data_offset
    for theirs in reference.tensors:
        mine = ours.tensors[theirs.name]
        assert mine.shape == tuple(int(size) for size in reversed(theirs.shape))
        assert mine.raw.tobytes() == theirs.data.tobytes()
        values = gguf.quants.dequantize(theirs.data, theirs.tensor_type).reshape(mine.n, mine.k)
        assert (mine.dequantise() == values).all()
        if theirs.name in QUANTISED:
            assert mine.codes().tolist() == _reference_codes(theirs.name, theirs.data)


def _stored(kind, values, rng):
    """``values`` quantised by the reference package, or random blocks with small finite scales."""
    if kind.name in WRITTEN:
        return gguf.quants.quantize(values, kind)
    codes, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (len(values), values.shape[1] // codes, size), dtype=np.uint8)
    layout = LAYOUTS[kind.name.lower()]
    for at in (layout.scale_at, layout.minimum_at):
        if at is not None:
            raw[..., at : at + 2] = rng.normal(size=(*raw.shape[:2], 1)).astype("<f2").view(np.uint8)
    return raw.reshape(len(values), -1)


def test_every_type_that_is_read_is_compared():
    assert {*WRITTEN, *RANDOM, "F32", "F16"} == set(SUPPORTED.values())


@pytest.mark.parametrize("name", [*WRITTEN, *RANDOM])
def test_every_type_gives_the_bits_of_the_reference(name, tmp_path):
    rng, kind = np.random.default_rng(11), Type[name]
    values = rng.normal(size=(33, 768)).astype(np.float32) * np.exp2(rng.integers(-14, 10, (33, 1))).astype(np.float32)
    values[3] = 0
    path = _write(tmp_path / "x.gguf", [("w", _stored(kind, values, rng), kind)])
    mine, theirs = open_gguf(path).tensors["w"], gguf.GGUFReader(path).tensors[0]
    assert mine.shape == (33, 768)
    assert mine.raw.tobytes() == theirs.data.tobytes()
    expected = gguf.quants.dequantize(theirs.data, kind).reshape(33, 768)
    assert mine.dequantise().tobytes() == expected.astype(np.float32).tobytes()
    assert mine.dequantise([32, 0, 5]).tobytes() == expected[[32, 0, 5]].astype(np.float32).tobytes()
    assert mine.nbytes * 8 == 33 * mine.format.row_bits(768)


def test_metadata_equals_the_reference(sample):
    ours, reference = open_gguf(sample).metadata, gguf.GGUFReader(sample)
    theirs = {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)
    for key, value in theirs.items():
        mine = ours[key]
        assert (mine.tolist() if isinstance(mine, np.ndarray) else mine) == value, key


def test_typed_getters(sample):
    metadata = open_gguf(sample).metadata
    assert metadata.strings("x.tokens") == TOKENS
    assert metadata.integers("x.types").tolist() == [1, 3, 4]
    assert metadata.flag("x.flag") is True
    assert metadata.integer("x.count", high=2**41) == 2**40
    assert metadata.number("x.rate") == 0.5
    assert metadata.number("x.small") == -3
    assert metadata.text("x.text") == "é"
    for call in (
        lambda: metadata.integer("x.count"), lambda: metadata.integer("x.small"),
        lambda: metadata.integer("x.flag"), lambda: metadata.number("x.text"),
        lambda: metadata.text("x.rate"),
        lambda: metadata.flag("x.small"), lambda: metadata.strings("x.types"),
        lambda: metadata.integers("x.tokens"), lambda: metadata.integers("x.flags"),
        lambda: metadata.text("x.none"), lambda: metadata.text("x.tokens"),
    ):
        with pytest.raises(InputError, match=r"metadata .*x\..*sample\.gguf$"):
            call()
    with pytest.raises(KeyError):
        metadata["x.none"]
    with pytest.raises(InputError, match=r"must hold tensor 'q9', which is missing"):
        open_gguf(sample).tensor("q9")


def test_alignment_and_more_dimensions(tmp_path, weights):
    cube = weights.reshape(2, 3, 96)
    path = _write(tmp_path / "f.gguf", [("a", weights[0], None), ("cube", cube, None)], alignment=256)
    ours = open_gguf(path)
    assert ours.alignment == 256
    assert ours.tensors["cube"].shape == (2, 3, 96)
    assert ours.tensors["cube"].n == 6
    assert (ours.tensors["cube"].values() == cube).all()


def test_version_2_reads_the_same(sample, tmp_path):
    data = bytearray(sample.read_bytes())
    data[4:8] = struct.pack("<I", 2)
    path = tmp_path / "v2.gguf"
    path.write_bytes(data)
    assert open_gguf(path).version == 2
    for name, tensor in open_gguf(sample).tensors.items():
        assert (open_gguf(path).tensors[name].raw == tensor.raw).all()


def test_type_numbers_agree_with_the_reference():
    for kind in Type:
        assert GGML_TYPES[kind.value] == kind.name


# Files by hand, to forge what the reference writer would not write.


def _string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _entry(key, kind, value):
    return _string(key) + struct.pack("<I", kind) + value


def _info(name, dims, kind=0, offset=0, dimensions=None):
    count = len(dims) if dimensions is None else dimensions
    return _string(name) + struct.pack(f"<I{len(dims)}QIQ", count, *dims, kind, offset)


def _forge(tmp_path, infos=(), entries=(), data=bytes(256), **header):
    fields = {"magic": b"GGUF", "version": 3, "tensors": len(infos), "count": len(entries)} | header
    raw = struct.pack("<4sIQQ", *fields.values()) + b"".join(entries) + b"".join(infos)
    path = tmp_path / "forged.gguf"
    path.write_bytes(raw + bytes(-len(raw) % DEFAULT_ALIGNMENT) + data)
    return path


HUGE = 2**63 + 5
FORGED = {
    "magic": ({"magic": b"GGML"}, "must start with b'GGUF', not b'GGML'"),
    "version 1": ({"version": 1}, "version must be 2 or 3, not 1"),
    "big endian": ({"version": 0x03000000}, "big-endian files are not supported"),
    "tensor count": ({"tensors": HUGE}, "number of tensors must fit the file"),
    "entry count": ({"count": HUGE}, "number of metadata entries must fit the file"),
    "key length": ({"entries": [struct.pack("<Q", HUGE) + bytes(20)]}, f"a metadata key needs {HUGE} bytes"),
    "key text": ({"entries": [_entry(b"\xff", 0, b"\0")]}, "a metadata key must be UTF-8"),
    "key twice": ({"entries": [_entry("k", 0, b"\0")] * 2}, "keys must be unique, but 'k' came twice"),
    "value type": ({"entries": [_entry("k", 13, b"\0")]}, "'k' must have a known value type .* not 13"),
    "boolean": ({"entries": [_entry("k", 7, b"\2")]}, "'k' must hold booleans 0 or 1, not 2"),
    "string length": ({"entries": [_entry("k", 8, struct.pack("<Q", HUGE))]}, "'k' needs .* bytes"),
    "array length": ({"entries": [_entry("k", 9, struct.pack("<IQ", 4, HUGE))]}, "number of elements of .*k"),
    "array of strings": (
        {"entries": [_entry("k", 9, struct.pack("<IQ", 8, HUGE))]},
        "number of strings of .*'k' must fit",
    ),
    "long string in array": (
        {"entries": [_entry("k", 9, struct.pack("<IQQ", 8, 2, HUGE))]}, "strings of .*'k' must fit the file",
    ),
    "array type": ({"entries": [_entry("k", 9, struct.pack("<IQ", 77, 1))]}, "known value type, not 77"),
    "nested array": ({"entries": [_entry("k", 9, struct.pack("<IQ", 9, 1))]}, "arrays of arrays"),
    "alignment 0": (
        {"entries": [_entry("general.alignment", 4, struct.pack("<I", 0))]}, "must be a power of two",
    ),
    "alignment 48": (
        {"entries": [_entry("general.alignment", 4, struct.pack("<I", 48))]}, "must be a power of two",
    ),
    "alignment text": ({"entries": [_entry("general.alignment", 8, _string("x"))]}, "must be an integer"),
    "alignment 2^30": (
        {"entries": [_entry("general.alignment", 4, struct.pack("<I", 2**30))], "infos": [_info("w", [8])]},
        "tensor 'w' needs 32 bytes",
    ),
    "name twice": ({"infos": [_info("w", [8]), _info("w", [8], offset=32)]}, "unique, but 'w' came twice"),
    "name length": ({"infos": [struct.pack("<Q", HUGE) + bytes(40)]}, "a tensor name needs"),
    "no dimensions": ({"infos": [_info("w", [8], dimensions=0)]}, "1 to 4 dimensions, not 0"),
    "many dimensions": ({"infos": [_info("w", [1] * 5)]}, "1 to 4 dimensions, not 5"),
    "dimension 0": ({"infos": [_info("w", [8, 0])]}, "every dimension must be at least 1"),
    "product": ({"infos": [_info("w", [2**32, 2**32])]}, r"'w' must have less than 2\^63 elements"),
    "large": ({"infos": [_info("w", [2**30, 2**30])]}, "tensor 'w' needs .* but the file ends at"),
    "k": ({"infos": [_info("w", [48], 3)]}, "K must be a multiple of 32 for q4_1, not 48, in tensor 'w'"),
    "type": ({"infos": [_info("w", [256], 16)]}, "'w' has type IQ2_XXS, supported: F32, F16, Q4_0, Q4_1, Q5_0"),
    "type number": ({"infos": [_info("w", [256], 99)]}, "'w' has type number 99, supported"),
    "offset": ({"infos": [_info("w", [8], offset=HUGE // 32 * 32)]}, "tensor 'w' needs 32 bytes at byte"),
    "misaligned": ({"infos": [_info("w", [8], offset=16)]}, "'w' must start at a multiple of 32, not 16"),
    "overlap": ({"infos": [_info("b", [8], offset=32), _info("a", [9])]}, "not overlap, but 'a' and 'b' do"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_headers_are_refused_in_one_line(tmp_path, case):
    parts, message = FORGED[case]
    path = _forge(tmp_path, **parts)
    with pytest.raises(InputError, match=message) as caught:
        open_gguf(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_text_that_is_not_utf_8_is_refused_when_it_is_read(tmp_path):
    strings = _entry("k", 9, struct.pack("<IQ", 8, 1) + _string(b"\xff"))
    metadata = open_gguf(_forge(tmp_path, entries=[strings])).metadata
    with pytest.raises(InputError, match="'k' must be UTF-8"):
        metadata.strings("k")


def test_what_is_not_a_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(InputError, match="must be readable"):
            open_gguf(path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(InputError, match="must be a regular file"):
        open_gguf(tmp_path / "pipe.gguf")
    for content in (b"", b"GG", b"not a gguf file at all"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InputError, match="must start with b'GGUF'"):
            open_gguf(tmp_path / "x")


def _read_everything(path):
    """Ask for everything a file offers; only InputError may be raised."""
    with contextlib.suppress(InputError):
        file = open_gguf(path)
        parts = [functools.partial(file.metadata.__getitem__, key) for key in file.metadata]
        parts += [tensor.dequantise for tensor in file.tensors.values()]
        for part in parts:
            with contextlib.suppress(InputError):
                part()


def test_a_truncated_file_is_refused(sample, tmp_path):
    data = sample.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in sorted({0, 3, 4, 7, 8, 23, 24, *range(0, len(data) - DEFAULT_ALIGNMENT, len(data) // 50)}):
        path.write_bytes(data[:size])
        with pytest.raises(InputError):
            open_gguf(path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bytes_never_give_anything_but_an_input_error(sample, tmp_path_factory, data):
    original = sample.read_bytes()
    header = open_gguf(sample).data_offset
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, header - 1) | st.integers(0, len(original) - 1))
        new = data.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8) | st.just(b"\0" * 8))
        mutated[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(mutated)
    _read_everything(path)


@pytest.mark.slow
def test_the_real_file_equals_the_reference(smollm2_path):
    ours, reference = open_gguf(smollm2_path), gguf.GGUFReader(smollm2_path)
    assert list(ours.tensors) == [tensor.name for tensor in reference.tensors]
    for theirs in reference.tensors:
        mine = ours.tensors[theirs.name]
        values = gguf.quants.dequantize(theirs.data, theirs.tensor_type).reshape(mine.n, mine.k)
        assert (mine.dequantise() == values).all(), theirs.name
    merges = "tokenizer.ggml.merges"
    assert ours.metadata.strings(merges) == reference.fields[merges].contents()


def test_opening_the_real_file_is_quick(smollm2_path):
    start = time.perf_counter()
    file = open_gguf(smollm2_path)
    assert time.perf_counter() - start < 0.5  # 0.02 s on an idle core
    assert len(file.tensors) == 272
    assert file.tensors["token_embd.weight"].shape == (49152, 576)
