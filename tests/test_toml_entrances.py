"""TOML files of users: whatever stands in one, it is read or refused in one line."""

import random
from collections import Counter
from pathlib import Path

import pytest
from fuzz_readers import mutated

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.costs import costs_of
from mixflight.arch.errors import InputError
from mixflight.arch.prices import price_table
from mixflight.arch.strict_toml import read_toml
from mixflight.sweeping.space import space_named
from mixflight.workloads.recipe import recipe_named

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["-1", "0", "1e999", "nan", "inf", "9" * 30, "true", '""', '"x"', "[]", "[[]]", "{}", "[1, 2]", "1979-05-27", "0.5", "3",
         '"../../etc/passwd"', '"__import__(0)"', '"1" ', "'\\'", "= =", "[x]", "[[x]]", '"\\u0000"', "7\n7"]  # fmt: skip
ENTRANCES = {
    "machine": (accelerator_named, ["arch/presets/int8.toml", "arch/presets/mixpe-w4a8-split.toml", "arch/presets/flightllm-u280.toml"]),
    "recipe": (recipe_named, ["workloads/recipes/w4a8g128.toml", "workloads/recipes/cache/prefixkv.toml", "workloads/recipes/systems/flightllm.toml"]),
    "prices": (price_table, ["arch/technology/45nm-literature.toml"]),
    "costs": (costs_of, ["arch/costs.toml"]),
    "space": (space_named, ["reports/studies/mixpe.toml", "reports/studies/flightllm.toml"]),
}


def other_values(text, rng):
    """``text`` with some values in place of others, keys twice, and lines gone."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind < 3 and "=" in lines[at]:
            lines[at] = lines[at].split("=")[0] + "= " + rng.choice(WORDS)
        elif kind == 3:
            lines.insert(at, rng.choice(lines))
        else:
            del lines[at]
            lines = lines or [""]
    return "\n".join(lines).encode()


def refusal(read, name):
    """What ``read`` says against the file, if it does."""
    try:
        read(name)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ENTRANCES)
def test_mutated_files_are_read_or_refused_in_one_line(kind, tmp_path):
    read, seeds = ENTRANCES[kind]
    rng, found = random.Random(7), Counter()
    for number in range(120):
        text = (ROOT / rng.choice(seeds)).read_text()
        path = tmp_path / f"{kind}{number}.toml"
        path.write_bytes(other_values(text, rng) if number % 4 else mutated(text.encode(), rng, len(text)))
        said = refusal(read, str(path))
        found["refused" if said else "read"] += 1
        assert len(said.splitlines()) <= 1, said
        assert len(said) < 3000
    assert min(found["read"], found["refused"]) > 5


@pytest.mark.parametrize("content", [
    b"\xff\xfe", b"\x00", b"a" * 100_000, b"[" * 5000, b"a." * 3000 + b"b = 1", b"a = " + b"[" * 3000, b"a = " + b"9" * 5000,
    b"a = 2026-13-45",
])  # fmt: skip
def test_what_is_no_toml_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    assert len(refusal(accelerator_named, str(path)).splitlines()) == 1
    assert len(refusal(accelerator_named, "\0.toml").splitlines()) == 1


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(InputError):
        read_toml(tmp_path / "x.toml")
