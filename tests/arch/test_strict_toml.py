import msgspec
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    rows: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    array: Inner


def test_an_unknown_key_is_named_with_its_table_and_the_nearest_valid_one():
    with pytest.raises(InputError, match=r"unknown key 'rwos' in table \[array\]; the nearest valid key is 'rows', in f"):
        convert({"name": "x", "array": {"rwos": 1}}, Outer, "f")
    with pytest.raises(InputError, match="unknown key 'nmae'; the nearest valid key is 'name'"):
        convert({"nmae": "x", "array": {"rows": 1}}, Outer, "f")


def test_a_missing_key_and_a_wrong_type_are_named():
    with pytest.raises(InputError, match="missing required field `rows`"):
        convert({"name": "x", "array": {}}, Outer, "f")
    with pytest.raises(InputError, match=r"Expected `int`, got `str` - at `\$.array.rows`, in f"):
        convert({"name": "x", "array": {"rows": "2"}}, Outer, "f")


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_not_toml_is_refused(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.toml must be"):
        read_toml(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be a readable TOML file"):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, number):
    path = tmp_path / "machine.toml"
    path.write_text(f"[dram]\nclock_mhz = {number}\n")
    with pytest.raises(InputError, match=f"machine.toml must hold finite numbers only, not {number}"):
        read_toml(path)
