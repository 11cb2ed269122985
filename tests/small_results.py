"""A small results document with every part, and numbers that are easy to recognise."""

import msgspec

from mixflight.arch.accelerator import accelerator_named
from mixflight.reports import document as doc


def phase(tokens, ms_per_token, scale, bound_by):
    """A phase whose energies add up: DRAM 3, PE 1, lanes 0.5 times ``scale``."""
    components = [
        {"component": name, "energy_mj_per_token": scale * value, "energy_mj_per_token_low": scale * value / 4,
         "energy_mj_per_token_high": scale * value * 5}
        for name, value in (("dram", 3.0), ("pe.shift-add-4x8", 0.75), ("pe.shift-add-4x8 leakage", 0.25),
                            ("lanes", 0.5))
    ]  # fmt: skip
    operators = [
        {"operator": name, "kind": kind, "cycles": cycles, "bound_by": bound_by, "utilisation": used}
        for name, kind, cycles, used in (("q", "linear", 100.0, 0.03), ("qk", "qk", 50.0, 0.02),
                                         ("head", "linear", 250.0, 0.01), ("softmax", "softmax", 100.0, 0.0))
    ]  # fmt: skip
    return {
        "tokens": tokens, "time_ms": tokens * ms_per_token, "time_ms_per_token": ms_per_token,
        "tokens_per_s": 1e3 / ms_per_token, "energy_mj_per_token": 4.5 * scale,
        "energy_mj_per_token_low": 4.5 * scale / 4, "energy_mj_per_token_high": 4.5 * scale * 5,
        "hbm_bytes_per_token": 98_765_432.0, "power_w": 0.5, "macs": tokens * 123_456_789, "bound_by": bound_by,
        "components": components, "operators": operators,
    }  # fmt: skip


def simulation(name, scale=1.0, bound_by="array edge"):
    """What ``mixflight simulate --json`` could say of the machine ``name``."""
    return {
        "arch": name, "model": "tiny <model>", "recipe": "as-stored", "mode": "corrected", "batch": 1,
        "bound_by": bound_by, "prefill": phase(16, 0.25 * scale, 0.1 * scale, "array"),
        "decode": phase(4, 8.0 * scale, scale, bound_by),
    }  # fmt: skip


def layers():
    """Three layers and the rest of a decode step."""
    return doc.Layers(machine="mixpe-w4a8", context=17, layers=tuple(
        doc.Layer(
            layer=layer, time_us=time, busy_us={"array": 0.9 * time, "dram": 0.3 * time, "sfu": 0.05 * time},
            components=tuple(
                doc.Component(component=name, energy_mj_per_token=time * value, energy_mj_per_token_low=time * value / 4,
                              energy_mj_per_token_high=time * value * 5)
                for name, value in (("dram", 3e-4), ("pe.shift-add-4x8", 1e-4), ("lanes", 5e-5))
            ),
        )
        for layer, time in ((0, 100.0), (1, 110.0), (2, 120.0), (-1, 900.0))
    ))  # fmt: skip


def gpus():
    """Two GPUs, one of them measured."""
    return doc.GpuComparison(machine_scope="chip and DRAM", gpus=tuple(
        doc.Gpu(name=name, recipe="fp16", summary=f"the {name} <card>", scope="board", evidence=evidence,
                simulation=msgspec.convert(simulation(name, scale, "launch"), doc.Simulation))
        for name, scale, evidence in (("h100", 0.25, "measured; band: repeatability"), ("a100", 0.5, "model fitted on h100.csv"))
    ))  # fmt: skip


def swept():
    """A front of three points, two objectives and two axes."""
    rows = [
        {"array.pe": pe, "array.rows": rows, "tokens_per_s": speed, "area_um2": area, "energy_mj_per_token": 3.5,
         "bound_by": "dram", "disagreement": -0.0123}
        for pe, rows, speed, area in (("shift-add-4x8", 8, 123.4, 1e6), ("multiply-8x8", 8, 150.0, 2e6), ("multiply-8x8", 16, 160.0, 4e6))
    ]  # fmt: skip
    return doc.Sweep(
        summary="small <space>", finding="", model="smollm2-135m", recipe="w4a8g32", lengths="prefill 16, decode 4, batch 1",
        fidelity="screened", objectives={"tokens_per_s": "max", "area_um2": "min"}, by=(), axes=("array.pe", "array.rows"),
        points=12, evaluated=11, engine_evaluated=7, excluded=1, failed=0, apart={"time": 0.04, "energy": 0.001},
        front=tuple(rows), code_sha256="cd" * 32, space_sha256="ef" * 32,
        sources={"array.pe": "chosen: a value of the space's axis", "array.rows": "chosen: a value of the space's axis",
                 "tokens_per_s": "derived: the cycle engine", "area_um2": "derived: of the design alone",
                 "bound_by": "derived: the engine", "disagreement": "derived: engine over closed form less 1"},
    )  # fmt: skip


def small_document(**changes):
    """Two machines, an array, its synthesis and two tile runs."""
    accelerators = [accelerator_named(name) for name in ("mixpe-w4a8", "mul4x8")]
    prices, technologies = doc.prices_of(accelerators)
    document = doc.Document(
        version=doc.VERSION, mixflight="0.0.test",
        scenario=doc.Scenario(model="tiny <model>", recipe="as-stored", prefill=16, decode=4, batch=1, source="smollm2-135m"),
        trace=(doc.Pass(phase="decode", context=17, ops=99, macs=123_456_789, weight_bytes=7_654_321, kv_bytes=4_242),),
        machines=(doc.machine_of(accelerators[0], simulation("mixpe-w4a8"), "verified <somehow>"),
                  doc.machine_of(accelerators[1], simulation("mul4x8", 0.996), "verified")),
        prices=prices, technologies=technologies,
        verilog=doc.Verilog(
            top="mixpe-array", folder="verilog", parameters={"rows": 8, "two_pass": False},
            ports=(doc.Port(name="act__valid", direction="input", width=1),
                   doc.Port(name="act__payload", direction="input", width=67)),
            modules=(doc.Module(name="mixpe_array", instances=1, register_bits=673, memory_bits=2560),
                     doc.Module(name="mixpe_array_pe", instances=64, register_bits=54, memory_bits=0)),
            register_bits=4129, memory_bits=2560, lines=7491, sha256="ab" * 32,
        ),
        synthesis=doc.Synthesis(
            target="AMD UltraScale+", tool="Yosys 0.70", lut=7317, ff=4129, dsp=10, bram=0, uram=0,
            modules=(doc.Resources(name="mixpe_array", instances=1, lut=1237, ff=673, dsp=0, bram=0),
                     doc.Resources(name="mixpe_array_pe", instances=64, lut=95, ff=54, dsp=0, bram=0)),
        ),
        verification=doc.Verification(
            top="mixpe-array", tests=2, failures=0, values=128, real_tiles=1, messages=(),
            runs=(doc.TileRun(name="blk.0", values=64, wrong=False, cycles_rtl=627, cycles_sim=627),
                  doc.TileRun(name="stalled", values=64, wrong=False, cycles_rtl=0, cycles_sim=0)),
        ),
        timeline=doc.Timeline(machine="mixpe-w4a8", layer=0, context=17, file="timeline.json", slices=(
            doc.Slice(track="operators", operator="q", start_us=0.0, duration_us=3.0),
            doc.Slice(track="array", operator="q", start_us=0.0, duration_us=3.0),
            doc.Slice(track="DRAM", operator="q", start_us=0.0, duration_us=1.0),
            doc.Slice(track="operators", operator="softmax", start_us=3.0, duration_us=0.5),
            doc.Slice(track="SFU", operator="softmax", start_us=3.0, duration_us=0.5),
        )),
        layers=layers(), gpus=gpus(), sweep=swept(),
        deviations="Some text with `code`.\n\n**D1. First.** It is *so*, see [there](x.md).\n\n- one\n- two & three",
    )  # fmt: skip
    return msgspec.structs.replace(document, **changes)
