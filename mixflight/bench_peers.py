"""Products a CPU second of other tools, measured where they are installed, else as they were on two cores of that kind.

Each tool runs in a process of its own, in a Python that has it: this one, or one of those that ``MIXFLIGHT_PEERS``
names (paths, with ``:`` between them), as no one environment can have all: SCALE-Sim stops with numpy 2.4 and later,
AccelForge must have Python 3.12. Imports are not counted.
"""

import json
import os
import subprocess
import sys
import tempfile

import msgspec

from mixflight.sim.peers.workload import layer

INTERPRETERS = "MIXFLIGHT_PEERS"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A tool: ``package`` as the index has it, ``module`` as Python does.

    ``products``  names of the common layer's products that it times, all five unless it cannot
    ``script``    prints the CPU seconds of the products that it finds as JSON [[m, k, n], ...] in its first argument
    ``recorded``  products, or designs, a CPU second as measured once
    """

    name: str
    package: str
    module: str
    script: str
    recorded: float
    unit: str = "products/CPU-s"
    products: tuple[str, ...] = ("q", "qk", "av", "gate", "down")

    def rate(self) -> tuple[float, str, str]:
        """Products a CPU second, their unit, and how that is known."""
        python = python_with(self.module)
        if python is None:
            return self.recorded, self.unit, "as recorded"
        shapes = [(item.m, item.k, item.n) for item in layer("prefill") if item.name in self.products]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [python, "-c", self.script, json.dumps(shapes)], cwd=folder, capture_output=True, text=True, check=False
            )
        if done.returncode:
            return self.recorded, self.unit, f"as recorded: it stops here ({done.stderr.strip().splitlines()[-1][:60]})"
        return len(shapes) / float(done.stdout.split()[-1]), "products/CPU-s", "measured"


def python_with(module: str) -> str | None:
    """The first Python that has ``module``, this one before those of ``MIXFLIGHT_PEERS``."""
    named = os.environ.get(INTERPRETERS, "").split(os.pathsep)
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    for python in (sys.executable, *filter(None, named)):
        try:
            if not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
                return python
        except OSError:
            continue
    return None


_CHIPLEAP = """
import json, sys, time
from chipleap.hw.design import Accel
from chipleap.model.accel import Bandwidth, job_timing
design, rates = Accel("os", 32, 32, 8, 16, 128, 128, True), Bandwidth(64, 64, 64, 4, 1, 24)
shapes, rounds = json.loads(sys.argv[1]), 20
start = time.process_time()
for place in range(rounds):  # no product twice: nothing is answered from a cache
    for m, k, n in shapes:
        job_timing(design, m, k, n + 32 * place, 8, rates, 0.0).total
print((time.process_time() - start) / rounds)
"""

SCALESIM_MACHINE = """[general]
run_name = peer
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
"""
"""All that SCALE-Sim 3.0.0 wants to be told of a machine: ``rows`` x ``cols`` PEs, ``dataflow`` ws, os or is."""

_SCALESIM = f"CONFIG = {SCALESIM_MACHINE.format(rows=32, cols=32, dataflow='ws')!r}" + """
import json, pathlib, sys, time
from scalesim.scale_sim import scalesim
shapes = json.loads(sys.argv[1])
pathlib.Path("c.cfg").write_text(CONFIG)
topology = [f"l{i},{m},{n},{k},\\n" for i, (m, k, n) in enumerate(shapes)]
layout = [f"l{i}," + "1," * 30 + "\\n" for i in range(len(shapes))]
pathlib.Path("t.csv").write_text("Layer,M,N,K,\\n" + "".join(topology))
pathlib.Path("l.csv").write_text("Layer name, a,\\n" + "".join(layout))
start = time.process_time()
scalesim(save_disk_space=True, verbose=False, config="c.cfg", topology="t.csv", layout="l.csv", input_type_gemm=True
         ).run_scale(top_path=".")
print()
print(time.process_time() - start)
"""

_ZIGZAG = """
import json, logging, pathlib, sys, time
import zigzag
from zigzag.api import get_hardware_performance_zigzag
logging.disable(logging.CRITICAL)
inputs = pathlib.Path(zigzag.__file__).parent / "inputs"  # its own machine of 32 x 32 PEs
shapes = json.loads(sys.argv[1])
work = [{"id": i, "name": f"l{i}", "operator_type": "Gemm", "equation": "O[b][k]+=I[b][c]*W[c][k]",
         "dimension_relations": [], "loop_dims": ["B", "K", "C"], "loop_sizes": [m, n, k],
         "operand_precision": {"O": 16, "O_final": 8, "W": 8, "I": 8}, "operand_source": {"I": i, "W": i}}
        for i, (m, k, n) in enumerate(shapes)]
start = time.process_time()
get_hardware_performance_zigzag(
    work, str(inputs / "hardware" / "tpu_like.yaml"), str(inputs / "mapping" / "tpu_like.yaml"), dump_folder="out",
    pickle_filename="out/x.pickle", nb_spatial_mappings_generated=1, loma_show_progress_bar=False)
print(time.process_time() - start)
"""

_ACCELFORGE = """
import json, pathlib, sys, time
import accelforge
from accelforge.frontend.mapping.mapping import Mapping
Mapping.render = lambda self, **options: ""  # draws each mapping with graphviz otherwise
MACHINE = '''
arch:
  nodes:
  - !Memory
    name: DRAM
    size: inf
    leak_power: 0
    area: 0
    actions: [{{name: read, energy: 1, throughput: 512}}, {{name: write, energy: 1, throughput: 512}}]
    tensors: {{keep: All}}
  - !Memory
    name: Buffer
    size: 8 * 1024 * 384
    leak_power: 0
    area: 0
    actions: [{{name: read, energy: 1, throughput: inf}}, {{name: write, energy: 1, throughput: inf}}]
    tensors: {{keep: All}}
  - !Container
    name: Array
    spatial: [{{name: columns, fanout: 32, reuse: input}}, {{name: rows, fanout: 32, reuse: output}}]
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
start = time.process_time()
for i, (m, k, n) in enumerate(json.loads(sys.argv[1])):
    path = pathlib.Path(f"{i}.yaml")
    path.write_text(MACHINE.format(m=m, k=k, n=n))
    spec = accelforge.Spec.from_yaml(str(path))
    spec.mapper.metrics = accelforge.Metrics.LATENCY
    spec.map_workload_to_arch(print_progress=False).latency()
print(time.process_time() - start)
"""

PEERS = (
    Peer(name="chipleap 0.3.0", package="chipleap", module="chipleap", script=_CHIPLEAP, recorded=3900, unit="jobs/s"),
    Peer(name="ZigZag 3.9.1", package="zigzag-dse", module="zigzag", script=_ZIGZAG, recorded=0.74,
         unit="designs/CPU-s"),
    Peer(name="AccelForge 1.0.467", package="accelforge", module="accelforge", script=_ACCELFORGE, recorded=4.4,
         unit="designs/s"),
    # The others take more memory than 11 GB.
    Peer(name="SCALE-Sim 3.0.0, heads alone", package="scalesim", module="scalesim", script=_SCALESIM, recorded=0.9,
         products=("qk", "av")),
)  # fmt: skip
