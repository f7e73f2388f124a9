"""The command line: which commands there are, and how an error becomes one line and an exit status.

Starting it imports neither torch nor NumPy: each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

import biper
from biper.cli import deploy, inspect, interop, share, train
from biper.cli.flags import with_flags
from biper.cli.hints import key_hint
from biper.cli.interrupts import INTERRUPTED, ignore_interrupts
from biper.cli.loading import WITH_TORCH, say_loading
from biper.errors import BiperError, ModelError, optional_packages, printable
from biper.training.distributed.launch import ProcessInfo, should_report

app = typer.Typer(
    name="biper",
    help="Train 1-bit neural networks with a binary periodic function, and ship them as real 1-bit programs.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train": (train.quickstart, train.train, train.compare, train.recipes),
    "Inspect": (inspect.models, inspect.evaluate, inspect.inspect, inspect.analyze, inspect.bench),
    "Deploy": (deploy.export, deploy.predict),
    "Share": (share.push, share.pull),
    "Files of others": (interop.import_reference,),
}
"""Commands under the headings of ``biper --help``."""
VERBS = {command.__name__.replace("_", "-") for commands in COMMANDS.values() for command in commands}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"biper {biper.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
    debug: Annotated[  # noqa: ARG001  main reads it from the arguments, so that it may stand anywhere among them
        bool, typer.Option("--debug", help="Show the whole traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    if ProcessInfo.from_environment().processes > 1 and context.invoked_subcommand != "train":
        raise ModelError(
            f"torchrun started several processes, but biper {context.invoked_subcommand} runs in one: start it alone"
        )
    if context.invoked_subcommand in WITH_TORCH:
        say_loading()


def main() -> None:
    """Run a command, and turn an expected error into one line on standard error and an exit status."""
    debug = "--debug" in sys.argv
    sys.path.append(os.getcwd())  # where a recipe's factory may lie; last, so that it hides no installed module
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if ProcessInfo.from_environment().rank == 0:
        warnings.showwarning = lambda message, *_args, **_options: typer.echo(
            f"warning: {printable(str(message))}", err=True
        )
    else:
        warnings.simplefilter("ignore")
    try:
        with optional_packages("train", "this command"):
            status = app(arguments, prog_name="biper", standalone_mode=False)
        if status == INTERRUPTED:  # typer turns Ctrl-C into this status, without a word
            status = _fail("interrupted", INTERRUPTED, debug)
    except KeyboardInterrupt:
        status = _fail("interrupted", INTERRUPTED, debug)
    except BiperError as error:
        status = _fail(with_flags(str(error)), error.exit_code, debug)
    except MemoryError as error:
        status = _fail(f"the memory of this machine is not enough{f': {error}' if str(error) else ''}", 1, debug)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        status = _fail(f"{error.strerror or error}{where}", 1, debug)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it; any other error is a bug, shown whole
            raise
        verb = next((word for word in arguments if not word.startswith("-")), "")
        shown = f"biper {verb}" if verb in VERBS else "biper"
        message = error.format_message().replace(": Value error, ", ": ", 1)  # typer's own word for a wrong choice
        message += _hint(verb, getattr(error, "option_name", ""))
        status = _fail(f"{message} (see {shown} --help)", getattr(error, "exit_code", 2), debug)
    sys.exit(status)


def _hint(verb: str, option: str) -> str:
    """What `biper.cli.hints` says of an unknown option; nothing where the packages that it needs are not installed."""
    try:
        return key_hint(verb, option) if option else ""
    except ImportError:
        return ""


def _fail(message: str, status: int, debug: bool) -> int:
    """Print an error in one line, unless another process of the run does; return the exit status."""
    ignore_interrupts()
    if debug:
        import traceback

        traceback.print_exc()
    if should_report(sys.exception()):
        typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    return status
