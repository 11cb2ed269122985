from pathlib import Path

import msgspec
import pytest

import mixflight.arch.flightllm_machine
from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import FlightLlmMachine, flightllm_machine

U280, VHK158 = flightllm_machine("u280"), flightllm_machine("vhk158-published")


def changed(machine, **fields):
    return msgspec.convert({**msgspec.to_builtins(machine), **fields}, FlightLlmMachine)


def test_the_sizing_formulas_give_the_published_u280():
    assert U280.dsp == 6144 == U280.utilisation["mpe"].dsp
    assert U280.uram == 768 <= U280.utilisation["buffer"].uram == 792
    assert U280.bram36 == 816 == U280.utilisation["buffer"].bram36
    assert U280.ports == 30
    assert U280.peak_gb_s == pytest.approx(432)


def test_the_utilisation_table_adds_up():
    total = {name: sum(getattr(item, name) for item in U280.utilisation.values()) for name in ("lut", "ff", "bram36", "uram", "dsp")}
    assert total == {"lut": 574_000, "ff": 943_000, "bram36": 1252, "uram": 792, "dsp": 6345}
    for name, percent in {"lut": 44.0, "ff": 36.2, "bram36": 62.1, "uram": 82.5, "dsp": 70.2}.items():
        assert 100 * total[name] / getattr(U280.device, name) == pytest.approx(percent, abs=0.15), name


def test_the_published_vhk158_is_labelled_infeasible():
    assert (VHK158.dsp, VHK158.device.dsp, VHK158.dsp58) == (8192, 7392, 5461)
    assert "8,192" in VHK158.infeasible
    with pytest.raises(msgspec.ValidationError, match="must fit its device: 8192 DSP blocks of 7392"):
        changed(VHK158, infeasible="")
    assert not U280.infeasible


def test_rates_of_the_array_and_the_memory():
    assert VHK158.matrix.mm_macs_per_cycle == 4096 == VHK158.matrix.dsp * VHK158.matrix.macs_per_dsp
    assert VHK158.matrix.mv_macs_per_cycle == 1024
    assert VHK158.hbm.channel_bytes_per_s == pytest.approx(25.6 * 2**30)
    sizes = {name: item.size_bytes for name, item in VHK158.buffers.items()}
    assert sizes == {"a": 8 << 20, "b": 128 << 10, "meta": 64 << 10, "fsb": 4 << 10, "bias": 256 << 10, "global": 1 << 20}
    assert VHK158.max_context == 2048


def test_every_parameter_has_a_source():
    for machine in (U280, VHK158):
        for name in machine.__struct_fields__:
            if name not in ("name", "summary", "sources") and getattr(machine, name):
                assert any(key.split(".")[0] == name for key in machine.sources), (machine.name, name)


def test_bad_machines_are_refused():
    with pytest.raises(InputError, match="must be a .toml file or one of u280, vhk158-published, not 'u55'"):
        flightllm_machine("u55")
    with pytest.raises(msgspec.ValidationError, match="chain must be at least 1"):
        changed(U280, matrix={**msgspec.to_builtins(U280.matrix), "chain": 0})
    with pytest.raises(msgspec.ValidationError, match="block must divide mask_block"):
        changed(U280, mask_block=60)


def test_a_machine_of_a_file(tmp_path):
    text = (Path(mixflight.arch.flightllm_machine.__file__).parent / "flightllm" / "u280.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("mpu = 64", "mpu = 32"))
    assert flightllm_machine(str(path)).dsp == 3072
    path.write_text(text.replace("cores = 3", "cores = 5"))
    with pytest.raises(InputError, match=r"must fit its device: 10240 DSP blocks of 9024, in .*mine.toml"):
        flightllm_machine(str(path))
    path.write_text(text.replace("chain = 16", "chian = 16"))
    with pytest.raises(InputError, match=r"unknown key 'chian' in table \[matrix\]; the nearest valid key is 'chain'"):
        flightllm_machine(str(path))
