"""What was printed: ``published.csv``, one number a row id."""

import csv
import functools
from pathlib import Path

import msgspec

SOURCES = {
    "committed": "final result file of the authors' simulator, two digits",
    "run": "output of the authors' simulator",
    "history-5": "result file of the first commit, fifth state of the settings",
    "history-6": "result file of the first commit, sixth state of the settings",
    "abstract": "abstract of arXiv 2411.16158",
    "plot": "plot script of the authors' design-space exploration",
}


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """A printed number; ``rounding`` is half a unit of its last digit, ``source`` a key of ``SOURCES``."""

    value: float
    rounding: float
    source: str


@functools.cache
def published_values() -> dict[str, Printed]:
    """Row id to what was printed."""
    with Path(__file__).with_name("published.csv").open() as file:
        return {
            line["id"]: Printed(value=float(line["value"]), rounding=float(line["rounding"]), source=line["source"])
            for line in csv.DictReader(file)
        }
