"""Traces as a table on disk: one row an operator and layer."""

from collections.abc import Iterable
from pathlib import Path

from mixflight.files import whole_file
from mixflight.workloads.trace import Trace


def write_parquet(traces: Iterable[Trace], path: Path) -> None:
    """Write every operator of ``traces`` to ``path``, atomically; columns as ``Trace.rows``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[object]] = {}
    for trace in traces:
        for row in trace.rows():
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
    with whole_file(path) as part:
        pq.write_table(pa.table(columns), part)
