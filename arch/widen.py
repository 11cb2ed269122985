"""How wide packed codes can be that the memory unit expands to INT8."""

CODE_BITS = (2, 3, 4, 5, 8)

PORT_QUANTA = 4
"""Bits of a memory port's word for each lane: codes of 4 bits are widened as fast as the port delivers them."""
