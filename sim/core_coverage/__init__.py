"""What programs of a core have exercised: fields of instructions, functional bins, classes that run side by side."""
