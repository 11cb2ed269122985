"""Coverage of what several cores meet at: lines, buffers, who waits; what one core alone does not owe."""

import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import LINE_BYTES, codes
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_coverage.campaign import cores_programs
from mixflight.sim.core_coverage.measure import ProgramCoverage, share
from mixflight.sim.core_coverage.meetings import meetings
from mixflight.sim.core_values.random_maker import nothing
from mixflight.sim.core_values.state import shape_of

DUO = accelerator_named("mixpe-duo")


def test_a_few_programs_reach_most_of_what_joins_cores():
    coverage = ProgramCoverage(DUO)
    for made in cores_programs(DUO, numbers=range(3, 8)):
        coverage.add(*made)
    functional, fields = coverage.functional(), coverage.fields()
    assert share(item for item in functional if item.group == "exchange") > 0.65
    assert [item.unexpected for item in (*functional, *fields) if item.unexpected] == []
    [operation] = [item for item in fields if (item.group, item.name) == ("SYS", "operation")]
    assert (operation.holes, operation.excluded) == ([], {})
    [hazards] = [item for item in functional if item.group == "hazard"]
    assert not any(name.startswith("write, read: MISC, SYS") for name in hazards.holes)


@pytest.mark.slow
def test_the_campaign_of_two_cores_reaches_its_goal():
    coverage = ProgramCoverage(DUO)
    for made in cores_programs(DUO):
        coverage.add(*made)
    functional, fields = coverage.functional(), coverage.fields()
    assert share(functional) >= 0.98 and share(fields) >= 0.995
    assert share(item for item in functional if item.group == "exchange") > 0.89
    assert [item.unexpected for item in (*functional, *fields) if item.unexpected] == []


def test_a_core_alone_does_not_owe_them():
    bins = [item for item in ProgramCoverage(accelerator_named("mixpe-mini")).functional() if item.group == "exchange"]
    assert bins and sum(item.reachable for item in bins) == 0


def test_the_core_whose_token_comes_last_is_waited_for():
    work = Primitive("MISC", 0, (), ("SYS",), nothing("MISC") | {"vectors": 1})
    last = DUO.buffers.vector.bytes // LINE_BYTES - 2
    exchange = nothing("SYS") | {"operation": codes("SYS", "operation")["exchange"], "line": last, "lines": 2,
                                 "value": LINE_BYTES, "buffer": codes("SYS", "buffer")["global"]}  # fmt: skip
    program = [work, Primitive("SYS", 1, ("MISC",), (), exchange)]
    ends = [{kind: np.array([end]) for kind in ("MISC", "SYS")} for end in (10.0, 20.0)]
    first, second = (item.bins for item in meetings([program, program], ends, shape_of(DUO)))
    assert (first["waits"], second["waits"]) == ("for another core", "others for it")
    assert (first["own"], first["received"], first["taken"], first["given"]) == ("2 to 8", "1", "1", "0")
    assert (first["buffer"], first["edge"]) == ("global", "last")
