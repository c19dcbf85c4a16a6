"""Numbers that are not known while code is compiled, but for the side of 0 and 1 on which they lie (lifting.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Any

from xcnn.core.types import Array

TRACED: ContextVar[Mapping[int, tuple[Array, float]]] = ContextVar("traced", default={})  # noqa: B039  # never written
"""The tracers of what is compiled now, by their ids, with the numbers that they stand for."""


class NotLifted(Exception):
    """A tracer was asked for more than its side of 0 and 1."""


@contextmanager
def standing(tracers: Mapping[int, tuple[Array, float]]) -> Iterator[None]:
    """Let these tracers, by their ids, stand for numbers within the block."""
    token = TRACED.set(tracers)
    try:
        yield
    finally:
        TRACED.reset(token)


def behind(value: Any) -> Any:
    """The number that a tracer stands for, to be compared with 0, 1 or infinity alone; all else as it is."""
    traced = TRACED.get().get(id(value)) if TRACED.get() else None
    return value if traced is None else traced[1]


def check_limits(value: Any, *limits: float) -> None:
    """Raise NotLifted where a tracer is held to other limits than those that its side tells of."""
    if behind(value) is not value and not {*limits} <= {0, 1, inf, -inf}:
        raise NotLifted


def floor(xp: Any, number: Any, times: int) -> Any:
    """The whole number at or below `times` the number, which is not negative: an int, or for a tracer an array."""
    return int(number * times) if behind(number) is number else xp.astype(xp.floor(number * times), xp.int64)
