import pytest

from mixflight.arch.commands import VectorCommand


def _command(vectors, elements, causal_step):
    return VectorCommand(
        operator="softmax", kind="softmax", layers=(0,), vectors=vectors, elements=elements, causal_step=causal_step,
        passes=1, multiplies=0, adds=0, table_reads=0, inputs=1, outputs=1, dram_read_bytes=0, dram_write_bytes=0,
    )  # fmt: skip


@pytest.mark.parametrize("width", [1, 3, 16])
@pytest.mark.parametrize(("vectors", "elements", "causal_step"), [
    (5, 33, 0), (7 * 3, 7, 3), (7 * 3, 40, 3), (40, 40, 1), (1, 1, 1),
])  # fmt: skip
def test_steps_are_those_of_each_vector(vectors, elements, causal_step, width):
    """A masked vector is as long as its token sees: the last one sees all elements."""
    command = _command(vectors, elements, causal_step)
    tokens = vectors // causal_step if causal_step else 1
    seen = [elements - tokens + 1 + token for token in range(tokens)]
    each = causal_step or vectors
    assert command.beats(width) == each * sum(-(-length // width) for length in seen)
    assert command.total_elements == each * sum(seen)
