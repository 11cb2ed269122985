"""``mixflight COMMAND``: exit status 0 done, 1 a check failed, 2 bad input (one line on stderr)."""

import importlib
import sys

import click
import typer

from mixflight.arch.errors import InputError

COMMANDS = ("fetch", "presets", "trace", "simulate", "compare", "rtl", "synth", "verify", "generate", "report", "demo")

app = typer.Typer(
    name="mixflight",
    help="From a compressed LLM file to an accelerator whose numbers can be believed.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _load_commands() -> None:
    for name in COMMANDS:
        importlib.import_module(f"mixflight.cli.{name}").register(app)


def main() -> None:
    """Entry point of the ``mixflight`` script."""
    _load_commands()
    try:
        status = app(standalone_mode=False)
    except InputError as error:
        _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _refuse(error.format_message())
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("mixflight: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> None:
    print("mixflight: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
