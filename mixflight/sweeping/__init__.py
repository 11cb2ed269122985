"""Design-space sweeps: a space of points, two fidelities, a folder of results that can be resumed."""
