from pathlib import Path

import pytest

from mixflight.arch.accelerator import accelerator_named, accelerators
from mixflight.arch.errors import InputError

PRESETS = Path(accelerator_named.__code__.co_filename).parent / "presets"


@pytest.mark.parametrize(
    ("name", "rows", "cols", "lanes"),
    [("int8", 32, 32, 32), ("mul4x8", 32, 64, 64), ("mixpe-w4a8", 32, 64, 64), ("fp16", 32, 16, 16),
     ("mixpe-w4a8-split", 32, 64, 64), ("mixpe-w4a16", 32, 48, 48), ("mixpe-w4a8-ws", 32, 64, 64)],
)
def test_presets_have_the_shapes_of_the_numerics(name, rows, cols, lanes):
    machine = accelerators()[name]
    assert (machine.array.rows, machine.array.cols, machine.array.lanes) == (rows, cols, lanes)
    assert lanes == rows * cols // 32
    assert machine.clock_mhz == 500
    assert machine.dram.peak_gb_s == 64
    assert machine.peak_macs_per_s == rows * cols * 500e6
    assert machine.dram_bytes_per_cycle == pytest.approx(128 * 0.92)
    assert machine.dram_latency_cycles == 62  # 122.2 ns at 2 ns a cycle, rounded up


def test_all_presets_have_equal_memory():
    assert len({(m.dram, m.buffers, m.sfu, m.clock_mhz) for m in accelerators().values()}) == 1


def test_every_table_of_a_preset_has_a_source():
    for machine in accelerators().values():
        for table in ("clock_mhz", "array", "buffers", "dram.peak_gb_s", "sfu.elements_per_cycle"):
            assert machine.sources[table]


def test_rows_split_only_where_a_source_says_why():
    for machine in accelerators().values():
        assert (machine.array.split > 1) == ("array.split" in machine.sources)
    whole, split = accelerators()["mixpe-w4a8"], accelerators()["mixpe-w4a8-split"]
    assert (whole.array.split, split.array.split) == (1, 4)
    assert whole.array.tile(1) == split.array.tile(1) == (32, 64)
    weights_a_cycle = split.dram_bytes_per_cycle * 2    # of 4 bits
    assert weights_a_cycle == pytest.approx(235.52)
    assert split.array.tile(2)[1] < weights_a_cycle < split.array.tile(4)[1] == 256


def test_only_the_weight_stationary_preset_says_why():
    for machine in accelerators().values():
        assert (machine.array.dataflow == "weight-stationary") == ("array.dataflow" in machine.sources)
    whole, stays = accelerators()["mixpe-w4a8"].array, accelerators()["mixpe-w4a8-ws"].array
    assert whole.tile(1) == stays.tile(1) == (32, 64)
    assert stays.tokens == stays.rows


def _changed(tmp_path, old, new):
    text = (PRESETS / "int8.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows = 32", "rows = 0", "rows must be at least 1, not 0"),
        ("rows = 32", "rows = 100000000000", "rows must be at most 4,096, not 100,000,000,000"),
        ("cols = 32", "cols = -1", "cols must be at least 1, not -1"),
        ('dataflow = "output-stationary"\n', "", "dataflow"),
        ('dataflow = "output-stationary"', 'dataflow = "input-stationary"', "input-stationary"),
        ("lanes = 32", "lanes = 32\ntokens = 4", "tokens must be left out for an array that is output-stationary"),
        ('"output-stationary"', '"weight-stationary"', "tokens must be given for an array that is weight-stationary"),
        ('"output-stationary"', '"weight-stationary"\ntokens = 0', "tokens must be at least 1, not 0"),
        ('"output-stationary"', '"weight-stationary"\ntokens = 4\nsplit = 2', "split must be 1 for an array that is weight-stationary"),
        ('"output-stationary"\npe = "multiply-8x8"', '"weight-stationary"\ntokens = 4\npe = "fp16-mac"',
         "pe must have integer sums in an array that is weight-stationary, not be fp16-mac"),
        ("lanes = 32", "lanes = 5", "lanes must divide cols: 5 does not divide 32"),
        ("rows = 32", "split = 4\nrows = 34", "split must be a power of two that divides the array's rows: not 4 for 34 rows"),
        ("rows = 32", "row = 32", r"unknown key 'row' in table \[array\]; the nearest valid key is 'rows'"),
        ('pe = "multiply-8x8"', 'pe = "multiply-9x9"', "multiply-9x9"),
        ("peak_gb_s = 64.0", "peak_gb_s = 0.0", "peak_gb_s must be positive"),
        ("clock_mhz = 500.0", "clock_mhz = -1.0", "clock_mhz must be positive"),
        ("act_kib = 256", "act_kib = 0", "act_kib must be at least 1"),
    ],
)
def test_bad_machines_are_refused(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        accelerator_named(_changed(tmp_path, old, new))


def test_an_unknown_machine_names_the_known_ones():
    with pytest.raises(InputError, match="ARCH must be a .toml file or one of .*mixpe-w4a8"):
        accelerator_named("tpu")
