"""The command `xcnn`: one file for each subcommand, which imports what it needs when it runs.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a check that was asked for failed, 2 usage,
3 a backend or package is not available, 4 a bad file or bad data, 5 training diverged, 70 a bug in xcnn, 130
interrupted.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from xcnn import errors
from xcnn.cli import backends, bench, check, compare, evaluate, predict, summary, train

USAGE, UNAVAILABLE, BAD_DATA, DIVERGED, BUG, INTERRUPTED = 2, 3, 4, 5, 70, 130

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.BackendUnavailable, UNAVAILABLE),
    (errors.BackendError, UNAVAILABLE),
    (errors.MissingDependency, UNAVAILABLE),
    (errors.DivergedError, DIVERGED),
    (errors.OptionError, USAGE),
    (errors.XcnnError, BAD_DATA),
    (OSError, BAD_DATA),
    (MemoryError, BAD_DATA),
)

app = typer.Typer(
    name="xcnn",
    help="Convolutional networks that read like the mathematics. `xcnn train` trains the article's net on MNIST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def until_the_reader_leaves(run: Callable[..., None]) -> Callable[..., None]:
    """End a command quietly, as done, when the program that reads its output has gone: xcnn check | head."""

    @wraps(run)
    def running(*args: Any, **options: Any) -> None:
        try:
            run(*args, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return running


for command in (train, evaluate, predict, summary, backends, check, compare, bench):
    app.command(name=command.__name__.rpartition(".")[2])(until_the_reader_leaves(command.run))


def _print_version(wanted: bool) -> None:
    if wanted:
        from xcnn import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show Python's traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the process ends with one of the exit codes above."""
    show = "--traceback" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a class's name may be in no script of this terminal
    try:
        app(args=arguments, prog_name="xcnn")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if show:
            traceback.print_exc()
        sys.exit(report(error))


def report(error: Exception) -> int:
    """Print an error on stderr, in at most five lines; its exit code."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    code = next((code for kind, code in CODES if isinstance(error, kind)), BUG)
    if isinstance(error, errors.XcnnError):
        first, *rest = str(error).removeprefix(f"[{error.code}] ").splitlines()
        console.print(f"{type(error).__name__}[{error.code}]:", style="bold red", end=" ", markup=False)
        console.print("\n".join([first, *rest]), markup=False)
    else:
        console.print(f"{type(error).__name__}:", style="bold red", end=" ", markup=False)
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        console.print(text, markup=False)
        if code == BUG:
            console.print("  hint: this is a bug in xcnn; --traceback shows where.", markup=False)
    return code
