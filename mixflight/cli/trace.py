"""``mixflight trace``: the operators of a prefill and of decode steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import models
from mixflight.cli.options import BatchOption, JsonOption, RecipeOption
from mixflight.cli.output import encoded, print_json, print_table

if TYPE_CHECKING:
    from mixflight.workloads.trace import Trace

RECORD = "record/1"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def trace(
        model: Annotated[str, typer.Argument(help="Preset, smollm2, .gguf file or folder.", metavar="MODEL",
                                              autocompletion=models)],
        recipe: RecipeOption = None,
        prefill: Annotated[int | None, typer.Option("--prefill", help="Tokens of the prompt.", metavar="P")] = None,
        decode: Annotated[int | None, typer.Option("--decode", help="Tokens generated after it.", metavar="D")] = None,
        batch: BatchOption = 1,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="Every operator as Parquet.", metavar="F.parquet")
        ] = None,
        export: Annotated[
            str | None,
            typer.Option("--export", help="scalesim: -o F.csv is a topology of its GEMMs; zigzag: -o F.yaml its "
                         "workload; onnx: -o F.onnx a graph of MatMul.", metavar="FORM"),
        ] = None,
        record: Annotated[
            str | None,
            typer.Option("--record", help="Histograms of the file's codes and of its activations while it reads this "
                         "text, or a .txt file, in its own formats, instead; -o F.json keeps them, -o F.npz also "
                         "laws of attention, cache and neurons.", metavar="TEXT"),
        ] = None,
        json: JsonOption = False,
    ) -> None:  # fmt: skip
        """Operator trace: shapes, formats, MACs and bytes. Without lengths: one decoded token.
        """
        from mixflight.workload import load_workload
        from mixflight.workloads.trace import decode_traces, prefill_trace

        if record is not None:
            if (recipe, prefill, decode, batch, export) != (None, None, None, 1, None):
                raise InputError(
                    "--record takes the file as it is: no --recipe, --prefill, --decode, --batch or --export"
                )
            _record(model, record, output, json)
            return
        if export is None and output is not None and output.suffix != ".parquet":
            raise InputError(f"the output must be a .parquet file, not {output}")
        workload = load_workload(model, recipe)
        if prefill is None and decode is None:
            decode = 1
        traces = []
        if prefill is not None:
            traces.append(prefill_trace(workload.model, workload.recipe, prefill, batch))
        if decode is not None:
            traces += decode_traces(workload.model, workload.recipe, prefill or 0, decode, batch)
        _write(traces, export, output)
        document = {
            "model": workload.model.name, "recipe": workload.recipe.name, "batch": batch,
            "prefill_tokens": prefill or 0, "decode_tokens": decode or 0, **_sums(traces),
        }  # fmt: skip
        if output is not None:
            document["path"] = str(output)
        if json:
            print_json(document, "trace/1")
            return
        first, last = traces[0], traces[-1]
        shown = [first] if first is last else [first, last]
        print_table(
            f"{workload.model.name}, {workload.recipe.name}",
            ("pass", "context", "operators", "MACs", "weight bytes", "KV bytes"),
            [(item.phase, item.context, item.ops, item.macs, item.weight_bytes, item.kv_bytes) for item in shown],
        )
        print(f"in all: {document['ops']:,} operators, {document['macs']:,} MACs")


def _write(traces: "list[Trace]", export: str | None, output: Path | None) -> None:
    """What the options ask for: a layer list of another tool, or a table of all operators."""
    if export is not None:
        from mixflight.interop_layers import export as write_layers

        write_layers(traces, export, output)
    elif output is not None:
        from mixflight.trace_table import write_parquet

        write_parquet(traces, output)


def _sums(traces: "list[Trace]") -> dict[str, Any]:
    """Operators, MACs and bytes of all passes and of each."""
    keys = ("ops", "macs", "weight_bytes", "kv_bytes")
    return {
        **{key: sum(getattr(item, key) for item in traces) for key in keys},
        "parameter_bytes": sum(item.total("parameter_bytes") for item in traces),
        "passes": [
            {"phase": item.phase, "context": item.context, **{key: getattr(item, key) for key in keys}}
            for item in traces
        ],
    }


def _record(model: str, text: str, output: Path | None, json: bool) -> None:
    from mixflight.files import whole_file
    from mixflight.record import record_text

    if output is not None and output.suffix not in (".json", ".npz"):
        raise InputError(f"the output of --record must be a .json or .npz file, not {output}")
    laws = output if output is not None and output.suffix == ".npz" else None
    found = record_text(model, text, laws)
    if output is not None and laws is None:
        with whole_file(output) as part:
            part.write_bytes(encoded(found, RECORD) + b"\n")
    if json:
        print_json(found, RECORD)
        return
    print_table(
        f"{found.model}: codes of weights, and of activations over {found.tokens} tokens",
        ("codes of", "number", "zeros %", "ones", "signed digits", "entropy"),
        [
            (name, item.codes, 100 * item.zeros, item.ones, item.digits, item.entropy_bits)
            for part in (found.weights, found.activations)
            for name, item in part.items()
        ],
    )
