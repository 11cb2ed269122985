"""A download that goes on where an interrupted one stopped."""

import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

CHUNK = 1 << 18
TIMEOUT_S = 60


def wheel_url(requirement: str) -> str | None:
    """Where pip would get ``requirement`` from (the user's index counts); None where that is not over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-input", "--dry-run",
            "--ignore-installed", "--no-deps", "--only-binary", ":all:", "--retries", "2", "--report", str(report),
            requirement,
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode or not report.exists():
            return None
        url = str(json.loads(report.read_text())["install"][0]["download_info"]["url"])
    return url if url.startswith(("https://", "http://")) else None


def continue_download(url: str, part: Path, total: int, progress: Callable[[int, int], None] | None = None) -> None:
    """Append what is missing of ``total`` bytes to ``part``; OSError where the server or the network fails.

    A server that does not send ranges sends the whole, and the part starts again. The bytes are not checked here: a
    part may come from an earlier run, so the caller must check the whole.
    """
    have = part.stat().st_size if part.exists() else 0
    if have >= total:
        part.unlink(missing_ok=True)
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    certificates = os.environ.get("PIP_CERT") or None
    context = ssl.create_default_context(cafile=certificates)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
        if have and answer.status != 206:
            have = 0
        with part.open("ab" if have else "wb") as out:
            while have < total and (piece := answer.read(min(CHUNK, total - have))):
                out.write(piece)
                have += len(piece)
                if progress:
                    progress(have, total)
    if have < total:
        raise OSError(f"the server closed the connection after {have} of {total} bytes")
