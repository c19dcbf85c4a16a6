"""What xcnn raises: a first line that suffices, then what was got and expected, then one hint.

Each error has a code with a section in docs/errors.md, and is also the builtin exception that fits it best.
"""

from __future__ import annotations

import os
import sys
import warnings
from types import TracebackType

__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendUnavailable",
    "BusyError",
    "CheckpointError",
    "DTypeError",
    "DataError",
    "DeviceMemoryError",
    "DivergedError",
    "ExchangeError",
    "LabelError",
    "MissingDependency",
    "NoAttribute",
    "OptionError",
    "ShapeError",
    "XcnnError",
]


class XcnnError(Exception):
    """Base of all of xcnn's errors.

    Parameters
    ----------
    code
        e.g. "X101"; the section of docs/errors.md.
    message
        one sentence. With `layer` it is a predicate, such as "expects 1 input channel but got 3.".
    details
        further lines: the shapes got and expected, with their axes named.
    hint
        what to do about it.
    layer
        the layer at fault, or None; its class opens the message, and the containers around it add its name.
    behind
        the hint instead, where other layers of a net come before that one: what reaches it is not the net's input.

    Examples
    --------
    >>> try:
    ...     xcnn.Dense(0)
    ... except xcnn.errors.XcnnError as error:
    ...     print(error.code, "is told in docs/errors.md")
    X104 is told in docs/errors.md
    """

    code: str
    """Such as "X101": the section of docs/errors.md."""
    message: str
    details: tuple[str, ...]
    hint: str
    behind: str
    subject: str
    """The class of the layer at fault; "" where it is none."""
    names: tuple[str, ...]
    """Its name in each container around it, outermost first."""

    def __init__(
        self, code: str, message: str, *details: str, hint: str = "", layer: object = None, behind: str = ""
    ) -> None:
        message, details = bounded(message), tuple(map(bounded, details))
        super().__init__(code, message, *details)
        self.code, self.message, self.details, self.hint, self.behind = code, message, details, hint, behind
        self.subject = "" if layer is None else type(layer).__name__
        self.names = ()

    def inside(self, name: str, behind: bool = False) -> XcnnError:
        """Note that the layer at fault has this name in the container that calls, and whether others come before it."""
        self.names = (name, *self.names)
        if behind and self.behind:
            self.hint = self.behind
        return self

    @property
    def summary(self) -> str:
        """The first line, without code or class."""
        where = f"{self.subject} {'.'.join(self.names)!r}" if self.names and self.subject else self.subject
        return line(f"{where} {self.message}" if where else self.message)

    def _render_traceback_(self: BaseException) -> list[str]:
        """What a notebook shows of it, which asks for this: without xcnn's own lines, unless XCNN_TRACEBACK=full."""
        shell = sys.modules["IPython"].get_ipython()
        full = os.environ.get("XCNN_TRACEBACK") == "full"
        cause, silent = self.__cause__, self.__suppress_context__
        try:
            if not full:
                self.__cause__ = None  # which hides what was being handled as well
            shown = self.__traceback__ if full else outside(self.__traceback__)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # IPython asks every module for its file: CuPy's late ones load then
                lines: list[str] = shell.InteractiveTB.structured_traceback(type(self), self, shown, tb_offset=1)
            return lines
        finally:
            self.__cause__ = cause
            self.__suppress_context__ = silent

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.summary}", *map(line, self.details)]
        return "\n  ".join([*lines, f"hint: {line(self.hint)}"] if self.hint else lines)


OURS = ("xcnn", "xcnn_")
"""How the names of our modules begin."""


def outside(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of xcnn and its plug-ins."""
    if traceback is None:
        return None
    rest = outside(traceback.tb_next)
    name = str(traceback.tb_frame.f_globals.get("__name__", ""))
    if name == OURS[0] or name.startswith((f"{OURS[0]}.", OURS[1])):
        return rest
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)


class NoAttribute(AttributeError):
    """An attribute that is not there, told with what may be meant; it has no code, since Python's own have none.

    Parameters
    ----------
    message
        one sentence
    name
        the attribute's, None where it is not known
    obj
        what has no such attribute; None for a module

    Examples
    --------
    >>> try:
    ...     xcnn.Conv2DD
    ... except AttributeError as error:
    ...     print(error)
    module 'xcnn' has no attribute 'Conv2DD'; did you mean 'Conv2D'?
    """

    def __init__(self, message: str, *, name: str | None = None, obj: object = None) -> None:
        super().__init__(message, name=name, **({} if obj is None else {"obj": obj}))

    _render_traceback_ = XcnnError._render_traceback_


class ShapeError(XcnnError, ValueError):
    """An array's shape does not fit (X1xx)."""


class DTypeError(XcnnError, TypeError):
    """An array's data type does not fit (X103)."""


class OptionError(XcnnError, ValueError):
    """A hyper-parameter or argument has a value that it can't have (X104)."""


class ArgumentError(OptionError, TypeError):
    """X104: a call that does not fit what is called: too many values, or a name that is not known."""


class LabelError(XcnnError, ValueError):
    """Labels are outside the classes (X201)."""


class DataError(XcnnError, ValueError):
    """A data set, image or file can't be used (X2xx)."""


class BackendError(XcnnError, ValueError):
    """Arrays of different libraries or devices meet, or a backend is unknown (X30x)."""


class BackendUnavailable(XcnnError, ImportError):
    """A backend that was asked for can't be used here (X302)."""


class DeviceMemoryError(XcnnError, MemoryError):
    """A device has no memory left for what was asked (X304)."""


class CheckpointError(XcnnError, ValueError):
    """A checkpoint is incomplete, altered, too large or not one of ours (X4xx)."""


class ExchangeError(XcnnError, ValueError):
    """A model can't be written in another format, or a file of one not be read (X41x)."""


class DivergedError(XcnnError, ArithmeticError):
    """The loss became NaN or infinite (X501)."""


class BusyError(XcnnError, RuntimeError):
    """Another thread is training the model (X502)."""


class MissingDependency(XcnnError, ImportError):
    """An optional package is needed (X601)."""


class inside:
    """Name the layer that errors raised in this block come from."""

    __slots__ = ("behind", "name")

    name: str
    behind: bool

    def __init__(self, name: str, behind: bool = False) -> None:
        self.name, self.behind = name, behind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, XcnnError):
            error.inside(self.name, self.behind)


HOST = ("builtins", "numpy")
"""Whose MemoryError is about the host's memory."""


class host_memory:
    """Tell X304 where the host has no memory left for this block; of blocks within blocks the outermost tells."""

    __slots__ = ("what",)

    what: str

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, DeviceMemoryError) and type(error.__cause__).__module__.split(".")[0] in HOST:
            error = error.__cause__  # as a block within this one has told it
        if isinstance(error, MemoryError) and not isinstance(error, DeviceMemoryError):
            told = f"the host has no memory left for {self.what}."
            hint = "try smaller sizes, or a smaller batch_size."
            raise DeviceMemoryError("X304", told, told_by(error), hint=hint) from error


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 class, 2 classes, 12,665 images."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    r"""A line as a terminal may be given it: what is no visible character as its escape, \x1b, \n or \u202e.

    Names of files, of classes and in files are others': they could set a terminal's title, or forge a line.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def told_by(error: BaseException) -> str:
    """An error of another library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


LONGEST = 600
"""Characters of one line of an error, whatever was given."""


def bounded(text: str) -> str:
    """A line of an error; of one that is too long, its two ends."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 3 :]}"


def line(text: str) -> str:
    """A text of any length and origin as one line of an error."""
    return bounded(printable(bounded(text)))


def short(value: object) -> str:
    """Any value for an error, not longer than a line: also one that is too large to print, or fails to."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int of more digits than Python prints, containers within each other, a repr of a user's own
        return f"a value of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"
