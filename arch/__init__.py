"""The vocabulary everything else speaks: number formats, accelerators, memories, commands, prices and their presets.

Nothing here computes time or energy; it says what a code means, what a machine is made of and what an action costs,
each with its source. The package imports no other folder of the project.
"""
