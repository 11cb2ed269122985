"""Where slow results are kept.

That is ``$MIXFLIGHT_CACHE``, else ``$XDG_CACHE_HOME/mixflight``, else ``~/.cache/mixflight``.

Everything in it is named by the hash of what it was made from, so an entry is either right or absent;
deleting the folder costs time and nothing else. Writes go to a temporary name first: an interrupted run
leaves no entry.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mixflight.arch.cache import cache_root
from mixflight.arch.errors import InputError

LOG = logging.getLogger(__name__)


def cache_folder(kind: str) -> Path:
    """Return the folder for ``kind`` (``synth``, ``verilator``), made if it is absent."""
    folder = cache_root() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the cache folder must be writable, but {folder}: {error.strerror}; "
                         "set MIXFLIGHT_CACHE to a folder that is") from None
    return folder


def digest(*parts: str) -> str:
    """Return the SHA-256 of the parts, each with its length in front, as hexadecimal."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        hashed.update(f"{len(encoded)}:".encode())
        hashed.update(encoded)
    return hashed.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` under a temporary name beside ``path``, then rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def folder_once(folder: Path, fill: Callable[[Path], None]) -> bool:
    """Make ``folder`` by filling a temporary one beside it, and rename; say whether it had to be made.

    When two processes fill the same entry, the first to finish wins; both results are the same by
    construction.
    """
    if folder.is_dir():
        LOG.info("from the cache: %s %s", folder.parent.name, folder.name[:12])
        return False
    begun = time.perf_counter()
    working = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:16]}."))
    try:
        fill(working)
        try:
            os.rename(working, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(working, ignore_errors=True)
    LOG.info("made: %s %s, %.1f s", folder.parent.name, folder.name[:12], time.perf_counter() - begun)
    return True
