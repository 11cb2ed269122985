"""The FlightLLM core and its machine: given parameters, with their sources; sizing formulas as properties.

A core has in-order queues of LD, ST, MM, MV, MISC and SYS instructions, a matrix engine, a memory unit that widens
packed weights, a special-function unit, buffers, and memory channels of its own; ``cores`` of them are joined by a
vector exchange. What each unit takes is in ``mixflight.sim.core``.
"""

from typing import Literal

import msgspec

from mixflight.arch.array import Array
from mixflight.arch.compact import KEPT, LINE_BYTES, SLOTS
from mixflight.arch.dram_standard import DramStandard, dram_standard_named
from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import DOTS

URAM_BITS = 72
URAM_DATA_BITS = 64
URAM_WORDS = 4096
BRAM36_BYTES = 4608
PORT_MPUS = 8
"""Matrix units that one memory port feeds (the paper's MPU / 8)."""
EXTRA_PORTS = 2
"""Ports of a core beside those that feed the matrix units: small buffers and instructions (the paper's + 2)."""

DEEPEST_QUEUE = 64
"""Entries of an instruction queue; more is a slip of the pen."""

IndexCoding = Literal["four_bit", "bitmap", "rank"]
INT8_MACS_PER_DSP = {"dsp48e2": 2, "dsp58": 3}


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The chip a machine must fit on. 0 stands for a number that no source gives: it is not checked."""

    name: str
    dsp: int
    lut: int
    ff: int
    bram36: int
    uram: int


class Chains(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configurable sparse DSP chains of one core.

    ``mpus``            matrix units; each has ``chains_per_mpu`` chains, ``chain`` products (K) deep
    ``group``           products of a DSP group; inside it the cascade is fixed, behind it a reduction node can cut
    ``packed_rows``     activation rows that share a weight (two in a DSP48E2; a DSP58 sums three products instead)
    ``mv_chains_per_mpu``  chains of a unit that work on a vector, one row each
    ``fabric_chains_per_mpu``  chains of PEs in LUTs beside them, as deep, that work on a vector only: they take packed
                        codes of as many bits as their PEs, which the machine's ``luts`` must have
    ``sparse_m``, ``sparse_n``  kept weights of a block of ``sparse_m``; 0 and dense among them
    ``mm_rows``, ``mm_columns``, ``mv_columns``  what one MM (rows x columns) and one MV (columns) instruction covers
    """

    dsp_kind: Literal["dsp48e2", "dsp58"]
    mpus: int
    chains_per_mpu: int
    chain: int
    group: int
    packed_rows: int
    mv_chains_per_mpu: int
    sparse_m: int
    sparse_n: tuple[int, ...]
    mm_rows: int
    mm_columns: int
    mv_columns: int
    fabric_chains_per_mpu: int = 0

    def __post_init__(self) -> None:
        _at_least(self, 0, "fabric_chains_per_mpu")
        _at_least(self, 1, "mpus", "chains_per_mpu", "chain", "group", "packed_rows", "mv_chains_per_mpu", "sparse_m",
                  "mm_rows", "mm_columns", "mv_columns")  # fmt: skip
        if self.chain % self.group:
            raise ValueError(f"group must divide chain: {self.group} does not divide {self.chain}")
        if self.mv_chains_per_mpu > self.chains_per_mpu:
            raise ValueError(f"mv_chains_per_mpu must be at most chains_per_mpu, {self.chains_per_mpu}")
        if self.sparse_m & (self.sparse_m - 1) or self.chain % self.sparse_m:
            raise ValueError(f"sparse_m must be a power of two that divides chain, not {self.sparse_m}")
        wrong = [n for n in self.sparse_n if n < 0 or n > self.sparse_m or (n and self.sparse_m % n)]
        if wrong or self.sparse_m not in self.sparse_n:
            raise ValueError(f"sparse_n must be 0 or divide sparse_m, and have sparse_m itself, not {self.sparse_n}")
        if self.mm_rows % self.row_step or self.mm_columns % self.chains_per_mpu:
            raise ValueError(f"mm_rows must be a multiple of {self.row_step}, mm_columns of {self.chains_per_mpu}")
        if self.mv_columns % self.column_step:
            raise ValueError(f"mv_columns must be a multiple of {self.column_step}, not {self.mv_columns}")

    @property
    def row_step(self) -> int:
        """Rows that advance together in MM."""
        return self.mpus * self.packed_rows

    @property
    def column_step(self) -> int:
        """Columns that advance together in MV."""
        return self.mpus * (self.mv_chains_per_mpu + self.fabric_chains_per_mpu)

    @property
    def mm_macs_per_cycle(self) -> int:
        """MACs a cycle on a matrix: chains_per_mpu (N) x chain (K) x mpus packed_rows (M)."""
        return self.chains_per_mpu * self.chain * self.row_step

    @property
    def mv_macs_per_cycle(self) -> int:
        """MACs a cycle on a vector: columns that advance together (N) x chain (K)."""
        return self.column_step * self.chain

    @property
    def macs_per_dsp(self) -> int:
        """INT8 MACs of one DSP block and cycle: two packed (DSP48E2) or a sum of three (DSP58)."""
        return INT8_MACS_PER_DSP[self.dsp_kind]

    @property
    def dsp(self) -> int:
        """DSP blocks of a core in whole chains: a chain of products rounded up to whole blocks.

        DSP48E2: p_M p_K p_N MPU of the paper, a block holding one product of ``packed_rows`` = 2 rows.
        """
        if self.dsp_kind == "dsp48e2":
            return self.mpus * self.chains_per_mpu * self.chain * -(-self.packed_rows // self.macs_per_dsp)
        return self.mpus * self.chains_per_mpu * self.packed_rows * -(-self.chain // self.macs_per_dsp)


class MemoryUnit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Between memory ports and buffers: packed codes become INT8, group sums become FP32.

    ``widen_codes_per_cycle``  packed codes widened to INT8
    ``lanes``                  dequantisation lanes: group sums scaled and added to FP32 accumulators a cycle
    ``index_coding``           how positions of kept N:M weights are stored: four bits each, a bitmap, or a rank
    """

    widen_codes_per_cycle: int
    lanes: int
    index_coding: IndexCoding

    def __post_init__(self) -> None:
        _at_least(self, 1, "widen_codes_per_cycle", "lanes")


class CoreBuffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An on-chip buffer of one core: ``ports`` of ``width_bytes`` a cycle each, ``depth`` addresses a port."""

    ports: int
    width_bytes: int
    depth: int
    kind: Literal["uram", "bram"]

    def __post_init__(self) -> None:
        _at_least(self, 1, "ports", "width_bytes", "depth")

    @property
    def bytes(self) -> int:
        """Capacity."""
        return self.ports * self.width_bytes * self.depth

    @property
    def bytes_per_cycle(self) -> int:
        """All ports together."""
        return self.ports * self.width_bytes


class CoreBuffers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"vector": "global"}):
    """The buffers of one core, by what they hold on a vector (MV).

    ``weight``  A buffer: streamed weights or K/V on a vector; on a matrix (MM) it holds the activations
    ``act``     B buffer: the activation vector; on a matrix it holds the streamed weights
    ``vector``  the global buffer (``global`` in TOML): FP32 results of the matrix engine, workspace of the SFU
    ``index``   positions of kept N:M weights; ``scale``  scales and minima of groups; ``instruction``  program text
    """

    weight: CoreBuffer
    act: CoreBuffer
    vector: CoreBuffer
    index: CoreBuffer
    scale: CoreBuffer
    instruction: CoreBuffer

    @property
    def bram36(self) -> int:
        """BRAM36 blocks of the buffers in BRAM, by capacity."""
        return sum(-(-item.bytes // BRAM36_BYTES) for item in self._of("bram"))

    @property
    def uram(self) -> int:
        """URAM blocks of the buffers in URAM, each once: of every port by width, or by depth where more."""
        return sum(
            item.ports * -(-item.width_bytes * 8 // URAM_DATA_BITS) * -(-item.depth // URAM_WORDS)
            for item in self._of("uram")
        )

    def _of(self, kind: str) -> list[CoreBuffer]:
        items = (getattr(self, name) for name in self.__struct_fields__)
        return [item for item in items if item.kind == kind]

    @property
    def slot_bytes(self) -> dict[str, int]:
        """Bytes of a slot, a quarter in whole lines, of each buffer by the name that LD has for it."""
        sizes = {
            "weight": self.weight, "scale": self.scale, "index": self.index, "act": self.act, "global": self.vector,
        }  # fmt: skip
        return {name: item.bytes // SLOTS // LINE_BYTES * LINE_BYTES for name, item in sizes.items()}


class CoreSfu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The special-function unit: ``elements_per_cycle`` a pass, ``latency_cycles`` from first in to first out.

    Passes come with each MISC instruction; ``dsp`` blocks are those of one core.
    """

    elements_per_cycle: int
    latency_cycles: int
    dsp: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "elements_per_cycle")
        _at_least(self, 0, "latency_cycles", "dsp")


class Channels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of memory: ``channels`` of a DRAM standard, ``channels_per_core`` of them owned by each core.

    A core's own channels are 0 ... channels_per_core - 1 in its instructions; higher ones are shared by all cores and
    lie across the switch: their streams take ``cross_channel_factor`` times as long. Each channel has a port of
    ``port_bytes_per_cycle`` that sends requests of ``request_bytes``, ``outstanding`` of them on their way.

    ``answers_after_cycles``, where given, idealises the time of the memory, and only that: the first bytes come so many
    cycles after their address, whatever rows are open, then a port's width a cycle, reads beside writes, no refresh.
    """

    standard: str
    channels: int
    channels_per_core: int
    port_bytes_per_cycle: float
    request_bytes: int
    outstanding: int
    capacity_gib: int
    cross_channel_factor: float
    answers_after_cycles: int | None = None

    def __post_init__(self) -> None:
        if self.answers_after_cycles is not None:
            _at_least(self, 1, "answers_after_cycles")
        _at_least(self, 1, "channels", "request_bytes", "outstanding", "capacity_gib", "cross_channel_factor")
        _at_least(self, 0, "channels_per_core")
        if self.port_bytes_per_cycle <= 0:
            raise ValueError(f"port_bytes_per_cycle must be positive, not {self.port_bytes_per_cycle}")

    @property
    def dram(self) -> DramStandard:
        """The standard's table."""
        return dram_standard_named(self.standard)

    @property
    def peak_gb_s(self) -> float:
        """GB/s (10^9) of all channels together."""
        return self.channels * self.dram.peak_gb_s

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all channels together."""
        return self.capacity_gib << 30


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The links between SFUs over which cores gather each other's vectors without memory.

    Each core sends and receives ``bytes_per_cycle`` at once; ``latency_cycles`` from one core to the farthest.
    """

    bytes_per_cycle: int
    latency_cycles: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "bytes_per_cycle")
        _at_least(self, 0, "latency_cycles")


class Controller(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fetch, sequencing and dispatch of instructions of one core.

    ``issue_cycles``   per instruction handed to a queue, one at a time in program order
    ``queue_depth``    instructions that wait in a class's queue before dispatch stops
    ``fetch_bytes_per_cycle``  from instruction memory when text is not in the buffer
    ``loop_cycles``    per loop iteration or register update of the compact encoding
    ``barrier_cycles``  from the last core's arrival to everyone's release
    """

    issue_cycles: int
    queue_depth: int
    fetch_bytes_per_cycle: int
    loop_cycles: int
    barrier_cycles: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "queue_depth", "fetch_bytes_per_cycle")
        if self.queue_depth > DEEPEST_QUEUE:
            raise ValueError(f"queue_depth must be at most {DEEPEST_QUEUE}, not {self.queue_depth}")
        _at_least(self, 0, "issue_cycles", "loop_cycles", "barrier_cycles")


class CoreMachine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``cores`` FlightLLM cores on a device. The matrix engine is ``chains`` or ``array``, one of them.

    ``sources`` says for each table, or ``table.key``, where its values come from. More blocks than the device has, or
    parameters that contradict each other, are errors. ``luts`` are those that the machine configures: their clock tree,
    registers and logic take energy every cycle. ``units``: "rtl" where instructions take what they take in RTL, to the
    cycle (``mv_pipeline``, ``sfu_pipeline``, ``core_memory_pipeline``, ``controller_pipeline``); else that is estimated
    from the parameters.
    """

    name: str
    summary: str
    cores: int
    clock_mhz: float
    technology: str
    luts: int
    device: Device
    memory_unit: MemoryUnit
    buffers: CoreBuffers
    sfu: CoreSfu
    hbm: Channels
    ddr: Channels
    exchange: Exchange
    controller: Controller
    sources: dict[str, str]
    units: Literal["rtl"] | None = None
    chains: Chains | None = None
    array: Array | None = None

    def __post_init__(self) -> None:
        if self.cores < 1 or self.clock_mhz <= 0:
            raise ValueError(f"cores and clock_mhz must be positive, not {self.cores} and {self.clock_mhz}")
        if (self.chains is None) == (self.array is None):
            raise ValueError("the matrix engine must be one of the tables chains and array")
        if self.units == "rtl" and self.products not in DOTS.values():
            raise ValueError(f'units = "rtl" must be of a machine of {", ".join(DOTS)}')
        if self.cores * self.hbm.channels_per_core > self.hbm.channels:
            need = f"{self.cores} cores with {self.hbm.channels_per_core} each"
            raise ValueError(f"hbm.channels must be enough for {need}, not {self.hbm.channels}")
        if self.hbm.channels_per_core < 1:
            raise ValueError("hbm.channels_per_core must be at least 1")
        for name in ("hbm", "ddr"):
            self._check_memory(name, getattr(self, name))
        if self.luts < 1:
            raise ValueError(f"luts must be at least 1, not {self.luts}")
        for name, used in (("dsp", self.dsp), ("uram", self.uram), ("bram36", self.bram36), ("lut", self.luts)):
            have = getattr(self.device, name)
            if have and used > have:
                raise ValueError(f"the machine must fit its device: {used:,} {name} of {have:,} on {self.device.name}")

    def _check_memory(self, name: str, memory: Channels) -> None:
        try:
            standard = memory.dram
        except InputError as error:
            raise ValueError(f"{name}.standard: {error}") from None
        if memory.channels > standard.channels and name == "hbm":
            raise ValueError(f"hbm.channels must be at most the {standard.channels} of {standard.name}")
        if name == "hbm" and memory.capacity_bytes > memory.channels * standard.channel_bytes:
            most = memory.channels * standard.channel_bytes >> 30
            raise ValueError(f"{name}.capacity_gib must be at most the {most} of its channels")

    @property
    def memories(self) -> dict[str, str]:
        """Component that counts the bits of a memory -> its standard."""
        return {"hbm": self.hbm.standard, "ddr": self.ddr.standard}

    @property
    def mpe(self) -> Chains | Array:
        """The matrix engine of a core."""
        engine = self.chains or self.array
        assert engine is not None
        return engine

    @property
    def products(self) -> str:
        """The kind of products of a matrix engine on vectors in RTL; empty: there is none."""
        return DOTS.get(self.chains.dsp_kind if self.chains else self.array.pe if self.array else "", "")

    @property
    def kept(self) -> tuple[int, ...]:
        """Of each 16 weights, how many a matrix engine in RTL takes as kept ones, beside dense weights: what of
        ``sparse_n`` words hold, if the index buffer has a place for every code of the weight buffer."""
        if self.chains is None or 2 * self.buffers.index.bytes != self.buffers.weight.bytes:
            return ()
        return tuple(keep for keep in KEPT if keep in self.chains.sparse_n)

    @property
    def mm_rows(self) -> int:
        """Most rows (tokens) of an MM instruction."""
        return self.mpe.mm_rows if isinstance(self.mpe, Chains) else self.mpe.tile(1)[0]

    @property
    def mm_columns(self) -> int:
        """Most columns (output channels) of an MM instruction."""
        return self.mpe.mm_columns if isinstance(self.mpe, Chains) else self.mpe.cols

    @property
    def column_step(self) -> int:
        """Columns that advance together on a vector."""
        return self.mpe.column_step if isinstance(self.mpe, Chains) else self.mpe.cols

    @property
    def mv_columns(self) -> int:
        """Most columns of an MV instruction: on an array the columns of its finest split."""
        return self.mpe.mv_columns if isinstance(self.mpe, Chains) else self.mpe.cols * self.mpe.split

    @property
    def mm_macs_per_cycle(self) -> int:
        """Peak MACs a cycle of a core on a matrix."""
        return self.mpe.mm_macs_per_cycle if isinstance(self.mpe, Chains) else self.mpe.rows * self.mpe.cols

    @property
    def mv_macs_per_cycle(self) -> int:
        """Peak MACs a cycle of a core on a vector."""
        return self.mpe.mv_macs_per_cycle if isinstance(self.mpe, Chains) else self.mv_columns

    @property
    def peak_macs_per_s(self) -> float:
        """All cores on a matrix."""
        return self.cores * self.mm_macs_per_cycle * self.clock_mhz * 1e6

    @property
    def mpe_dsp(self) -> int:
        """DSP blocks of all matrix engines in whole chains; PEs of an array are counted as fabric, without DSP."""
        return self.cores * self.mpe.dsp if isinstance(self.mpe, Chains) else 0

    @property
    def mpe_dsp_by_peak(self) -> int:
        """Peak MACs over MACs of a block, whatever the chains: 5,461 DSP58 for four FlightLLM cores (derived)."""
        if not isinstance(self.mpe, Chains):
            return 0
        return self.cores * self.mpe.mm_macs_per_cycle // self.mpe.macs_per_dsp

    @property
    def dsp(self) -> int:
        """DSP blocks of the machine: matrix engines and SFUs."""
        return self.mpe_dsp + self.cores * self.sfu.dsp

    @property
    def uram(self) -> int:
        """URAM blocks of all buffers of all cores; of A buffers alone (p_M p_K actWidth / uramWidth) MPU MPE."""
        return self.cores * self.buffers.uram

    @property
    def bram36(self) -> int:
        """BRAM36 of all buffers of all cores, by capacity."""
        return self.cores * self.buffers.bram36

    @property
    def ports(self) -> int:
        """Memory ports: (MPU / 8 + 2) MPE."""
        return self.cores * (self.hbm.channels_per_core + EXTRA_PORTS)

    @property
    def port_gb_s(self) -> float:
        """GB/s (10^9) of one HBM port."""
        return self.hbm.port_bytes_per_cycle * self.clock_mhz / 1e3

    @property
    def peak_gb_s(self) -> float:
        """Bandwidth of all ports together: the paper's (MPU / 8 + 2) MPE 14.4 GB/s."""
        return self.ports * self.port_gb_s

    @property
    def channel_gb_s(self) -> float:
        """What one HBM channel can move through its port: the lower of the two peaks."""
        return min(self.hbm.dram.peak_gb_s, self.port_gb_s)


def _at_least(item: msgspec.Struct, least: int, *fields: str) -> None:
    for field in fields:
        if getattr(item, field) < least:
            raise ValueError(f"{field} must be at least {least}, not {getattr(item, field)}")
