"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
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
