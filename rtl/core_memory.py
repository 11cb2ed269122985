"""The memory side of a core: LD and ST units, their AXI4 masters, and the buffers."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.errors import InputError
from mixflight.rtl.axi_read import MEMORY_ERROR
from mixflight.rtl.core_buffers import BankBuffer, LineBuffer, WeightBuffer
from mixflight.rtl.core_load import CoreLoad
from mixflight.rtl.core_mm_rows import RowsBuffer, act_rows_read
from mixflight.rtl.core_operand_select import PLACE_BITS
from mixflight.rtl.core_ports import (
    ACT_LINE,
    ACT_WORD,
    GLOBAL_LINE,
    LINE_BITS,
    LINE_WORDS,
    SLOT_LAYOUTS,
    Axi4,
    Axi4Read,
    act_read,
    act_write,
    bank_read,
    global_read,
    global_write,
    unit,
    weight_read,
)
from mixflight.rtl.core_store import CoreStore


class CoreMemory(wiring.Component):
    """LD, ST and all buffers, with the ports that the other units see.

    ``load``, ``store``   :func:`mixflight.rtl.core_ports.unit` of LD and ST
    ``head``              elements of a head
    ``hbm``, ``ddr``      memories; DDR is only read
    ``weight``, ``scale``, ``index``  read ports of the matrix-vector engine; scale words are 4 x lanes bytes, index
                          words 2 x lanes, with ``places``, for N:M weights, 8 x lanes
    ``vector_read``       of the global buffer: SFU's a and b; a has a copy of the memory of its own, b shares the other
                          with ST and comes first
    ``vector_write``      the engine's, then the SFU's; LD comes before both
    ``act_read``          the engine's, ``together`` lines at once; ST comes last.  ``act_write``: the SFU's.  With
                          ``far`` the engine reads as many of a copy of the buffer by ``act_far``
    ``slot_layouts``      of the weight buffer
    ``read_error``, ``write_error``, ``refused``  sticky (:class:`~mixflight.rtl.core_load.CoreLoad`,
                          :class:`~mixflight.rtl.core_store.CoreStore`); ``refused``: an LD, an ST

    With ``exchanges``, on one of several cores, ``exchange_vector_read`` … ``exchange_act_write``
    (:class:`~mixflight.rtl.core_exchange.CoreExchange`): they write first, and read the
    act buffer first, the global buffer last.

    ``weight_depth``, ``scale_depth``, ``index_depth`` count words of a bank, the others lines. ``vector_kind``: blocks
    that the global buffer asks for, "bram" or "uram".
    """

    def __init__(self, *, channels: int, lanes: int, weight_depth: int, scale_depth: int, index_depth: int,
                 vector_depth: int, act_depth: int, burst_bytes: int = 512, outstanding: int = 16,
                 in_flight: int = 16, together: int = 1, exchanges: bool = False, places: bool = False,
                 far: bool = False, vector_kind: str = "bram"):
        if together > 1 and exchanges:
            raise InputError("rows must go alone in a core that exchanges lines with others")
        self.channels, self.lanes, self.together, self.exchanges = channels, lanes, together, exchanges
        self.far, self.vector_kind = far, vector_kind
        self.depths = {"weight": weight_depth, "scale": scale_depth, "index": index_depth, "vector": vector_depth,
                       "act": act_depth}
        self.masters = {"burst_bytes": burst_bytes, "outstanding": outstanding, "in_flight": in_flight}
        joined = {
            "exchange_vector_read": In(global_read()), "exchange_vector_write": In(global_write()),
            "exchange_act_read": In(act_read()), "exchange_act_write": In(act_write()),
        } if exchanges else {}
        # 16 places of four bits a lane: those of a word of weights
        self.index_bits = PLACE_BITS * K_BLOCK * lanes if places else 16 * lanes
        super().__init__({
            "load": Out(wiring.Signature(unit("LD"))), "store": Out(wiring.Signature(unit("ST"))), "head": In(10),
            "hbm": Out(Axi4(LINE_BITS)).array(channels), "ddr": Out(Axi4Read(LINE_BITS)),
            "weight": In(weight_read(channels, lanes, weight_depth)),
            "scale": In(bank_read(channels, 32 * lanes, scale_depth)),
            "index": In(bank_read(channels, self.index_bits, index_depth)),
            "vector_read": In(global_read()).array(2), "vector_write": In(global_write()).array(2),
            "act_read": In(act_rows_read(together)), "act_write": In(act_write()),
            **({"act_far": In(act_rows_read(together))} if far else {}),
            "slot_layouts": Out(SLOT_LAYOUTS),
            "read_error": Out(MEMORY_ERROR).array(channels + 1), "write_error": Out(MEMORY_ERROR).array(channels),
            "refused": Out(2), **joined,
        })

    def elaborate(self, platform):
        """The parts, and which client is which."""
        m = Module()
        banks, depths = {"channels": self.channels}, self.depths
        weight = m.submodules.weights = WeightBuffer(**banks, lanes=self.lanes, depth=depths["weight"])
        scale = m.submodules.scales = BankBuffer(**banks, word_bits=32 * self.lanes, depth=depths["scale"])
        index = m.submodules.indices = BankBuffer(**banks, word_bits=self.index_bits, depth=depths["index"])
        more = int(self.exchanges)      # ports: one more reader behind the others, one more writer in front of them
        vector = m.submodules.vectors = LineBuffer(
            depth=depths["vector"], address_bits=GLOBAL_LINE, shape=LINE_BITS, parts=LINE_WORDS, readers=(1, 2 + more),
            writers=3 + more, kind=self.vector_kind)
        load = m.submodules.loads = CoreLoad(
            **banks, lanes=self.lanes, weight_depth=depths["weight"], scale_lines=scale.lines, index_lines=index.lines,
            **self.masters)
        store = m.submodules.stores = CoreStore(**banks, **self.masters)
        for bank in range(self.channels):
            connect(m, load.weight[bank], weight.write[bank])
            connect(m, load.scale[bank], scale.write[bank])
            connect(m, load.index[bank], index.write[bank])
        connect(m, flipped(self.weight), weight.read)
        connect(m, flipped(self.scale), scale.read)
        connect(m, flipped(self.index), index.read)
        connect(m, flipped(self.vector_read[0]), vector.read[0])
        connect(m, flipped(self.vector_read[1]), vector.read[1])
        connect(m, store.vector, vector.read[2])
        connect(m, load.vector, vector.write[more])     # the others have queues before them
        connect(m, flipped(self.vector_write[0]), vector.write[more + 1])
        connect(m, flipped(self.vector_write[1]), vector.write[more + 2])
        self._acts(m, store, more)
        if self.exchanges:
            connect(m, flipped(self.exchange_vector_read), vector.read[3])
            connect(m, flipped(self.exchange_vector_write), vector.write[0])
        for unit_, mine in ((load, self.load), (store, self.store)):
            connect(m, unit_.instruction, flipped(mine.instruction))
            m.d.comb += mine.done.eq(unit_.done)
        self._memories(m, load, store)
        m.d.comb += [load.head.eq(self.head), Value.cast(self.slot_layouts).eq(load.slot_layouts),
                     self.refused.eq(Cat(load.refused, store.refused))]
        return m

    def _acts(self, m, store, more):
        """The act buffer; where rows go together, one whose lines lie in as many banks."""
        depth = self.depths["act"]
        if self.together > 1:
            m.submodules.acts = act = RowsBuffer(depth=depth, together=self.together)
            read, write = (act.rows, act.read), (act.write,)
            if self.far:
                m.submodules.acts_far = copy = RowsBuffer(depth=depth, together=self.together)
                read = (*read, copy.rows)
                m.d.comb += [copy.write.valid.eq(act.write.valid & act.write.ready),
                             *(getattr(copy.write, name).eq(getattr(act.write, name))
                               for name in ("address", "data", "mask"))]
        else:
            m.submodules.acts = act = LineBuffer(
                depth=depth, address_bits=ACT_LINE, shape=ACT_WORD, parts=4,
                readers=(2 + more, 1) if self.far else (2 + more,), writers=1 + more)
            read, write = act.read, act.write
        connect(m, flipped(self.act_read), read[more])
        connect(m, store.act, read[more + 1])
        connect(m, flipped(self.act_write), write[more])
        if self.far:
            connect(m, flipped(self.act_far), read[-1])
        if self.exchanges:      # first: the engine may read in every cycle of a product, and all cores wait for these
            connect(m, flipped(self.exchange_act_read), read[0])
            connect(m, flipped(self.exchange_act_write), write[0])

    def _memories(self, m, load, store):
        """Both halves of each memory's port, and what went wrong on them."""
        connect(m, load.ddr, flipped(self.ddr))
        for channel, port in enumerate(self.hbm):
            for half in (load.hbm[channel], store.hbm[channel]):
                for name, member in half.signature.members.items():
                    mine, theirs = getattr(port, name), getattr(half, name)
                    m.d.comb += mine.eq(theirs) if member.flow == Out else theirs.eq(mine)
            m.d.comb += self.write_error[channel].eq(store.error[channel])
        for channel in range(self.channels + 1):
            m.d.comb += self.read_error[channel].eq(load.error[channel])
