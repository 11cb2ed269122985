"""The queues of a core: instructions of a class in order, tokens between the classes."""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.compact import codes
from mixflight.arch.core_errors import CoreError
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES
from mixflight.rtl.core_ports import TOKENS, UnitPort, dispatch, queued
from mixflight.rtl.small_fifo import SmallFifo

TOKEN_BITS = 8
"""A counter holds up to 255 tokens from one class for another."""
STUCK_CYCLES = 16
"""Cycles in which nothing can happen any more, until that is an error."""

_EMPTY = {"LD": ("bytes",), "ST": ("bytes",), "MM": ("columns", "rows"), "MV": ("columns", "rows"),
          "MISC": ("vectors", "elements"), "SYS": ()}  # fmt: skip


class Queues(wiring.Component):
    """Six queues of ``depth`` instructions in front of the units; up to ``in_flight`` of each class have begun.

    ======================  ========================================================================================
    ld … sys                instructions from the sequencer, in program order
    unit_ld … unit_sys      the units; ``unit_sys`` gets barriers and exchanges, and with ``cores`` = 1 none
    waiting                 the sequencer cannot go on: it waits for a queue, or is at its end
    clear                   empty everything: before a run
    finished                a pulse: DONE was reached, and everything before it has ended
    busy                    a bit a class: it has an instruction in its unit
    begins, ends            pulses, a bit a class: its unit takes an instruction, ends one
    idle                    nothing waits and nothing is in a unit
    error                   tokens overflow, or a deadlock (:class:`CoreError`); until ``clear``
    ======================  ========================================================================================

    The head of a queue starts when one token from every class in ``wait`` is there: they are taken, and its unit gets
    it. When its unit says ``done`` every class in ``release`` gets one. Instructions of no bytes, columns, rows,
    vectors or elements, and barriers and exchanges of a single core, only do the tokens' part.

    **Cycles.** An instruction taken in cycle t can start in t + 1. One that starts in t and is done in d > t, or has
    nothing to do (d = t), gives tokens that let another start in d + 1: work of n cycles ends in d = t + n - 1. A class
    starts and ends an instruction a cycle.
    """

    def __init__(self, *, depth: int, in_flight: int = 16, cores: int = 1, classes: tuple[str, ...] = CLASSES):
        if depth < 1 or in_flight < 1:
            raise InputError(f"queues must hold at least 1 instruction, not {depth} and {in_flight}")
        self.depth, self.in_flight, self.cores, self.classes = depth, in_flight, cores, classes
        super().__init__({
            **{name: member.flip() for name, member in dispatch().items()},
            **{f"unit_{kind.lower()}": Out(UnitPort(kind)) for kind in CLASSES},
            "waiting": In(1), "clear": In(1), "finished": Out(1), "busy": Out(len(CLASSES)), "idle": Out(1),
            "begins": Out(len(CLASSES)), "ends": Out(len(CLASSES)), "error": Out(4),
        })  # fmt: skip

    def elaborate(self, platform):
        """A queue a class; tokens in the middle."""
        m = Module()
        queues = {}
        for kind in CLASSES:
            if kind not in self.classes:
                continue
            joined = kind == "SYS" and self.cores == 1
            queues[kind] = queue = _Queue(kind, self.depth, self.in_flight, alone=joined)
            m.submodules[kind.lower()] = queue
            wiring.connect(m, wiring.flipped(getattr(self, kind.lower())), queue.instruction)
            unit, port = getattr(self, f"unit_{kind.lower()}"), queue.unit
            m.d.comb += [
                unit.instruction.valid.eq(port.instruction.valid), unit.instruction.p.eq(port.instruction.p),
                port.instruction.ready.eq(unit.instruction.ready), port.done.eq(unit.done), queue.clear.eq(self.clear),
            ]  # fmt: skip
        overflows = self._tokens(m, queues)

        sys = queues["SYS"]
        others = [queue for kind, queue in queues.items() if kind != "SYS"]
        m.d.comb += [
            self.busy.eq(Cat(queues[kind].busy if kind in queues else 0 for kind in CLASSES)),
            self.begins.eq(Cat(queues[kind].begins if kind in queues else 0 for kind in CLASSES)),
            self.ends.eq(Cat(queues[kind].unit.done if kind in queues else 0 for kind in CLASSES)),
            sys.others_idle.eq(Cat(queue.idle for queue in others).all()),
            self.idle.eq(sys.others_idle & sys.idle), self.finished.eq(sys.finished),
        ]  # fmt: skip
        stuck = Signal(range(STUCK_CYCLES))
        moves = Cat(queue.able | queue.flying for queue in queues.values()).any()
        with m.If(self.clear | moves | self.finished | ~self.waiting | self.idle):
            m.d.sync += stuck.eq(0)
        with m.Elif(stuck != STUCK_CYCLES - 1):
            m.d.sync += stuck.eq(stuck + 1)
        with m.If(self.clear):
            m.d.sync += self.error.eq(0)
        with m.Elif(self.error == 0):
            with m.If(overflows.any()):
                m.d.sync += self.error.eq(CoreError.TOKENS)
            with m.Elif(stuck == STUCK_CYCLES - 1):
                m.d.sync += self.error.eq(CoreError.DEADLOCK)
        return m

    def _tokens(self, m, queues):
        """A counter for every pair of classes; bits of those that overflowed: they are 0, and a token is there."""
        overflows = []
        for kind, queue in queues.items():
            for place, other in enumerate(name for name in CLASSES if name != kind):
                bit = TOKENS - 1 - place
                if other not in queues:
                    m.d.comb += queue.tokens[bit].eq(0)
                    continue
                giver = queues[other]
                back = TOKENS - 1 - [name for name in CLASSES if name != other].index(kind)
                count = Signal(TOKEN_BITS, name=f"tokens_{other.lower()}_{kind.lower()}")
                there = Signal(name=f"token_{other.lower()}_{kind.lower()}")
                given, taken = giver.gives[back], queue.takes[bit]
                m.d.comb += queue.tokens[bit].eq(there)
                m.d.sync += there.eq(given | (there & ~(taken & (count == 1))))
                with m.If(given ^ taken):
                    m.d.sync += count.eq(count + Mux(given, 1, -1))
                with m.If(self.clear):
                    m.d.sync += [count.eq(0), there.eq(0)]
                overflows.append(there & (count == 0))
        return Cat(overflows)


class _Queue(wiring.Component):
    """One class: what waits, and what has begun, each with the tokens it gives."""

    def __init__(self, kind: str, depth: int, in_flight: int, *, alone: bool):
        self.kind, self.depth, self.in_flight, self.alone = kind, depth, in_flight, alone
        ports = {
            "instruction": In(dispatch()[kind.lower()].signature), "unit": Out(UnitPort(kind)), "clear": In(1),
            "tokens": In(TOKENS), "takes": Out(TOKENS), "gives": Out(TOKENS),
            "busy": Out(1), "begins": Out(1), "flying": Out(1), "idle": Out(1), "able": Out(1),
        }  # fmt: skip
        super().__init__(ports | ({"others_idle": In(1), "finished": Out(1)} if kind == "SYS" else {}))

    def elaborate(self, platform):
        """The head starts when it can; what has nothing to do and nothing before it ends at once."""
        m = Module()
        reset = ResetInserter(self.clear)
        m.submodules.waiting = waiting = reset(SmallFifo(shape=queued(self.kind), depth=self.depth))
        m.submodules.heads = heads = reset(_Heads(self.depth))
        m.submodules.flying = flying = reset(SmallFifo(shape=TOKENS + 1, depth=self.in_flight))
        operands, sources, head = self.instruction.p.operands, _EMPTY[self.kind], waiting.head
        m.d.comb += [
            waiting.word.eq(self.instruction.p), waiting.push.eq(self.instruction.valid & waiting.room),
            self.instruction.ready.eq(waiting.room),
            heads.push.eq(waiting.push), heads.pop.eq(waiting.pop), heads.level.eq(waiting.level),
            heads.word.wait.eq(self.instruction.p.wait),
            heads.word.empty.eq(Cat(getattr(operands, name) == 0 for name in sources).any() if sources else self.alone),
        ]  # fmt: skip
        m.submodules.able = able = _Able()
        have, start, empty, wanted = able.have, Signal(), heads.head.empty, heads.head.wait
        m.d.comb += [able.some.eq(waiting.some), able.wanted.eq(wanted), able.tokens.eq(self.tokens),
                     able.room.eq(flying.room), able.empty.eq(empty)]
        if self.kind == "SYS":
            done = heads.head.done
            m.d.comb += [
                heads.word.done.eq(operands.operation == codes("SYS", "operation")["done"]),
                self.finished.eq(have & done & self.others_idle & ~flying.some),
                self.able.eq(have & (~done | self.others_idle)),
            ]  # fmt: skip
        else:
            done = C(0)
            m.d.comb += self.able.eq(have)
        m.d.comb += able.done.eq(done)
        offered = able.offered
        pending, owed = Signal(range(self.in_flight + 1)), Signal()
        first, ends, direct = Signal(TOKENS + 1), Signal(), Signal()
        m.d.comb += [
            self.unit.instruction.valid.eq(able.valid),
            self.unit.instruction.payload.eq(head.operands),
            start.eq((offered & (empty | self.unit.instruction.ready)) | (self.finished if self.kind == "SYS" else 0)),
            waiting.pop.eq(start), self.takes.eq(Mux(start, wanted, 0)),
            direct.eq(start & (empty | done) & ~flying.some),
            flying.push.eq(start & ~direct), flying.word.eq(Cat(head.release, empty)),
            first.eq(flying.head), ends.eq(flying.some & (first[TOKENS] | self.unit.done | owed)),
            flying.pop.eq(ends),
            self.gives.eq(Mux(ends, first[:TOKENS], Mux(direct, head.release, 0))),
            self.flying.eq(flying.some), self.idle.eq(~waiting.some & ~flying.some),
        ]  # fmt: skip
        # done of a later instruction may come while empty ones before it are still being counted out
        more, less = self.unit.done, ends & ~first[TOKENS]
        m.d.sync += owed.eq((more & ~less) | (owed & ~(less & ~more & (pending == 1))))
        with m.If(more ^ less):
            m.d.sync += pending.eq(pending + Mux(more, 1, -1))
        with m.If(self.clear):
            m.d.sync += [pending.eq(0), owed.eq(0)]
        self._busy(m)
        return m

    def _busy(self, m) -> None:
        inside = Signal(range(self.in_flight + 1))
        m.d.comb += self.begins.eq(self.unit.instruction.valid & self.unit.instruction.ready)
        with m.If(self.begins ^ self.unit.done):
            m.d.sync += inside.eq(inside + Mux(self.begins, 1, -1))
        with m.If(self.clear):
            m.d.sync += inside.eq(0)
        m.d.comb += self.busy.eq(inside != 0)


class _Able(wiring.Component):
    """Whether the oldest instruction has what it waits for, whether it may start, and whether its unit gets it.

    Combinational, a component of its own so that it is mapped for depth: units have much to do with what they get.
    """

    def __init__(self) -> None:
        super().__init__({
            "some": In(1), "wanted": In(TOKENS), "tokens": In(TOKENS), "room": In(1), "done": In(1), "empty": In(1),
            "have": Out(1), "offered": Out(1), "valid": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """The conditions."""
        m = Module()
        m.d.comb += [
            self.have.eq(self.some & ((self.wanted & ~self.tokens) == 0)),
            self.offered.eq(self.have & self.room & ~self.done), self.valid.eq(self.offered & ~self.empty),
        ]
        return m


class _Heads(wiring.Component):
    """What decides whether the oldest instruction of a queue starts, in a register: read before its turn comes.

    ``push``, ``pop`` and ``level`` are the queue's; ``word`` goes in with ``push``; ``head`` means nothing while the
    queue is empty.
    """

    def __init__(self, depth: int):
        self.places = 1 << max(1, ceil_log2(depth))
        word = data.StructLayout({"wait": TOKENS, "empty": 1, "done": 1})
        super().__init__({
            "push": In(1), "word": In(word), "pop": In(1), "level": In(range(depth + 1)), "head": Out(word),
        })  # fmt: skip

    def elaborate(self, platform):
        """The second oldest is read, so that it is there when the oldest leaves; or what comes is the next one."""
        m = Module()
        m.submodules.memory = stored = memory.Memory(shape=self.word.shape(), depth=self.places, init=[])
        write, read = stored.write_port(), stored.read_port(domain="comb")
        last, second = Signal(range(self.places)), Signal(range(self.places), init=1)
        m.d.comb += [write.addr.eq(last), write.data.eq(self.word), write.en.eq(self.push), read.addr.eq(second)]
        with m.If(self.push):
            m.d.sync += last.eq(last + 1)
        with m.If(self.pop):
            m.d.sync += second.eq(second + 1)
        with m.If(self.pop | (self.push & (self.level == 0))):
            m.d.sync += self.head.eq(Mux(self.level[1:] == 0, self.word, read.data))
        return m
