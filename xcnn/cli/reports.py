"""How an error is told, and with which code it ends a command."""

from __future__ import annotations

from xcnn import errors
from xcnn.core.output import folded

USAGE, UNAVAILABLE, BAD_DATA, DIVERGED, BUG, UNWRITTEN, READER_LEFT = 2, 3, 4, 5, 70, 74, 141

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


def exit_code(error: BaseException | None) -> int:
    """The exit code that an error has."""
    return next((code for kind, code in CODES if isinstance(error, kind)), BUG)


def tell_error(error: BaseException | None) -> None:
    """Print an error on stderr, in at most five lines."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if isinstance(error, errors.XcnnError):
        kind, text = f"{type(error).__name__}[{error.code}]:", str(error).removeprefix(f"[{error.code}] ")
    else:
        kind = f"{type(error).__name__}:"
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        text = errors.printable(text)
        if exit_code(error) == BUG:
            text += "\n  hint: this is a bug in xcnn; --traceback shows where."
    console.print(kind, style="bold red", end=" ", markup=False)
    console.print(folded(f"{kind} {text}", console.file).removeprefix(f"{kind} "), markup=False)
