"""The folder of a sweep: what was asked, parts of results that are whole or absent, and one sweep at a time.

sweep.json            the space, its digest, versions and the digest of the code
parts/STAGE-N.parquet rows of some points; the schema's metadata has the same and what was left out
front.json            the outcome, as ``mixflight sweep --json`` prints it
"""

import fcntl
import functools
import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixflight import __version__
from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.sweeping.measure import Chunk, Row
from mixflight.sweeping.quantities import ESTIMATED, EXACT
from mixflight.sweeping.space import Space, column

_SOURCES = ("arch", "workloads", "mapping", "sim", "sweeping")
_TOOLS = ("numpy", "numba", "msgspec")
_METADATA = b"mixflight"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What made the results: equal manifests make equal rows."""

    space: Space
    space_sha256: str
    mixflight: str
    code_sha256: str
    python: str
    versions: dict[str, str]


@functools.cache
def code_digest() -> str:
    """SHA-256 of the sources and tables that results depend on."""
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".json") and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def manifest_of(space: Space) -> Manifest:
    """The manifest of a sweep of ``space`` here and now."""
    return Manifest(
        space=space, space_sha256=hashlib.sha256(space.digest_text()).hexdigest(), mixflight=__version__,
        code_sha256=code_digest(), python=platform.python_version(),
        versions={name: version(name) for name in _TOOLS},
    )  # fmt: skip


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a part's metadata says: its points, how many of them constraints left out, and what made it."""

    indices_sha256: str
    excluded: dict[str, int]
    manifest: Manifest


class Store:
    """An open folder; closed, it can be opened again by another process."""

    def __init__(self, folder: Path, manifest: Manifest, lock: IO[bytes]) -> None:
        self.folder, self.manifest, self.lock = folder, manifest, lock
        self.schema = schema_of(manifest.space)

    @staticmethod
    def open(folder: Path, space: Space, resume: bool) -> "Store":
        """Make the folder, or open one that ``resume`` is to complete; whatever does not fit is an InputError."""
        try:
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("ab")
        except OSError as error:
            raise InputError(f"the output must be a writable folder: {error.strerror}, at {folder}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InputError(f"a folder must have one sweep at a time: another one writes to {folder}") from None
        try:
            return Store._claimed(folder, manifest_of(space), lock, resume)
        except BaseException:
            lock.close()
            raise

    @staticmethod
    def _claimed(folder: Path, manifest: Manifest, lock: IO[bytes], resume: bool) -> "Store":
        path = folder / "sweep.json"
        if path.exists():
            if not resume:
                raise InputError(f"the output must be a folder without a sweep, or come with --resume, not {folder}")
            held = read_manifest(folder)
            for field in ("space_sha256", "code_sha256", "versions"):
                if getattr(held, field) != getattr(manifest, field):
                    raise InputError(f"--resume must have what began the sweep: {field} differs, in {path}")
        else:
            with whole_file(path) as part:
                part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        for left in (folder / "parts").glob(".*.part"):
            left.unlink()
        return Store(folder, manifest, lock)

    def close(self) -> None:
        """Let others have the folder."""
        self.lock.close()

    def path(self, name: str) -> Path:
        """The file of the part ``name``."""
        return self.folder / "parts" / f"{name}.parquet"

    def write(self, name: str, indices: Sequence[int], chunk: Chunk) -> None:
        """Keep the part ``name``, whole or not at all."""
        about = Part(indices_sha256=_digest(indices), excluded=chunk.excluded, manifest=self.manifest)
        schema = self.schema.with_metadata({_METADATA: msgspec.json.encode(about)})
        columns = [pa.array([row.get(field.name) for row in chunk.rows], field.type) for field in schema]
        with whole_file(self.path(name)) as part:
            pq.write_table(pa.Table.from_arrays(columns, schema=schema), part)

    def read(self, name: str, indices: Sequence[int]) -> Chunk | None:
        """The part ``name`` if it is there; one of other points is an InputError."""
        path = self.path(name)
        if not path.exists():
            return None
        table = pq.read_table(path)
        about = msgspec.json.decode(table.schema.metadata[_METADATA], type=Part)
        if about.indices_sha256 != _digest(indices) or about.manifest != self.manifest:
            raise InputError(f"a part must be of the points that are asked for, not {path}")
        return Chunk(rows=tuple(_rows(table)), excluded=about.excluded)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the sweep in ``folder``."""
    path = folder / "sweep.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise InputError(f"{path} must be a readable file: {error.strerror}") from None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path} must be of this version of mixflight: {error}") from None


def stored_rows(folder: Path, stage: str) -> Iterator[Row]:
    """Rows of the parts of ``stage`` in ``folder``, part by part."""
    for path in sorted((folder / "parts").glob(f"{stage}-*.parquet")):
        yield from _rows(pq.read_table(path))


def _rows(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    return rows


def _digest(indices: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(indices, dtype=np.int64).tobytes()).hexdigest()


def schema_of(space: Space) -> pa.Schema:
    """Columns of results: point, axes, derived fields, quantities, limits, error."""
    axes = [(column(path), _type(values)) for path, values in space.values.items()]
    return pa.schema([
        ("index", pa.int64()), *axes, *((column(path), pa.float64()) for path in space.derived),
        *((name, pa.float64()) for name in (*EXACT, *ESTIMATED)), ("prefill_bound_by", pa.string()),
        ("bound_by", pa.string()), ("feasible", pa.bool_()), ("error", pa.string()), ("key", pa.string()),
    ])  # fmt: skip


def _type(values: Sequence[object]) -> pa.DataType:
    if all(isinstance(value, int) for value in values):
        return pa.int64()
    return pa.float64() if all(isinstance(value, int | float) for value in values) else pa.string()


def document_of(folder: Path) -> Mapping[str, Any]:
    """The outcome of a finished sweep."""
    path = folder / "front.json"
    if not path.exists():
        raise InputError(f"a sweep must be finished to be shown: {path} is not there (mixflight sweep --resume)")
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found
