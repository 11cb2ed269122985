"""The sequencer of a core: a compact text with its registers, carried out as evaluated instructions.

``mixflight.arch.compact`` says what each instruction does, ``arch/isa_compact.toml`` where its fields lie.
"""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import CONSTANTS, LOOP_DEPTH, REGISTERS
from mixflight.arch.core_errors import CoreError
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.rtl.core_operands import (
    INSTRUCTION_BITS,
    PLACES,
    WIDTHS,
    evaluated,
    field,
    malformed,
    opcode_is,
    operation_is,
    unchanged,
)
from mixflight.rtl.core_ports import dispatch

_REGISTER = 5


def memory_write(depth: int, bits: int) -> wiring.Signature:
    """A word into a memory of ``depth``, as the writer sees it; always taken."""
    return wiring.Signature({"valid": Out(1), "index": Out(range(depth)), "value": Out(bits)})


class Sequencer(wiring.Component):
    """Carries out a text of up to ``depth`` instructions.

    ======================  ========================================================================================
    start, length           a pulse: run ``length`` instructions from number 0 on
    running                 from the cycle after ``start`` until DONE is handed out, or an error
    error, at               code of :class:`CoreError` and number of its instruction; 0 until the next ``start``
    halt                    stop: something else went wrong
    executed                pulses with every instruction carried out
    waits                   cannot go on before a queue has room, or never again
    text, constant          writes of the memories of text and constants
    register                writes of registers; when not running
    ld … sys                the queues, one valid at a time; operands are evaluated
    ======================  ========================================================================================

    ``classes`` are those that have a unit; an instruction of another one is an error, and so is whatever is not well
    formed; an instruction in error is not carried out, nor is any behind it. R0 is always 0; other registers, and
    constants, hold what was written last, and nothing certain before. ``several``: of a core that exchanges lines.

    **Cycles.** An instruction a cycle: LD, ST, MM, MV, MISC and queued SYS one each while their queues have room (LD
    and ST with ``times`` two), SET, ROTATE, END and LOOP one, FETCH two; a LOOP of 0 iterations three; an END directly
    behind its LOOP one more. The first instruction is offered to its queue three cycles after ``start``. There are no
    other stalls: what an instruction writes is there for the next one.
    """

    def __init__(self, *, depth: int, constants: int = CONSTANTS, classes: tuple[str, ...] = CLASSES,
                 text: tuple[int, ...] = (), several: bool = False):  # fmt: skip
        if depth < 2 or constants < 2:
            raise InputError(f"a sequencer must have memory for 2 instructions and 2 constants, not {depth} and "
                             f"{constants}")  # fmt: skip
        if len(text) > depth:
            raise InputError(f"a text must have at most {depth} instructions, not {len(text)}, in a sequencer")
        self.depth, self.constants, self.classes, self.initial = depth, constants, classes, text
        self.several = several
        super().__init__({
            "start": In(1), "length": In(range(depth + 1)), "halt": In(1),
            "running": Out(1), "executed": Out(1), "waits": Out(1), "error": Out(4), "at": Out(range(depth + 1)),
            "text": In(memory_write(depth, INSTRUCTION_BITS)), "constant": In(memory_write(constants, 32)),
            "register": In(memory_write(REGISTERS, 32)),
            **dispatch(),
        })  # fmt: skip

    def elaborate(self, platform):
        """Three stages: the word of an instruction (decode), its operands (execute), the evaluated one (issue)."""
        m = Module()
        m.submodules.text_memory = text = memory.Memory(shape=INSTRUCTION_BITS, depth=self.depth, init=self.initial)
        m.submodules.decode = decode = _Decode(self.depth, self.classes)
        m.submodules.loops = loops = _Loops(self.depth)
        m.submodules.execute = execute = _Execute(self.depth, self.constants)
        m.submodules.issue = issue = _Issue(several=self.several)

        read, write = text.read_port(), text.write_port()
        at = Signal(range(self.depth + 1))          # number of the instruction in decode
        here, next_at = Signal(), Signal.like(at)
        length = Signal.like(at)
        m.d.comb += [
            write.en.eq(self.text.valid), write.addr.eq(self.text.index), write.data.eq(self.text.value),
            execute.constant.valid.eq(self.constant.valid), execute.constant.index.eq(self.constant.index),
            execute.constant.value.eq(self.constant.value),
            decode.word.eq(read.data), decode.number.eq(at), decode.over.eq(at == length),
        ]  # fmt: skip

        step, skip = Signal(), Signal()             # decode moves on; the LOOP before was one of 0 iterations
        wait = decode.is_end & execute.opens        # the loop that ends is only just being opened
        m.d.comb += [
            step.eq(here & execute.free & ~wait & ~skip & self.running),
            skip.eq(loops.skip),
            loops.end.eq(step & decode.is_end), loops.number.eq(at),
            decode.end_fits.eq(loops.fits),
        ]  # fmt: skip
        with m.If(self.start):
            m.d.comb += next_at.eq(0)
        with m.Elif(skip):
            m.d.comb += next_at.eq(loops.behind)
        with m.Elif(decode.is_end & loops.again):
            m.d.comb += next_at.eq(loops.first)
        with m.Else():
            m.d.comb += next_at.eq(at + 1)
        m.d.comb += [read.addr.eq(next_at), read.en.eq(self.start | skip | step)]
        with m.If(read.en):
            m.d.sync += [at.eq(next_at), here.eq(self.start | skip | ~decode.is_done)]

        self._registers(m, decode, execute)
        m.d.comb += [
            execute.take.eq(step), execute.drop.eq(skip), execute.number.eq(at), execute.word.eq(read.data),
            execute.blocked.eq(issue.blocked), execute.deep.eq(loops.full),
            loops.begin.eq(execute.loop), loops.count.eq(execute.sums.a), loops.opened.eq(execute.here_at),
            loops.limit.eq(execute.limit),
            issue.take.eq(execute.issues), issue.word.eq(execute.held), issue.sums.eq(execute.sums),
            issue.code_bits.eq(execute.code_bits), issue.clear.eq(self.start),
        ]  # fmt: skip
        m.d.comb += [getattr(execute, name).eq(getattr(decode, name)) for name in _DECODED]
        for kind in CLASSES:
            mine, theirs = getattr(self, kind.lower()), getattr(issue, kind.lower())
            m.d.comb += [mine.valid.eq(theirs.valid), mine.payload.eq(theirs.payload), theirs.ready.eq(mine.ready)]

        m.d.comb += [self.executed.eq(execute.done & self.running),
                     self.waits.eq(issue.blocked | ~(issue.full | self.running))]  # fmt: skip
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), self.error.eq(0), self.at.eq(0), length.eq(self.length)]
        with m.Elif(self.running):
            with m.If(execute.error != 0):
                m.d.sync += [self.running.eq(0), self.error.eq(execute.error), self.at.eq(execute.here_at)]
            with m.Elif(self.halt | (execute.done & execute.ends)):
                m.d.sync += self.running.eq(0)
        m.d.comb += [execute.clear.eq(self.start | ~self.running), loops.clear.eq(self.start)]
        return m

    def _registers(self, m, decode, execute) -> None:
        """A copy of the registers for each place that reads one; a result goes to the next instruction directly."""
        write = Signal(data.StructLayout({"valid": 1, "index": _REGISTER, "value": 32}))
        with m.If(self.running):
            m.d.comb += [write.valid.eq(execute.writes), write.index.eq(execute.destination),
                         write.value.eq(execute.result)]  # fmt: skip
        with m.Else():
            m.d.comb += [write.valid.eq(self.register.valid & (self.register.index != 0)),
                         write.index.eq(self.register.index), write.value.eq(self.register.value)]  # fmt: skip
        for place, width in WIDTHS.items():
            copy = memory.Memory(shape=width, depth=REGISTERS, init=[])
            m.submodules[f"registers_{place}"] = copy
            into, out = copy.write_port(), copy.read_port(domain="comb")
            number = getattr(decode.registers, place)
            forward = execute.forwards & (execute.destination == number)
            m.d.comb += [
                into.en.eq(write.valid), into.addr.eq(write.index), into.data.eq(write.value), out.addr.eq(number),
                getattr(execute.operands, place).eq(Mux(forward, execute.result, out.data)),
            ]  # fmt: skip


_NUMBERS = data.StructLayout(dict.fromkeys(WIDTHS, _REGISTER))
_VALUES = data.StructLayout(WIDTHS)
_IMMEDIATES = data.StructLayout({place: width for place, width in WIDTHS.items()
                                 if any(immediate for _, immediate, _ in PLACES[place].values())})  # fmt: skip
_DECODED = ("immediates", "addend", "destination_number", "is_set", "is_rotate", "is_fetch", "is_loop", "is_times",
            "is_advance", "is_queued", "is_done", "fault")  # fmt: skip
_ADDEND = 34
"""Bits, with a sign, of a register plus 32 bits minus what a ring wraps at."""


class _Decode(wiring.Component):
    """What the word of an instruction asks for; combinational."""

    def __init__(self, depth: int, classes: tuple[str, ...]):
        self.classes = classes
        super().__init__({
            "word": In(INSTRUCTION_BITS), "number": In(range(depth + 1)), "over": In(1), "end_fits": In(1),
            "registers": Out(_NUMBERS), "immediates": Out(_IMMEDIATES), "addend": Out(signed(_ADDEND)),
            "destination_number": Out(_REGISTER), "is_set": Out(1), "is_rotate": Out(1), "is_fetch": Out(1),
            "is_loop": Out(1), "is_end": Out(1), "is_times": Out(1), "is_advance": Out(1), "is_queued": Out(1),
            "is_done": Out(1), "fault": Out(4),
        })  # fmt: skip

    def elaborate(self, platform):
        """Fields by class; what is wrong, the gravest first."""
        m = Module()
        word = self.word
        kind = {name: Signal(name=f"is_{name.lower()}") for name in CLASSES}
        m.d.comb += [signal.eq(opcode_is(word, name)) for name, signal in kind.items()]
        moves = kind["LD"] | kind["ST"]
        is_end = Signal()
        m.d.comb += [
            self.is_times.eq(moves & field(word, "LD", "times")),
            self.is_advance.eq(moves & field(word, "LD", "advance")),
            is_end.eq(kind["SYS"] & operation_is(word, "end")), self.is_end.eq(is_end),
            self.is_done.eq(kind["SYS"] & operation_is(word, "done")),
        ]  # fmt: skip
        for name in ("set", "rotate", "fetch", "loop"):
            m.d.comb += getattr(self, f"is_{name}").eq(kind["SYS"] & operation_is(word, name))
        writes = self.is_set | self.is_rotate | self.is_fetch
        sequenced = writes | self.is_loop | is_end
        m.d.comb += [self.is_queued.eq(~sequenced), self.destination_number.eq(
            Mux(kind["SYS"], field(word, "SYS", "destination"), field(word, "LD", "base_register")))]  # fmt: skip
        self._operands(m, kind)
        # what is added to two registers: bytes (advance), the value (SET), the step less the ring (ROTATE)
        value = field(word, "SYS", "value")
        with m.If(self.is_rotate):
            m.d.comb += self.addend.eq(value - field(word, "SYS", "limit"))
        with m.Elif(self.is_set):
            m.d.comb += self.addend.eq(value)
        with m.Elif(~self.is_times):
            m.d.comb += self.addend.eq(field(word, "LD", "bytes"))
        self._faults(m, kind, writes, sequenced)
        return m

    def _operands(self, m, kind) -> None:
        """Numbers of registers and immediates of every place."""
        word = self.word
        for place, operands in PLACES.items():
            number = getattr(self.registers, place)
            for like, alike in (("LD", ("LD", "ST")), ("MM", ("MM", "MV")), ("MISC", ("MISC",)), ("SYS", ("SYS",))):
                if like not in operands:
                    continue
                _, constant, register = operands[like]
                with m.If(Cat(kind[name] for name in alike).any()):
                    m.d.comb += number.eq(field(word, like, register))
                    if constant:
                        m.d.comb += getattr(self.immediates, place).eq(field(word, like, constant))
        with m.If(self.is_rotate):
            m.d.comb += [self.registers.a.eq(field(word, "SYS", "destination")), self.registers.b.eq(0)]
        with m.If((kind["LD"] | kind["ST"]) & field(word, "LD", "slotted")):
            m.d.comb += self.registers.c.eq(0)

    def _faults(self, m, kind, writes, sequenced) -> None:
        word = self.word
        bad = Signal(len(CLASSES))
        m.d.comb += [bad[index].eq(kind[name] & malformed(word, name)) for index, name in enumerate(CLASSES)]
        tokens = field(word, "SYS", "wait") | field(word, "SYS", "release")
        absent = Cat(kind[name] for name in CLASSES if name not in self.classes).any()
        with m.If(self.over):
            m.d.comb += self.fault.eq(CoreError.PAST_END)
        with m.Elif(~Cat(kind.values()).any()):
            m.d.comb += self.fault.eq(CoreError.OPCODE)
        with m.Elif(bad.any()):
            m.d.comb += self.fault.eq(CoreError.MALFORMED)
        with m.Elif((writes | self.is_advance) & (self.destination_number == 0)):
            m.d.comb += self.fault.eq(CoreError.WRITES_R0)
        with m.Elif(kind["SYS"] & sequenced & tokens.any()):
            m.d.comb += self.fault.eq(CoreError.SEQUENCED_TOKENS)
        with m.Elif(self.is_end & ~self.end_fits):
            m.d.comb += self.fault.eq(CoreError.LOOP_END)
        with m.Elif(absent):
            m.d.comb += self.fault.eq(CoreError.NO_UNIT)


class _Loops(wiring.Component):
    """The open loops, the innermost in registers."""

    def __init__(self, depth: int):
        self.depth = depth
        number = range(depth + 1)
        super().__init__({
            "clear": In(1), "begin": In(1), "count": In(32), "opened": In(number), "limit": In(24),
            "end": In(1), "number": In(number),
            "again": Out(1), "first": Out(number), "fits": Out(1), "full": Out(1), "skip": Out(1),
            "behind": Out(number),
        })  # fmt: skip

    def elaborate(self, platform):
        """LOOP pushes and, of 0 iterations, pops in the next cycle."""
        m = Module()
        number = range(self.depth + 1)
        loop = data.StructLayout({"first": number, "last": number, "left": 32, "again": 1})
        top, open_loops = Signal(loop), Signal(range(LOOP_DEPTH + 1))
        m.submodules.outer = outer = memory.Memory(shape=loop, depth=LOOP_DEPTH, init=[])
        read, write = outer.read_port(domain="comb"), outer.write_port()
        m.d.comb += [
            read.addr.eq(open_loops - 2), write.addr.eq(open_loops - 1), write.data.eq(top), write.en.eq(self.begin),
            self.again.eq(top.again), self.first.eq(top.first),
            self.fits.eq((open_loops != 0) & (top.last == self.number)), self.behind.eq(top.last + 1),
        ]  # fmt: skip
        m.d.sync += self.skip.eq(self.begin & (self.count == 0))
        with m.If(self.begin):
            m.d.sync += [
                top.first.eq(self.opened + 1), top.last.eq(self.opened + self.limit), top.left.eq(self.count),
                top.again.eq(self.count > 1), open_loops.eq(open_loops + 1), self.full.eq(open_loops == LOOP_DEPTH - 1),
            ]  # fmt: skip
        with m.Elif(self.end & top.again):
            m.d.sync += [top.left.eq(top.left - 1), top.again.eq(top.left != 2)]
        with m.Elif((self.end & self.fits) | self.skip):
            m.d.sync += [top.eq(read.data), open_loops.eq(open_loops - 1), self.full.eq(0)]
        with m.If(self.clear):
            m.d.sync += [open_loops.eq(0), self.full.eq(0), self.skip.eq(0), top.again.eq(0)]
        return m


class _Execute(wiring.Component):
    """Adds registers to immediates, multiplies bytes, writes registers."""

    def __init__(self, depth: int, constants: int):
        self.constants = constants
        number = range(depth + 1)
        super().__init__({
            "clear": In(1), "take": In(1), "drop": In(1), "number": In(number), "word": In(INSTRUCTION_BITS),
            "operands": In(_VALUES), "immediates": In(_IMMEDIATES), "addend": In(signed(_ADDEND)),
            "destination_number": In(_REGISTER),
            **{name: In(1) for name in _DECODED if name.startswith("is_")}, "fault": In(4),
            "blocked": In(1), "deep": In(1), "constant": In(memory_write(constants, 32)),
            "free": Out(1), "opens": Out(1), "done": Out(1), "error": Out(4), "here_at": Out(number),
            "held": Out(INSTRUCTION_BITS), "sums": Out(_VALUES), "code_bits": Out(4), "issues": Out(1),
            "loop": Out(1), "limit": Out(24), "ends": Out(1),
            "forwards": Out(1), "writes": Out(1), "destination": Out(_REGISTER), "result": Out(32),
        })  # fmt: skip

    def elaborate(self, platform):
        """One cycle, or two where a product or a constant is fetched in the first.

        ``forwards``: what is here writes ``destination``, in the cycle in which it makes room for the next instruction.
        """
        m = Module()
        m.submodules.constant_memory = memory_ = memory.Memory(shape=32, depth=self.constants, init=[])
        read, write = memory_.read_port(), memory_.write_port()
        m.d.comb += [write.en.eq(self.constant.valid), write.addr.eq(self.constant.index),
                     write.data.eq(self.constant.value)]  # fmt: skip
        full, first = Signal(), Signal()            # of two cycles the first; only when full
        operands, immediates, addend = Signal(_VALUES), Signal(_IMMEDIATES), Signal(signed(_ADDEND))
        fault, is_ = Signal(4), {name: Signal(name=name) for name in _DECODED if name.startswith("is_")}
        writer, queued = Signal(), is_["is_queued"]
        with m.If(self.take):
            m.d.sync += [
                writer.eq(self.is_set | self.is_rotate | self.is_fetch | self.is_advance),
                operands.eq(self.operands), immediates.eq(self.immediates), addend.eq(self.addend),
                fault.eq(self.fault), self.destination.eq(self.destination_number), self.held.eq(self.word),
                self.here_at.eq(self.number), *(signal.eq(getattr(self, name)) for name, signal in is_.items()),
            ]  # fmt: skip

        active = Signal()
        m.d.comb += [
            active.eq(full & ~self.drop & ~self.clear),
            self.free.eq(~first & ~(queued & self.blocked)), self.done.eq(active & self.free & (self.error == 0)),
            self.opens.eq(full & is_["is_loop"]),
            self.loop.eq(self.done & is_["is_loop"]), self.limit.eq(field(self.held, "SYS", "limit")),
            self.issues.eq(self.done & queued), self.ends.eq(is_["is_done"]),
        ]  # fmt: skip
        m.d.sync += first.eq(0)
        with m.If(self.take):
            m.d.sync += [full.eq(1), first.eq(self.is_times | self.is_fetch)]
        with m.Elif(self.free | self.drop):
            m.d.sync += [full.eq(0), queued.eq(0)]
        with m.If(self.clear):
            m.d.sync += [full.eq(0), first.eq(0), queued.eq(0)]

        for place in WIDTHS:
            immediate = getattr(immediates, place) if place in _IMMEDIATES.members else 0
            m.d.comb += getattr(self.sums, place).eq(getattr(operands, place) + immediate)
        self._multiply(m, first, is_["is_times"], operands, immediates)

        ring, beyond = Signal(signed(_ADDEND)), Signal()    # beyond: known in the second cycle
        m.d.sync += beyond.eq(self.sums.a >= self.constants)
        rotated = is_["is_rotate"] & (ring < 0)
        m.d.comb += [
            ring.eq(operands.a + operands.b + addend),
            read.addr.eq(self.sums.a), read.en.eq(first),
            self.result.eq(Mux(is_["is_fetch"], read.data, Mux(rotated, self.sums.a, ring))),
            self.forwards.eq(full & writer), self.writes.eq(self.done & writer),
        ]  # fmt: skip
        with m.If(active):
            with m.If(fault != 0):
                m.d.comb += self.error.eq(fault)
            with m.Elif(is_["is_loop"] & self.deep):
                m.d.comb += self.error.eq(CoreError.LOOP_DEPTH)
            with m.Elif(is_["is_fetch"] & ~first & beyond):
                m.d.comb += self.error.eq(CoreError.CONSTANT)
        return m

    def _multiply(self, m, first, is_times, operands, immediates) -> None:
        """``times``: in the first cycle the product takes the place of the register, and the immediate becomes 0."""
        with m.If(first & is_times):
            m.d.sync += [operands.b.eq(immediates.b[:24] * operands.b), immediates.b.eq(0),
                         self.code_bits.eq(operands.b)]  # fmt: skip
        with m.If(self.take & ~self.is_times):
            m.d.sync += self.code_bits.eq(field(self.word, "LD", "code_bits"))


class _Issue(wiring.Component):
    """Holds an evaluated instruction until its queue takes it; ``blocked``: holds one, and it does not."""

    def __init__(self, *, several: bool):
        self.several = several
        super().__init__({
            "clear": In(1), "take": In(1), "word": In(INSTRUCTION_BITS), "sums": In(_VALUES), "code_bits": In(4),
            "full": Out(1), "blocked": Out(1), **dispatch(),
        })  # fmt: skip

    def elaborate(self, platform):
        """The streams are views of one register, with a valid bit each."""
        m = Module()
        word, sums, code_bits = Signal(INSTRUCTION_BITS), Signal(_VALUES), Signal(4)
        offered = {kind: Signal(name=f"offered_{kind.lower()}") for kind in CLASSES}
        with m.If(self.take):
            m.d.sync += [word.eq(self.word), sums.eq(self.sums), code_bits.eq(self.code_bits), self.full.eq(1),
                         *(signal.eq(opcode_is(self.word, kind)) for kind, signal in offered.items())]  # fmt: skip
        with m.Elif(~self.blocked | self.clear):
            m.d.sync += [self.full.eq(0), *(signal.eq(0) for signal in offered.values())]
        for kind in CLASSES:
            out = getattr(self, kind.lower())
            operands = out.payload.operands
            m.d.comb += [
                out.valid.eq(offered[kind]),
                out.payload.wait.eq(field(word, kind, "wait")), out.payload.release.eq(field(word, kind, "release")),
            ]  # fmt: skip
            m.d.comb += [getattr(operands, name).eq(getattr(sums, place)) for name, place in evaluated(kind).items()]
            m.d.comb += [getattr(operands, name).eq(field(word, kind, source))
                         for name, source in unchanged(kind).items() if name != "code_bits"]  # fmt: skip
            if kind == "LD":
                m.d.comb += operands.code_bits.eq(code_bits)
            if kind == "SYS" and self.several:
                m.d.comb += operands.value.eq(field(word, "SYS", "limit"))
        m.d.comb += self.blocked.eq(Cat(offered[kind] & ~getattr(self, kind.lower()).ready for kind in CLASSES).any())
        return m
