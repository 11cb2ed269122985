"""``mixflight COMMAND``: exit status 0 done, 1 a check failed, 2 bad input (one line on stderr)."""

import importlib
import os
import sys
from typing import Annotated

import typer

from mixflight import __version__
from mixflight.arch.errors import InputError
from mixflight.cli.completion import whole_words
from mixflight.cli.manners import dress
from mixflight.cli.summaries import FIRST_STEPS

COMMANDS = (
    "demo", "doctor", "fetch", "presets", "trace", "simulate", "compare", "sensitivity", "sweep", "advise", "evaluate",
    "generate", "rtl", "verify", "synth", "compile", "report", "reproduce", "gpu", "power", "prices", "schema",
)  # fmt: skip

INTERRUPTED = 130  # what typer returns for Ctrl-C

# Typer carries its own copy of click from 0.16 on; this is the base of its usage errors in any release.
_USAGE_ERROR: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def command_line() -> typer.Typer:
    """All commands, with their examples and what they share."""
    app = typer.Typer(
        name="mixflight",
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        epilog=FIRST_STEPS,
    )
    app.callback()(_root)
    for name in COMMANDS:
        importlib.import_module(f"mixflight.cli.{name}").register(app)
    dress(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mixflight {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """From a compressed LLM file to an accelerator whose numbers can be believed."""


def main() -> None:
    """Entry point of the ``mixflight`` script."""
    app = command_line()
    try:
        with whole_words(os.environ):
            status = app(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        _refuse(str(error))
    except _USAGE_ERROR as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":
            print(message)
            sys.exit(2)
        _refuse(message + "; see --help")
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        if error.filename is not None:  # of a file, not of standard output: a defect, as files are checked where named
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _refuse(f"standard output must be writable: {error.strerror}")
    if status == INTERRUPTED:
        print("mixflight: interrupted; nothing half-written was left", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> None:
    print("mixflight: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
