"""Peers' own tools, each installed from the package index into an environment of its own and asked for cycles."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pythons import Version, python_of, version_of

from mixflight.bench_peers import SCALESIM_MACHINE


class Tool:
    """A tool in a virtual environment; what cannot be installed skips the test and says why."""

    def __init__(self, folder: Path, *requirements: str, interpreter: str = sys.executable) -> None:
        _run([interpreter, "-m", "venv", str(folder)]).check_returncode()
        self.python = folder / "bin" / "python"
        done = _run([str(self.python), "-m", "pip", "install", "-q", *requirements])
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = (errors or done.stderr.splitlines() or ["no reason given"])[-1]
            pytest.skip(f"{', '.join(requirements)} cannot be installed on {interpreter}: {reason[:300]}")

    def ask(self, script: str, jobs: Any, folder: Path) -> Any:
        """What ``script`` prints as its last line, as JSON; it finds ``jobs`` as JSON in its first argument."""
        done = _run([str(self.python), "-c", script, json.dumps(jobs)], cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])


def interpreter_from(least: Version) -> str:
    """A Python of at least ``least``: of those in ``$MIXFLIGHT_PEERS``, this one, or one that the machine has; else a skip."""
    given = os.environ.get("MIXFLIGHT_PEERS", "").split(os.pathsep)
    for python in (*filter(None, given), sys.executable):
        if (version_of(python) or (0, 0)) >= least:
            return python
    major, minor = least
    of_machine = (python_of((major, minor + more)) for more in range(5))
    for python in filter(None, of_machine):
        return python
    pytest.skip(f"a Python of at least {major}.{minor} is needed and none was found; MIXFLIGHT_PEERS names more")


def _run(command: list[str], cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=1200)


CHIPLEAP = """
import json, sys
from chipleap.hw.design import Accel
from chipleap.model.accel import Bandwidth, job_timing

found = []
for dataflow, rows, cols, kib, dram, m, k, n in json.loads(sys.argv[1]):
    design = Accel(dataflow, rows, cols, 8, 16, kib, kib, True)
    rate = min(64, dram)
    found.append(job_timing(design, m, k, n, 8, Bandwidth(64, rate, rate, 4, 1, 24), 0.0).total)
print(json.dumps(found))
"""

SCALESIM = f"CONFIG = {SCALESIM_MACHINE!r}" + """
import csv, json, pathlib, sys
from scalesim.scale_sim import scalesim

found = []
for index, (dataflow, rows, cols, m, k, n) in enumerate(json.loads(sys.argv[1])):
    folder = pathlib.Path(f"job{index}")
    folder.mkdir()
    files = {name: folder / f"{name}.{end}" for name, end in (("config", "cfg"), ("topology", "csv"), ("layout", "csv"))}
    files["config"].write_text(CONFIG.format(rows=rows, cols=cols, dataflow=dataflow))
    files["topology"].write_text(f"Layer,M,N,K,\\nx,{m},{n},{k},\\n")
    files["layout"].write_text("Layer name, a,\\nx," + "1," * 30 + "\\n")
    paths = {name: str(path) for name, path in files.items()}
    scalesim(save_disk_space=True, verbose=False, input_type_gemm=True, **paths).run_scale(top_path=str(folder))
    [report] = folder.rglob("COMPUTE_REPORT.csv")
    [line] = csv.DictReader(report.read_text().splitlines(), skipinitialspace=True)
    found.append(int(float(line["Total Cycles"])))
print(json.dumps(found))
"""

ACCELFORGE = """
import json, pathlib, sys
import accelforge
from accelforge.frontend.mapping.mapping import Mapping

Mapping.render = lambda self, **options: ''  # draws each mapping with graphviz otherwise
BUFFER = '''
  - !Memory
    name: {name}Buffer
    size: 8 * 1024 * {buffers} * {kib}
    leak_power: 0
    area: 0
    actions: [{{name: read, energy: 1, throughput: {rate}}}, {{name: write, energy: 1, throughput: inf}}]
    tensors: {{keep: {keeps}}}'''
MACHINE = '''
arch:
  nodes:
  - !Memory
    name: DRAM
    size: inf
    leak_power: 0
    area: 0
    actions: [{{name: read, energy: 1, throughput: 8 * {dram}}}, {{name: write, energy: 1, throughput: 8 * {dram}}}]
    tensors: {{keep: All}}{buffers}
  - !Container
    name: Array
    spatial: [{{name: columns, fanout: {cols}, reuse: input}}, {{name: rows, fanout: {rows}, reuse: output}}]
  - !Memory
    name: Register
    size: weight.bits_per_value if weight else 0
    leak_power: 0
    area: 0
    actions: [{{name: read, energy: 0, throughput: inf}}, {{name: write, energy: 0, throughput: inf}}]
    tensors: {{keep: weight}}
  - !Compute
    name: MAC
    leak_power: 0
    area: 0
    actions: [{{name: compute, energy: 1, throughput: 1}}]
workload:
  rank_sizes: {{M: {m}, K: {k}, N: {n}}}
  bits_per_value: {{All: 8}}
  einsums:
  - name: product
    tensor_accesses:
    - {{name: A, projection: [m, k]}}
    - {{name: B, projection: [k, n]}}
    - {{name: C, projection: [m, n], output: True}}
    renames: {{input: A, weight: B, output: C}}
'''
found = []
for index, (rows, cols, kib, dram, m, k, n) in enumerate(json.loads(sys.argv[1])):
    # Levels of a hierarchy: a tensor of the first one stays there while the others' tiles come and go.
    buffers = BUFFER.format(name='act', keeps='input | output', rate='inf', buffers=2, kib=kib)
    buffers += BUFFER.format(name='weight', keeps='weight', rate=f'8 * {cols}', buffers=1, kib=kib)
    path = pathlib.Path(f'job{index}.yaml')
    path.write_text(MACHINE.format(rows=rows, cols=cols, dram=dram, m=m, k=k, n=n, buffers=buffers))
    spec = accelforge.Spec.from_yaml(str(path))
    spec.mapper.metrics = accelforge.Metrics.LATENCY
    parts = spec.map_workload_to_arch(print_progress=False).latency(per_component=True)
    found.append([float(parts[name]) for name in ('MAC', 'weightBuffer', 'DRAM')])
print(json.dumps(found))
"""
