"""What an instruction of the special-function unit comes to: bases, strides, lengths and the operation's path."""

from amaranth import *
from amaranth.lib import data

from mixflight.arch.compact import codes
from mixflight.arch.sfu_pipeline import ADD_STAGES, GELU_STEPS, MULTIPLY_STAGES, PATHS, SOFTCAP_STEPS
from mixflight.rtl.core_ports import ACT_LINE, GLOBAL_LINE
from mixflight.rtl.sfu_lane import (
    POWER_STEPS,
    ROUTE,
    SIGMOID_STEPS,
    Added,
    Adds,
    Exp,
    First,
    Result,
    Scaled,
    Second,
    Third,
)

OPERATIONS = {name: code for name, code in codes("MISC", "operation").items() if name in PATHS}
"""Operations that the unit has, by their codes."""

LINES = 15
"""Bits of a vector's lines of 16 elements."""

PLAN = data.StructLayout({
    "last_pass": 2,
    "use_b": 1,             # the second port brings lines of FP32 or scales
    "shared_b": 1,          # one row of b for all vectors
    "one_b": 1,             # and one line of it for all of a vector
    "codes": 1,             # x are codes that lie in b's row: embed
    "halves": 1,            # y are FP16: scales
    "capped": 1,            # y are a cap with x's sign
    "clamp": 1,             # x is 16, with its sign, where it is far
    "rectify": 1,           # 0 for an x with a sign
    "sums": 1,              # the last pass needs the segment's sum, those before it what was found before it
    "to_act": 1,
    "cells": 1,             # keys and values of a cache in turns
    "vectors": 12, "lines": LINES, "tail": 4, "segment_lines": LINES,
    "own": 18,              # elements that the first vector sees
    "causal": 1,            # each vector sees one more than the one before
    "vector_step": LINES, "line_step": 12,
    "a_line": GLOBAL_LINE, "b_line": GLOBAL_LINE, "out_line": ACT_LINE, "out_line_step": 12,
    "scale_half": 5,        # embed: place of the first scale in its line
})  # fmt: skip

FLAGS = {
    "embed": {"use_b": 1, "shared_b": 1, "codes": 1, "halves": 1},
    "norm": {"use_b": 1, "shared_b": 1},
    "layernorm": {"use_b": 1, "shared_b": 1},
    "rope": {},
    "quantise": {"to_act": 1},
    "kv_append": {"to_act": 1, "cells": 1},
    "probability_quantise": {"use_b": 1, "shared_b": 1, "halves": 1, "to_act": 1},
    "softmax": {},
    "residual": {"use_b": 1},
    "bias": {"use_b": 1, "shared_b": 1},
    "activation:silu:gated": {"use_b": 1},
    "activation:silu:plain": {},
    "activation:gelu:gated": {"use_b": 1, "clamp": 1},
    "activation:gelu:plain": {"clamp": 1},
    "softcap": {"use_b": 1, "shared_b": 1, "one_b": 1, "capped": 1},
    "activation:relu:gated": {"use_b": 1, "rectify": 1},
    "activation:relu:plain": {"rectify": 1},
}
"""What an operation reads and writes."""

_SIGMOID = {"first": First.SIGMOID, "adds": Adds.EXP, "added": Added.SCALAR, "second": Second.X,
            "x_steps": SIGMOID_STEPS, "power_steps": POWER_STEPS}  # fmt: skip
_GELU = {"first": First.SQUARE, "adds": Adds.SECOND, "added": Added.SCALAR, "third": Third.CUBIC,
         "exp": Exp.THIRD, "second": Second.X, "x_steps": GELU_STEPS - MULTIPLY_STAGES, "y_steps": GELU_STEPS,
         "power_steps": POWER_STEPS + 1}  # fmt: skip

ROUTES = {
    "embed": {"first": First.Y, "adds": Adds.FIRST, "added": Added.SCALAR, "result": Result.SUM},
    "norm": {"first": First.SCALAR, "second": Second.Y, "y_steps": MULTIPLY_STAGES, "result": Result.SECOND},
    "layernorm": {"adds": Adds.X, "added": Added.SCALAR, "scaled": Scaled.SUM, "second": Second.SCALAR,
                  "third": Third.Y, "y_steps": ADD_STAGES + MULTIPLY_STAGES, "result": Result.THIRD},
    "rope": {"first": First.COSINE, "adds": Adds.FIRST, "added": Added.THIRD, "result": Result.SUM},
    "quantise": {"first": First.SCALAR},
    "kv_append": {"first": First.SCALAR},
    "probability_quantise": {"first": First.Y, "second": Second.SCALAR},
    "softmax": {"first": First.SCALAR, "adds": Adds.FIRST, "added": Added.SCALAR, "exp": Exp.SUM,
                "scaled": Scaled.EXP, "second": Second.SCALAR, "result": Result.SECOND},
    "residual": {"adds": Adds.X, "added": Added.Y, "result": Result.SUM},
    "bias": {"adds": Adds.X, "added": Added.Y, "result": Result.SUM},
    "activation:silu:gated": _SIGMOID | {"third": Third.Y, "y_steps": SIGMOID_STEPS + MULTIPLY_STAGES,
                                         "result": Result.THIRD},
    "activation:silu:plain": _SIGMOID | {"result": Result.SECOND},
    "activation:gelu:gated": _GELU | {"result": Result.THIRD},
    "activation:gelu:plain": _GELU | {"result": Result.SECOND},
    "softcap": {"first": First.SCALAR, "exp": Exp.FIRST, "adds": Adds.REST, "added": Added.SCALAR,
                "power_steps": POWER_STEPS - ADD_STAGES, "scaled": Scaled.SUM, "second": Second.RECIPROCAL,
                "third": Third.Y, "y_steps": SOFTCAP_STEPS - MULTIPLY_STAGES, "result": Result.THIRD},
    "activation:relu:gated": {"first": First.Y, "result": Result.FIRST},
    "activation:relu:plain": {"adds": Adds.X, "added": Added.SCALAR, "result": Result.SUM},
}  # fmt: skip
"""How an operation's elements run through the lanes."""

CAUSAL = ("rope", "softmax", "probability_quantise")
"""Operations to which it matters that vectors are successive tokens."""

_MEAN_SQUARE = {"first": First.SCALAR, "adds": Adds.FIRST, "added": Added.SCALAR, "rsqrt": 1}
POST_ROUTES = {
    "norm": _MEAN_SQUARE,
    "layernorm": _MEAN_SQUARE,
    "softmax": {"adds": Adds.X, "added": Added.SCALAR},
}  # fmt: skip
"""How a segment's sum runs through the first lane: to 1/sqrt(mean + eps), past a mean; to its reciprocal. The rest of
the route is the operation's and does not matter."""

POST_ROUTE = data.StructLayout({name: ROUTE.members[name] for name in ("first", "adds", "added", "rsqrt")})
"""What of the first lane's route is another one for a segment's sum."""


def route_of(members: dict) -> dict:
    """All members of a route; those that are not given do not matter."""
    least = {"y_steps": 2, "x_steps": 2, "power_steps": 2, "first": First.SCALAR, "adds": Adds.X, "added": Added.Y,
             "exp": Exp.X, "scaled": Scaled.FIRST, "second": Second.SCALAR, "third": Third.PARTNER_SINE,
             "result": Result.SUM}
    return {name: members.get(name, least.get(name, 0)) for name in ROUTE.members}


def refused(given, rotations: int) -> Value:
    """Whether the unit does not carry out the operands ``given``: operations that it lacks, ``causal`` where it means
    nothing, ROPE of more tokens than ``rotations``, known scales, other targets, groups of fewer than 16."""
    targets = codes("MISC", "target")
    known = [given.operation == code for code in OPERATIONS.values()]
    placed = Cat(given.operation == OPERATIONS[name] for name in CAUSAL).any()
    to_act = Cat(given.operation == OPERATIONS[name] for name, flags in FLAGS.items() if "to_act" in flags).any()
    return Cat(
        ~Cat(known).any(), given.causal & ~placed, given.static,
        given.target != Mux(to_act, targets["act"], targets["global"]),
        given.causal & (given.operation == OPERATIONS["rope"]) & (given.vectors > rotations),
        (given.group != 0) & (given.group < 4),
    ).any()


def plan_of(m: Module, given, route) -> Signal:
    """The plan of the operands ``given`` (``core_ports.primitive("MISC")``), and what drives ``route``."""
    plan = Signal(PLAN)
    lines, scales_at = Signal(LINES), Signal(LINES + 5)
    heads, scale_lines = Signal(12), Signal(LINES)
    whole = given.group == 0
    causal = given.causal & (given.operation != OPERATIONS["rope"])
    m.d.comb += [
        lines.eq((given.elements + 15) >> 4), heads.eq(Mux(plan.cells, given.vectors >> 1, given.vectors)),
        scales_at.eq(given.elements >> 1), scale_lines.eq(scales_at >> 5),
        plan.vectors.eq(given.vectors), plan.lines.eq(lines), plan.tail.eq(given.elements[:4]),
        plan.segment_lines.eq(lines), plan.causal.eq(causal),
        plan.own.eq(Mux(causal, given.elements - given.vectors + 1, given.elements)),
        plan.vector_step.eq(Mux(given.parts, lines, 1)), plan.line_step.eq(Mux(given.parts, 1, heads)),
        plan.out_line_step.eq(Mux(plan.to_act, given.vectors, plan.line_step)),
        plan.a_line.eq(given.a_line), plan.b_line.eq(given.b_line), plan.out_line.eq(given.out_line),
    ]
    with m.Switch(given.operation):
        for name, code in OPERATIONS.items():
            with m.Case(code):
                m.d.comb += [plan.last_pass.eq(PATHS[name].passes - 1), plan.sums.eq(PATHS[name].summed != 0)]
                m.d.comb += [getattr(plan, flag).eq(value) for flag, value in FLAGS[name].items()]
                m.d.comb += [getattr(route, part).eq(value) for part, value in route_of(ROUTES[name]).items()]
                if name in ("quantise", "embed"):
                    with m.If(~whole):
                        m.d.comb += plan.segment_lines.eq(Const(1, LINES) << (given.group - 4)[:4])
                if name == "embed":
                    m.d.comb += [plan.a_line.eq(given.b_line), plan.b_line.eq(given.b_line + scale_lines),
                                 plan.scale_half.eq(scales_at)]
    return plan
