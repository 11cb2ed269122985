"""Layer lists for other tools: what stands in them, and the tools' own answers on them."""

import csv
import json
import subprocess

import pytest
from command_line import document, refusal
from peer_tools import SCALESIM, Tool

from mixflight.arch.errors import InputError
from mixflight.bench_peers import python_with
from mixflight.interop_layers import layout_path, products, write_onnx, write_scalesim, write_zigzag
from mixflight.sim.array_timing import array_cycles, drain
from mixflight.sim.stationary_timing import stationary_cycles, stationary_ends
from mixflight.workload import load_workload
from mixflight.workloads.trace import Trace, decode_traces, prefill_trace


@pytest.fixture(scope="module")
def traces():
    found = load_workload("llama2-7b", "w4a8g128")
    return [prefill_trace(found.model, found.recipe, 512), *decode_traces(found.model, found.recipe, 512, 2)]


def test_every_product_stands_once_and_says_how_often(traces):
    found = products(traces)
    assert len({item.label for item in found}) == len(found)
    by_name = {item.name: item for item in found}
    q = by_name["prefill_q"]
    assert (q.m, q.n, q.k, q.act_bits, q.weight_bits, q.uses) == (512, 4096, 4096, 8, 4, 32)
    assert by_name["prefill_qk"].uses == 32 * 32 and by_name["decode_gate"].uses == 2 * 32
    assert by_name["prefill_head"].weight_bits == 8
    assert {item.n for item in found if item.name.startswith("decode_qk")} == {513, 514}
    dense = sum(op.count * len(op.layers) * op.m * op.n * op.k for trace in traces for op in trace.operators if op.is_matrix)
    assert sum(item.uses * item.m * item.n * item.k for item in found) == dense


def test_the_command_writes_what_the_lists_say(traces, tmp_path):
    found = products(traces)
    lengths = ("llama2-7b", "--recipe", "w4a8g128", "--prefill", 512, "--decode", 2)
    path = tmp_path / "layers.csv"
    assert document("trace", *lengths, "--export", "scalesim", "-o", path)["path"] == str(path)
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0][:4] == ["Layer", "M", "N", "K"]
    assert [(row[0], *map(int, row[1:4])) for row in rows[1:]] == [(item.label, item.m, item.n, item.k) for item in found]
    layout = layout_path(path).read_text().splitlines()
    assert [line.split(",")[0] for line in layout[1:]] == [item.label for item in found]
    yaml = pytest.importorskip("yaml")
    path = tmp_path / "layers.yaml"
    document("trace", *lengths, "--export", "zigzag", "-o", path)
    loaded = yaml.safe_load(path.read_text())
    assert [(item["name"], item["loop_sizes"]) for item in loaded] == [(item.label, [item.m, item.n, item.k]) for item in found]
    assert loaded[0]["operand_precision"] == {"O": 32, "O_final": 32, "W": 4, "I": 8}
    assert [item["id"] for item in loaded] == list(range(len(found)))


def test_onnx_has_every_product_and_passes_its_own_checker(traces, tmp_path):
    onnx = pytest.importorskip("onnx")
    found, path = products(traces), tmp_path / "layers.onnx"
    document("trace", "llama2-7b", "--recipe", "w4a8g128", "--prefill", 512, "--decode", 2, "--export", "onnx", "-o", path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    shapes = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in [*model.graph.input, *model.graph.output]}
    assert [node.name for node in model.graph.node] == [item.label for item in found]
    for node, item in zip(model.graph.node, found, strict=True):
        assert node.op_type == "MatMul"
        assert [shapes[name] for name in (*node.input, *node.output)] == [[item.m, item.k], [item.k, item.n], [item.m, item.n]]
        assert {entry.key: int(entry.value) for entry in node.metadata_props} == {
            "uses": item.uses, "act_bits": item.act_bits, "weight_bits": item.weight_bits, "sum_bits": 32}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--export", "timeloop", "-o", "x.csv"), "--export must be one of scalesim, zigzag, onnx, not 'timeloop'"),
        (("--export", "scalesim"), "--export scalesim must have -o with a .csv file, not none"),
        (("--export", "zigzag", "-o", "x.parquet"), "--export zigzag must have -o with a .yaml file, not x.parquet"),
        (("--export", "onnx", "-o", "x.yaml"), "--export onnx must have -o with a .onnx file, not x.yaml"),
        (("--export", "zigzag", "-o", "no/x.yaml"), "the output must be a file in a writable folder"),
        (("-o", "x.csv"), "the output must be a .parquet file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, line, tmp_path):
    assert line in refusal("trace", "smollm2-135m", *arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_trace_without_products_is_refused():
    with pytest.raises(InputError, match="must have matrix products"):
        products([Trace(model="x", phase="prefill", batch=1, tokens=1, context=1, operators=())])


SHAPES = ((8, 4, 5, 70, 40), (16, 32, 1, 99, 130), (16, 16, 64, 64, 64), (4, 8, 33, 17, 9))
"""Rows, columns, m, k, n."""


NUMPY = """
import builtins, importlib, numpy
def largest(*items):
    found = builtins.max(*items)
    return found.item() if isinstance(found, numpy.ndarray) else found
for name in ("read_buffer", "write_buffer", "double_buffered_scratchpad_mem"):
    importlib.import_module(f"scalesim.memory.{name}").max = largest
"""
"""SCALE-Sim 3.0.0 takes arrays of one number for numbers, which numpy 2.4 and later refuse: the largest is a number."""


@pytest.fixture(scope="module")
def scalesim(tmp_path_factory):
    """SCALE-Sim's cycles of SHAPES, weight-stationary and output-stationary."""
    folder = tmp_path_factory.mktemp("scalesim")
    jobs = [(dataflow, *shape) for dataflow in ("ws", "os") for shape in SHAPES]
    python = python_with("scalesim")
    if python is None:
        pytest.skip("SCALE-Sim is not installed (pip install scalesim==3.0.0)")
    done = subprocess.run([python, "-c", NUMPY + SCALESIM, json.dumps(jobs)], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {"ws": found[: len(SHAPES)], "os": found[len(SHAPES) :]}


def tiles(rows, cols, m, n):
    return -(-m // rows) * -(-n // cols)


def test_our_output_stationary_array_differs_from_scalesim_by_what_it_overlaps(scalesim):
    """SCALE-Sim fills and empties the array for every tile, K + R + C - 2 cycles; ours streams tiles back to back, and
    once has the registers of its inputs and the lane that scales results."""
    for (rows, cols, m, k, n), theirs in zip(SHAPES, scalesim["os"], strict=True):
        shape = {"rows": rows, "cols": cols, "lanes": cols, "zero": "none"}
        count = tiles(rows, cols, m, n)
        ours = array_cycles(**shape, k=k, group=k, passes=1, tiles=count)
        assert theirs == ours + (count - 1) * (rows + cols - 2) - drain(**shape) - 1, (rows, cols, m, k, n)


def test_our_weight_stationary_array_differs_from_scalesim_by_what_it_overlaps(scalesim):
    """SCALE-Sim loads R rows, streams M tokens and drains for every R x C weights; ours has two sets of weights, so
    that a tile takes the longer of loading and streaming."""
    for (rows, cols, m, k, n), theirs in zip(SHAPES, scalesim["ws"], strict=True):
        whole = -(-k // rows) * rows  # the last rows idle there
        given = {"rows": rows, "cols": cols, "lanes": cols, "tokens": m, "group": whole, "passes": 1, "zero": "none"}
        across = -(-n // cols)
        ours = stationary_cycles(**given, k=whole, tiles=across)
        hidden = whole // rows * across * (rows + cols - 2 + min(m, rows))
        assert theirs == ours + hidden - stationary_ends(**given) - 1, (rows, cols, m, k, n)


RUN_SCALESIM = SCALESIM.partition("found = []")[0] + """
topology, layout = json.loads(sys.argv[1])
pathlib.Path("c.cfg").write_text(CONFIG.format(rows=32, cols=32, dataflow="ws"))
scalesim(save_disk_space=True, verbose=False, config="c.cfg", topology=topology, layout=layout, input_type_gemm=True
         ).run_scale(top_path=".")
[report] = pathlib.Path(".").rglob("COMPUTE_REPORT.csv")
lines = csv.DictReader(report.read_text().splitlines(), skipinitialspace=True)
print()
print(json.dumps([int(float(line["Total Cycles"])) for line in lines]))
"""
RUN_ZIGZAG = """
import json, logging, pathlib, sys
import zigzag
from zigzag.api import get_hardware_performance_zigzag
logging.disable(logging.CRITICAL)
inputs = pathlib.Path(zigzag.__file__).parent / "inputs"
machine = (inputs / "hardware" / "tpu_like.yaml").read_text()  # 32 x 32 PEs whose sums have 16 bits: ours have 32
start, end = machine.index("  rf_2B:"), machine.index("  sram_2MB:")
pathlib.Path("machine.yaml").write_text(machine[:start] + machine[start:end].replace("16", "32") + machine[end:])
_, _, found = get_hardware_performance_zigzag(
    json.loads(sys.argv[1]), "machine.yaml", str(inputs / "mapping" / "tpu_like.yaml"), dump_folder="out",
    pickle_filename="out/x.pickle", lpf_limit=4, nb_spatial_mappings_generated=1, loma_show_progress_bar=False)
print()
print(json.dumps([[item[0].layer.name, item[0].latency_total2, item[0].layer.total_mac_count] for item in found[0][1]]))
"""


@pytest.fixture(scope="module")
def small():
    """Products of a short prefill of a small model, without its head, which is too large for SCALE-Sim."""
    found = load_workload("smollm2-135m", "w4a8g32")
    return [item for item in products([prefill_trace(found.model, found.recipe, 8)]) if "head" not in item.name]


@pytest.mark.slow
def test_scalesim_runs_what_is_exported(small, tmp_path):
    python = python_with("scalesim")
    if python is None:
        pytest.skip("SCALE-Sim is not installed (pip install scalesim==3.0.0)")
    path = tmp_path / "layers.csv"
    write_scalesim(small, path)
    done = subprocess.run([python, "-c", NUMPY + RUN_SCALESIM, json.dumps([str(path), str(layout_path(path))])],
                          cwd=tmp_path, capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    expected = [-(-item.k // 32) * -(-item.n // 32) * (item.m + 2 * 32 + 32 - 2) - 1 for item in small]
    assert json.loads(done.stdout.splitlines()[-1]) == expected


@pytest.fixture(scope="module")
def zigzag(tmp_path_factory):
    return python_with("zigzag") or str(Tool(tmp_path_factory.mktemp("zigzag") / "tool", "zigzag-dse==3.9.1", "six").python)


READ_ONNX = """
import json, pathlib, sys
import zigzag
from zigzag.parser.onnx.onnx_model_parser import ONNXModelParser
mapping = pathlib.Path(zigzag.__file__).parent / "inputs" / "mapping" / "tpu_like.yaml"
layers = ONNXModelParser(json.loads(sys.argv[1]), str(mapping)).run().node_list
print()
print(json.dumps([[item.name, *[int(size) for _, size in sorted(item.layer_dim_sizes.items(), key=str)]] for item in layers]))
"""


@pytest.mark.slow
def test_zigzag_reads_the_onnx_that_is_exported(small, zigzag, tmp_path):
    path = tmp_path / "layers.onnx"
    write_onnx(small, path)
    done = subprocess.run([zigzag, "-c", READ_ONNX, json.dumps(str(path))], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[item.label, item.k, item.m, item.n] for item in small]  # C, D, K


@pytest.mark.slow
def test_zigzag_runs_what_is_exported(small, zigzag, tmp_path):
    path = tmp_path / "layers.yaml"
    write_zigzag(small, path)
    done = subprocess.run([zigzag, "-c", RUN_ZIGZAG, json.dumps(str(path))], cwd=tmp_path,
                          capture_output=True, text=True, timeout=1200)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = {name: (latency, macs) for name, latency, macs in json.loads(done.stdout.splitlines()[-1])}
    assert list(found) == [item.label for item in small]
    for item in small:
        latency, macs = found[item.label]
        assert macs == item.m * item.n * item.k
        assert latency >= macs / 32**2
