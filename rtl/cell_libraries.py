"""Standard-cell libraries that can be had without an agreement, fetched as Debian packages without root.

    library_path      the Liberty file of a name, fetched if it is not cached
    cached_library    the same without the network: None where it is not cached

``apt-get download`` gets the package, so the user's mirrors, proxy and keys count; ``dpkg-deb`` unpacks it; the
one member wanted is checked by its SHA-256 and renamed into place. Nothing is installed. Where the package is
installed already, its file is taken.
"""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.rtl.cache import cache_folder
from mixflight.rtl.toolchain import run_tool

_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class CellLibrary:
    """A Liberty file that is a member of a Debian package."""

    name: str
    summary: str
    package: str
    member: str
    sha256: str
    nominal: str
    """The node, and what its figures hold for."""

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        return self.member.rsplit("/", 1)[-1]


LIBRARIES: Mapping[str, CellLibrary] = {
    "osu018": CellLibrary(
        name="osu018",
        summary="OSU standard cells, 0.18 um, 1.8 V, a Liberty file for synth --target osu018, 0.2 MB",
        package="qflow-tech-osu018",
        member="usr/share/qflow/tech/osu018/osu018_stdcells.lib",
        sha256="86f79b2000f1ac46715a9f6dfd5f5a596906418e9ee8a8611077bbaaad3de4e9",
        nominal="0.18 um, typical, 1.8 V, 25 C",
    ),
}


def library_named(name: str) -> CellLibrary:
    """Where the library ``name`` comes from."""
    if name not in LIBRARIES:
        raise InputError(f"the cell library must be one of {', '.join(LIBRARIES)}, not {name!r}")
    return LIBRARIES[name]


def cached_library(name: str) -> Path | None:
    """The Liberty file of ``name`` if it is in the cache and whole. No network."""
    library = library_named(name)
    path = cache_folder("libraries") / library.file_name
    try:
        return path if hashlib.sha256(path.read_bytes()).hexdigest() == library.sha256 else None
    except OSError:
        return None


def library_path(name: str) -> Path:
    """The Liberty file of ``name``, fetched if need be."""
    library = library_named(name)
    path = cached_library(name)
    if path is not None:
        return path
    installed = Path("/") / library.member
    try:
        content = installed.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != library.sha256:
        content = _from_package(library)
    found = hashlib.sha256(content).hexdigest()
    if found != library.sha256:
        raise InputError(f"{library.member} must have SHA-256 {library.sha256}, not {found}, "
                         f"in the package {library.package}")
    path = cache_folder("libraries") / library.file_name
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return path


def _from_package(library: CellLibrary) -> bytes:
    """The member, out of the package as the mirror has it."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise InputError(f"fetching {library.name} needs {program} (Debian or Ubuntu), which is not on PATH; "
                             f"give the Liberty file itself instead: --target FILE.lib")
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache_folder("libraries")) as name:
        folder = Path(name)
        done = run_tool(["apt-get", "download", "-q", "-o", "Acquire::Retries=1", library.package], folder=folder,
                        environment={**os.environ, "LC_ALL": "C"}, timeout_s=_TIMEOUT_S)
        packages = sorted(folder.glob(f"{library.package}_*.deb"))
        if done.returncode != 0 or not packages:
            errors = [line for line in done.stdout.splitlines() if line.startswith("E:")]
            said = errors[0].removeprefix("E: ") if errors else "nothing"
            unknown = "Unable to locate" in said or "No candidate" in said or "Can't select" in said
            hint = "run `apt-get update` once, as root" if unknown else "its mirror must be reachable"
            raise InputError(f"apt-get must be able to download {library.package}: {hint}; it said {said!r}")
        archive = folder / "data.tar"
        unpacked = run_tool(["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" > "$1"', str(packages[0]), str(archive)])
        if unpacked.returncode != 0:
            raise InputError(f"{packages[0].name} must be a Debian package: dpkg-deb said {unpacked.stdout.strip()!r}")
        try:
            with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
                file = tar.extractfile(f"./{library.member}")
                return file.read() if file else b""
        except (KeyError, tarfile.TarError) as error:
            raise InputError(f"{packages[0].name} must hold {library.member}: {error}") from None
