"""Golden numerics, cycle engine, activity and cost: what a program computes, how long it takes, what it costs.

``golden`` is every value of a forward pass, bit for bit as ``arch/numerics.md`` specifies it, and ``core_values`` what
a core's instructions do to its memory. The engines (one for arrays, ``core`` for cores, ``dram`` below it) turn
programs into cycles, into counts of actions and into the limit that set the time; ``cost`` prices the counts. ``gpu``,
``peers`` and the published machines are what others' hardware and tools say of the same work. Every known difference
from hardware is numbered in ``DEVIATIONS.md``, each with a test.
"""
