"""What the shell proposes for a name, read from the presets when it asks."""


def _starting(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Model presets, and what ``mixflight fetch`` gets."""
    from mixflight.workload import FETCHED
    from mixflight.workloads.model import models

    return _starting([FETCHED, *models()], incomplete)


def recipes(incomplete: str) -> list[str]:
    """Recipe presets."""
    from mixflight.workloads.recipe import recipes

    return _starting(list(recipes()), incomplete)


def archs(incomplete: str) -> list[str]:
    """Accelerator presets; after a colon, recipes."""
    from mixflight.arch.accelerator import machines

    arch, colon, recipe = incomplete.partition(":")
    return [f"{arch}:{name}" for name in recipes(recipe)] if colon else _starting(list(machines()), incomplete)


def tops(incomplete: str) -> list[str]:
    """Designs that can be emitted."""
    from mixflight.rtl.tops import TOPS

    return _starting(list(TOPS), incomplete)
