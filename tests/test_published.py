import json

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.mapping.attention_mask import load_masks
from mixflight.published import published_document, published_simulator, published_timeline


def test_the_document_has_the_keys_of_simulate():
    document = published_document("flightllm-vhk158", "llama2-7b", None, 128, 512)
    assert json.loads(json.dumps(document)) == document
    assert document["mode"] == "published"
    assert document["recipe"] == "flightllm-artifact"
    assert document["prefill"]["time_ms"] == pytest.approx(289.882369, abs=1e-6)
    decode = document["decode"]
    assert decode["time_ms"] == pytest.approx(4946.4, abs=0.05)
    assert decode["time_ms_per_token"] == pytest.approx(decode["time_ms"] / 512)
    assert decode["tokens_per_s"] == pytest.approx(103.5, abs=0.05)
    assert decode["bound_by"] == document["bound_by"] == "array"
    assert 3.2e9 < decode["hbm_bytes_per_token"] < 3.6e9
    assert decode["power_w"] is None
    assert decode["energy_mj_per_token"] is None
    assert "8,192" in document["infeasible"]
    assert sum(item["time_ms"] for item in decode["operators"]) == pytest.approx(10.113345, abs=1e-5)  # the step at 640


def test_the_u280_has_the_reported_power():
    document = published_document("flightllm-u280", "llama2-7b", "flightllm-artifact", 128, 16)
    decode = document["decode"]
    assert decode["power_w"] == 45
    assert decode["bound_by"] == "dram"
    assert decode["tokens_per_joule"] == pytest.approx(decode["tokens_per_s"] / 45)
    assert decode["energy_mj_per_token_low"] == decode["energy_mj_per_token_high"] == decode["energy_mj_per_token"]
    assert document["infeasible"] is None


def test_the_timeline_holds_every_instruction_of_a_block():
    simulator = published_simulator("flightllm-vhk158", "llama2-7b", None)
    program = simulator.decode_program(16)
    events = [event for event in published_timeline(simulator, program)["traceEvents"] if event["ph"] == "X"]
    assert len(events) == sum(len(program.layers[index].stream) for index in program.order[:13])
    for track in range(6):
        own = [event for event in events if event["tid"] == track]
        for before, after in zip(own, own[1:], strict=False):
            assert before["ts"] + before["dur"] <= after["ts"] + 1e-9
    assert {event["name"] for event in events} == {program.layers[index].name for index in program.order[:13]}


def test_masks_from_a_file(tmp_path):
    causal = np.tril(np.ones((8, 8), bool))
    one = np.broadcast_to(causal, (32, 8, 8))
    np.save(tmp_path / "one.npy", one)
    assert len(load_masks(tmp_path / "one.npy")) == 1
    many = np.broadcast_to(np.eye(8, dtype=np.uint8) | (np.arange(8) == 0), (32, 32, 8, 8)).copy()
    many[1] = 1
    np.save(tmp_path / "many.npy", many)
    masks = load_masks(tmp_path / "many.npy")
    assert len(masks) == 32
    assert not masks[0][:, 0, 1:].any()
    dense = published_document("flightllm-vhk158", "llama2-7b", None, 512, 1, tmp_path / "one.npy")
    sparse = published_document("flightllm-vhk158", "llama2-7b", None, 512, 1, tmp_path / "many.npy")
    assert sparse["prefill"]["time_ms"] < dense["prefill"]["time_ms"]


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(InputError, match="must have an ARCH of flightllm-vhk158, flightllm-u280, not 'int8'"):
        published_simulator("int8", "llama2-7b", None)
    with pytest.raises(InputError, match="must have the recipe flightllm-artifact, not 'fp16'"):
        published_simulator("flightllm-u280", "llama2-7b", "fp16")
    path = tmp_path / "mask.npy"
    with pytest.raises(InputError, match="--attention-mask must be a .npy file of numbers"):
        load_masks(path)
    path.write_bytes(b"not numpy")
    with pytest.raises(InputError, match="--attention-mask must be a .npy file of numbers"):
        load_masks(path)
    np.save(path, np.ones((2, 3)))
    with pytest.raises(InputError, match=r"must be \[blocks,\] heads, n, n, not \(2, 3\)"):
        load_masks(path)
    np.save(path, np.full((32, 2, 2), 0.5))
    with pytest.raises(InputError, match="must hold true and false only"):
        load_masks(path)
