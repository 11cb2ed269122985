"""The options that choose a top's parameters, shared by ``rtl``, ``synth`` and ``verify``."""

from typing import Annotated

import typer

from mixflight.cli.completion import tops

Top = Annotated[str, typer.Argument(metavar="TOP", autocompletion=tops, help=(
    "mixpe-array; PEs: mixpe-w4a8-pe, mixpe-w4a8-centred-pe, mul4x8-pe, int8-pe, dequantise-pe, fusible-pe, "
    "mixpe-w4a16-pe, mixpe-w4a16-aligned-pe, fp16-align, fp16-pe; csd-chain, csd-chain-generic, csd-chain-dsp58; "
    "sfu-exp, sfu-reciprocal, sfu-rsqrt; widen; core-sfu"))]
Arch = Annotated[str | None, typer.Option("--arch", metavar="A", help="Dataflow, shape and PE of this accelerator.")]
Rows = Annotated[int | None, typer.Option("--rows", help="Rows of the array.")]
Cols = Annotated[int | None, typer.Option("--cols", help="Columns of the array.")]
Lanes = Annotated[int | None, typer.Option("--lanes", help="Dequantisation lanes; they divide the columns.")]
Pe = Annotated[str | None, typer.Option(
    "--pe", help="shift-add, multiply, centred, int8, dequantise, aligned, float or fp16.")]
Zero = Annotated[str | None, typer.Option("--zero", help="Zero points: none, int4 or f16-min (Q4_1).")]
GroupMax = Annotated[int | None, typer.Option("--group-max", help="Largest quantisation group.")]
Split = Annotated[int | None, typer.Option(
    "--split", help="Blocks into which the rows can split, each with weights of its own: a power of two.")]
Flow = Annotated[str | None, typer.Option("--dataflow", help="output-stationary or weight-stationary.")]
Tokens = Annotated[int | None, typer.Option("--tokens", help="Most tokens a weight tile meets, where weights stay.")]
TwoPass = Annotated[
    bool | None, typer.Option("--two-pass/--one-pass", help="Whether 8-bit weights can come in two passes.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
