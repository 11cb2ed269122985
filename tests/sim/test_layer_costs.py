"""The layers of a pass add up to the pass, in time and in energy."""

import pytest

from mixflight.arch.accelerator import array_named
from mixflight.sim.layer_costs import layer_costs
from mixflight.sim.simulate import simulate
from mixflight.workload import load_workload
from mixflight.workloads.trace import decode_traces


@pytest.mark.parametrize("arch", ["mixpe-w4a8", "mul4x8"])
def test_layers_add_up_to_the_step(arch):
    accelerator, work = array_named(arch), load_workload("smollm2-135m", "w4a8g32")
    [step] = decode_traces(work.model, work.recipe, 16, 1)
    layers = layer_costs(accelerator, step)
    whole = simulate(accelerator, work.model, work.recipe, "w4a8g32", 16, 1).decode
    assert [item.layer for item in layers] == [*range(work.model.layers), -1]
    assert sum(item.time_us for item in layers) == pytest.approx(whole.time_ms * 1e3, rel=1e-12)
    for component, energy in whole.components.items():
        parts = [item.components[component] for item in layers if component in item.components]
        for name in ("pj", "low_pj", "high_pj"):
            assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(energy, name), rel=1e-9)
    for item in layers:
        assert all(0 <= busy <= item.time_us for busy in item.busy_us.values())
        assert sum(item.busy_us.values()) >= 0.5 * item.time_us  # what no unit is busy with is latency
    assert layers[-1].busy_us["dram"] > 4 * layers[0].busy_us["dram"]  # the LM head has more weights than a layer
