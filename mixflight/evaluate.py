"""What a recipe costs and what it saves: perplexity on the evaluation text beside bytes, MACs and energy.

    evaluate          MODEL and RECIPE to Evaluation
    evaluation_recipe names to recipes
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mixflight.arch.accelerator import array_named
from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.generate import model_path
from mixflight.sim.cost import Energy
from mixflight.sim.evaluation import text
from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.prepare import numerics_of, prepare
from mixflight.sim.evaluation.score import WINDOW, Losses, Perplexity, golden, losses, windows
from mixflight.sim.golden.llama import load_llama
from mixflight.sim.simulate import simulate
from mixflight.workload import AS_STORED
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.llama_gguf import weights_of
from mixflight.workloads.model import Model
from mixflight.workloads.recipe import Recipe, recipe_named, recipes
from mixflight.workloads.tokenizer import tokenizer_of
from mixflight.workloads.trace import decode_traces

UNQUANTISED = "unquantised"
_FOLDER = Path(__file__).resolve().parent / "sim" / "evaluation" / "recipes"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe on one model: how well it predicts the text, and what a token costs.

    ``weight_bytes``       of all weight matrices, LM head included, as one token reads them
    ``macs``               of one decoded token, the mean of the scenario's decode steps
    ``energy``             of one decoded token; None where the machine cannot compute it (``energy_note`` says why)
    ``ratio``              perplexity over that of the unquantised forward pass, with its interval, if asked for
    ``preparation``        what was done to the file's weights
    """

    model: str
    recipe: str
    perplexity: Perplexity
    ratio: tuple[float, float, float] | None
    preparation: tuple[str, ...]
    text_tokens: int
    windows: int
    longest_window: int
    scoring_s: float
    weight_bytes: int
    macs: float
    arch: str
    prefill: int
    decode: int
    energy: Energy | None
    energy_note: str

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the text over the time of its forward passes."""
        return self.text_tokens / self.scoring_s


def evaluation_recipes() -> dict[str, Recipe]:
    """Recipes that exist for evaluation only, by name: one format changed against what SmolLM2's file carries."""
    return {p.stem: convert({"name": p.stem, **read_toml(p)}, Recipe, p.name) for p in sorted(_FOLDER.glob("*.toml"))}


def evaluation_recipe(name: str) -> Recipe:
    """A preset recipe, one of ``evaluation_recipes``, or a TOML file."""
    extra = evaluation_recipes()
    if name in extra:
        return extra[name]
    if name in recipes() or name.endswith(".toml"):
        return recipe_named(name)
    raise InputError(f"RECIPE must be a .toml file or one of {', '.join(sorted({*recipes(), *extra}))}, not {name!r}")


def evaluate(
    model: str | Path,
    recipe: str | None = None,
    *,
    arch: str = "mixpe-w4a8",
    prefill: int = 128,
    decode: int = 128,
    reference: bool = False,
    on_tokens: Callable[[int], None] | None = None,
    most_tokens: int | None = None,
) -> Evaluation:
    """Perplexity of ``model`` under ``recipe`` on the evaluation text, and a token's cost on ``arch``.

    Without a recipe: the file's formats, INT8 activations and cache. ``unquantised`` is FP32 on the values of the
    file's codes. ``reference`` scores that too, for ``ratio``. ``most_tokens`` cuts the text.
    ``on_tokens`` is told how many tokens each step was.
    """
    file = open_gguf(model_path(model))
    weights = weights_of(file)
    chosen = recipe_of(AS_STORED, weights) if recipe is None else evaluation_recipe(recipe)
    machine = array_named(arch)
    tokens = tokenizer_of(file).encode(text.evaluation_text())[:most_tokens]
    llama = load_llama(file)
    weight_bytes, macs = _work(llama.model, chosen, prefill, decode)

    sentences: tuple[str, ...] = ()
    if chosen.name == UNQUANTISED:
        started = time.perf_counter()
        found = losses(tokens, Emulated(llama).logits(), on_tokens)
    else:
        numerics = numerics_of(chosen, llama)
        prepared, sentences = prepare(llama, weights, chosen)
        started = time.perf_counter()
        found = losses(tokens, golden(prepared, numerics), on_tokens)
    scoring_s = time.perf_counter() - started
    ratio = None
    if reference:
        plain: Losses = losses(tokens, Emulated(llama).logits(), on_tokens)
        ratio = Perplexity.ratio(found, plain)
    try:
        phase = simulate(machine, llama.model, chosen, chosen.name, prefill, decode).decode
        total, note = phase.energy, ""
        energy = Energy(pj=total.pj / decode, low_pj=total.low_pj / decode, high_pj=total.high_pj / decode)
    except InputError as error:
        energy, note = None, str(error)  # a machine that has no such operand
    cut = windows(tokens)
    return Evaluation(
        model=str(model), recipe=chosen.name, perplexity=Perplexity.of(found), ratio=ratio, preparation=sentences,
        text_tokens=len(tokens), windows=len(cut), longest_window=min(WINDOW, max(map(len, cut))), scoring_s=scoring_s,
        weight_bytes=weight_bytes, macs=macs, arch=machine.name, prefill=prefill, decode=decode, energy=energy,
        energy_note=note,
    )  # fmt: skip


def _work(model: Model, recipe: Recipe, prefill: int, decode: int) -> tuple[int, float]:
    traces = list(decode_traces(model, recipe, prefill, decode))
    return traces[0].weight_bytes, sum(trace.macs for trace in traces) / decode
