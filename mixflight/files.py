"""Files and folders of results that are there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mixflight.arch.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the name of ``path`` when the block ends well.

    A folder that is missing or not writable is an InputError before anything is written; whatever ends the block early
    leaves no file behind.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise InputError(f"the output must be a file in a writable folder, not {path}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"the output must be writable: {error.strerror or error}, at {path}") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder on the file system of ``folder``, gone at the end; refuses a folder that cannot be written."""
    whole = folder.absolute()
    base = next(path for path in (whole, *whole.parents) if path.exists())
    if not base.is_dir() or not os.access(base, os.W_OK | os.X_OK):
        raise InputError(f"the output must be a writable folder, not {folder}")
    try:
        made = Path(tempfile.mkdtemp(dir=base, prefix=".mixflight-"))
    except OSError as error:
        raise InputError(f"the output must be a writable folder: {folder}: {error.strerror}") from None
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def publish(staged: Path, folder: Path, names: Sequence[str]) -> None:
    """Move ``names`` of what is ``staged`` into ``folder``, in this order, in place of what has their names there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (folder / name).exists() and ((folder / name).is_dir() or (staged / name).is_dir()):
                (folder / name).rename(staged / f"{name}-before")
        for name in names:
            (staged / name).rename(folder / name)
    except OSError as error:
        raise InputError(f"the output folder must be writable: {folder}: {error.strerror or error}") from None
