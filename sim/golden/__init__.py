"""The golden model: every value of a forward pass, bit for bit, as ``arch/numerics.md`` specifies it.

The NumPy modules are the reference and read like the contract; ``kernels`` computes the same bits faster.
"""
