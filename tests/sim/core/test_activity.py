"""What a compiled pass counts, against the bytes of its own loads."""

import numpy as np
import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.mapping.core_program import BUFFERS
from mixflight.sim.core.activity import program_counts
from mixflight.sim.core.scenario import Cores
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

MODEL, RECIPE = model_named("smollm2-135m"), recipe_named("w4a8g32")
LINEAR = ("q", "k", "v", "o", "gate", "up", "down")


def _loaded(program):
    """Bytes that LD moves, by operator and buffer."""
    found = np.zeros((len(program.names), len(BUFFERS)))
    for index in program.core_of:
        stream = program.streams[index]
        uses = np.bincount(stream.order, minlength=len(stream.pieces))
        for piece, number in zip(stream.pieces, uses, strict=True):
            table = piece.tables["LD"]
            np.add.at(found, (table["operator"], table["target"]), number * table["bytes"] * table["channels"])
    return {name: dict(zip(BUFFERS, row, strict=True)) for name, row in zip(program.names, found, strict=True)}


@pytest.mark.parametrize("machine", ["flightllm-u280", "mixpe-core"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_streamed_weights_are_written_to_their_buffer_once(machine, phase):
    """Four bits arrive, eight are written, each once a load; MM streams into the act buffer, MV into the weight one."""
    trace = prefill_trace(MODEL, RECIPE, 300) if phase == "prefill" else next(decode_traces(MODEL, RECIPE, 199, 1))
    cores = Cores(core_machines()[machine], MODEL, RECIPE, max_context=512)
    program = cores.program(trace)
    counts = program_counts(cores.machine, program.streams, program.core_of, len(program.names))
    loaded = _loaded(program)
    into, other = ("act", "weight") if phase == "prefill" else ("weight", "act")
    for name in LINEAR:
        at = program.names.index(name)
        written = counts[f"sram.{into}", "write_bit"][at]
        assert written == 8 * 2 * loaded[name][into] > 0
        assert counts[f"sram.{other}", "write_bit"][at] == loaded[name][other] == 0
        assert counts[f"sram.{into}", "read_bit"][at] == written


def test_codes_of_activations_are_written_where_the_engine_reads_them():
    """A prefill of 40 tokens: every linear's input is quantised to a byte an element, into the weight buffer, by each
    core that needs it."""
    cores = Cores(core_machines()["flightllm-u280"], MODEL, RECIPE, max_context=512)
    program = cores.program(prefill_trace(MODEL, RECIPE, 40))
    counts = program_counts(cores.machine, program.streams, program.core_of, len(program.names))
    written = dict(zip(program.names, counts["sram.weight", "write_bit"], strict=True))
    assert written["attention_input_quantise"] == 8 * 3 * 40 * MODEL.hidden * MODEL.layers
    assert written["ffn_hidden_quantise"] == 8 * 40 * MODEL.ffn * MODEL.layers  # each core its own part
    assert dict(zip(program.names, counts["sram.act", "write_bit"], strict=True))["ffn_hidden_quantise"] == 0
