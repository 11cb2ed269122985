"""Make .venv and install mixflight with what its commands need, or its tests too, from nothing but Python.

    python bootstrap.py [run]       ``run``: what the commands need, without what tests, lint and documentation need

Run by the Makefile. Debian and Ubuntu ship Python without the venv module's pip; in that case pip itself is taken from
the package index. What is missing is said in one line.
"""

from __future__ import annotations  # so that a Python too old can read this file and say so

import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "constraints.txt"
VENV = ROOT / ".venv"
RUN = "rtl,search,cluster"
ALL = f"{RUN},docs,dev"
PYTHON = VENV / "bin" / "python"


def main() -> None:
    """Check the machine, make the environment, install."""
    if sys.version_info < OLDEST:
        refuse(f"Python must be at least {OLDEST[0]}.{OLDEST[1]}, not {sys.version.split()[0]} at {sys.executable}; "
               "name another with make PYTHON=...")
    for tool, package in (("g++", "g++"), ("make", "make"), ("perl", "perl")):
        if not (shutil.which(tool) or (tool == "g++" and shutil.which("clang++"))):
            refuse(f"{tool} must be installed (a C++ compiler, make and perl are needed): apt-get install {package}")
    if not has_pip():
        make_environment()
    extras = f"{ROOT}[{RUN if sys.argv[1:] == ['run'] else ALL}]"
    print("mixflight: packages are fetched and installed into .venv; the first time takes minutes", file=sys.stderr)
    install = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", extras]
    if subprocess.run([*install, "--constraint", LOCK]).returncode == 0:
        return
    print(f"mixflight: the versions of {LOCK.name} could not be installed; trying any that fit", file=sys.stderr)
    if subprocess.run(install).returncode:
        refuse("the dependencies could not be installed; the package index must be reachable the first time")


def has_pip() -> bool:
    """Whether .venv is there and complete enough to install into."""
    return PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0


def make_environment() -> None:
    """Create .venv with pip in it."""
    if subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True).returncode == 0:
        return
    if subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV]).returncode:
        refuse("Python's venv module must be installed: apt-get install python3-venv")
    install_pip(PYTHON)


def install_pip(python: Path) -> None:
    """Install pip into an environment that has none, from the package index that pip is configured for."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    try:
        with urllib.request.urlopen(index, timeout=60) as answer:
            links = re.findall(r'href="([^"]+\.whl[^"]*)"', answer.read().decode())
        url = urllib.parse.urljoin(index, max(links, key=release).split("#")[0])
        with tempfile.TemporaryDirectory() as folder:
            wheel = Path(folder) / Path(urllib.parse.urlparse(url).path).name
            with urllib.request.urlopen(url, timeout=60) as answer:
                wheel.write_bytes(answer.read())
            subprocess.run([python, wheel / "pip", "install", "--quiet", "--no-index", wheel], check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        refuse(f"pip must be there: apt-get install python3-venv, or reach {index} ({error})")


def release(link: str) -> tuple[int, ...]:
    """The release number in the name of a pip wheel; pre-releases come first."""
    match = re.search(r"pip-([0-9.]+)-py3-none-any\.whl", link)
    return tuple(int(part) for part in match[1].split(".") if part) if match else (-1,)


def refuse(message: str) -> None:
    """One line, exit status 2."""
    sys.exit(print(f"mixflight: {message}", file=sys.stderr) or 2)


if __name__ == "__main__":
    main()
