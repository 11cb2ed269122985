import pytest

from mixflight.arch.errors import InputError
from mixflight.reproduce_flightllm import merged_bytes, published_values, rows

# Rows whose number the published rules do not give; each carries a note that says why.
MISSED = {"breakdown/naive-vs-v100s", "breakdown/plus-sparsity", "breakdown/plus-on-chip", "storage/merged-gib"}


@pytest.fixture(scope="module")
def found():
    return {row.id: row for row in rows("published")}


def test_every_published_number_has_a_row(found):
    assert set(found) == {name for name in published_values() if not name.startswith("gpu/")}
    for row in found.values():
        assert row.mode == "published"
        assert row.source


def test_all_but_the_named_rows_are_within(found):
    assert {row.id for row in found.values() if not row.within} == MISSED
    assert all(found[name].note for name in MISSED)


def test_instruction_storage_is_an_identity_of_the_averages(found):
    for name in ("storage/every-length-tib", "storage/shared-gib", "storage/reduction"):
        assert abs(found[name].rel_error) < 0.01


def test_merging_counts_eight_transfers_as_one():
    from mixflight.arch.flightllm_machine import flightllm_machine
    from mixflight.mapping.published_recipe import flightllm_artifact
    from mixflight.sim.published import PublishedSimulator
    from mixflight.workloads.model import model_named

    machine = PublishedSimulator(flightllm_machine("vhk158-published"), flightllm_artifact(), model_named("llama2-7b"))
    program = machine.decode_program(512)
    single = sum(int((program.layers[i].notes["LD"]["channels"] == 1).sum()) for i in program.order)
    loads = single + (program.count("LD") - single) / 8
    expected = 4 * (7 * loads + 3 * program.count("ST") + 4 * program.count("MV") + 3 * program.count("MISC") + 418)
    assert merged_bytes(program) == pytest.approx(expected)


def test_other_modes_are_refused():
    with pytest.raises(InputError, match="mode must be one of published, not 'corrected', for study 'flightllm'"):
        rows("corrected")
