"""From operators and an accelerator to a program: tiling, buffer use, memory traffic.

For an array a matrix operator is blocked so that its operands fit the buffers and least bytes move, and becomes a list
of commands. For cores a whole pass is compiled: shares of the cores, places in memory, instructions with their
barriers, one text for all lengths; the published machine's rules are a second compiler beside it. A program says what
is done and in which order, never how long it takes.
"""
