"""The command line: one module a command, each a thin layer over the API.

A command reads options, calls one function and prints a table or one JSON document whose form ``documents`` promises.
What all commands share stands in ``app`` (exit status, refusals in one line), ``manners`` (examples, how much is said),
``output`` and ``completion``.
"""
