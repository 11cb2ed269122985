"""The special-function unit's pipeline as data: what its hardware implements and its cycle formulas count."""

MULTIPLY_STAGES = 9
"""Registers of an FP32 multiplication with gradual underflow: ordered, normalised (two), products, their results, sum,
leading one, moved down, rounded."""

ADD_STAGES = 6
"""Registers of an FP32 addition with gradual underflow: ordered, aligned, added, leading zeros, moved up, rounded."""
