"""Programs of a core compute what the golden model computes, bit for bit."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from tiny_llama import TinyLlama, bits, from_position

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import read_program
from mixflight.arch.errors import InputError
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_contents import gather
from mixflight.mapping.core_primitives import primitives
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.sim.core_values.decode import from_file, machine_from_file, machine_model
from mixflight.sim.core_values.execute import execute
from mixflight.sim.core_values.state import new_state, shape_of
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf

MACHINES = ("flightllm-mini", "mixpe-mini")


@pytest.fixture(scope="module")
def tiny():
    return TinyLlama()


@pytest.mark.parametrize("machine", MACHINES)
def test_a_sequence_from_its_first_token(tiny, machine):
    core, session = tiny.on(accelerator_named(machine), 512), Session(tiny.golden)
    for position, token in enumerate([3, 99, 0, 41, 7]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("position", [15, 16, 17, 127, 128, 255, 256, 300, 511])
def test_contexts_around_tiles_and_their_tails(tiny, machine, position):
    rng = np.random.default_rng(position)
    core, session = tiny.on(accelerator_named(machine), 512), Session(tiny.golden)
    from_position(core, session, rng.integers(0, 100, position).tolist())
    assert np.array_equal(bits(core.decode(5, position)), bits(session.extend([5])))


@pytest.mark.parametrize(
    "shape",
    [
        {"head_dim": 64, "heads": 6, "kv_heads": 3, "hidden": 192},
        {"head_dim": 128, "heads": 2, "kv_heads": 2, "hidden": 256},
        {"head_dim": 64, "heads": 3, "kv_heads": 1, "hidden": 192, "ffn": 640, "vocab": 333},
        {"head_dim": 16, "heads": 8, "kv_heads": 2},
    ],
    ids=["three heads", "heads of 128", "one KV head", "heads of 16"],
)
def test_other_shapes(shape):
    model = TinyLlama(seed=2, **shape)
    core, session = model.on(accelerator_named("flightllm-mini"), 256), Session(model.golden)
    from_position(core, session, list(range(70)) * 2)
    for position, token in ((140, 1), (141, 60)):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))


@pytest.mark.parametrize(
    ("machine", "shape"),
    [
        ("flightllm-u280", {"head_dim": 64, "heads": 6, "kv_heads": 3, "hidden": 384, "ffn": 640, "vocab": 333}),
        ("flightllm-u280", {"head_dim": 64, "heads": 5, "kv_heads": 5, "hidden": 320, "ffn": 1024, "vocab": 1000}),
        ("flightllm-vhk158", {"head_dim": 64, "heads": 3, "kv_heads": 3, "hidden": 384, "ffn": 640}),
        ("mixpe-duo", {}),
        ("mixpe-duo", {"head_dim": 64, "heads": 3, "kv_heads": 1, "hidden": 192, "ffn": 640, "vocab": 333}),
    ],
    ids=["a head a core", "two heads, two, one", "a core without heads", "small", "small, one without heads"],
)
def test_several_cores_together(machine, shape):
    model = TinyLlama(seed=4, **shape)
    cores, session = model.on(accelerator_named(machine), 1024, machine_model), Session(model.golden)
    assert len(cores.cores) == accelerator_named(machine).cores
    for position, token in enumerate([3, 0, 41]):
        assert np.array_equal(bits(cores.decode(token, position)), bits(session.extend([token])))
    from_position(cores, session, list(range(100)) * 6)
    assert np.array_equal(bits(cores.decode(5, 603)), bits(session.extend([5])))


def test_what_a_step_leaves_in_the_cache(tiny):
    machine = accelerator_named("flightllm-mini")
    stepped, written, session = tiny.on(machine, 64), tiny.on(machine, 64), Session(tiny.golden)
    for position, token in enumerate([9, 8, 7]):
        stepped.decode(token, position)
    from_position(written, session, [9, 8, 7])
    cache = slice(*np.cumsum(stepped.text.memory.cache))
    for one, other in zip(stepped.hbm, written.hbm, strict=True):
        assert np.array_equal(one[cache], other[cache])


def test_a_step_as_files(tiny, tmp_path):
    core = tiny.on(accelerator_named("flightllm-mini"), 64)
    core.decode(4, 0)
    step = core.step(7, 1)
    core.save(tmp_path, step)
    host = json.loads((tmp_path / "host.json").read_text())
    assert host["registers"][str(int(Register.CONTEXT))] == 2 and host["constants"]["position"] == 1
    text = read_program((tmp_path / "program.bin").read_bytes())
    sequencer = core.text.sequencer
    again = Sequencer(text, sequencer.text.kinds * 0, np.fromfile(tmp_path / "words.bin", "<u4").astype(np.int64),
                      slot_bytes(core.machine), 2)  # fmt: skip
    program = primitives(again, {Register(int(number)).name: value for number, value in host["registers"].items()})
    hbm = [np.fromfile(tmp_path / f"channel{channel}.bin", np.uint8) for channel in range(4)]
    state = new_state(shape_of(core.machine), step.constants, hbm, [np.fromfile(tmp_path / "ddr.bin", np.uint8)])
    execute(state, program)
    expected = core.decode(7, 1)
    assert np.array_equal(bits(gather(hbm, core.text.memory.results[0], 400).view(np.float32)), bits(expected))


def test_what_is_refused(tiny):
    with pytest.raises(InputError, match="those of a machine of one, not of the 3 cores of flightllm-u280"):
        tiny.on(accelerator_named("flightllm-u280"), 64)
    with pytest.raises(InputError, match="a token must be a number below 100, not 100"):
        tiny.on(accelerator_named("flightllm-mini"), 64).step(100, 0)
    with pytest.raises(InputError, match="128 and 192 in steps of 64 and 64 are too few for 3 cores of flightllm-u280"):
        tiny.on(accelerator_named("flightllm-u280"), 64, machine_model)


def test_two_layers_of_the_real_model(smollm2_path):
    core = from_file(accelerator_named("flightllm-mini"), smollm2_path, 512, layers=2)
    llama = load_llama(open_gguf(smollm2_path))
    session = Session(replace(llama, model=msgspec.structs.replace(llama.model, layers=2)))
    for position, token in enumerate([504, 3575]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))
    with pytest.raises(InputError, match="layers must be 1 ... 30, not 31"):
        from_file(accelerator_named("flightllm-mini"), smollm2_path, 512, layers=31)


@pytest.mark.slow
def test_the_real_model_from_its_first_token(smollm2_path):
    core = from_file(accelerator_named("flightllm-mini"), smollm2_path, 512)
    session = Session(load_llama(open_gguf(smollm2_path)))
    for position, token in enumerate([504, 3575, 28, 253, 665, 436]):
        assert np.array_equal(bits(core.decode(token, position)), bits(session.extend([token])))


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["flightllm-u280", "flightllm-vhk158"])
def test_the_real_model_on_several_cores(smollm2_path, machine):
    cores = machine_from_file(accelerator_named(machine), smollm2_path, 1024)
    session = Session(load_llama(open_gguf(smollm2_path)))
    tokens = np.random.default_rng(1).integers(0, 49152, 1024).tolist()
    for position in (0, 100, 700):
        from_position(cores, session, tokens[session.position : position])
        assert np.array_equal(bits(cores.decode(504, position)), bits(session.extend([504])))


@pytest.mark.parametrize("cores", [2, 3])
def test_two_layers_of_the_real_model_on_small_cores(smollm2_path, cores):
    """Three KV heads: two and one, or one each."""
    layers, machine = 2, accelerator_named("mixpe-duo")
    machine = msgspec.structs.replace(
        machine, cores=cores, hbm=msgspec.structs.replace(machine.hbm, channels=4 * cores, capacity_gib=cores)
    )
    made, whole = machine_from_file(machine, smollm2_path, 256, layers=layers), load_llama(open_gguf(smollm2_path))
    session = Session(replace(whole, model=msgspec.structs.replace(whole.model, layers=layers)))
    for position, token in enumerate([504, 3575, 28]):
        assert np.array_equal(bits(made.decode(token, position)), bits(session.extend([token])))


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_the_real_model_at_many_positions(smollm2_path, machine):
    core = from_file(accelerator_named(machine), smollm2_path, 1024)
    session = Session(load_llama(open_gguf(smollm2_path)))
    tokens = np.random.default_rng(0).integers(0, 49152, 1024).tolist()
    for position in (31, 127, 128, 500, 1000):
        from_position(core, session, tokens[session.position : position])
        assert np.array_equal(bits(core.decode(504, position)), bits(session.extend([504])))
