"""Bytes of keys and values that a decode step moves, by their formats; memory that compiling takes."""

import subprocess
import sys

import msgspec
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.formats import format_named
from mixflight.mapping.core_memory import cache_of
from mixflight.mapping.core_network import network_of
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces


@pytest.mark.parametrize(("name", "bits"), [("int4", 4), ("int8", 8)])
def test_keys_take_their_bits(name, bits):
    trace = next(iter(decode_traces(model_named("smollm2-135m"), recipe_named("w4a8g32"), 63, 1)))
    network = msgspec.structs.replace(network_of(trace), key=format_named(name, "test"))
    cache = cache_of(network, accelerator_named("flightllm-u280"), 2048)
    assert cache.key_bytes == network.head_dim * bits // 8
    assert cache.value_at == cache.rows * cache.key_bytes


def test_a_decode_step_of_llama2_7b_compiles_within_a_gigabyte():
    program = (
        "from mixflight.arch.accelerator import accelerator_named\n"
        "from mixflight.mapping.core_compile import CoreCompiler\n"
        "from mixflight.workloads.model import model_named\n"
        "from mixflight.workloads.recipe import recipe_named\n"
        "from mixflight.workloads.trace import decode_traces\n"
        "model, recipe = model_named('llama2-7b'), recipe_named('flightllm')\n"
        "compiler = CoreCompiler(accelerator_named('flightllm-u280'), max_context=2048)\n"
        "compiler.compile(next(iter(decode_traces(model, recipe, 2047, 1))))\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])\n"
    )  # not ru_maxrss: it would count the process that started this one
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 <= 1e9
