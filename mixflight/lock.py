"""The versions that a checkout is developed and tested with, for pip's ``--constraint``.

``python -m mixflight.lock pyproject.toml > constraints.txt`` writes them from the packages installed here: those that
``pyproject.toml`` names and those that these require in turn.
"""

import importlib.metadata
import sys
from pathlib import Path

from mixflight.licences import declared, in_turn

HEAD = """# The versions that this checkout is tested with; bootstrap.py installs by them. Made by `make lock`.
# They bind nobody who installs the package: pyproject.toml says what fits.
"""


def locked(pyproject: Path) -> str:
    """The constraints, one package a line, by name."""
    named = list(declared(pyproject))
    names = sorted({*named, *in_turn(named)})
    return HEAD + "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in names)


if __name__ == "__main__":
    print(locked(Path(sys.argv[1])), end="")
