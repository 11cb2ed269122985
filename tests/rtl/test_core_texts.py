# amaranth: UnusedElaboratable=no
"""The controller carries out the compiler's own texts: every operand of every instruction of a decode step."""

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.core_errors import CoreError
from mixflight.arch.isa import CLASSES, encode
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_compile import CoreCompiler, registers_of
from mixflight.mapping.core_network import network_of
from mixflight.mapping.core_primitives import primitives
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.rtl.controller_bench import ControllerJob, build_controller, run_controller
from mixflight.rtl.core_controller import Controller
from mixflight.workload import load_workload
from mixflight.workloads.trace import decode_traces

CONTEXTS = (1, 100, 512)


@pytest.mark.parametrize("machine_name", ["flightllm-mini"])
def test_a_decode_step_of_smollm2_is_handed_out_operand_by_operand(machine_name):
    machine = accelerator_named(machine_name)
    model = build_controller(Controller(depth=1024, queue_depth=machine.controller.queue_depth,
                                        slot_bytes=slot_bytes(machine)))  # fmt: skip
    workload = load_workload("smollm2-135m", "w4a8g32")
    compiler = CoreCompiler(machine, max_context=max(CONTEXTS))
    jobs, wanted = [], []
    for context in CONTEXTS:
        trace = next(iter(decode_traces(workload.model, workload.recipe, context - 1, 1)))
        network = network_of(trace)
        item, = compiler.texts(network, max(CONTEXTS))
        registers = registers_of(item, network, machine)
        wanted.append(primitives(item.sequencer, registers))
        jobs.append(ControllerJob(
            text=encode(item.text.stream, compact()).reshape(-1, 4), constants=item.text.constants.tolist(),
            registers={int(Register[name]): value for name, value in registers.items()}, latency=(2, 30), overlap=2,
        ))  # fmt: skip
    for unrolled, result in zip(wanted, run_controller(model, jobs), strict=True):
        assert (result.done, result.error) == (True, CoreError.NONE)
        for kind in CLASSES:
            # one core's SYS only passes tokens on; the slot says nothing of what lies in lines
            full = [item.fields for item in unrolled if item.kind == kind and not item.empty and kind != "SYS"]
            assert len(result.given[kind]) == len(full)
            for given, fields in zip(result.given[kind], full, strict=True):
                assert given == {name: fields[name] for name in given} | ({} if given.get("slotted", 1) else
                                                                         {"slot": given["slot"]})  # fmt: skip
