"""How an error is told, and with which code it ends a command."""

from __future__ import annotations

from xcnn import errors

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
        first, *rest = str(error).removeprefix(f"[{error.code}] ").split("\n")
        console.print(f"{type(error).__name__}[{error.code}]:", style="bold red", end=" ", markup=False)
        console.print("\n".join([first, *rest]), markup=False)
    else:
        console.print(f"{type(error).__name__}:", style="bold red", end=" ", markup=False)
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        console.print(errors.printable(text), markup=False)
        if exit_code(error) == BUG:
            console.print("  hint: this is a bug in xcnn; --traceback shows where.", markup=False)
