"""A top as files: Verilog, file list, constraints, FuseSoC core, Vivado project, manifest; a core as a kernel too."""

import json
import logging
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from mixflight import __version__
from mixflight.arch.errors import InputError
from mixflight.rtl.design import CORES, ChosenTop
from mixflight.rtl.inspect import Design, inspect_verilog
from mixflight.rtl.primitive_models import models_for
from mixflight.rtl.synthesis import digest_text
from mixflight.rtl.toolchain import package_version
from mixflight.rtl.vitis import kernel_files

DEFAULT_PART = "xcu280-fsvh2892-2L-e"
"""The FPGA of an Alveo U280."""

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Project:
    """What was written: ``files`` relative to ``folder``, the manifest last."""

    folder: Path
    files: tuple[str, ...]
    design: Design
    text_sha256: str


def write_project(chosen: ChosenTop, folder: Path, *, part: str = DEFAULT_PART) -> Project:
    """Write everything into ``folder``, or nothing.

    All files are made in a temporary folder beside it first. A new folder appears by one rename; into an
    existing one the files are renamed one by one, and until the last of them is there it has no manifest.

    Raises
    ------
    InputError
        ``folder`` cannot be written, or ``part`` is no part name.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", part):
        raise InputError(f"--part must be a part name of letters, digits and '-', not {part!r}")
    try:
        base = _existing_ancestor(folder.absolute())
        staging = Path(tempfile.mkdtemp(dir=base, prefix=".mixflight-rtl-"))
    except OSError as error:
        raise InputError(f"the output folder must be writable: {folder}: {error.strerror}") from None
    try:
        os.chmod(staging, 0o755)
        project = _fill(chosen, staging, part)
        _publish(staging, folder, project.files)
    except OSError as error:
        raise InputError(f"the output folder must be writable: {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Project(folder=folder, files=project.files, design=project.design, text_sha256=project.text_sha256)


def _existing_ancestor(folder: Path) -> Path:
    """Where to stage: a folder on the file system on which ``folder`` is or will be."""
    for candidate in folder.parents:
        if candidate.exists():
            if folder.exists() and not os.access(folder, os.W_OK):
                raise PermissionError(13, "permission denied")
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError(20, "it is a file")
            return folder if folder.is_dir() else candidate
    raise FileNotFoundError(2, "no such folder")


def _publish(staging: Path, folder: Path, files: tuple[str, ...]) -> None:
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(staging, folder)
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / name, folder / name)


def _fill(chosen: ChosenTop, folder: Path, part: str) -> Project:
    module = chosen.module
    text = chosen.emit()
    design = inspect_verilog(text, top=module)
    design.check_against(chosen.component)
    (folder / f"{module}.v").write_text(text)
    (folder / f"{module}.f").write_text(f"{module}.v\n")
    (folder / f"{module}.xdc").write_text(_constraints(chosen))
    models = models_for(text).removeprefix(text)
    if models:
        (folder / _models(module)).write_text(models)
    (folder / f"{module}.core").write_text(_core(chosen, part, models=bool(models)))
    kernel = kernel_files(chosen.component, module, part) if chosen.top in CORES else {}
    for name, content in (*chosen.documents.items(), *kernel.items()):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    _vivado(folder, module, part)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    manifest = {
        "top": chosen.top, "module": module, "parameters": dict(chosen.parameters),
        "clock_mhz": chosen.clock_mhz, "part": part,
        "ports": [asdict(port) for port in design.ports],
        "register_bits": design.register_bits, "memory_bits": design.memory_bits,
        "modules": dict(design.totals),
        "files": {name: digest_text((folder / name).read_text()) for name in files},
        "written_by": {"mixflight": __version__, **{name: package_version(name)
                                                    for name in ("amaranth", "edalize")}},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return Project(folder=folder, files=(*files, MANIFEST), design=design, text_sha256=digest_text(text))


QUIET = ("eps", "inverse_hidden", "inverse_head", "inverse_root", "position", "head_elements")
"""Registers of a core's control that only the host writes, between runs."""


def _constraints(chosen: ChosenTop) -> str:
    clock = f"create_clock -name clk -period {1000 / chosen.clock_mhz:.3f} [get_ports clk]\n"
    if chosen.top not in CORES:
        return clock
    names = " || ".join(f"NAME =~ *controller/control/{name}_reg*" for name in QUIET)
    return (f"{clock}# Written by the host between runs; a run begins with another transfer on its bus, cycles later.\n"
            f"set quiet [get_cells -hierarchical -filter {{{names}}}]\n"
            "set_multicycle_path 2 -setup -from $quiet\nset_multicycle_path 1 -hold -from $quiet\n")


def _models(module: str) -> str:
    """The file of the models of a device's primitives: for simulators and lint, as the device has them itself."""
    return f"{module}_primitives.v"


def _core(chosen: ChosenTop, part: str, *, models: bool) -> str:
    module = chosen.module
    files = f"{module}.v, {_models(module)}" if models else f"{module}.v"
    described = ", ".join(f"{name} {value}" for name, value in chosen.parameters.items())
    return f"""CAPI=2:
name: mixflight:rtl:{module}:{__version__}
description: "{chosen.top}: {described}"

filesets:
  rtl:
    files: [{module}.v]
    file_type: verilogSource
  simulated:
    files: [{files}]
    file_type: verilogSource
  constraints:
    files: [{module}.xdc]
    file_type: xdc

targets:
  default: &default
    filesets: [rtl]
    toplevel: {module}
  lint:
    <<: *default
    filesets: [simulated]
    default_tool: verilator
    tools:
      verilator:
        mode: lint-only
        # Widths are as the language behind the text has them; bits of a vector made of its other bits are no
        # loop; outputs of primitives that nothing reads are left out; a case that names not all values leaves what
        # was assigned before it; a width may decide a comparison.
        verilator_options: [-Wno-WIDTH, -Wno-UNOPTFLAT, -Wno-PINMISSING, -Wno-CASEINCOMPLETE, -Wno-UNSIGNED]
  vivado:
    <<: *default
    filesets: [rtl, constraints]
    default_tool: vivado
    tools:
      vivado:
        part: {part}
        pnr: none
"""


def _vivado(folder: Path, module: str, part: str) -> None:
    from edalize.edatool import get_edatool

    work = folder / "vivado"
    work.mkdir()
    (work / "out_of_context.tcl").write_text(
        "# The ports are streams inside a larger design and no pins: synthesise without I/O buffers.\n"
        "set_property -name {STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS} -value {-mode out_of_context} "
        "-objects [get_runs synth_1]\n")
    logger = logging.getLogger("edalize")
    before = logger.level
    logger.setLevel(logging.ERROR)      # its advice is for who calls it, not for who runs the command
    logging.getLogger("edalize.edatool").setLevel(logging.ERROR)
    try:
        get_edatool("vivado")(work_root=str(work), edam={
            "name": module, "toplevel": module,
            "files": [{"name": f"../{module}.v", "file_type": "verilogSource"},
                      {"name": f"../{module}.xdc", "file_type": "xdc"},
                      {"name": "out_of_context.tcl", "file_type": "tclSource"}],
            "tool_options": {"vivado": {"part": part, "pnr": "none"}}}).configure()
    finally:
        logger.setLevel(before)
