"""BLAS, whose number of threads decides in which order a product is summed, while threads compute."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from threading import get_ident
from typing import Any

from xcnn.core.process import Computing, Held, Mark


def alone() -> AbstractContextManager[object]:
    """A block in which BLAS uses one thread a call, while others may compute so too."""
    return _Computing(1)


def free() -> AbstractContextManager[object]:
    """A block in which BLAS uses as many threads as the user lets it."""
    return _Computing(None)


class _Computing(Computing):
    """`Computing` with a number of BLAS's threads."""

    __slots__ = ("number", "own")

    def __init__(self, number: int | None) -> None:
        super().__init__()
        self.number = number
        self.own: own_alone | None = None

    def __enter__(self) -> None:
        super().__enter__()
        assert self.mark is not None
        blas_threads.take(self.number, self.mark)
        if self.number is not None and libraries()[1]:
            self.own = own_alone()
            self.own.__enter__()

    def undo(self, mark: Mark) -> None:
        if self.own is not None and mark.thread == get_ident():
            self.own.__exit__()
        self.own = None
        super().undo(mark)


class own_alone:
    """One thread a call for BLAS libraries that have a number for each thread that calls, in this thread."""

    before: list[tuple[Any, int]]

    def __enter__(self) -> None:
        self.before = [(library, library.get_num_threads()) for library in libraries()[1]]
        for library, _ in self.before:
            set_threads(library, 1)

    def __exit__(self, *error: object) -> None:
        for library, number in self.before:
            set_threads(library, number)


@cache
def libraries() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The BLAS libraries of this process, NumPy's among them: those that have one number of threads, and those built on
    OpenMP, which have one for each thread that calls. Looking for them takes milliseconds.
    """
    found = threadpoolctl().ThreadpoolController().select(user_api="blas").lib_controllers
    of_each = [getattr(library, "threading_layer", "") == "openmp" for library in found]
    return (
        tuple(library for library, each in zip(found, of_each, strict=True) if not each),
        tuple(library for library, each in zip(found, of_each, strict=True) if each),
    )


def threadpoolctl() -> Any:
    """The module, without the environment variable that importing it sets: what that allows is the user's decision."""
    if "threadpoolctl" not in sys.modules and ALLOWS_TWO_OPENMP not in os.environ:
        import_module("threadpoolctl")
        os.environ.pop(ALLOWS_TWO_OPENMP, None)
    return import_module("threadpoolctl")


ALLOWS_TWO_OPENMP = "KMP_DUPLICATE_LIB_OK"


def set_threads(library: Any, number: int) -> None:
    """Set a BLAS library's number; threadpoolctl 3.8 itself lets one thread set OpenBLAS's, and no other, silently."""
    getattr(library, "_real_set_num_threads", library.set_num_threads)(number)


def _read_blas() -> list[int]:
    return [library.get_num_threads() for library in libraries()[0]]


def _write_blas(number: int) -> None:
    for library in libraries()[0]:
        set_threads(library, number)


def _restore_blas(numbers: list[int]) -> None:
    for library, number in zip(libraries()[0], numbers, strict=True):
        set_threads(library, number)


blas_threads: Held = Held(_read_blas, _write_blas, _restore_blas, "the number of BLAS's threads")
_Computing.within = blas_threads, *Computing.within
