"""Design-space sweeps: a space of points, two fidelities, a folder of results that can be resumed.

A space is a TOML file: axes over any field of a machine, constraints and objectives as expressions. Every point goes
through a closed form, and what may be on the front through the engine; the front says how far the two disagree. Rows
are kept in parts that are whole or absent, so that a killed sweep goes on where it stopped, on one machine or many.
"""
