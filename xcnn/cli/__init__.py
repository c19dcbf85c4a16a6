"""The command `xcnn`: one file for each subcommand, which imports what it needs when it runs.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a check that was asked for failed, 2 usage,
3 a backend or package is not available, 4 a bad file or bad data, 5 training diverged, 70 a bug in xcnn, 74 results
could not be written, 129, 130 and 143 ended by SIGHUP, Ctrl-C and SIGTERM, 141 the reader of the results has gone.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import wraps
from itertools import pairwise
from typing import Annotated, Any

import typer

from xcnn import errors
from xcnn.cli import backends, bench, check, compare, evaluate, explain, export, helping, predict, serve, summary, train
from xcnn.cli.ending import ENDING
from xcnn.cli.ranks import GROUP
from xcnn.cli.reports import READER_LEFT, UNWRITTEN, USAGE, exit_code, tell_error
from xcnn.core.names import meant
from xcnn.core.output import OutputLost, Results, process_streams

app: typer.Typer = typer.Typer(
    name="xcnn",
    help="Convolutional networks that read like the mathematics. `xcnn train` trains the article's net on MNIST.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Failed(Exception):
    """Carries an error, or an end that was asked for, past Typer, which has its own ideas of some of them."""


def carried(run: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors Typer does not see: it takes EOFError and EPIPE for a wish to end, with code 1."""

    @wraps(run)
    def running(*args: Any, **options: Any) -> None:
        try:
            run(*args, **options)
        except (OSError, EOFError, KeyboardInterrupt) as error:
            raise Failed from error

    return running


for _command in (train, evaluate, predict, explain, serve, summary, export, backends, check, compare, bench):
    app.command(
        name=_command.__name__.rpartition(".")[2],
        cls=helping.Plain,
        epilog=helping.TRAIN if _command is train else None,
    )(carried(_command.run))


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
    with process_streams() as results, ENDING.heeded():
        try:
            code = told(results, outcome(sys.argv[1:]))
        except KeyboardInterrupt:
            code = ENDING.code
    sys.exit(code)


def outcome(arguments: list[str]) -> int:
    """Run a command and report its error, if any; the exit code."""
    show = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        refuse_empty(arguments)
        arguments = helping.asked(arguments)
        if not arguments:
            with redirect_stdout(sys.stderr), suppress(SystemExit):  # which older releases of Typer raise
                app(args=["--help"], prog_name="xcnn", standalone_mode=False)
            return USAGE
        code = app(args=arguments, prog_name="xcnn", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "show"):
            return misused(error)
        cause = error.__cause__ if isinstance(error, Failed) else error
        if show:
            traceback.print_exception(cause)
        if isinstance(cause, OutputLost):
            return 0  # `told` makes another of it
        tells = cause is None or GROUP.failed(cause)
        if isinstance(cause, KeyboardInterrupt):
            return ENDING.code
        if tells:
            tell_error(cause)
        return exit_code(cause)
    return 0


def misused(error: Any) -> int:
    """Tell an error of Typer's, with the option or command that was probably meant, and give its exit code."""
    command, name = getattr(getattr(error, "ctx", None), "command", None), getattr(error, "option_name", None)
    if name is not None and command is not None:
        error.possibilities = None
        error.message = f"No such option: {name}{instead_of(name, command.params)}"
    elif found := re.match(r"No such command '(.*)'\.", error.message):
        meant_one = meant("command", found[1], [*getattr(command, "commands", ()), "--version", "--help"])
        error.message = f"No such command {found[1]!r}" + (f"; did you mean {meant_one!r}?" if meant_one else ".")
    error.message = errors.bounded(error.message)
    error.show()
    return int(error.exit_code)


def instead_of(name: str, parameters: list[Any]) -> str:
    """The end of a sentence on an option that a command has not: what may be meant."""
    known = [option for p in parameters if p.param_type_name == "option" for option in p.opts if len(option) > 2]
    arguments = [p.name for p in parameters if p.param_type_name == "argument"]
    if name.lstrip("-") in arguments:
        return f"; {name.lstrip('-')} is given by itself, without a name."
    found = meant("option", name, [*known, "--version", "--help"])
    return f"; did you mean {found}?" if found else f"; there are {', '.join(known)}."


def told(results: Results, code: int) -> int:
    """The exit code of a command that ended with this one, once its results are written: 0 only if all were."""
    try:
        results.flush()
    except OutputLost as lost:
        if not lost.reader_left:
            print(f"OutputLost: {lost}", file=sys.stderr)
        return code or (READER_LEFT if lost.reader_left else UNWRITTEN)
    return code


def refuse_empty(arguments: list[str]) -> None:
    """Raise X104 for an argument that is empty: nothing here may be, and it would be taken for one not given."""
    for before, argument in pairwise(["xcnn", *arguments]):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            raise errors.OptionError(
                "X104",
                f"{argument} is empty." if argument else f"the argument after {before!r} is empty.",
                hint="a shell's variable that is not set becomes an empty argument; leave out what is not wanted.",
            )
