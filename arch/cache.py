"""Where the project keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_root() -> Path:
    """``$MIXFLIGHT_CACHE``, or ``mixflight`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it need not exist."""
    if own := os.environ.get("MIXFLIGHT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixflight"
