"""The options that choose a top's parameters, shared by ``rtl``, ``synth`` and ``verify``."""

from typing import Annotated

import typer

from mixflight.cli.completion import archs, tops

Top = Annotated[str, typer.Argument(metavar="TOP", autocompletion=tops, help=(
    "mixpe-array; PEs: mixpe-w4a8-pe, mixpe-w4a8-centred-pe, mul4x8-pe, int8-pe, dequantise-pe, fusible-pe, "
    "mixpe-w4a16-pe, mixpe-w4a16-aligned-pe, fp16-align, fp16-pe; csd-chain, csd-chain-generic, csd-chain-dsp58; "
    "sfu-exp, sfu-reciprocal, sfu-rsqrt; widen; core-sfu, core-mv; flightllm-core"))]
Arch = Annotated[str | None, typer.Option("--arch", metavar="A", autocompletion=archs, help=(
    "The accelerator whose dataflow, shape and PE, or chain, or core it is."))]
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
Length = Annotated[int | None, typer.Option("--length", help="Products of a csd-chain: 2, 4, 8 or 16.")]
Group = Annotated[int | None, typer.Option("--group", help="Products between the reduction nodes of a csd-chain.")]
Ratios = Annotated[str | None, typer.Option(
    "--ratios", metavar="N:M,...", help="Ratios that a csd-chain takes: dense, 2:16, 4:16, 8:16, 2:4, 4:8.")]
Variant = Annotated[str | None, typer.Option("--variant", help="DSPs of a csd-chain: dsp48e2, dsp58 or generic.")]
Select = Annotated[str | None, typer.Option(
    "--select", help="How a csd-chain chooses operands: lutram (by index, LUT memory beside each product) or direct.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
