"""The peers: a name, how close ours must come, what the tool assumes, and its time for a product and a layer."""

from collections.abc import Callable
from functools import partial

import msgspec

from mixflight.sim.peers import ant, bounds, ours, scalesim
from mixflight.sim.peers.accelforge import accelforge
from mixflight.sim.peers.bitmod import bitmod
from mixflight.sim.peers.chipleap import chipleap
from mixflight.sim.peers.workload import Machine, Model, Phase, layer
from mixflight.sim.peers.zigzag import zigzag

CLOSED_FORM, SEARCHED = 0.001, 0.02


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A tool in one setting. ``tolerance`` is 0.1 % where the tool is a closed form, 2 % where it searches."""

    name: str
    tolerance: float
    assumes: str
    gemm: Model
    own_layer: Callable[[Phase, Machine], float] | None = None

    def layer(self, phase: Phase, machine: Machine) -> float:
        """Cycles of a layer: its products one after the other, unless the tool runs others."""
        if self.own_layer:
            return self.own_layer(phase, machine)
        return sum(gemm.uses * self.gemm(gemm, machine).cycles for gemm in layer(phase))

    def layer_limit(self, phase: Phase, machine: Machine) -> str:
        """What sets most of the layer's time."""
        share: dict[str, float] = {}
        for gemm in layer(phase):
            estimate = self.gemm(gemm, machine)
            share[estimate.limit] = share.get(estimate.limit, 0.0) + gemm.uses * estimate.cycles
        return max(share, key=lambda limit: share[limit])


PEERS = (
    Peer(name="bound", tolerance=CLOSED_FORM, gemm=bounds.bound,
         assumes="lower bound: the longer of MACs and DRAM, each operand moved once"),
    Peer(name="llm-viewer", tolerance=CLOSED_FORM, gemm=bounds.bound, assumes="roofline: the longer of MACs and DRAM"),
    Peer(name="genz", tolerance=CLOSED_FORM, gemm=bounds.genz, own_layer=bounds.genz_layer,
         assumes="roofline; activations at the edge's rate after the weights; Q, K, V and gate, up fused"),
    Peer(name="accelforge", tolerance=SEARCHED, gemm=accelforge,
         assumes="slowest component of a double-buffered weight-stationary array, its edge one row wide"),
    Peer(name="bitmod", tolerance=CLOSED_FORM, gemm=bitmod,
         assumes="output-stationary tiles or DRAM with refetch, no fill or drain"),
    Peer(name="ant-os", tolerance=SEARCHED, gemm=ant.output_stationary,
         assumes="best schedule of output-stationary tiles; first load and last store exposed"),
    Peer(name="ant-ws", tolerance=SEARCHED, gemm=ant.weight_stationary,
         assumes="best schedule of weight-stationary tiles; weights enter the array for nothing"),
    Peer(name="zigzag", tolerance=SEARCHED, gemm=zigzag,
         assumes="as accelforge, with first weights and last results exposed; its search is not repeated"),
    Peer(name="scalesim-os", tolerance=CLOSED_FORM, gemm=scalesim.output_stationary,
         assumes="every output-stationary tile filled, streamed and drained in turn; DRAM free"),
    Peer(name="scalesim-ws", tolerance=CLOSED_FORM, gemm=scalesim.weight_stationary,
         assumes="every weight-stationary tile loaded, streamed and drained in turn; DRAM free"),
    Peer(name="chipleap-gemv", tolerance=CLOSED_FORM, gemm=partial(chipleap, dataflow="gemv"),
         assumes="dot-product lanes fed by 16 ports, tiles of at most 8 tokens, results through one port"),
    Peer(name="chipleap-os", tolerance=CLOSED_FORM, gemm=partial(chipleap, dataflow="os"),
         assumes="output-stationary tiles with fill and drain, results through one port of 4 bytes"),
    Peer(name="chipleap-ws", tolerance=CLOSED_FORM, gemm=partial(chipleap, dataflow="ws"),
         assumes="weight-stationary tiles of at most 8 tokens, loaded and drained in turn"),
    Peer(name="mixflight", tolerance=CLOSED_FORM, gemm=ours.mixflight,
         assumes="our engine: output-stationary, loads and stores overlapped, results in FP32"),
)  # fmt: skip
