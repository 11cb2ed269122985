"""The command line as a user meets it: a process of its own."""

import json
import subprocess
import sys


def mixflight(*arguments, **options):
    """Run ``mixflight ARGUMENTS``; the finished process with its text output."""
    return subprocess.run([sys.executable, "-m", "mixflight.cli.app", *map(str, arguments)], capture_output=True, text=True, **options)


def document(*arguments):
    """The JSON document that a successful run prints, and nothing else."""
    done = mixflight(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(*arguments, **options):
    """The one line that a refused run prints; nothing is on stdout."""
    done = mixflight(*arguments, **options)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mixflight: ")
    return lines[0]
