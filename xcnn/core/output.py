"""Output to streams that may be missing, closed, full, or left by their reader.

Results go to stdout: where they can't be written, `OutputLost` says so. Progress and messages go to stderr, and are
told where they can be: nothing ends because nobody hears of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

LEFT = (errno.EPIPE, errno.ECONNRESET, getattr(errno, "ESHUTDOWN", errno.EPIPE))
"""What writing fails with where the reader has gone."""


class OutputLost(Exception):
    """Results can't be written to stdout any more. No OSError, of which a command may have others."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def reader_left(self) -> bool:
        """Whether somebody read, and has had enough."""
        return isinstance(self.reason, OSError) and self.reason.errno in LEFT

    def __str__(self) -> str:
        why = getattr(self.reason, "strerror", None) or str(self.reason)
        return "the reader of stdout has gone" if self.reader_left else f"stdout can't be written: {why}"


class Notes:
    """A stream for progress and messages. After the first failure nothing more is tried."""

    stream: Any
    lost: bool

    def __init__(self, stream: Any) -> None:
        self.stream, self.lost = stream, False

    def write(self, text: str) -> int:
        """Write what can be written; characters that the encoding does not have as their escapes."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")  # click asks by trying
        self._try(lambda: put(self.stream, text))
        return len(text)

    def flush(self) -> None:
        """Write what was kept back, if the stream keeps anything."""
        self._try(getattr(self.stream, "flush", lambda: None))

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return bool(self.stream.isatty())
        except Exception:
            return False

    def _try(self, action: Any) -> None:
        if self.stream is None or self.lost:
            return
        try:
            action()
        except Exception as error:  # a stream that somebody put in stderr's place may raise anything
            self.lost = True
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """What a failure leads to: nothing."""

    def discard(self) -> None:
        """Let a real stream that failed end in nothing, so that Python does not fail again when it closes it."""
        if self.lost:
            with contextlib.suppress(Exception):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
                self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Results(Notes):
    """A stream for results. The first failure is kept, and raised by each call from then on."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.error: OutputLost | None = None

    def _try(self, action: Any) -> None:
        if self.error is not None:
            raise self.error
        super()._try(action)

    def fail(self, error: Exception) -> None:
        """Raise it, now and at each later call."""
        self.error = OutputLost(error)
        raise self.error from error


def put(stream: Any, text: str) -> None:
    """Write to a stream, characters that its encoding does not have as their escapes."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def folded(text: str, stream: Any) -> str:
    """The text as a terminal shows it best, its long lines broken between words; elsewhere a line stays a line."""
    wide = columns(stream)
    if wide is None or all(len(line) <= wide for line in text.split("\n")):
        return text
    return "\n".join(_folded(line, wide) if len(line) > wide else line for line in text.split("\n"))


def _folded(line: str, wide: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        wide,
        subsequent_indent=f"{indent}  ",
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def columns(stream: Any) -> int | None:
    """How many characters a row of the terminal has that a stream writes to; None where it writes elsewhere."""
    if not Notes(stream).isatty():
        return None
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def same_terminal(one: Any, other: Any) -> bool:
    """Whether two streams write to one and the same terminal."""
    if not (Notes(one).isatty() and Notes(other).isatty()):
        return False
    try:
        return os.ttyname(one.fileno()) == os.ttyname(other.fileno())
    except AttributeError:  # Windows has one
        return not hasattr(os, "ttyname")
    except (OSError, ValueError):
        return False


def notes() -> Notes:
    """The process's stderr."""
    return sys.stderr if isinstance(sys.stderr, Notes) else Notes(sys.stderr)


@contextlib.contextmanager
def process_streams() -> Iterator[Results]:
    """For a `with` block around a command: stdout becomes `Results`, stderr `Notes`, for all that is written.

    A standard stream that is closed is taken for /dev/null, so that no other file gets its number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = sys.stdout, sys.stderr
    results, messages = Results(sys.stdout), notes()
    sys.stdout, sys.stderr = results, messages
    try:
        yield results
    finally:
        messages.flush()
        sys.stdout, sys.stderr = before
        results.discard()
        messages.discard()
