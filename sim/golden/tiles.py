"""Operands of one linear of a real model, cut to a tile: what hardware is checked with."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.golden.llama import load_llama, record_operands
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of


def real_tile(path: Path | str, *, tensor: str, rows: int, cols: int, prompt: str) -> dict[str, NDArray[Any]]:
    """The first ``rows`` outputs over the first ``cols`` inputs of linear ``tensor`` in a prefill of ``prompt``.

    With M tokens, N = rows and K = cols: ``a`` int8 [M, K] and ``s_a`` float16 [M, K/32] are the quantised
    activations, ``w`` [N, K] the codes (uint8; int8 for Q4_0, its offset subtracted, and Q8_0), ``d`` float16
    [N, K/32] the scales and ``m`` the minima where the format has them.
    """
    file = open_gguf(path)
    llama = load_llama(file)
    activation, weight = record_operands(llama, tokenizer_of(file).encode(prompt), tensor)
    group = weight.group
    if not 1 <= rows <= weight.n or not group <= cols <= weight.k or cols % group:
        raise InputError(
            f"a tile of {tensor} must have up to {weight.n} rows and {weight.k} columns in steps of {group}, "
            f"not {rows} x {cols}"
        )
    tile: dict[str, NDArray[Any]] = {
        "a": activation.codes[:, :cols],
        "s_a": activation.scales[:, : cols // activation.group],
        "w": weight.codes[:rows, :cols],
        "d": weight.d[:rows, : cols // group],
    }
    if weight.zero is not None:
        tile["m"] = weight.zero[:rows, : cols // group]
    return tile
