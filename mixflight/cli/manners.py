"""What every command has beyond its own options: examples below its help, ``--quiet`` and ``--verbose``.

What is said on the way goes to the logger ``mixflight`` and from there to stderr: steps are ``INFO``, remarks that a
user should see are ``WARNING``. Results are not said but printed, on stdout.
"""

import contextlib
import functools
import inspect
import logging
import sys
import time
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.examples import EXAMPLES
from mixflight.cli.summaries import SUMMARIES

LOG = logging.getLogger("mixflight")

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks; results and errors alone.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say on stderr what is done and how long it takes.")]
EXTRA = {"quiet": Quiet, "verbose": Verbose}


def dress(app: typer.Typer) -> None:
    """Give every command of ``app`` its line in the list, its examples and the two options."""
    for info in app.registered_commands:
        assert info.callback is not None
        name = info.name or info.callback.__name__
        info.epilog, info.short_help = epilog(name), SUMMARIES.get(name)
        info.callback = with_loudness(info.callback)


def epilog(name: str) -> str:
    """The examples of a command as its help shows them: not wrapped, so that they can be copied."""
    lines = [line for example in EXAMPLES[name] for line in example.split("\n")]
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def with_loudness(command: Callable[..., Any]) -> Callable[..., Any]:
    """``command`` with ``--quiet`` and ``--verbose``."""

    @functools.wraps(command)
    def run(*, quiet: bool = False, verbose: bool = False, **given: Any) -> Any:
        with loudness(quiet, verbose):
            return command(**given)

    signature = inspect.signature(command)
    extra = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
             for name, kind in EXTRA.items()]  # fmt: skip
    parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[*parameters, *extra])  # type: ignore[attr-defined]
    run.__annotations__ = {**typing.get_type_hints(command, include_extras=True), **EXTRA}
    return run


@contextlib.contextmanager
def loudness(quiet: bool, verbose: bool) -> Iterator[None]:
    """While the block runs, what is said goes to stderr from the level that is asked for."""
    if quiet and verbose:
        raise InputError("--quiet and --verbose must not stand together")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("mixflight: %(message)s"))
    before = LOG.level, LOG.propagate
    LOG.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    LOG.propagate = False
    LOG.addHandler(handler)
    begun = time.perf_counter()
    try:
        yield
        LOG.info("%.1f s", time.perf_counter() - begun)
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(before[0])
        LOG.propagate = before[1]
