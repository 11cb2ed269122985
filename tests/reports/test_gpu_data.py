"""The measured GPU rows: complete, plausible, within what physics allows, and consistent with each other."""

import ast
import csv
import re
from pathlib import Path

import pytest

GPU = Path(__file__).resolve().parents[2] / "reports" / "gpu"
DATASHEET = {  # NVIDIA's data sheets: device, memory bandwidth in 1e9 B/s, dense 16-bit rate in 1e12/s
    "h100": ("NVIDIA H100 80GB HBM3", 3350.0, 989.5),
    "h200": ("NVIDIA H200", 4800.0, 989.5),
}
SHAPES = {  # d, f, layers, heads, kv_heads, vocab
    "llama2-7b": (4096, 11008, 32, 32, 32, 32000),
    "llama3-8b": (4096, 14336, 32, 32, 8, 128256),
    "llama2-13b": (5120, 13824, 40, 40, 40, 32000),
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152),
}
TEXT = {"device", "driver", "cuda", "torch", "date_utc", "model", "precision", "phase", "notes"}
WHOLE = {"batch", "context", "prompt_length", "m", "n", "k", "weight_bytes", "kv_bytes", "flops", "repeats"}


def _columns():
    """COLUMNS of the script, read from its text: the script itself needs PyTorch."""
    for node in ast.parse((GPU / "measure.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "COLUMNS":
            return list(ast.literal_eval(node.value))
    raise AssertionError("measure.py has no COLUMNS")


def _read(name):
    with (GPU / "data" / f"{name}.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = []
        for row in reader:
            for column in row.keys() - TEXT:
                row[column] = int(row[column]) if column in WHOLE else float(row[column])
            rows.append(row)
        return reader.fieldnames, rows


DATA = {name: _read(name) for name in DATASHEET}
every_device = pytest.mark.parametrize("name", DATASHEET)


def _where(row):
    return {c: row[c] for c in ("device", "model", "precision", "phase", "batch", "context", "m", "n", "k")}


def _tokens(row):
    prefill = row["batch"] * row["prompt_length"]
    return {"decode": row["batch"], "prefill": prefill, "gemm": row["m"]}.get(row["phase"], 0)


def _linear_parameters(model):
    d, f, layers, heads, kv_heads, vocab = SHAPES[model]
    return layers * (d * (heads + 2 * kv_heads) * (d // heads) + d * d + 3 * d * f) + vocab * d


def _pick(name, **wanted):
    rows = [row for row in DATA[name][1] if all(row[c] == v for c, v in wanted.items())]
    assert len(rows) == 1, (name, wanted)
    return rows[0]


@every_device
def test_columns_are_the_script_s(name):
    assert DATA[name][0] == _columns()


@every_device
def test_nothing_is_missing_and_the_origin_is_given(name):
    rows, columns = DATA[name][1], set(_columns()) - {"notes"}
    assert len(rows) > 150
    for row in rows:
        assert all(row[c] not in ("", None) for c in columns), _where(row)
        assert row["device"] == DATASHEET[name][0]
        assert row["datasheet_bandwidth_gb_s"] == DATASHEET[name][1]
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["date_utc"])
        assert "ERROR" not in row["notes"], _where(row)
    assert len({(row["driver"], row["cuda"], row["torch"]) for row in rows}) == 1


@every_device
def test_no_point_is_there_twice(name):
    points = [tuple(_where(row).values()) for row in DATA[name][1]]
    assert len(points) == len(set(points))


@every_device
def test_the_grid_holds_what_reports_rely_on(name):
    for model in SHAPES:
        for precision in ("bf16", "w4a16"):
            point = {"model": model, "precision": precision}
            for context in (128, 512, 2048, 8192):
                for batch in (1, 4):
                    _pick(name, **point, phase="decode", batch=batch, context=context)
            for batch in (2, 8, 16, 32, 64):
                _pick(name, **point, phase="decode", batch=batch, context=512)
            for prompt in (128, 512, 2048):
                _pick(name, **point, phase="prefill", batch=1, prompt_length=prompt)
    for context in (128, 512, 2048):
        _pick(name, model="llama2-7b", precision="fp16", phase="decode", batch=1, context=context)


@every_device
def test_units_are_plausible(name):
    for row in DATA[name][1]:
        where = _where(row)
        assert 0.005 < row["latency_ms"] < 5000, where
        assert 0.9 * row["latency_ms"] < row["latency_min_ms"] <= row["latency_ms"] * 1.0001, where
        assert 50 < row["idle_power_w"] < row["avg_power_w"] < 1.02 * row["power_limit_w"], where
        assert 1000 <= row["sm_clock_mhz"] <= 1980, where
        assert 25 < row["temperature_c"] < 90, where
        assert row["window_s"] >= 1.0 - 1e-3, where
        assert row["energy_window_s"] >= 0.8, where
        assert row["repeats"] >= 3, where
        assert row["window_s"] == pytest.approx(row["repeats"] * row["latency_ms"] / 1e3, rel=0.002), where
        if row["phase"] == "decode":
            assert row["prompt_length"] == row["context"] - 1, where
        elif row["phase"] == "prefill":
            assert row["prompt_length"] == row["context"], where


@every_device
def test_no_row_beats_the_memory_or_the_arithmetic(name):
    _, bandwidth, rate = DATASHEET[name]
    for row in DATA[name][1]:
        moved = row["weight_bytes"] + row["kv_bytes"]
        assert row["latency_min_ms"] >= moved / (bandwidth * 1e9) * 1e3, _where(row)
        assert row["latency_min_ms"] >= row["flops"] / (rate * 1e12) * 1e3, _where(row)


@every_device
def test_derived_columns_follow_from_the_measured_ones(name):
    for row in DATA[name][1]:
        where, seconds, tokens = _where(row), row["latency_ms"] / 1e3, _tokens(row)
        close = {"rel": 0.002, "abs": 0.06}
        assert row["tokens_per_s"] == pytest.approx(tokens / seconds, **close), where
        energy = row["energy_mj_per_token"] / 1e3 * max(tokens, 1)
        assert energy / seconds == pytest.approx(row["avg_power_w"], rel=0.002), where
        moved = row["weight_bytes"] + row["kv_bytes"]
        assert row["achieved_bandwidth_gb_s"] == pytest.approx(moved / seconds / 1e9, **close), where
        assert row["achieved_tflop_s"] == pytest.approx(row["flops"] / seconds / 1e12, **close), where


@every_device
def test_bytes_and_operations_are_those_of_the_shapes(name):
    for row in DATA[name][1]:
        if row["model"] not in SHAPES:
            continue
        d, _, layers, heads, kv_heads, vocab = SHAPES[row["model"]]
        where, parameters = _where(row), _linear_parameters(row["model"])
        batch, context = row["batch"], row["context"]
        norms = (2 * layers + 1) * d * 2
        group = 64 if row["model"] == "smollm2-135m" else 128
        per_weight = 2 if row["precision"] != "w4a16" else 0.5 + 4 / group
        assert row["weight_bytes"] == parameters * per_weight + norms, where
        assert row["kv_bytes"] == batch * context * 2 * layers * kv_heads * (d // heads) * 2, where
        new = 1 if row["phase"] == "decode" else context
        pairs = context if new == 1 else context * (context + 1) // 2
        body = 2 * new * (parameters - vocab * d) + 2 * vocab * d + 4 * pairs * d * layers
        assert row["flops"] == batch * body, where


@every_device
def test_a_longer_context_or_a_larger_batch_is_not_faster(name):
    rows = [row for row in DATA[name][1] if row["phase"] == "decode"]
    for a in rows:
        for b in rows:
            same = a["model"] == b["model"] and a["precision"] == b["precision"]
            if same and a["batch"] <= b["batch"] and a["context"] <= b["context"]:
                assert a["latency_ms"] <= 1.03 * b["latency_ms"], (_where(a), _where(b))


def test_llama2_7b_batch_1_against_its_bandwidth():
    """Batch-1 decode reaches a share of its bound that a memory-bound step should, and never beats it."""
    for name, (_, bandwidth, _) in DATASHEET.items():
        for precision in ("fp16", "bf16"):
            row = _pick(name, model="llama2-7b", precision=precision, phase="decode", batch=1, context=128)
            moved = row["weight_bytes"] + row["kv_bytes"]
            share = moved / (bandwidth * 1e9) * 1e3 / row["latency_ms"]
            assert 0.5 < share < 1, (name, precision, share)


def test_more_bandwidth_makes_16_bit_decode_faster():
    for model in ("llama2-7b", "llama3-8b", "llama2-13b"):
        point = {"model": model, "precision": "bf16", "phase": "decode", "batch": 1, "context": 512}
        ratio = _pick("h100", **point)["latency_ms"] / _pick("h200", **point)["latency_ms"]
        assert 1.1 < ratio < 4800 / 3350 * 1.05


def test_the_provenance_page_names_the_versions():
    text = (GPU / "data" / "README.md").read_text()
    for name in DATASHEET:
        row = DATA[name][1][0]
        for column in ("device", "driver", "torch"):
            assert row[column] in text
        assert row["date_utc"][:10] in text
