"""The bare C driver of a core, compiled here and given a bus in Python."""

import ctypes
import subprocess
from pathlib import Path

from mixflight.arch.core_registers import c_header
from mixflight.rtl.toolchain import find_compiler
from mixflight.rtl.vitis import DRIVERS

_SHIM = """\
#include "core_registers.h"
#include "core_driver.h"
int set_text(const struct core_bus *b, uint64_t t, uint32_t n, uint64_t c, uint32_t m) { return core_set_text(b, t, n, c, m); }
int set_model(const struct core_bus *b, const struct core_model *m) { return core_set_model(b, m); }
void set_base(const struct core_bus *b, uint32_t p, uint64_t a) { core_set_base(b, p, a); }
void set_position(const struct core_bus *b, uint32_t p) { core_set_position(b, p); }
void set_register(const struct core_bus *b, uint32_t n, uint32_t v) { core_set_register(b, n, v); }
int run(const struct core_bus *b, int load, uint64_t polls) { return core_run(b, load, polls); }
void counts(const struct core_bus *b, struct core_counts *c) { core_read_counts(b, c); }
"""
READ = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)
WRITE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
C99 = ("-x", "c", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")


class Bus(ctypes.Structure):
    _fields_ = [("context", ctypes.c_void_p), ("read", READ), ("write", WRITE)]


class Model(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_uint32) for name in ("eps", "inverse_hidden", "inverse_head", "inverse_root", "head_elements")),
                ("rope_steps", ctypes.POINTER(ctypes.c_uint64)), ("rope_count", ctypes.c_uint32)]


class Counts(ctypes.Structure):
    _fields_ = [("cycles", ctypes.c_uint64), ("executed", ctypes.c_uint32), ("busy", ctypes.c_uint32 * 6)]


def compile_driver(folder: Path):
    """The driver as a shared library."""
    (folder / "core_registers.h").write_text(c_header("a core", values={}, sequencer={}))
    (folder / "shim.c").write_text(_SHIM)
    library = folder / "driver.so"
    subprocess.run([find_compiler_of_c(), *C99, "-O1", "-fPIC", "-shared", f"-I{DRIVERS}", f"-I{folder}",
                    "shim.c", "-o", library], cwd=folder, check=True)
    loaded = ctypes.CDLL(str(library))
    for name in ("set_text", "set_model", "set_base", "set_position", "set_register", "run", "counts"):
        getattr(loaded, name).argtypes = None
    loaded.set_text.argtypes = [ctypes.POINTER(Bus), ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint32]
    loaded.set_base.argtypes = [ctypes.POINTER(Bus), ctypes.c_uint32, ctypes.c_uint64]
    loaded.run.argtypes = [ctypes.POINTER(Bus), ctypes.c_int, ctypes.c_uint64]
    return loaded


def find_compiler_of_c():
    """The compiler that Verilated models are built with; it takes C as well."""
    import os

    return find_compiler(os.environ.get("PATH", os.defpath))


def bus_of(read, write):
    """A bus whose words ``read(offset)`` and ``write(offset, value)`` carry."""
    return Bus(None, READ(lambda _, offset: read(offset)), WRITE(lambda _, offset, value: write(offset, value)))
