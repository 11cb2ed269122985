"""Pythons of this machine, for what must be tested on another than the one that runs the tests."""

import shutil
import subprocess
from pathlib import Path

Version = tuple[int, int]


def version_of(python: str) -> Version | None:
    """(Major, minor) of that interpreter; None where it is not there or does not run, as a shim without its Python."""
    path = shutil.which(python)
    ask = "import sys; print(*sys.version_info[:2])"
    done = path and subprocess.run([path, "-c", ask], capture_output=True, text=True)
    if not done or done.returncode:
        return None
    major, minor = map(int, done.stdout.split())
    return major, minor


def python_of(version: Version) -> str | None:
    """A Python of just that version: ``python3.12`` on the path, or one that pyenv keeps."""
    name = ".".join(map(str, version))
    kept = sorted(map(str, (Path.home() / ".pyenv" / "versions").glob(f"{name}.*/bin/python")), reverse=True)
    return next((python for python in (f"python{name}", *kept) if version_of(python) == version), None)
