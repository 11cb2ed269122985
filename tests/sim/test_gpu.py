"""The GPU model: never beyond physics, its fit reproducible, its errors as documented, its data checked."""

import hashlib
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.gpu import Gpu, gpus
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.sim.gpu.fit import committed, fit, least_squares, pack_points
from mixflight.sim.gpu.kernels import Storage, decode_kernels, pack, prefill_kernels
from mixflight.sim.gpu.measured import COLUMNS, data_folder, packaged_points, read_folder, read_points
from mixflight.sim.gpu.model import kernel_terms, predict, rates_of
from mixflight.sim.gpu.scenario import RECIPES, GpuRun, simulate_gpu, storage_of
from mixflight.sim.gpu.validate import bands, held_back, markdown_line, slices, validated
from mixflight.workloads.model import model_named

ROOT = Path(__file__).resolve().parents[2]
LLAMA = model_named("llama2-7b")


@pytest.fixture(scope="module")
def points():
    return packaged_points()


@pytest.fixture(scope="module")
def rows(points):
    return list(validated(points))


def test_kernels_have_the_measured_bytes_and_operations(points):
    """The CSV counts weights, cache and operations by itself; norms and vectors aside, so must the kernels."""
    import csv

    for name in ("h100", "h200"):
        found = [point for point in points if point.gpu == name]
        with (data_folder() / f"{name}.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["phase"] not in ("copy", "read")]
        for point, row in zip(found, rows, strict=True):
            kernels = point.kernels
            weights = sum(k.stored * k.count for k in kernels if k.kind in ("dense", "int4"))
            assert weights == pytest.approx(float(row["weight_bytes"]), rel=1e-3)
            assert sum(k.flops * k.count for k in kernels) == pytest.approx(float(row["flops"]), rel=1e-9)
            if point.phase == "decode":
                assert sum(k.stored * k.count for k in kernels if k.kind == "attention") == float(row["kv_bytes"])


@pytest.mark.parametrize("gpu", gpus())
@pytest.mark.parametrize("recipe", RECIPES)
def test_no_kernel_beats_the_data_sheet(gpu, recipe):
    sheet, known = gpus()[gpu], committed()
    for name in ("llama2-7b", "llama3-8b", "opt-6.7b"):
        model = model_named(name)
        storage = storage_of(recipe, model)
        for batch in (1, 7, 64, 1024):
            for kernels in (decode_kernels(model, storage, batch, [1, 129, 2048]), prefill_kernels(model, storage, batch, 2048)):
                packed = pack([kernels])
                terms = kernel_terms(packed, rates_of(sheet, known.fit.idle_share, fp16=True), known.fit.time)
                assert np.all(terms.seconds > packed.moved / (sheet.bandwidth_gb_s * 1e9))
                product = packed.kind != 2  # decode attention runs on ordinary multipliers: its bytes are far above it
                assert np.all(terms.seconds[product] > packed.flops[product] / (sheet.tensor_tflop_s * 1e12))


def test_power_stays_between_idle_and_limit(points):
    known = committed()
    kernels, rates = pack_points(points)
    _, watts = predict(kernels, rates, known.fit.time, known.fit.power)
    assert np.all(watts > rates.idle_w)
    assert np.all(watts <= rates.limit_w * (1 + 1e-9))


def test_more_work_takes_longer():
    known = committed()
    steps = [decode_kernels(LLAMA, Storage(), batch, [context]) for batch, context in ((1, 100), (1, 128), (1, 129), (2, 129), (64, 129), (64, 4096))]
    seconds, _ = predict(pack(steps), rates_of(gpus()["h100"], 0.1, fp16=False, passes=len(steps)), known.fit.time, known.fit.power)
    assert np.all(np.diff(seconds) > 0)


def test_refitting_gives_the_committed_coefficients(points):
    known, again = committed(), fit(points)
    for table in ("time", "power"):
        wanted = msgspec.structs.asdict(getattr(known.fit, table))
        assert msgspec.structs.asdict(getattr(again, table)) == pytest.approx(wanted, rel=2e-3), table
    assert again.idle_share == pytest.approx(known.fit.idle_share)
    assert msgspec.structs.asdict(bands(points, again)) == pytest.approx(msgspec.structs.asdict(known.band), rel=2e-3)


def test_the_hashes_are_those_of_the_measurements():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data_folder().glob("*.csv")}
    assert found == committed().sha256


def test_a_slice_is_whole_and_not_in_the_fit_that_validates_it(points, monkeypatch):
    import mixflight.sim.gpu.validate as validate

    trained = []
    monkeypatch.setattr(validate, "fit", lambda rest: trained.append(rest) or fit(rest[::7]))
    named = dict(slices(points))
    for name, out, _, _ in held_back(points):
        rest = trained[-1]
        assert len(out) + len(rest) == len(points)
        assert not {id(point) for point in out} & {id(point) for point in rest}
        assert out == [point for point, chosen in zip(points, named[name], strict=True) if chosen]
    assert {"decode batch 1", "decode context 2048", "prefill context 512", "model llama3-8b", "gpu h200"} <= set(named)


def test_errors_are_the_documented_ones(rows):
    text = (ROOT / "sim" / "gpu" / "VALIDATION.md").read_text()
    documented = [line for line in text.splitlines() if re.match(r"\| .* \| (fitted|held-back|published) \|", line)]
    assert len(documented) == len(rows)
    number = re.compile(r"-?\d+\.\d")
    for line, row in zip(documented, rows, strict=True):
        ours = markdown_line(row)
        assert number.sub("#", line) == number.sub("#", ours)
        for a, b in zip(number.findall(line), number.findall(ours), strict=True):
            assert float(a) == pytest.approx(float(b), abs=0.11), line


def test_every_held_back_slice_meets_the_goal(rows):
    missed = {row.name for row in rows if row.kind != "published" and not row.within_goal}
    assert not missed
    for row in rows:
        assert 0 <= row.median_time <= row.max_time
        assert row.mape_time <= row.max_time
        assert abs(row.bias_time) <= row.mape_time + 1e-12


def test_a_synthetic_gpu_is_found_again(points):
    """Points that the formulas themselves made are fitted to within rounding."""
    known = committed()
    kernels, rates = pack_points(points)
    seconds, watts = predict(kernels, rates, known.fit.time, known.fit.power)
    made = [msgspec.structs.replace(p, seconds=float(s), power_w=float(w)) for p, s, w in zip(points, seconds, watts, strict=True)]
    again = fit(made)
    found, _ = predict(kernels, rates, again.time, again.power)
    assert found == pytest.approx(seconds, rel=1e-3)


def test_least_squares_against_a_closed_form():
    x = np.linspace(0, 1, 20)
    found = least_squares(lambda c: c[0] + c[1] * x - (3 - 2 * x), np.zeros(2))
    assert found == pytest.approx([3, -2], abs=1e-6)


def test_causal_attention_counts_its_blocks():
    """The masked half of diagonal blocks and the longest block, counted key by key."""
    heads, width = LLAMA.heads, LLAMA.head_dim
    for batch, tokens in ((1, 128), (3, 512), (1, 100)):
        kernel = prefill_kernels(LLAMA, Storage(), batch, tokens)[-1]
        rows = min(128, tokens)
        keys = [rows * (block + 1) for block in range(tokens // rows)]
        assert kernel.issued == 4 * batch * heads * width * rows * sum(keys)
        assert kernel.longest == 4 * width * rows * max(keys)
        assert kernel.flops < kernel.issued


def test_a_prompt_too_short_to_fill_the_gpu_is_bound_by_its_longest_block():
    """Two sequences of short attention take hardly longer than one, of long attention twice as long."""
    known, sheet = committed(), gpus()["h100"]
    small = model_named("smollm2-135m")

    def growth(tokens):
        passes = [[prefill_kernels(small, Storage(), batch, tokens)[-1]] for batch in (1, 2)]
        one, two = kernel_terms(pack(passes), rates_of(sheet, 0.1, fp16=False, passes=2), known.fit.time).tensor
        return two / one

    assert growth(256) < 1.2
    assert growth(65536) > 1.9


# --- scenarios ----------------------------------------------------------------------------------------------


def _run(gpu, prefill=128, decode=16, batch=1, model=LLAMA):
    return simulate_gpu(GpuRun.parse(gpu), model, prefill, decode, batch)


def test_a_scenario_is_the_sum_of_its_steps():
    whole = _run("h100:w4a16g128", prefill=126, decode=4).decode
    steps = [_run("h100:w4a16g128", prefill=126 + i, decode=1).decode for i in range(4)]
    assert whole.time_ms == pytest.approx(sum(step.time_ms for step in steps))
    assert whole.dram_bytes == pytest.approx(sum(step.dram_bytes for step in steps))
    assert whole.energy.pj == pytest.approx(sum(step.energy.pj for step in steps), rel=1e-6)
    assert sum(part.pj for part in whole.components.values()) == pytest.approx(whole.energy.pj)


def test_a_measured_point_is_given_as_measured():
    found = _run("h100", prefill=511, decode=1)
    assert found.decode.time_ms == pytest.approx(5.50018)
    assert found.decode.power_w == pytest.approx(474.2)
    assert found.decode.source.startswith("measured;")
    assert found.prefill.source.startswith("model fitted on measured h100.csv")
    assert found.decode.energy.high_pj / found.decode.energy.pj < 1.05
    assert not _run("h100", prefill=511, decode=2).decode.source.startswith("measured;")


def test_bands_are_wider_where_less_is_known():
    def width(gpu):
        energy = _run(gpu).decode.energy
        assert energy.low_pj < energy.pj < energy.high_pj
        return energy.high_pj / energy.low_pj

    assert width("h100") < width("h100:w4a16g128") < width("a100") == width("h100:w4a16g128-ideal")


def test_weights_and_cache_are_what_decode_reads():
    phase = _run("h200", prefill=1000, decode=1).decode
    assert phase.dram_bytes == pytest.approx(2 * LLAMA.linear_weights() + 1001 * 2 * 32 * 4096 * 2, rel=1e-3)
    assert phase.bound_by == "dram"
    assert _run("h200:w4a16g128").decode.bound_by == "int4 kernel"
    assert _run("h200", prefill=2048).prefill.bound_by == "tensor cores"
    small = _run("h200", prefill=64, model=model_named("smollm2-135m"))
    assert small.decode.bound_by == "launch"


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ("tpu", "GPU must be one of a100, h100, h200, rtx4090, v100s, not 'tpu'"),
        ("h100:", "must name a recipe after the colon"),
        ("h100:w4a8g128", "must be one of fp16, w4a16g128, w4a16g128-ideal, not 'w4a8g128'"),
        ("v100s:w4a16g128", "must have BF16 tensor cores"),
    ],
)
def test_what_cannot_run_is_refused(gpu, message):
    with pytest.raises(InputError, match=re.escape(message)):
        GpuRun.parse(gpu)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="must fit in the 24 GB of rtx4090, not need 26"):
        _run("rtx4090", model=model_named("llama2-13b"))
    with pytest.raises(InputError, match="must fit in the 80 GB"):
        _run("h100", prefill=4000, batch=64)
    with pytest.raises(InputError, match="group must divide K"):
        _run("h100:w4a16g128", model=model_named("smollm2-135m"))
    with pytest.raises(InputError, match="decode must be at least 1 token"):
        _run("h100", decode=0)


# --- data sheets and measurements ---------------------------------------------------------------------------


def test_every_number_of_a_data_sheet_has_a_source():
    for path in (ROOT / "arch" / "gpus").glob("*.toml"):
        table = {"name": path.stem, **read_toml(path)}
        del table["sources"]["bandwidth_gb_s"]
        with pytest.raises(InputError, match="every number must have a source: bandwidth_gb_s"):
            convert(table, Gpu, path.name)


def _changed(tmp_path, change):
    lines = (data_folder() / "h100.csv").read_text().splitlines()[:6]
    path = tmp_path / "h100.csv"
    path.write_text("\n".join(change(lines)) + "\n")
    return path


def _with(column, value):
    def change(lines):
        cells = lines[4].split(",")
        cells[COLUMNS.index(column)] = value
        return [*lines[:4], ",".join(cells), *lines[5:]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("avg_power_w", "-3"), "avg_power_w must be a number of at least 0, not '-3', in h100.csv line 5"),
        (_with("avg_power_w", "0"), "avg_power_w must be above 0"),
        (_with("energy_mj_per_token", "-5"), "energy_mj_per_token must be a number of at least 0, not '-5'"),
        (_with("avg_power_w", "nan"), "avg_power_w must be a number"),
        (_with("latency_ms", "fast"), "latency_ms must be a number of at least 0, not 'fast'"),
        (_with("idle_power_w", "900"), "idle_power_w must be below power_limit_w, not 900 and 700"),
        (_with("batch", "0"), "batch must be a number of at least 1"),
        (_with("model", "gpt5"), "model must be one of"),
        (_with("phase", "train"), "phase must be one of decode"),
        (_with("precision", "fp8"), "precision must be one of"),
        (lambda lines: [lines[0].replace("latency_ms", "latency_s"), *lines[1:]], "latency_ms missing; latency_s unknown"),
        (lambda lines: [line + ",1" for line in lines], "not 34 (1 unknown)"),
        (lambda lines: [lines[0], lines[4] + ",,"], "a row must have 33 cells, and there are more in h100.csv line 2"),
        (lambda lines: lines[:1], "must have rows of decode, prefill or gemm"),
        (lambda lines: [], "not 0 ("),
        (lambda lines: [lines[0], lines[4].rsplit(",", 20)[0]], "must be"),
    ],
)
def test_wrong_measurements_are_one_line(tmp_path, change, message):
    with pytest.raises(InputError) as caught:
        read_points(_changed(tmp_path, change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_is_named_after_its_gpu(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("x")
    with pytest.raises(InputError, match="named after one of"):
        read_points(path)


def test_a_folder_must_hold_enough_to_fit(tmp_path, points):
    with pytest.raises(InputError, match="must be a folder with measurements"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="must be at least 20 points, not 7"):
        fit(points[:7])
