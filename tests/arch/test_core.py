"""The core's sizing formulas against the paper's table, and machines that contradict themselves."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from mixflight.arch.accelerator import accelerator_named, array_named, core_machines, machines
from mixflight.arch.core import Chains
from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import flightllm_machine

PRESETS = Path(accelerator_named.__code__.co_filename).parent / "presets"
U280 = core_machines()["flightllm-u280"]
VHK158 = core_machines()["flightllm-vhk158"]


def test_sizing_of_the_u280_is_the_papers_table():
    used = flightllm_machine("u280").utilisation
    assert U280.mpe_dsp == used["mpe"].dsp == 6144
    assert U280.dsp == 6345
    assert U280.cores * U280.sfu.dsp == used["sfu"].dsp == 201
    assert U280.uram == flightllm_machine("u280").uram == 768
    paper = U280.buffers.act.bytes, U280.buffers.vector.bytes, flightllm_machine("u280").buffers["meta"].size_bytes
    assert U280.cores * sum(-(-size // 4608) for size in paper) == used["buffer"].bram36 == 816
    assert U280.bram36 + sum(used[part].bram36 for part in ("controller", "sfu", "interconnect")) <= U280.device.bram36


def test_a_buffer_in_uram_is_of_whole_blocks():
    """flightllm-mini: 4 ports of 8 blocks for weights, 8 for the global buffer, which RTL has twice for its readers."""
    buffers = accelerator_named("flightllm-mini").buffers
    assert {name for name in buffers.__struct_fields__ if getattr(buffers, name).kind == "uram"} == {"weight", "vector"}
    assert buffers.uram == 4 * 8 + 8
    assert replace(buffers, vector=replace(buffers.vector, kind="bram")).uram == 4 * 8
    assert replace(buffers, vector=replace(buffers.vector, depth=4097)).uram == 4 * 8 + 16


def test_the_index_buffer_feeds_a_vector_step():
    assert U280.buffers.index.bytes_per_cycle == U280.mv_macs_per_cycle * 4 // 8
    assert flightllm_machine("u280").buffers["meta"].width_bytes * 32 == U280.buffers.index.bytes_per_cycle


def test_speeds_of_the_u280():
    assert (U280.ports, U280.port_gb_s, U280.peak_gb_s) == (30, 14.4, pytest.approx(432))
    assert U280.hbm.peak_gb_s == pytest.approx(460.8)
    assert U280.peak_macs_per_s * 2 == pytest.approx(5.53e12, rel=0.001)
    assert (U280.mm_macs_per_cycle, U280.mv_macs_per_cycle) == (4096, 1024)


def test_the_vhk158_fits_with_three_products_a_block_only():
    assert VHK158.mpe_dsp_by_peak == 5461
    assert VHK158.mpe_dsp == 6144  # a chain of 16 is six blocks of three
    assert VHK158.dsp <= VHK158.device.dsp == 7392
    assert VHK158.hbm.peak_gb_s == pytest.approx(819.2)


def test_an_array_sits_in_the_same_core():
    machine = core_machines()["mixpe-core"]
    assert not isinstance(machine.mpe, Chains)
    assert (machine.mm_rows, machine.mm_columns, machine.mv_columns) == (32, 64, 256)
    assert (machine.mm_macs_per_cycle, machine.mv_macs_per_cycle) == (2048, 256)


def test_every_parameter_has_a_source():
    for machine in core_machines().values():
        for table in machine.__struct_fields__:
            if table in ("name", "summary", "sources") or getattr(machine, table) is None:
                continue
            named = {key for key in machine.sources if key.split(".")[0] == table}
            assert named, f"{machine.name} {table}"
            if table not in named:
                item = getattr(machine, table)
                fields = {
                    name for field, name in zip(item.__struct_fields__, item.__struct_encode_fields__, strict=True)
                    if getattr(item, field) is not None
                }  # fmt: skip
                assert {key.split(".")[1] for key in named} == fields, f"{machine.name} {table}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cores = 3", "cores = 5", "hbm.channels must be enough for 5 cores with 8 each, not 32"),
        ("cores = 3", "cores = 0", "cores and clock_mhz must be positive"),
        ("mpus = 64", "mpus = 128", "mm_rows must be a multiple of 256"),
        ("chains_per_mpu = 2", "chains_per_mpu = 4", "must fit its device: 12,489 dsp of 9,024 on U280"),
        ('kind = "uram"', 'kind = "bram"', "must fit its device: .* bram36 of 2,016 on U280"),
        ("depth = 4096\nkind = \"uram\"", "depth = 8192\nkind = \"uram\"", "must fit its device: 1,536 uram of 960"),
        ("sparse_m = 16", "sparse_m = 12", "sparse_m must be a power of two that divides chain"),
        ("sparse_n = [0, 2, 4, 8, 16]", "sparse_n = [3, 16]", "sparse_n must be 0 or divide sparse_m"),
        ("[memory_unit]", "[array]\ndataflow = \"output-stationary\"\npe = \"shift-add-4x8\"\nrows = 1\ncols = 1\nlanes = 1\n[memory_unit]", "one of"),
        ('standard = "hbm2"', 'standard = "hbm9"', "hbm.standard"),
        ("capacity_gib = 8", "capacity_gib = 9", "hbm.capacity_gib must be at most the 8 of its channels"),
        ("mm_columns = 16", "mm_columns = 15", "mm_columns of 2"),
        ("lanes = 128", "lane = 128", "unknown key 'lane' in table .memory_unit."),
        ("group = 2", "group = 3", "group must divide chain"),
    ],
)  # fmt: skip
def test_contradictions_are_one_line(tmp_path, old, new, message):
    text = (PRESETS / "flightllm-u280.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as error:
        accelerator_named(str(path))
    assert "\n" not in str(error.value)


def test_arrays_and_cores_are_told_apart():
    assert set(core_machines()) == {
        "flightllm-mini", "flightllm-mini-sparse", "flightllm-u280", "flightllm-vhk158", "mixpe-core", "mixpe-duo", "mixpe-mini",
        "mixpe-small",
    }  # fmt: skip
    assert set(core_machines()) < set(machines())
    with pytest.raises(InputError, match="ARCH must be an array.*not the cores of flightllm-u280"):
        array_named("flightllm-u280")
