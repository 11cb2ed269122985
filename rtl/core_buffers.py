"""The buffers of a core: lines with several clients, and banks that LD fills and the matrix-vector engine reads."""

from collections.abc import Sequence

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.errors import InputError
from mixflight.rtl.core_ports import LINE_BITS, LINE_WORDS, READ_LATENCY, ReadPort, WritePort, bank_read, weight_read
from mixflight.rtl.placed_copy import place

RAM_STYLES = {"bram": "block", "uram": "ultra"}
"""What a memory asks synthesis for, by what a machine says of its buffer."""


def row_write(depth: int) -> wiring.Signature:
    """A bank's write port of lines, as its only client sees it; it is always ready. ``mask``: words of 4 bytes."""
    return wiring.Signature({
        "valid": Out(1), "address": Out(range(depth)), "data": Out(LINE_BITS), "mask": Out(LINE_WORDS),
    })  # fmt: skip


def word_write(lanes: int, depth: int) -> wiring.Signature:
    """A weight bank's write port, as its only client sees it; it is always ready. ``mask``: codes."""
    return wiring.Signature({
        "valid": Out(1), "address": Out(range(depth)), "data": Out(128 * lanes), "mask": Out(16 * lanes),
    })  # fmt: skip


def _powers_of_two(where: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 2 or size & (size - 1):
            raise InputError(f"{name} must be a power of two from 2 on, not {size}, in {where}")


class LineBuffer(wiring.Component):
    """Lines that several clients read and write; of clients that ask at once the first is accepted.

    ``read``   array of :func:`~mixflight.rtl.core_ports.ReadPort`; ``readers`` says how many share each copy of the
               memory: (1, 2) gives client 0 a copy of its own, clients 1 and 2 another
    ``write``  array of :func:`~mixflight.rtl.core_ports.WritePort`, all to all copies

    ``kind``   "bram" or "uram": the blocks that it asks for

    Address bits beyond ``depth`` are ignored. Reads: one a cycle and copy, writes one a cycle.

    What a read gives that is accepted in the cycle of a write of its line is not to be relied on: in simulation the
    line before the write, in an UltraRAM the one or the other by the sides on which synthesis puts the two (side A is
    served before B: AMD UG573). In a core tokens, and each unit's own order, keep such cycles from happening. Nor are
    initial values read.
    """

    def __init__(self, *, depth: int, address_bits: int, shape, parts: int, readers: Sequence[int], writers: int,
                 kind: str = "bram"):
        _powers_of_two("a line buffer", depth=depth)
        if kind not in RAM_STYLES:
            raise InputError(f"kind must be one of {', '.join(RAM_STYLES)}, not {kind!r}, in a line buffer")
        if exact_log2(depth) > address_bits:
            raise InputError(f"depth must be at most {1 << address_bits} lines, not {depth}, in a line buffer")
        self.depth, self.shape, self.parts, self.kind = depth, shape, parts, kind
        self.readers, self.writers = tuple(readers), writers
        super().__init__({
            "read": In(ReadPort(address_bits, shape)).array(sum(self.readers)),
            "write": In(WritePort(address_bits, shape, parts)).array(writers),
        })

    def elaborate(self, platform):
        """A memory for each copy; output registers."""
        m = Module()
        write = self._writes(m)
        bits, first = Shape.cast(self.shape).width, 0
        for copy, count in enumerate(self.readers):
            store = memory.Memory(shape=bits, depth=self.depth, init=[], attrs={"ram_style": RAM_STYLES[self.kind]})
            m.submodules[f"copy_{copy}"] = store
            into = store.write_port(granularity=bits // self.parts)
            m.d.comb += [into.addr.eq(write["address"]), into.data.eq(write["data"]), into.en.eq(write["enable"])]
            self._reads(m, store.read_port(), [self.read[first + index] for index in range(count)])
            first += count
        return m

    def _writes(self, m):
        """The write that is accepted."""
        bits = Shape.cast(self.shape).width
        found = {"address": Signal(exact_log2(self.depth), name="write_address"),
                 "data": Signal(bits, name="write_data"), "enable": Signal(self.parts, name="write_enable")}
        for index, port in reversed(list(enumerate(self.write))):
            m.d.comb += port.ready.eq(~Cat(other.valid for other in self.write[:index]).any() if index else 1)
            with m.If(port.valid):
                m.d.comb += [found["address"].eq(port.address), found["data"].eq(port.data),
                             found["enable"].eq(port.mask)]
        return found

    def _reads(self, m, port, clients):
        """The reads of one copy."""
        asked = Cat(client.valid for client in clients).any()
        m.d.comb += port.en.eq(asked)
        line = Signal.like(port.data, name="line", reset_less=True)
        stages = []
        for index, client in reversed(list(enumerate(clients))):
            m.d.comb += [client.ready.eq(~Cat(other.valid for other in clients[:index]).any() if index else 1),
                         Value.cast(client.data).eq(line)]
            with m.If(client.valid):
                m.d.comb += port.addr.eq(client.address)
            stage = client.valid & client.ready
            for number in range(READ_LATENCY):
                after = Signal(name=f"valid_{index}_{number}")
                m.d.sync += after.eq(stage)
                stages.append((number, after))
                stage = after
            m.d.comb += client.data_valid.eq(stage)
        with m.If(Cat(after for number, after in stages if number == 0).any()):
            m.d.sync += line.eq(port.data)


def _answers(m, read):
    """A read port that is always ready: what says that its memories have read."""
    once = Signal(name="read_once")
    m.d.comb += read.ready.eq(1)
    m.d.sync += [once.eq(read.valid), read.data_valid.eq(once)]
    return once


class WeightLane(wiring.Component):
    """A lane of a weight bank: ``depth`` words of 16 codes in UltraRAM, an enable a code; reads take two cycles."""

    def __init__(self, *, depth: int):
        _powers_of_two("a weight lane", depth=depth)
        self.depth = depth
        super().__init__({
            "write_address": In(range(depth)), "write_data": In(128), "write_enable": In(16),
            "read_address": In(range(depth)), "read_enable": In(1), "output_enable": In(1), "word": Out(128),
        })

    def elaborate(self, platform):
        """The memory and its output register."""
        m = Module()
        m.submodules.store = store = memory.Memory(shape=128, depth=self.depth, init=[], attrs={"ram_style": "ultra"})
        write, read = store.write_port(granularity=8), store.read_port()
        m.d.comb += [write.addr.eq(self.write_address), write.data.eq(self.write_data), write.en.eq(self.write_enable),
                     read.addr.eq(self.read_address), read.en.eq(self.read_enable)]
        with m.If(self.output_enable):
            m.d.sync += self.word.eq(read.data)
        return m


class WeightBuffer(wiring.Component):
    """Banks of ``depth`` words of ``lanes`` x 16 codes, written a bank a channel.

    ``write``  array of :func:`word_write`
    ``read``   :func:`~mixflight.rtl.core_ports.weight_read`; always ready
    """

    def __init__(self, *, channels: int, lanes: int, depth: int):
        _powers_of_two("a weight buffer", depth=depth)
        self.channels, self.lanes, self.depth = channels, lanes, depth
        super().__init__({
            "write": In(word_write(lanes, depth)).array(channels), "read": In(weight_read(channels, lanes, depth)),
        })

    def elaborate(self, platform):
        """A memory a lane."""
        m = Module()
        once = _answers(m, self.read)
        for bank, write in enumerate(self.write):
            for lane in range(self.lanes):
                part = WeightLane(depth=self.depth)
                place(m, platform, f"lane_{bank}_{lane}", part, like="lane_0_0")
                m.d.comb += [
                    part.write_address.eq(write.address),
                    part.write_data.eq(write.data[128 * lane : 128 * (lane + 1)]),
                    part.write_enable.eq(Mux(write.valid, write.mask[16 * lane : 16 * (lane + 1)], 0)),
                    part.read_address.eq(self.read.address),
                    part.read_enable.eq(self.read.valid),
                    part.output_enable.eq(once),
                    Value.cast(self.read.data[bank][lane]).eq(part.word),
                ]
        return m


class BankBuffer(wiring.Component):
    """Banks of ``depth`` words of ``word_bits``, written by whole lines: scales and indices as they lie in memory.

    ``write``  array of :func:`row_write`, ``depth`` counted in lines
    ``read``   :func:`~mixflight.rtl.core_ports.bank_read`; always ready
    """

    def __init__(self, *, channels: int, word_bits: int, depth: int):
        _powers_of_two("a buffer of banks", depth=depth, word_bits=word_bits)
        if word_bits > LINE_BITS or depth * word_bits < 2 * LINE_BITS:
            raise InputError(f"a bank must be words of at most {LINE_BITS} bits and two lines at least, not {depth} "
                             f"words of {word_bits}")
        self.channels, self.word_bits, self.depth = channels, word_bits, depth
        self.lines = depth * word_bits // LINE_BITS
        super().__init__({
            "write": In(row_write(self.lines)).array(channels), "read": In(bank_read(channels, word_bits, depth)),
        })

    def elaborate(self, platform):
        """A memory a bank; the word of a line is chosen before the output register."""
        m = Module()
        within, read = exact_log2(LINE_BITS // self.word_bits), self.read
        once, place_in_line = _answers(m, read), Signal(within, reset_less=True)
        with m.If(read.valid):
            m.d.sync += place_in_line.eq(read.address[:within])
        for bank, write in enumerate(self.write):
            store = memory.Memory(shape=LINE_BITS, depth=self.lines, init=[], attrs={"ram_style": "block"})
            m.submodules[f"bank_{bank}"] = store
            into, out = store.write_port(granularity=LINE_BITS // LINE_WORDS), store.read_port()
            word = Signal(self.word_bits, name=f"word_{bank}", reset_less=True)
            m.d.comb += [into.addr.eq(write.address), into.data.eq(write.data),
                         into.en.eq(Mux(write.valid, write.mask, 0)),
                         out.addr.eq(read.address[within:]), out.en.eq(read.valid), read.data[bank].eq(word)]
            with m.If(once):
                m.d.sync += word.eq(out.data.word_select(place_in_line, self.word_bits))
        return m
