"""From operators and an accelerator to a program: tiling, buffer use, memory traffic."""
