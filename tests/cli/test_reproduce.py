import re
import resource

import pytest
from command_line import document, mixflight, refusal


def test_reproduce_has_the_documented_keys():
    found = document("reproduce", "mixpe", "--mode", "published")
    assert found["mode"] == "published"
    assert {"id", "published", "ours", "rel_error", "mode"} <= set(found["rows"][0])
    assert {row["mode"] for row in found["rows"]} == {"published"}
    cycles = {row["id"]: row for row in found["rows"] if row["id"].startswith("cycles/")}
    assert cycles["cycles/opt-6.7b/int8"]["ours"] == 452_990_464
    assert all(abs(row["rel_error"]) <= 1e-3 for row in cycles.values() if row["published"] is not None)


def test_the_run_takes_seconds():
    """In processor time, which other work on the machine does not lengthen."""
    document("reproduce", "mixpe")  # compiles
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    document("reproduce", "mixpe")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


def test_tables_fit_80_columns_and_have_their_notes_below():
    done = mixflight("reproduce", "mixpe", env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert done.stdout.count("mixpe, published: ") == len(set(re.findall("mixpe, published: ([a-z-]+)", done.stdout)))
    assert ["vit-base/mixpe-w4a8", "2,505,112", "2,505,112", "+0.00", "yes"] in map(str.split, done.stdout.splitlines())
    assert "compared rows are within." in done.stdout
    assert "* energy-1.4x: 1.4x is the energy ratio over OLAccel" in done.stdout


def test_the_corrected_mode_has_the_same_keys_and_writes_its_figures(tmp_path):
    found = document("reproduce", "mixpe", "--mode", "corrected", "--figures", str(tmp_path))
    assert {row["mode"] for row in found["rows"]} == {found["mode"]} == {"corrected"}
    rows = {row["id"]: row for row in found["rows"]}
    compared = rows["speedup/opt-6.7b/decode-b64/mixpe-w4a8"]
    assert compared["published"] == pytest.approx(452_990_464 / 50_671_104)
    assert compared["rel_error"] == pytest.approx(compared["ours"] / compared["published"] - 1)
    assert rows["speedup/llama2-13b/prefill/mixpe-w4a8"]["published"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixpe-advantage.svg", "mixpe-design-space.svg"]


def test_help():
    done = mixflight("reproduce", "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mixpe", "--mode", "best"), "mode must be one of published, corrected, not 'best'"),
        (("mixpe", "--figures", "."), "--figures goes with study 'mixpe' in mode 'corrected', not 'mixpe' in 'published'"),
        (("bitmod",), "WHAT must be one of mixpe"),
        ((), "Missing argument 'WHAT'"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    assert message in refusal("reproduce", *arguments)
