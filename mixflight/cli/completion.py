"""What the shell proposes for a name, read from the presets when it asks.

``whole_words``  bash cuts a word at a colon (``int8:w8a8`` comes as three words): completion sees it as one
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _before_colon(names: Iterable[str], incomplete: str, behind: Callable[[str], list[str]]) -> list[str]:
    """Names; after a name's colon, what may stand ``behind`` it."""
    name, colon, rest = incomplete.partition(":")
    return [f"{name}:{item}" for item in behind(rest)] if colon else _starting(names, incomplete)


def models(incomplete: str) -> list[str]:
    """Model presets, and what ``mixflight fetch`` gets."""
    from mixflight.workload import FETCHED
    from mixflight.workloads.model import models

    return _starting([FETCHED, *models()], incomplete)


def recipes(incomplete: str) -> list[str]:
    """Recipe presets."""
    from mixflight.workloads.recipe import recipes

    return _starting(recipes(), incomplete)


def archs(incomplete: str) -> list[str]:
    """Accelerator presets; after a colon, recipes."""
    from mixflight.arch.accelerator import machines

    return _before_colon(machines(), incomplete, recipes)


def gpus(incomplete: str) -> list[str]:
    """GPU presets; after a colon, the recipes that the GPU model knows."""
    from mixflight.arch.gpu import gpus
    from mixflight.sim.gpu.scenario import RECIPES

    return _before_colon(gpus(), incomplete, lambda rest: _starting(RECIPES, rest))


def prices(incomplete: str) -> list[str]:
    """Technologies, DRAM standards and the memories on the chip."""
    from mixflight.arch.prices import dram_energies, technologies

    return _starting([*technologies(), *dram_energies(), "sram"], incomplete)


def studies(incomplete: str) -> list[str]:
    """The shipped studies of designs."""
    from mixflight.sweeping.space import studies

    return _starting(studies(), incomplete)


def publications(incomplete: str) -> list[str]:
    """Published studies that can be reproduced."""
    from mixflight.reproduce import STUDIES

    return _starting(STUDIES, incomplete)


def documents(incomplete: str) -> list[str]:
    """Documents that have a schema."""
    from mixflight.documents import DOCUMENTS

    return _starting(DOCUMENTS, incomplete)


def fetched(incomplete: str) -> list[str]:
    """Models and cell libraries that can be fetched."""
    from mixflight.rtl.cell_libraries import LIBRARIES
    from mixflight.workloads.fetch import SOURCES

    return _starting([*SOURCES, *LIBRARIES], incomplete)


def tops(incomplete: str) -> list[str]:
    """Designs that can be emitted."""
    from mixflight.rtl.tops import TOPS

    return _starting(TOPS, incomplete)


@contextlib.contextmanager
def whole_words(environment: MutableMapping[str, str]) -> Iterator[None]:
    """While bash asks for completions, words that it cut at a colon or an equals sign are whole, and proposals begin
    behind the last one, where bash puts them; at any other time nothing."""
    if environment.get("_MIXFLIGHT_COMPLETE") != "complete_bash":
        yield
        return
    words, asked = environment["COMP_WORDS"].split("\n"), int(environment["COMP_CWORD"])
    whole: list[str] = []
    for place, word in enumerate(words[: asked + 1]):
        if place and ({word, words[place - 1]} & {":", "="}):
            whole[-1] += word
        else:
            whole.append(word)
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(whole), str(len(whole) - 1)
    value = whole[-1].rpartition("=")[2]
    there = "" if whole[-1] == words[asked] else value[: value.rfind(":") + 1]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        sys.stdout.write("\n".join(line.removeprefix(there) for line in said.getvalue().split("\n")))
