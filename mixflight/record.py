"""Laws from the real model: histograms of its codes, recorded while it reads a text in golden arithmetic."""

from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.generate import model_path
from mixflight.sim.evaluation.bind import numerics_of
from mixflight.sim.evaluation.record import Record, record
from mixflight.sim.golden.llama import load_llama
from mixflight.workload import AS_STORED
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.llama_gguf import weights_of
from mixflight.workloads.tokenizer import tokenizer_of


def record_text(model: str | Path, text: str, laws: Path | None = None) -> Record:
    """Histograms of ``model`` (a GGUF file or a fetched model) on ``text``, or on the .txt file that it names.

    ``laws``: a .npz file to be written, which holds them and the laws of attention, cache and neurons (``LAYOUT``).
    """
    if text.endswith(".txt"):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the text must be readable as UTF-8: {error}") from None
    file = open_gguf(model_path(model))
    tokens = tokenizer_of(file).encode(text)
    if not tokens:
        raise InputError("the text to record must not be empty")
    llama = load_llama(file)
    found = record(llama, tokens, numerics_of(recipe_of(AS_STORED, weights_of(file)), llama))
    if laws is not None:
        from mixflight.sim.evaluation.laws import measure, save

        if len(tokens) < 2:
            raise InputError(f"laws need a text of at least 2 tokens, not {len(tokens)}")
        with whole_file(laws) as part:
            save(measure(llama, tokens), found, part)
    return found
