import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors_files import write

from mixflight.arch.errors import InputError
from mixflight.workloads.safetensors_reader import DTYPES, open_safetensors

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5, -2], np.float16),
    "c": np.array([[-1, 2]], np.int32), "empty": np.zeros((0, 4), np.int8),
}


def test_arrays_are_what_was_written(tmp_path):
    file = open_safetensors(write(tmp_path / "x.safetensors", ARRAYS, metadata={"format": "pt"}))
    assert list(file.arrays) == list(ARRAYS)
    assert file.metadata == {"format": "pt"}
    for name, expected in ARRAYS.items():
        array = file.array(name)
        assert array.numbers().dtype == expected.dtype
        assert array.shape == expected.shape
        assert (array.numbers() == expected).all()
        assert array.nbytes == expected.nbytes
    with pytest.raises(InputError, match="must hold array 'z', which is missing"):
        file.array("z")


def test_bf16_is_widened_and_must_be_finite(tmp_path):
    bits = np.array([0x3FC0, 0xC049], np.uint16)
    path = write(tmp_path / "x.safetensors", {"a": bits, "b": bits | 0x7F80}, {"a": "BF16", "b": "BF16"})
    file = open_safetensors(path)
    assert file.array("a").floats().tolist() == [1.5, -3.140625]
    with pytest.raises(InputError, match="every value must be finite, in array 'b'"):
        file.array("b").floats()
    with pytest.raises(InputError, match="must hold floats, not I32"):
        open_safetensors(write(tmp_path / "y.safetensors", ARRAYS)).array("c").floats()


def test_files_of_the_reference_package_read_the_same(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    reference.save_file(ARRAYS, tmp_path / "x.safetensors", metadata={"k": "v"})
    file = open_safetensors(tmp_path / "x.safetensors")
    assert {*file.arrays} == {*ARRAYS}
    for name, expected in ARRAYS.items():
        assert (file.array(name).numbers() == expected).all()
    ours = reference.load_file(write(tmp_path / "y.safetensors", ARRAYS))
    assert all((ours[name] == expected).all() for name, expected in ARRAYS.items())


def _entry(**change):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | change


def _forged(path, header, data=bytes(8), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


FORGED = {
    "length": ({"header": {}, "length": 2**63}, "header must have at most 10 bytes, not 9223372036854775808"),
    "not json": ({"header": b"{]"}, "what should be JSON is not"),
    "not utf-8": ({"header": b"\xff\xff"}, "what should be JSON is not"),
    "nested": ({"header": b"[" * 100000}, "JSON must not be nested so deeply|is not"),
    "list": ({"header": []}, "must be an object, not a list"),
    "twice": ({"header": b'{"a": 1, "a": 2}'}, "keys must be unique"),
    "nan": ({"header": b'{"a": NaN}'}, "what should be JSON is not"),
    "metadata": ({"header": {"__metadata__": {"a": 1}}}, "must be a table of strings"),
    "entry": ({"header": {"a": 3}}, "must have dtype, shape and data_offsets"),
    "extra": ({"header": {"a": _entry(more=1)}}, "and nothing else"),
    "dtype": ({"header": {"a": _entry(dtype="F4")}}, "dtype must be one of BOOL, .*, not 'F4', array 'a'"),
    "shape": ({"header": {"a": _entry(shape=[-2])}}, r"shape must be a list of sizes .* not \[-2\]"),
    "boolean": ({"header": {"a": _entry(shape=[True, 2])}}, "shape must be a list of sizes"),
    "product": ({"header": {"a": _entry(shape=[2**40, 2**40])}}, r"product below 2\^63"),
    "offsets": ({"header": {"a": _entry(data_offsets=[8, 0])}}, "two ascending offsets of at most 8"),
    "one offset": ({"header": {"a": _entry(data_offsets=[8])}}, "two ascending offsets"),
    "outside": ({"header": {"a": _entry(data_offsets=[0, 16])}}, "two ascending offsets of at most 8"),
    "bytes": ({"header": {"a": _entry(shape=[3])}}, r"F32 of shape \[3\] must have 12 bytes, not 8"),
    "overlap": (
        {"header": {"a": _entry(), "b": _entry(shape=[1], data_offsets=[4, 8])}}, "not overlap, but 'a' and 'b' do",
    ),
    "gap": ({"header": {"a": _entry(shape=[1], data_offsets=[4, 8])}}, "must start where the last one ended, at 0, not 4"),
    "rest": ({"header": {"a": _entry(shape=[1], data_offsets=[0, 4])}}, "must fill the data, 8 bytes, but end at 4"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_headers_are_refused_in_one_line(case, tmp_path):
    parts, message = FORGED[case]
    path = _forged(tmp_path / "x.safetensors", **parts)
    with pytest.raises(InputError, match=message) as caught:
        open_safetensors(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_short_and_missing_files_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"1234567")
    with pytest.raises(InputError, match="at least 8 bytes, not 7"):
        open_safetensors(tmp_path / "x")
    with pytest.raises(InputError, match="must be readable"):
        open_safetensors(tmp_path / "none")
    with pytest.raises(InputError, match="a model folder must hold model.safetensors or"):
        open_safetensors(tmp_path)


def _shards(folder, index=None):
    write(folder / "1.safetensors", {"a": ARRAYS["a"]})
    write(folder / "2.safetensors", {"b": ARRAYS["b"], "c": ARRAYS["c"]})
    names = {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"} if index is None else index
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_shards_are_one_file(tmp_path):
    _shards(tmp_path)
    file = open_safetensors(tmp_path)
    assert [*file.arrays] == ["a", "b", "c"]
    assert (file.array("c").numbers() == ARRAYS["c"]).all()


@pytest.mark.parametrize(("index", "message"), [
    ({}, "weight_map must be a table"),
    ([], "weight_map must be a table"),
    ({"a": 1}, "weight_map must be a table"),
    ({"a": "3.safetensors"}, "must hold the shard '3.safetensors', which is missing"),
    ({"a": "../1.safetensors"}, "must hold the shard '../1.safetensors'"),
    ({"a": "9" * 5000}, "must hold the shard '9999*, which is missing"),
    ({"a": "\0\ud800"}, "must hold the shard '.*, which is missing"),
    ({"a": "1.safetensors", "z": "1.safetensors"}, "'1.safetensors' must hold array 'z', which is missing"),
    ({"a": "1.safetensors", "b": "2.safetensors"}, "array 'c' must be in None, but '2.safetensors' holds it"),
    ({"a": "2.safetensors", "b": "2.safetensors", "c": "2.safetensors"}, "'2.safetensors' must hold array 'a', which is missing"),
])
def test_broken_folders_are_refused(index, message, tmp_path):
    _shards(tmp_path, index)
    with pytest.raises(InputError, match=message):
        open_safetensors(tmp_path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_bytes_never_give_anything_but_an_input_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    raw = bytearray(write(path, ARRAYS, metadata={"k": "v"}).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        new = data.draw(st.binary(max_size=6) | st.sampled_from([b"9" * 8, b"\xff" * 8, b"[", b'"', b"-1", b"1e9"]))
        raw[at : at + data.draw(st.integers(0, 6))] = new
    path.write_bytes(raw)
    with contextlib.suppress(InputError):
        for array in open_safetensors(path).arrays.values():
            assert array.numbers().nbytes == array.nbytes
            assert array.dtype in DTYPES
