"""How many cycles the weight-stationary array takes: the closed form its hardware meets when nothing stalls it."""

from mixflight.arch.array_pipeline import lane_latency
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero
from mixflight.arch.stationary_pipeline import stationary_gap, stationary_select, visit_steps


def stationary_period(
    *, rows: int, cols: int, lanes: int, tokens: int, group: int, passes: int, zero: Zero
) -> int:  # fmt: skip
    """Cycles from one group's end to the next one's: the PEs' time for its weight tiles, or the lanes' if longer."""
    return max(
        visit_steps(group, rows, tokens, passes),
        stationary_gap(cols=cols, lanes=lanes, tokens=tokens, zero=zero),
    )


def stationary_ends(
    *, rows: int, cols: int, lanes: int, tokens: int, group: int, passes: int, zero: Zero
) -> int:  # fmt: skip
    """Cycles of a run beyond a period a group: first load, fill and drain, less what the first group needs not wait.

    The first tile of r = min(G, R) rows is loaded in r cycles; then the group's tiles start one after another, the last
    one's M tokens follow (M where every other tile counts max(M, r)), and from the last token the last element is
    offered ``stationary_select`` and a lane's latency later.
    """
    first = min(group, rows)
    visit = visit_steps(group, rows, tokens, passes)
    first_end = first + visit - max(tokens, first) + tokens - 1
    period = stationary_period(rows=rows, cols=cols, lanes=lanes, tokens=tokens, group=group, passes=passes, zero=zero)
    select = stationary_select(rows=rows, cols=cols, lanes=lanes, tokens=tokens)
    return first_end - period + select + lane_latency(zero) + 1


def stationary_cycles(
    *, rows: int, cols: int, lanes: int, tokens: int, k: int, group: int, passes: int, tiles: int = 1, zero: Zero
) -> int:  # fmt: skip
    """Unstalled cycles of ``tiles`` tiles of ``tokens`` x ``cols`` outputs over ``k``, back to back.

    Counted from the cycle in which the first weight beat is accepted to the cycle in which the last output is, both
    included. With N = tiles * k / group groups and P the group period

        cycles = N * P + stationary_ends

    Every group but the first ends P after the one before. Why exactly: where the PEs set the period, tile starts repeat
    every P and no group end waits. Where the lanes do, every end waits for them, since a group's tiles are in at
    most the PEs' time after the end before, and a longer wait only gives the next tile more time to load.
    """
    if group < 1 or k < group or k % group:
        raise InputError(f"group must divide K: {group} does not divide {k}, in the array's timing")
    if min(passes, tiles, tokens) < 1:
        raise InputError(
            f"passes, tiles and tokens must be at least 1, not {passes}, {tiles} and {tokens}, in the array's timing"
        )
    given = {"rows": rows, "cols": cols, "lanes": lanes, "tokens": tokens, "group": group, "passes": passes}
    groups = tiles * (k // group)
    return groups * stationary_period(**given, zero=zero) + stationary_ends(**given, zero=zero)
