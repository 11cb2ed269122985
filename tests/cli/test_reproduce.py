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


def test_help():
    done = mixflight("reproduce", "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mixpe", "--mode", "corrected"), "mode must be one of published, not 'corrected', for study 'mixpe'"),
        (("mixpe", "--mode", "best"), "mode must be one of published, not 'best'"),
        (("bitmod",), "WHAT must be one of mixpe"),
        ((), "Missing argument 'WHAT'"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    assert message in refusal("reproduce", *arguments)
