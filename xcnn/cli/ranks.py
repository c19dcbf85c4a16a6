"""`xcnn train --parallel` and `--processes`: a command that several processes run together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from xcnn.cli.reports import BAD_DATA, DIVERGED, READER_LEFT, UNAVAILABLE, UNWRITTEN, USAGE, exit_code, tell_error
from xcnn.errors import OptionError, counted

if TYPE_CHECKING:
    from xcnn.parallel import Together

Value = TypeVar("Value")

Parallel = Annotated[bool, typer.Option("--parallel", help="Train with all processes that mpiexec has begun.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Begin so many processes by mpiexec, and train with all.")]
MaxRestarts = Annotated[
    int | None, typer.Option(min=0, help="With --processes: go on from the last checkpoint where one was lost.")
]
FINAL = (0, 1, USAGE, UNAVAILABLE, BAD_DATA, DIVERGED, UNWRITTEN, READER_LEFT, 129, 130, 143)
"""Exit codes after which nothing is begun anew: what they tell would come again, or somebody wished it."""
OWN = ("processes", "max_restarts", "parallel", "output", "config")
"""Options of whoever begins the processes, which they are told otherwise or not."""
KEPT = (
    "data", "backend", "data_dir", "max_bytes", "max_pixels", "formats", "workers", "progress", "quiet", "json",
)  # fmt: skip
"""What a run that resumes is told again; all else its checkpoint knows."""


class Group:
    """The processes that run this command; none unless it was begun by `--parallel`."""

    together: Together | None = None

    def begin(self) -> Together:
        """Be one of several from now on: all but the first keep silent."""
        from xcnn.parallel import mpi
        from xcnn.parallel.ending import silence

        self.together = mpi()
        self.together.ending.told = told
        if not self.together.first:
            silence()
        return self.together

    def first_before(self, make: Callable[[], Value]) -> Value:
        """What each makes, the first before the others, who then find what it has downloaded."""
        if self.together is None:
            return make()
        if self.together.first:
            made = make()
            self.together.of_first(bool)
            return made
        self.together.of_first(bool)
        return make()

    @property
    def first(self) -> bool:
        """Whether this process tells what all of them found."""
        return self.together is None or self.together.first

    def failed(self, error: BaseException) -> bool:
        """Whether this process tells an error; where it is one of several that alone has one, it ends all."""
        if self.together is not None:
            self.together.failed(error)
        return self.first


GROUP = Group()
"""The process's."""


def told(error: BaseException) -> int:
    """Tell an error; its exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    tell_error(error)
    return exit_code(error)


def launched(context: typer.Context, processes: int | None, restarts: int | None, path: Path, resumed: bool) -> int:
    """Run the command that was given by several processes; its exit code.

    Parameters
    ----------
    context
        of the command, with its options
    processes, restarts
        as they were given
    path
        of the checkpoint
    resumed
        whether the checkpoint was there before
    """
    if processes is None:
        hint = "--processes 4, and no mpiexec before it."
        raise OptionError("X104", "--max-restarts begins processes anew that --processes has begun.", hint=hint)
    from xcnn.parallel.launch import launch

    before = stamp(path)

    def command(number: int) -> list[str]:
        goes_on = number > 0 and stamp(path) not in (before, None) and not resumed
        given = arguments(context, KEPT if goes_on else None)
        extra = ["--resume", str(path)] if goes_on else []
        own = [] if resumed else ["--output", str(path)]
        return [sys.executable, "-m", "xcnn", str(context.info_name), *given, *extra, *own, "--parallel"]

    def tell(number: int, code: int) -> None:
        print(f"a process was lost (exit code {code}); restart {number} of {restarts}", file=sys.stderr, flush=True)

    return launch(processes, command, restarts or 0, lambda code: code not in FINAL, tell)


def stamp(path: Path) -> tuple[int, int] | None:
    """What tells one file of this name from another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def arguments(context: typer.Context, kept: tuple[str, ...] | None) -> list[str]:
    """The arguments of a command, but for those of this page and its output; of them those that are kept."""
    found: list[str] = []
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        source = context.get_parameter_source(name)
        given = source is not None and source.name != "DEFAULT" and value is not None and name not in OWN
        if given and (kept is None or name in kept):
            found += as_given(parameter, value)
    return found


def as_given(parameter: Any, value: Any) -> list[str]:
    """An option as the command line has it."""
    if parameter.param_type_name == "argument":
        return [str(value)]
    if isinstance(value, bool):
        return [parameter.opts[-1] if value else parameter.secondary_opts[-1]]
    return [parameter.opts[0], str(value)]


def count(processes: int) -> str:
    """How many train, in words."""
    return counted(processes, "process", "processes")
