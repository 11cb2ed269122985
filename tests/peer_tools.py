"""Peers' own tools, each installed from the package index into an environment of its own and asked for cycles."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest


class Tool:
    """A tool in a virtual environment; what cannot be installed skips the test and says why."""

    def __init__(self, folder: Path, *requirements: str) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        done = _run([str(self.python), "-m", "pip", "install", "-q", *requirements])
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = (errors or done.stderr.splitlines() or ["no reason given"])[-1]
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            pytest.skip(f"{', '.join(requirements)} cannot be installed on Python {version}: {reason[:300]}")

    def ask(self, script: str, jobs: Any, folder: Path) -> Any:
        """What ``script`` prints as its last line, as JSON; it finds ``jobs`` as JSON in its first argument."""
        done = _run([str(self.python), "-c", script, json.dumps(jobs)], cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])


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

SCALESIM = """
import csv, json, pathlib, sys
from scalesim.scale_sim import scalesim

CONFIG = '''[general]
run_name = live
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {cols}
IfmapSramSzkB: 128
FilterSramSzkB: 128
OfmapSramSzkB: 128
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 64
Dataflow: {dataflow}
MemoryBanks: 1
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 64
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 64
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
'''
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
