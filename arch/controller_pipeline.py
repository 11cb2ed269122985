"""Cycles of a core's controller in RTL: what passes before its first instruction is handed to a queue.

``mixflight.rtl.core_controller`` is measured against these numbers. An instruction a cycle is handed out then, and the
sequencer's own instructions take one each.
"""

START_CYCLES = 3
"""From the cycle in which START has been taken, that one counted, to the first instruction's arrival at its queue."""
FETCH_CYCLES = 9
"""Of a text and its constants, beside one for each of them and what the memory takes to answer two requests."""


def start_cycles(*, instructions: int, constants: int, latency: int) -> int:
    """Cycles before the first instruction arrives at its queue; 0 ``instructions``: the text is there already."""
    if not instructions:
        return START_CYCLES
    requests = 1 + (constants > 0)
    return START_CYCLES + FETCH_CYCLES + instructions + constants + requests * latency
