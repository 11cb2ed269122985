import random
from pathlib import Path

import numpy as np
import pytest
from peer_tools import ACCELFORGE, CHIPLEAP, SCALESIM, Tool, interpreter_from

from mixflight.arch.errors import InputError
from mixflight.sim.peers import ant, bitmod, bounds, chipleap, scalesim, table
from mixflight.sim.peers.peers import PEERS
from mixflight.sim.peers.reproduce import parse_array, published, rows
from mixflight.sim.peers.workload import BASE, BIG, Gemm, Machine, layer
from mixflight.sim.published_mixpe import tiling

BY_NAME = {peer.name: peer for peer in PEERS}
PREFILL, DECODE = ({gemm.name: gemm for gemm in layer(phase)} for phase in ("prefill", "decode"))


def test_every_printed_figure_is_met():
    base = rows("published")
    assert [row.id for row in base if row.published is not None and not row.within] == []
    assert len([row for row in base if row.published is not None]) == 13 * 2 * 6
    assert {row.id for row in base if row.published is None} == {
        f"mixflight/{phase}/{gemm}" for phase in ("prefill", "decode") for gemm in ("q", "qk", "av", "gate", "down", "layer")
    }


def test_all_but_zigzag_and_a_rounding_are_met_to_the_cycle():
    off = {row.id for row in rows("published") if row.published is not None and abs(row.ours - row.published) >= 0.5}
    assert {name for name in off if not name.startswith("zigzag/")} == {"accelforge/prefill/layer", "chipleap-ws/prefill/layer"}


@pytest.mark.parametrize(("machine", "met"), [
    (BIG, {"bound/prefill/layer", "bound/decode/layer"}),
    (Machine(rows=128, cols=128, dram_bytes_per_cycle=256, buffer_kib=128), {"chipleap-os/prefill/layer"}),
])
def test_the_large_machine(machine, met):
    compared = [row for row in rows("published", machine) if row.published is not None]
    assert {row.id for row in compared} == met
    assert all(row.within for row in compared)


def test_other_machines_have_nothing_printed_and_still_answers():
    machine = Machine(rows=7, cols=33, dram_bytes_per_cycle=5, buffer_kib=16)
    assert all(row.published is None and row.within is None and row.ours > 0 for row in rows("published", machine))


def test_a_buffer_that_holds_no_tile_is_said():
    held = {row.id: row for row in rows("published", Machine(rows=1024, cols=1024))}
    assert held["chipleap-gemv/decode/q"].ours is None
    assert held["chipleap-gemv/decode/q"].note == "no tile fits the buffers"
    assert held["bound/decode/q"].ours > 0


@pytest.mark.parametrize("phase", [PREFILL, DECODE])
@pytest.mark.parametrize("machine", [BASE, BIG, Machine(rows=16, cols=64), Machine(rows=8, cols=8, dram_bytes_per_cycle=3)])
def test_nobody_is_below_the_bound(phase, machine):
    for gemm in phase.values():
        least = {"scalesim-os": gemm.macs / machine.pes, "scalesim-ws": gemm.macs / machine.pes}  # DRAM is free
        # Tokens and results can stay on chip.
        least["mixflight"] = least["genz"] = max(gemm.macs / machine.pes, gemm.k * gemm.n / machine.dram_bytes_per_cycle)
        for peer in PEERS:
            floor = least.get(peer.name, bounds.bound(gemm, machine).cycles)
            assert peer.gemm(gemm, machine).cycles >= floor - 1, (peer.name, gemm)


# genz-llm 0.0.16 at 1024 MACs a cycle, DRAM of 32 bytes a cycle, on-chip memory of 18000 GiB/s, 1 GHz: nanoseconds.
@pytest.mark.parametrize(("m", "n", "k", "heads", "printed"), [
    (1, 12288, 4096, 1, 1_572_864.8477105035), (1, 1024, 128, 32, 131_073.90734863284), (1, 4096, 11008, 1, 1_409_024.7814831205),
])  # fmt: skip
def test_genz_charges_activations_at_the_edge(m, n, k, heads, printed):
    edge = 64  # bytes a cycle
    at_edge = heads * m * (k + n) / edge
    there = heads * m * (k + n) / (18000 * 2**30 / 1e9)
    ours = heads * bounds.genz(Gemm(name="x", m=m, n=n, k=k), Machine(rows=16, cols=edge, dram_bytes_per_cycle=32)).cycles
    assert ours - at_edge + there == pytest.approx(printed, rel=1e-9)


# zigzag-dse 3.9.1, temporal mapping search of 5 loops, on machines described as the base one.
@pytest.mark.parametrize(("shape", "machine", "printed", "tolerance"), [
    ((1, 4096, 4096), BASE, 524_610, 0.01),
    ((512, 4096, 4096), BASE, 8_407_200, 0.01),
    ((1, 4096, 4096), Machine(rows=16, cols=64), 262_466, 0.01),
    ((1, 4096, 4096), Machine(rows=64, cols=16, dram_bytes_per_cycle=32), 1_049_218, 0.01),
    ((1, 4096, 4096), BIG, 132_114, 0.01),
    ((512, 4096, 4096), BIG, 530_048, 0.01),
    ((512, 512, 128), BASE, 35_872, 0.03),
    ((512, 512, 128), Machine(rows=64, cols=16), 37_888, 0.03),
    ((512, 512, 128), BIG, 2_307, 0.21),
    ((512, 128, 512), BIG, 3_074, 0.21),
    ((512, 512, 256), BIG, 4_610, 0.21),
])  # fmt: skip
def test_zigzag_on_other_machines(shape, machine, printed, tolerance):
    m, n, k = shape
    gemm = Gemm(name="x", m=m, n=n, k=k)
    assert BY_NAME["zigzag"].gemm(gemm, machine).cycles == pytest.approx(printed, rel=tolerance)


# accelforge 1.0.467, optimal mapping for latency.
@pytest.mark.parametrize(("shape", "machine", "printed", "tolerance"), [
    ((1, 4096, 4096), BASE, 524_288, 0), ((1, 1024, 128), BASE, 4_096, 0), ((512, 512, 128), BASE, 32_768, 0),
    ((1, 4096, 4096), Machine(rows=64, cols=16, dram_bytes_per_cycle=32), 1_048_576, 0),
    ((1, 4096, 4096), Machine(rows=16, cols=64), 262_272, 0),
    ((37, 300, 100), Machine(rows=16, cols=8), 18_500, 0),
])  # fmt: skip
def test_accelforge_on_other_machines(shape, machine, printed, tolerance):
    m, n, k = shape
    gemm = Gemm(name="x", m=m, n=n, k=k)
    assert BY_NAME["accelforge"].gemm(gemm, machine).cycles == pytest.approx(printed, rel=tolerance)


def test_ant_output_stationary_is_the_engine_behind_mixpe():
    half = np.array([BASE.buffer_kib * 1024 * 4] * 3)
    for gemm in (PREFILL["qk"], DECODE["q"]):
        shape = np.array([gemm.m, 1, 1, gemm.k, gemm.n])
        best, _, _ = tiling.search(shape, 1, 8, 8, ant.OUTPUT_BITS, 32, 32, 1, 1, half, 512, np.zeros(tiling.PRICES), tiling.ORDERS)
        assert best[0] == ant.output_stationary(gemm, BASE).cycles


# ANT at 4-bit weights and 8-bit activations.
def test_ant_at_four_bits():
    assert [ant.output_stationary(PREFILL[name], BASE, 8, 4).cycles for name in ("q", "gate", "down")] == [
        4_194_400, 11_272_288, 11_272_288,
    ]  # fmt: skip
    assert ant.output_stationary(DECODE["q"], BASE, 8, 4).cycles == 262_240
    assert ant.output_stationary(DECODE["gate"], BASE, 8, 4).cycles == 704_608
    assert ant.weight_stationary(DECODE["q"], BASE, 8, 4).cycles == 131_264
    assert ant.weight_stationary(DECODE["gate"], BASE, 8, 4).cycles == 352_664


# BitMoD's own precisions and DRAM: cycles of all heads.
@pytest.mark.parametrize(("phase", "bits", "machine", "expected"), [
    (PREFILL, bitmod.Bits(weight=4.0625, act=16, per_step=4, serial=True), Machine(dram_bytes_per_cycle=32), {
        "q": (4_194_304, 2_392_064), "gate": (11_272_192, 6_207_488), "down": (11_272_192, 16_224_768),
        "qk": (1_048_576, 1_114_112), "av": (1_048_576, 2_293_760)}),
    (DECODE, bitmod.Bits(weight=3.0625, act=16, per_step=4, serial=True), Machine(rows=64, cols=16, dram_bytes_per_cycle=32), {
        "q": (131_072, 201_216), "gate": (352_256, 540_336), "down": (352_256, 540_336),
        "qk": (65_536, 133_376), "av": (65_536, 133_376)}),
])  # fmt: skip
def test_bitmod_at_its_own_precisions(phase, bits, machine, expected):
    assert {name: (bitmod.compute(phase[name], machine, bits), bitmod.dram(phase[name], machine, bits)) for name in phase} == expected


def test_bitmod_layers_at_its_own_precisions():
    for phase, bits, machine, expected in (
        (PREFILL, bitmod.Bits(weight=4.0625, act=16, per_step=4, serial=True), Machine(dram_bytes_per_cycle=32), 58_954_240),
        (DECODE, bitmod.Bits(weight=3.0625, act=16, per_step=4, serial=True), Machine(rows=64, cols=16, dram_bytes_per_cycle=32), 2_692_624),
    ):
        assert sum(gemm.uses * bitmod.bitmod(gemm, machine, bits).cycles for gemm in phase.values()) == expected


def test_chipleap_with_four_bit_weights():
    gemv = {name: chipleap.chipleap(gemm, BASE, "gemv", 4).cycles for name, gemm in DECODE.items()}
    assert [round(gemv[name]) for name in ("q", "gate", "down")] == [135_151, 362_815, 364_086]
    prefill = chipleap.chipleap(PREFILL["q"], BASE, "gemv", 4).cycles
    assert round(prefill) == 10_659_774


def test_the_page_is_what_the_code_gives():
    page = Path(__file__).resolve().parents[2] / "docs" / "who-says-what.md"
    assert page.read_text() == table.markdown()


@pytest.mark.parametrize("text", ["32", "32x", "x32", "32x32x32", "-1x4", "3.5x4", "ax4", "١x٢", "", "9999999999x1"])
def test_a_bad_array_is_refused(text):
    with pytest.raises(InputError, match="--array must be ROWSxCOLS"):
        parse_array(text)


def test_published_figures_are_of_known_peers():
    assert {key[0] for key in published()} <= set(BY_NAME)


@pytest.mark.slow
def test_chipleap_live(tmp_path):
    tool = Tool(tmp_path / "chipleap", "chipleap==0.3.0")
    draw, jobs = random.Random("chipleap"), []
    for dataflow in ("gemv", "os", "ws"):
        for _ in range(100):
            machine = Machine(rows=2 ** draw.randrange(2, 7), cols=2 ** draw.randrange(2, 7), buffer_kib=2 ** draw.randrange(5, 9),
                              dram_bytes_per_cycle=draw.choice([8, 24, 64, 200]))  # fmt: skip
            gemm = Gemm(name="x", m=draw.choice([1, 5, 40, 512]), n=draw.randrange(20, 5000), k=draw.randrange(20, 5000))
            jobs.append((dataflow, machine, gemm))
        jobs += [(dataflow, BASE, gemm) for gemm in (*PREFILL.values(), *DECODE.values())]
    live = tool.ask(
        CHIPLEAP, [(dataflow, machine.rows, machine.cols, machine.buffer_kib, machine.dram_bytes_per_cycle, gemm.m, gemm.k, gemm.n)
                   for dataflow, machine, gemm in jobs], tmp_path,
    )  # fmt: skip
    for (dataflow, machine, gemm), cycles in zip(jobs, live, strict=True):
        assert chipleap.chipleap(gemm, machine, dataflow).cycles == pytest.approx(cycles, rel=1e-9), (dataflow, gemm, machine)


@pytest.mark.slow
def test_scalesim_live(tmp_path):
    """SCALE-Sim 3.0.0 stops with numpy 2.4 and later (an array of one number as a number)."""
    tool = Tool(tmp_path / "scalesim", "scalesim==3.0.0", "numpy<2.4")
    shapes = (
        (Gemm(name="x", m=5, n=40, k=70), Machine(rows=8, cols=4)),
        (Gemm(name="x", m=1, n=130, k=99), Machine(rows=16, cols=32)),
        (Gemm(name="x", m=64, n=64, k=64), Machine(rows=16, cols=16)),
        (PREFILL["qk"], BIG), (DECODE["av"], BASE),
    )  # fmt: skip
    forms = {"ws": scalesim.weight_stationary, "os": scalesim.output_stationary}
    jobs = [(dataflow, gemm, machine) for dataflow in forms for gemm, machine in shapes]
    live = tool.ask(
        SCALESIM, [(dataflow, machine.rows, machine.cols, gemm.m, gemm.k, gemm.n) for dataflow, gemm, machine in jobs], tmp_path
    )
    assert live == [forms[dataflow](gemm, machine).cycles for dataflow, gemm, machine in jobs]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_accelforge_live(tmp_path):
    tool = Tool(tmp_path / "accelforge", "accelforge==1.0.467", interpreter=interpreter_from((3, 12)))
    draw = random.Random("accelforge")
    jobs = [(BASE, gemm) for gemm in (*PREFILL.values(), *DECODE.values())]
    for _ in range(8):
        machine = Machine(rows=draw.randrange(4, 65), cols=draw.randrange(4, 65), buffer_kib=256,
                          dram_bytes_per_cycle=draw.choice([8, 24, 64, 200]))  # fmt: skip
        step = draw.choice([1, 16])
        gemm = Gemm(name="x", m=draw.choice([1, 5, 40]), n=step * draw.randrange(20, 300), k=step * draw.randrange(20, 300))
        jobs.append((machine, gemm))
    live = tool.ask(
        ACCELFORGE, [(machine.rows, machine.cols, machine.buffer_kib, machine.dram_bytes_per_cycle, gemm.m, gemm.k, gemm.n)
                     for machine, gemm in jobs], tmp_path,
    )  # fmt: skip
    for (machine, gemm), (macs, edge, dram) in zip(jobs, live, strict=True):
        cycles = BY_NAME["accelforge"].gemm(gemm, machine).cycles
        assert cycles == pytest.approx(max(macs, edge, dram), rel=1e-6 if machine is BASE else 0.01), (gemm, machine)
