"""The special-function unit of a core: MISC instructions on vectors of the global buffer, V elements a cycle.

What each operation computes and where its operands lie: ``arch/core_execution.md``, to the bit ``arch/numerics.md``.
Cycles: :func:`mixflight.arch.sfu_pipeline.misc_cycles`.
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.sfu_pipeline import ADD_STAGES, BATCH, PATHS, PREPARE_STAGES
from mixflight.arch.special_functions import GELU_CUBIC, GELU_LINEAR
from mixflight.rtl.core_ports import (
    LINE_BITS,
    CoreConstants,
    RopeTable,
    act_write,
    global_read,
    global_write,
    primitive,
    unit,
)
from mixflight.rtl.delay import delayed
from mixflight.rtl.placed_copy import place
from mixflight.rtl.sfu_beats import HALVES, SfuBeats
from mixflight.rtl.sfu_codes import CodeRound
from mixflight.rtl.sfu_lane import MINUS_ZERO, ONE, ROUTE, SfuLane
from mixflight.rtl.sfu_maximum import Maximum
from mixflight.rtl.sfu_plan import LINES, OPERATIONS, PLAN, POST_ROUTE, POST_ROUTES, plan_of, refused
from mixflight.rtl.sfu_reduce import Reduce
from mixflight.rtl.sfu_results import SfuResults
from mixflight.rtl.sfu_rotation import Rotation
from mixflight.rtl.sfu_scalars import SfuScalars
from mixflight.rtl.sfu_walk import READ_AHEAD, SfuWalk
from mixflight.rtl.small_fifo import SmallFifo

LEVELS = 127
LEVELS_FP32 = 0x42FE0000
ROTATIONS = 32
"""Tokens of a block of a prompt whose rotations are held."""
BY_TURNS = tuple(name for name, path in PATHS.items() if path.every == 2)
CENTRED = PREPARE_STAGES + ADD_STAGES
"""Steps from a beat's issue to its elements less their mean."""
LONGEST = max(path.result for path in PATHS.values())
"""Steps of the longest path."""


class CoreSfu(wiring.Component):
    """MISC instructions, one after another; ``width`` elements a step: 1, 2, 4, 8 or 16.

    ``channels``: of the core, over which the scales of a cache were dealt. ``head_max``: elements of the longest head
    that ROPE can turn, ``rotations`` the successive tokens that it can in one instruction, both powers of two.
    ``unsupported`` stays 1 from an instruction on that the unit does not carry out (``sfu_plan.refused``), which is
    done at once.
    """

    def __init__(self, *, width: int = 4, channels: int = 2, head_max: int = 128, rotations: int = ROTATIONS):
        if width not in (1, 2, 4, 8, 16):
            raise ValueError(f"width must be 1, 2, 4, 8 or 16, not {width}")
        if channels not in (1, 2, 4, 8, 16):
            raise ValueError(f"channels must be 1, 2, 4, 8 or 16, not {channels}")
        self.width = width
        self.channels = channels
        self.head_max = head_max
        self.rotations = rotations
        super().__init__({
            **unit("MISC"), "constants": In(CoreConstants), "rope_table": In(RopeTable),
            "a": Out(global_read()), "b": Out(global_read()), "out": Out(global_write()), "act": Out(act_write()),
            "unsupported": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """Plan; walk; beats; lanes; what segments need; results."""
        m = Module()
        m.submodules.walk = walk = SfuWalk(self.channels)
        m.submodules.beats = beats = SfuBeats(width=self.width, channels=self.channels)
        m.submodules.results = results = SfuResults(self.width)
        m.submodules.rotation = rotation = Rotation(
            width=self.width, head_max=self.head_max, rows=self.rotations)  # fmt: skip
        for name in ("a", "b"):
            port, mine = getattr(walk, name), getattr(self, name)
            m.submodules[f"lines_{name}"] = lines = SmallFifo(shape=LINE_BITS, depth=READ_AHEAD)
            connect(m, port, flipped(mine))
            m.d.comb += [
                lines.push.eq(mine.data_valid), lines.word.eq(mine.data), lines.pop.eq(getattr(beats, f"{name}_pop")),
                getattr(walk, f"{name}_used").eq(lines.pop), getattr(beats, name).eq(lines.head),
                getattr(beats, f"{name}_some").eq(lines.some),
            ]
            if name == "b":
                self._blocks(m, walk, beats, lines)
        connect(m, results.global_, flipped(self.out))
        connect(m, results.act, flipped(self.act))

        course = self._course(m, walk, results)
        plan, en, line = course.plan, course.en, walk.line
        m.d.comb += [
            walk.plan.eq(plan), walk.stored_step.eq(Mux(plan.codes, course.row_lines, plan.vector_step)),
            walk.pop.eq(beats.pop), beats.plan.eq(plan), beats.line.eq(line),
            beats.some.eq(walk.some), beats.en.eq(en), rotation.en.eq(en), results.en.eq(en),
            results.to_act.eq(plan.to_act), results.raw.eq(plan.cells),
            results.push.eq(beats.pop & line.late),
            *(getattr(results.queue, name).eq(getattr(line, name)) for name in results.queue.shape().members),
            rotation.position.eq(self.constants.position), rotation.head_elements.eq(self.constants.head_elements),
            rotation.needed.eq(course.rotations),
        ]
        connect(m, rotation.table, flipped(self.rope_table))
        flow = _Flow(m, course, beats.beat)
        lanes = self._lanes(m, platform, course, flow, beats, rotation)
        m.submodules.scalars = scalars = SfuScalars()
        hold = self._segments(m, course, flow, beats, line, lanes, scalars)
        m.d.comb += beats.hold.eq(hold | beats.begins & course.is_["rope"] & ~rotation.ready | course.other)
        self._scalars(m, course, flow, lanes, scalars)
        self._results(m, course, flow, beats, line, lanes, scalars, results)
        return m

    def _blocks(self, m: Module, walk, beats, lines):
        """A cache's scales arrive a block of lines at a time: of each the scales of values in a FIFO of its own."""
        def values(word):
            return Cat(word.word_select(2 * i + 1, 16) for i in range(16))

        m.d.comb += beats.block[0].eq(values(lines.head))
        if len(beats.block) == 1:
            return
        scales = walk.plan.halves & ~walk.plan.codes
        arrived = Signal(range(len(beats.block)))
        with m.If(self.b.data_valid):
            m.d.sync += arrived.eq(Mux(scales, arrived + 1, 0))
        m.d.comb += lines.push.eq(self.b.data_valid & (arrived == 0))
        for i, later in enumerate(beats.block):
            if i:
                m.submodules[f"scales_{i}"] = fifo = SmallFifo(shape=HALVES, depth=READ_AHEAD)
                m.d.comb += [
                    fifo.push.eq(self.b.data_valid & (arrived == i)), fifo.word.eq(values(self.b.data)),
                    fifo.pop.eq(lines.pop & scales), later.eq(fifo.head),
                ]
        m.d.comb += beats.b_some.eq(Mux(scales, fifo.some, lines.some))

    def _course(self, m: Module, walk, results) -> "_Course":
        """An instruction's plan from the second cycle after its arrival on, until its end."""
        given, setup, starts = Signal(primitive("MISC")), Signal(), Signal()
        course = _Course(self.rotations)
        route = Signal(ROUTE)
        plan = plan_of(m, given, route)
        inverse = Mux(given.elements == self.constants.head_elements, self.constants.inverse_head,
                      self.constants.inverse_hidden)
        refuse, ended, groups, odd = Signal(), Signal(), Signal(18), Signal()
        m.d.comb += [
            self.instruction.ready.eq(~(setup | starts | course.active)), walk.start.eq(starts),
            ended.eq(course.active & ~walk.busy & ~walk.some & results.empty), self.done.eq(ended | refuse),
            course.en.eq(course.active & ~results.full), course.other.eq(course.by_turns & odd),
            course.next_other.eq(course.by_turns & (course.other ^ (PREPARE_STAGES + 1) % 2)),
        ]
        m.d.sync += [setup.eq(0), refuse.eq(0), starts.eq(setup & ~refuse)]
        m.d.sync += self.unsupported.eq(self.unsupported | refuse)
        with m.If(self.instruction.ready & self.instruction.valid):
            m.d.sync += [given.eq(self.instruction.payload), setup.eq(1),
                         refuse.eq(refused(self.instruction.p, self.rotations))]
        with m.If(setup):
            m.d.sync += [
                course.plan.eq(plan), course.route.eq(route), *self._route(course.post_route, route),
                course.inverse.eq(inverse),
                course.rotations.eq(Mux(given.causal, given.vectors, 1)), course.each_own.eq(given.causal),
                course.by_turns.eq(Cat(given.operation == OPERATIONS[name] for name in BY_TURNS).any()),
                groups.eq(Mux(given.group == 0, 1, given.elements >> given.group)),
                *(course.is_[name].eq(given.operation == code) for name, code in OPERATIONS.items()),
            ]
        with m.If(~course.active):
            m.d.sync += odd.eq(1)
        with m.Elif(course.en):
            m.d.sync += odd.eq(~odd)
        with m.If(starts):
            m.d.sync += [course.active.eq(1), course.row_lines.eq((given.elements + (groups << 1) + 63) >> 6)]
        with m.Elif(ended):
            m.d.sync += course.active.eq(0)
        return course

    def _lanes(self, m: Module, platform, course, flow, beats, rotation) -> list[SfuLane]:
        """The lanes with their elements; the first one can find 1/sqrt."""
        en = course.en
        turn, here = Signal(rotation.turn.shape()), Signal(rotation.turn.shape(), reset_less=True)
        now = Mux(beats.beat.first, 0, turn)
        with m.If(en & beats.issued):
            m.d.sync += [turn.eq(now + 1), here.eq(now)]
        # the vector, where each is rotated by a position of its own
        row, row_here = Signal(rotation.row.shape()), Signal(rotation.row.shape(), reset_less=True)
        with m.If(~course.active):
            m.d.sync += row.eq(0)
        with m.Elif(en & beats.issued):
            m.d.sync += [row.eq(row + (beats.beat.last & course.each_own)), row_here.eq(row)]
        m.d.comb += [rotation.turn.eq(here), rotation.row.eq(row_here)]
        # the line of a soft cap: its constants meet elements of later steps
        cap = Signal(32, reset_less=True)
        with m.If(beats.issued & course.is_["softcap"]):
            m.d.sync += [course.cap_scale.eq(beats.b[:32]), cap.eq(beats.b[32:64])]
        square, other = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(en):
            m.d.sync += [square.eq(flow.bit("early", PREPARE_STAGES - 1) & course.is_["norm"] & ~course.summed),
                         other.eq(course.next_other)]
        squared = course.is_["layernorm"] & ~flow.bit("early", CENTRED) & ~flow.bit("late", CENTRED)
        lanes = []
        for i in range(self.width):
            lane = SfuLane(rsqrt=i == 0)
            place(m, platform, f"lane_{i}", lane, like=f"lane_{min(i, 1)}")
            m.d.comb += [
                lane.en.eq(en), lane.x.eq(beats.x[i]), lane.far.eq(beats.far[i]), lane.partner.eq(beats.partner[i]),
                lane.y.eq(beats.y[i]), lane.cosine.eq(rotation.cosines[i]), lane.sine.eq(rotation.sines[i]),
                lane.square.eq(square), lane.route.eq(course.route),
                lane.square_sum.eq(squared), lane.other.eq(other),
            ]
            lanes.append(lane)
        m.d.comb += [beats.cap.eq(cap), *self._route(lanes[0].route, course.post_route)]
        return lanes

    def _route(self, to, route):
        """``to``, a part of a route, is as ``route`` has it."""
        return [getattr(to, name).eq(getattr(route, name)) for name in POST_ROUTE.members]

    def _segments(self, m: Module, course, flow, beats, line, lanes, scalars):
        """Maxima and sums of segments and what becomes of them; whether a beat must wait."""
        en, is_ = course.en, course.is_
        m.submodules.maximum = maximum = Maximum(self.width)
        m.submodules.reduce = reduce = Reduce(self.width)
        summing = Signal()
        m.d.comb += summing.eq(is_["norm"] & (line.turn == 0) | is_["softmax"] & (line.turn == 1)
                               | is_["layernorm"] & (line.turn != 2))
        largest = flow.valid("largest", beats.issued & (line.turn == 0))
        summed = flow.valid("summed", beats.issued & summing)
        probability = is_["probability_quantise"]
        for i, lane in enumerate(lanes):
            of_first = probability | is_["softmax"]
            m.d.comb += [
                maximum.values[i].eq(Mux(of_first, lane.first, lane.x)),
                reduce.values[i].eq(Mux(is_["norm"], lane.first, Mux(is_["layernorm"], lane.second, lane.exp))),
            ]
        for unit_, kind, valid in ((maximum, "largest", largest), (reduce, "summed", summed)):
            m.d.comb += [unit_.en.eq(en), unit_.valid.eq(valid)]
            m.d.comb += [getattr(unit_, name).eq(flow.at(name, kind)) for name in ("first", "last", "mask")]
        m.d.comb += maximum.absolute.eq(~is_["softmax"])

        free, post, mean = Signal(init=1), Signal(), Signal()
        left, segment = Signal(range(max(path.post for path in PATHS.values()) + 1)), Signal(range(BATCH))
        with m.If(en & beats.issued & summing & beats.beat.last):
            m.d.sync += free.eq(0)
        of_segment, early = flow.at("segment", "summed"), flow.at("early", "summed")
        with m.If(en & summed & flow.at("last", "summed")):
            m.d.sync += [segment.eq(of_segment), mean.eq(is_["layernorm"] & early)]
        ends = Signal()
        m.d.comb += ends.eq(en & post & (left == 0))
        with m.If(en & reduce.done):
            m.d.sync += [post.eq(1), left.eq(Mux(
                mean, PATHS["layernorm"].mean, Mux(is_["softmax"], PATHS["softmax"].post, PATHS["norm"].post)))]
        with m.Elif(ends):
            m.d.sync += [post.eq(0), free.eq(1), *self._route(course.post_route, course.route)]
        with m.Elif(en):
            m.d.sync += left.eq(left - 1)
        for name, members in POST_ROUTES.items():
            with m.If(en & reduce.done & is_[name]):
                m.d.sync += [getattr(course.post_route, part).eq(value) for part, value in members.items()]
        m.d.comb += [
            course.summed.eq(reduce.done | post), beats.instead.eq(reduce.done), beats.sum.eq(reduce.total),
            scalars.quantise.eq(~is_["softmax"] & ~is_["layernorm"]), scalars.levels.eq(LEVELS_FP32),
            scalars.found.eq(en & maximum.done & (course.plan.last_pass != 0) | ends & mean),
            scalars.largest.eq(Mux(mean, lanes[0].first, maximum.largest)),
            scalars.found_segment.eq(Mux(
                mean, segment, delayed(m, en, flow.at("segment", "largest"), maximum.latency, "found"))),
            scalars.write.eq(ends & ~mean), scalars.write_segment.eq(segment), scalars.factor.eq(lanes[0].reciprocal),
            scalars.takes_found.eq(beats.issued & beats.begins & line.waits),
            scalars.takes_factor.eq(beats.issued & beats.begins & line.waits_sum),
        ]
        return beats.begins & (line.waits & ~scalars.has_found | line.waits_sum & ~scalars.has_factor
                               | line.first & ~free)

    def _scalars(self, m: Module, course, flow, lanes, scalars):
        """What meets all elements of a segment, and constants: registers, read and chosen a step before."""
        is_, constants = course.is_, self.constants
        first, added, second = (Signal(32, name=f"{name}_scalar", reset_less=True)
                                for name in ("first", "added", "second"))
        gelu = is_["activation:gelu:gated"] | is_["activation:gelu:plain"]
        ones = is_["activation:silu:gated"] | is_["activation:silu:plain"] | course.by_turns
        as_it_is = is_["layernorm"] & flow.bit("early", CENTRED - 1)     # of the first pass, which adds up x
        subtracts = is_["softmax"] | is_["layernorm"] & ~flow.bit("early", PREPARE_STAGES - 1)
        m.d.comb += [
            scalars.factor_segment.eq(flow.at("segment", "used", -1)),
            scalars.negative_segment.eq(Mux(is_["layernorm"], flow.segment(PREPARE_STAGES - 1),
                                            flow.segment(PATHS["softmax"].largest - 1))),
            scalars.scale_segment.eq(flow.at("segment", "result", -1)),
        ]
        of_sum = Mux(is_["softmax"], MINUS_ZERO, constants.eps)
        with m.If(course.en):
            m.d.sync += [
                first.eq(Mux(course.summed, course.inverse, Mux(is_["softmax"], constants.inverse_root, Mux(
                    is_["softcap"], course.cap_scale, scalars.factor_read)))),
                added.eq(Mux(course.summed, of_sum, Mux(subtracts, scalars.negative, Mux(
                    gelu & ~course.next_other, GELU_LINEAR, Mux(ones, ONE, MINUS_ZERO))))),
                second.eq(Mux(gelu, GELU_CUBIC, Mux(as_it_is, ONE, scalars.factor_read))),
            ]
        for lane in lanes:
            m.d.comb += [lane.first_scalar.eq(first), lane.added_scalar.eq(added), lane.second_scalar.eq(second)]

    def _results(self, m: Module, course, flow, beats, line, lanes, scalars, results):
        """FP32 results and codes to where they are gathered."""
        valid = flow.valid("result", beats.issued & line.late)
        scale = Signal(16, reset_less=True)
        with m.If(course.en):
            m.d.sync += scale.eq(scalars.scale)
        m.d.comb += [
            results.valid.eq(valid), results.flush.eq(flow.at("flush", "result")), results.scale.eq(scale),
        ]
        for i, lane in enumerate(lanes):
            m.submodules[f"code_{i}"] = code = CodeRound()
            product = Mux(course.is_["probability_quantise"], lane.second, lane.first)
            m.d.comb += [
                code.en.eq(course.en & course.plan.to_act), Value.cast(code.value).eq(product),
                code.levels.eq(LEVELS), results.results[i].eq(lane.result), results.codes[i].eq(code.code),
            ]


class _Course:
    """An instruction under way: its plan and route, which operation it is, whether it is active, and steps.

    ``row_lines``, a cycle after the plan: from a row of the embedding to the next. ``rotations``
    that ROPE needs; ``each_own``: every vector its own. ``by_turns``: a beat every other step, none while ``other``;
    ``next_other`` is the lanes' a step later. ``post_route`` of the first lane; ``summed`` from the step on in which a
    sum is found until it has been through that lane.
    """

    def __init__(self, rotations: int):
        self.plan, self.route = Signal(PLAN), Signal(ROUTE)
        self.cap_scale = Signal(32, reset_less=True)
        self.inverse, self.row_lines, self.rotations = Signal(32), Signal(LINES), Signal(range(rotations + 1))
        self.active, self.en, self.each_own = Signal(), Signal(), Signal()
        self.by_turns, self.other, self.next_other = Signal(), Signal(), Signal()
        self.post_route, self.summed = Signal(POST_ROUTE), Signal()
        self.is_ = {name: Signal(name=f"is_{name.replace(':', '_')}") for name in OPERATIONS}


class _Flow:
    """What goes beside the elements, as late as the operation's path has it: registers, chosen a step before."""

    def __init__(self, m: Module, course: _Course, beat):
        self.m, self.course = m, course
        self.past, self.chosen = {}, {}
        for name in beat.shape().members:
            value, rows = Value.cast(getattr(beat, name)), []
            for bit in range(len(value)):
                row = Signal(LONGEST, name=f"{name}_{bit}_past", reset_less=True)
                with m.If(course.en):
                    m.d.sync += row.eq(Cat(value[bit], row))
                rows.append(row)
            self.past[name] = rows

    def bit(self, name: str, steps: int):
        """A flag of the beat that was issued ``steps`` steps before."""
        return self.past[name][0][steps - 1]

    def segment(self, steps: int):
        """The segment of the beat that was issued ``steps`` steps before."""
        return Cat(row[steps - 1] for row in self.past["segment"])

    def at(self, name: str, kind: str, more: int = 0):
        """What the beat that now is at ``kind`` (a member of ``Path``) of the operation's path had as ``name``.

        Not to be asked for within a condition.
        """
        if (name, kind, more) not in self.chosen:
            value = Cat(self._chosen(row, kind, more - 1) for row in self.past[name])
            self.chosen[name, kind, more] = delayed(self.m, self.course.en, value, 1, f"{name}_at_{kind}")
        return self.chosen[name, kind, more]

    def valid(self, kind: str, now):
        """Whether the beat that now is there was marked by ``now`` when it was issued."""
        row, here = Signal(LONGEST, name=f"to_{kind}"), Signal(name=f"at_{kind}")
        with self.m.If(~self.course.active):        # marks of a shorter path than the next one's
            self.m.d.sync += [row.eq(0), here.eq(0)]
        with self.m.Elif(self.course.en):
            self.m.d.sync += [row.eq(Cat(now, row)), here.eq(self._chosen(row, kind, -1))]
        return here

    def _chosen(self, row, kind: str, more: int):
        by_steps: dict[int, list] = {}
        for name, flag in self.course.is_.items():
            if steps := getattr(PATHS[name], kind):
                by_steps.setdefault(steps + more, []).append(flag)
        return Cat(row[steps - 1] & Cat(*flags).any() for steps, flags in by_steps.items()).any()
