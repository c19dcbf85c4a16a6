"""Sums and products of two arrays, in the first one's order of memory, as passes of the library."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

from xcnn_native.program import OWN_NEIGHBOURS, PLANES, Program
from xcnn_native.trace import CHANNEL, STREAM, Symbol

from xcnn.core.types import Array
from xcnn_numpy.native.layout import as_lying, lying, new


@cache
def addition(dtype: Any) -> Program:
    """A + b."""
    return Program({"y": Symbol.of("a", dtype) + Symbol.of("b", dtype)})


@cache
def times(dtype: Any, kind: str) -> Program:
    """A b, b being a cell or a number of the channel."""
    return Program({"y": Symbol.of("a", dtype) * Symbol.of("b", dtype, kind)})


def cell_by_cell(program: Program, a: Array, b: Array, threads: int) -> Array:
    """What it makes of two arrays of one shape and type."""
    a, last = lying(a, threads)
    y = new(a.shape, a.dtype, last)
    program.run({"a": a, "b": as_lying(b, last, threads), "y": y}, threads, 1, a.size)
    return y


def added(a: Array, b: Array, threads: int) -> Array:
    """A + b, of one shape and type that the kernels compute in."""
    return cell_by_cell(addition(a.dtype), a, b, threads)


def multiplied(a: Array, b: Array, threads: int) -> Array:
    """A b, of one shape and type that the kernels compute in."""
    return cell_by_cell(times(a.dtype, STREAM), a, b, threads)


def scaled(x: Array, factors: Array, threads: int) -> Array:
    """X times a factor for each channel of each sample, (N, C), or for each sample, (N,); factors in C's order."""
    x, last = lying(x, threads)
    y, (n, c), cells = new(x.shape, x.dtype, last), (*x.shape, 1)[:2], prod(x.shape[2:])
    if factors.ndim == 1:
        planes = n, c * cells, n, PLANES
    else:
        planes = (n, cells * c, c, OWN_NEIGHBOURS) if last else (n * c, cells, n * c, PLANES)
    times(x.dtype, CHANNEL).run({"a": x, "b": factors, "y": y}, threads, *planes)
    return y
