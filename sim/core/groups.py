"""A batch on FlightLLM cores: at once where their buffers hold it, else in groups of sequences one after another.

Weights are loaded once for each group; the caches of all groups stay in memory.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from mixflight.arch.errors import InputError
from mixflight.mapping.core_network import network_of
from mixflight.sim.core.scenario import Cores, Run, total
from mixflight.workloads.trace import Trace, prefill_trace


class Grouped(NamedTuple):
    """Both phases of all groups, and how many groups there are."""

    prefill: Run
    decode: Run
    groups: int


def run_grouped(cores_of: Callable[[int], Cores], batch: int, prefill: int, decode: int) -> Grouped:
    """Prefill and decode of ``batch`` sequences in the fewest groups whose program fits the buffers.

    ``cores_of``: the cores of a group of so many sequences. Groups differ by one sequence at most. What fits in no
    groups is the InputError of the whole batch; caches that do not fit memory together are one, too.
    """
    refusal: InputError | None = None
    for groups in range(1, batch + 1):
        size, rest = divmod(batch, groups)
        if refusal and groups > 1 and -(-batch // groups) == -(-batch // (groups - 1)):
            continue
        parts = Counter({size + 1: rest, size: groups - rest})
        try:
            runs = [(_phases(cores_of(each), prefill, decode, groups), count) for each, count in parts.items() if count]
        except _Full:
            raise
        except InputError as error:
            refusal = refusal or error
            continue
        return Grouped(
            total([(run[0], count) for run, count in runs]), total([(run[1], count) for run, count in runs]), groups
        )
    assert refusal is not None
    raise refusal


class _Full(InputError):
    """No number of groups helps."""


def _phases(cores: Cores, prefill: int, decode: int, groups: int) -> tuple[Run, Run]:
    first = prefill_trace(cores.model, cores.formats, prefill, cores.batch, decode)
    decoded = cores.decode(prefill, decode)
    if groups > 1:
        _check_caches(cores, first, groups)
    return cores.run(first), decoded


def _check_caches(cores: Cores, first: Trace, groups: int) -> None:
    """The caches of all groups must fit beside the rest of one group's program."""
    room = cores.machine.hbm.capacity_bytes // cores.machine.hbm.channels
    network = network_of(first, sparse=cores.compiler.sparse)
    for text in cores.compiler.texts(network, cores.compiler.max_context):
        start, size = text.memory.results
        need = start + size + (groups - 1) * text.memory.cache[1]
        if need > room:
            raise _Full(
                f"{cores.model.name} must fit the memory of {cores.machine.name}: {need:,} of {room:,} bytes in each "
                f"of the {cores.machine.hbm.channels_per_core} channels of a core, with the caches of {groups} groups "
                f"of {cores.batch} sequences"
            )
