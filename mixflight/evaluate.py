"""What a recipe costs and what it saves: perplexity on the evaluation text beside bytes, MACs and energy.

    evaluate          MODEL and RECIPE to Evaluation
    evaluate_each     the same for several recipes, the model read once
    evaluation_recipe names to recipes
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from mixflight.arch.accelerator import Accelerator, array_named
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.generate import model_path
from mixflight.sim.cost import Energy
from mixflight.sim.evaluation import text
from mixflight.sim.evaluation.bind import compression_of, numerics_of
from mixflight.sim.evaluation.compression import Compression
from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.prepare import prepare, stored_formats
from mixflight.sim.evaluation.score import WINDOW, Logits, Perplexity, golden, losses, windows
from mixflight.sim.golden.llama import Llama, load_llama
from mixflight.sim.golden.numerics import Numerics
from mixflight.sim.simulate import simulate
from mixflight.workload import AS_STORED
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.llama_gguf import LlamaWeights, weights_of
from mixflight.workloads.model import Model
from mixflight.workloads.recipe import Recipe, recipe_named
from mixflight.workloads.tokenizer import tokenizer_of
from mixflight.workloads.trace import decode_traces

_FOLDER = Path(__file__).resolve().parent / "sim" / "evaluation" / "recipes"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe on one model: how well it predicts the text, and what a token costs.

    ``weight_bytes``       of all weight matrices, LM head included, as one token reads them
    ``kv_bytes``           of the cache read and written for one decoded token, the mean of the scenario's decode steps
    ``macs``               of one decoded token, the same mean
    ``arithmetic``         golden: the bits that hardware gives; emulated: FP32 on rounded values, for what golden
                           arithmetic does not define
    ``energy``             of one decoded token; None where the machine cannot compute it (``energy_note`` says why)
    ``decode_tokens_per_s``  of the machine, None likewise; ``tokens_per_s`` is how fast the text was scored here
    ``ratio``              perplexity over that of the unquantised forward pass, with its interval, if asked for
    ``preparation``        what was done to the file's weights
    """

    model: str
    recipe: str
    summary: str
    arithmetic: Literal["golden", "emulated"]
    perplexity: Perplexity
    ratio: tuple[float, float, float] | None
    preparation: tuple[str, ...]
    text_tokens: int
    windows: int
    longest_window: int
    scoring_s: float
    weight_bytes: int
    kv_bytes: float
    macs: float
    arch: str
    prefill: int
    decode: int
    energy: Energy | None
    decode_tokens_per_s: float | None
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
    return recipe_named(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """Where energy and bytes are counted: ``decode`` tokens after a prompt of ``prefill`` on the machine ``arch``."""

    arch: str = "mixpe-w4a8"
    prefill: int = 128
    decode: int = 128


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
    scenario = Scenario(arch=arch, prefill=prefill, decode=decode)
    (found,) = evaluate_each(
        model, [recipe], scenario, reference=reference, on_tokens=on_tokens, most_tokens=most_tokens
    )
    return found


def evaluate_each(
    model: str | Path,
    names: Sequence[str | None],
    scenario: Scenario,
    *,
    reference: bool = False,
    on_tokens: Callable[[int], None] | None = None,
    most_tokens: int | None = None,
) -> Iterator[Evaluation]:
    """``evaluate`` of one recipe after the other; the model is read and the reference scored once."""
    file = open_gguf(model_path(model))
    weights = weights_of(file)
    chosen = [recipe_of(AS_STORED, weights) if name is None else evaluation_recipe(name) for name in names]
    machine = array_named(scenario.arch)
    llama = load_llama(file)
    plans = [_plan(recipe, llama, stored_formats(weights)) for recipe in chosen]
    tokens = tokenizer_of(file).encode(text.evaluation_text())[:most_tokens]
    plain = losses(tokens, Emulated(llama).logits(), on_tokens) if reference else None
    cut = windows(tokens)
    for recipe, plan in zip(chosen, plans, strict=True):
        logits, sentences = _logits(recipe, plan, llama, weights)
        started = time.perf_counter()
        found = losses(tokens, logits, on_tokens)
        scoring_s = time.perf_counter() - started
        yield Evaluation(
            model=str(model), recipe=recipe.name, summary=recipe.summary,
            arithmetic="golden" if isinstance(plan, Numerics) else "emulated",
            perplexity=Perplexity.of(found), ratio=None if plain is None else Perplexity.ratio(found, plain),
            preparation=sentences, text_tokens=len(tokens), windows=len(cut),
            longest_window=min(WINDOW, max(map(len, cut))), scoring_s=scoring_s, arch=machine.name,
            prefill=scenario.prefill, decode=scenario.decode,
            **_work(llama.model, recipe, scenario), **_simulated(machine, llama.model, recipe, scenario),
        )  # fmt: skip


def _plan(recipe: Recipe, llama: Llama, stored: dict[str, Format]) -> Numerics | Compression:
    """Golden arithmetic where it is defined for all of the recipe, else emulation."""
    return numerics_of(recipe, llama) or compression_of(recipe, llama, stored)


def _logits(
    recipe: Recipe, plan: Numerics | Compression, llama: Llama, weights: LlamaWeights
) -> tuple[Logits, tuple[str, ...]]:
    if isinstance(plan, Numerics):
        prepared, sentences = prepare(llama, weights, recipe)
        return golden(prepared, plan), sentences
    return Emulated(llama, plan).logits(), plan.sentences()


def _work(model: Model, recipe: Recipe, scenario: Scenario) -> dict[str, Any]:
    traces = list(decode_traces(model, recipe, scenario.prefill, scenario.decode))
    return {
        "weight_bytes": traces[0].weight_bytes,
        "macs": sum(trace.macs for trace in traces) / scenario.decode,
        "kv_bytes": sum(trace.kv_bytes for trace in traces) / scenario.decode,
    }


def _simulated(machine: Accelerator, model: Model, recipe: Recipe, scenario: Scenario) -> dict[str, Any]:
    """Energy and speed of decoding; None and the reason where the machine cannot compute the recipe."""
    try:
        phase = simulate(machine, model, recipe, recipe.name, scenario.prefill, scenario.decode).decode
    except InputError as error:
        return {"energy": None, "decode_tokens_per_s": None, "energy_note": str(error)}  # it has no such operand
    total, tokens = phase.energy, scenario.decode
    energy = Energy(pj=total.pj / tokens, low_pj=total.low_pj / tokens, high_pj=total.high_pj / tokens)
    return {"energy": energy, "decode_tokens_per_s": 1e3 * tokens / phase.time_ms, "energy_note": ""}
