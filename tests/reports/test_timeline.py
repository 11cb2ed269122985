import json

from command_line import document, refusal

RUN = ("simulate", "--arch", "mixpe-w4a8:w4a8g32", "--model", "smollm2-135m", "--prefill", 8, "--decode", 4)


def test_slices_fill_the_time_of_the_simulation(tmp_path):
    path = tmp_path / "t.json"
    found = document(*RUN, "--timeline", path)
    events = json.loads(path.read_text())["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(tracks.values()) == ["operators", "array", "DRAM", "SFU"]
    slices = [event for event in events if event["ph"] == "X"]
    operators = [event for event in slices if event["tid"] == 0]
    end = 0.0
    for event in operators:  # without gaps or overlaps
        assert abs(event["ts"] - end) < 1e-6 * max(end, 1)
        end = event["ts"] + event["dur"]
    prefill = sum(event["dur"] for event in operators if event["args"]["phase"] == "prefill")
    assert abs(prefill / 1e3 - found["prefill"]["time_ms"]) < 1e-9 * prefill
    assert {event["args"]["context"] for event in operators} == {8, 12}  # the prefill and the last decode step
    assert len(operators) == 2 * document("trace", "smollm2-135m", "--recipe", "w4a8g32")["ops"]


def test_an_unwritable_timeline_is_one_line(tmp_path):
    assert "output must be a file" in refusal(*RUN, "--timeline", tmp_path / "none" / "t.json")
    assert not list(tmp_path.iterdir())


def test_slices_of_operators_on_cores_fill_the_time_of_the_simulation():
    from mixflight.arch.accelerator import core_machines
    from mixflight.reports.timeline import general_timeline
    from mixflight.sim.core.general import GeneralCores
    from mixflight.sim.core.passes import Passes
    from mixflight.sim.core.simulate import simulate_cores
    from mixflight.workload import load_workload

    machine, workload = core_machines()["flightllm-u280"], load_workload("smollm2-135m", "w4a8g32")
    passes = Passes(workload.model, workload.recipe, 16, 1, general=True)
    cores = passes.cores(machine)
    times = GeneralCores(cores.machine, cores.units).time
    events = general_timeline(machine.name, machine.clock_mhz, passes.traces, times)["traceEvents"]
    tracks = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert tracks == ["operators", "LD", "ST", "MM", "MV", "MISC", "SYS"]
    slices = [event for event in events if event["ph"] == "X"]
    found = simulate_cores(machine, workload.model, workload.recipe, "w4a8g32", 16, 1, path="general")
    for phase in ("prefill", "decode"):
        shown = [event for event in slices if event["tid"] == 0 and event["args"]["phase"] == phase]
        assert abs(sum(event["dur"] for event in shown) / 1e3 - getattr(found, phase).time_ms) < 1e-6
    operators = iter(event for event in slices if event["tid"] == 0)
    current = next(operators)
    for event in slices:
        current = event if event["tid"] == 0 else current
        assert event["ts"] == current["ts"]
        assert event["dur"] <= current["dur"] + 1e-9
