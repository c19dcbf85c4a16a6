"""Tensors that stand in a file: shape and type are known, and checked against its size, before one is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xcnn.core.types import Shape
from xcnn.core.windows import is_whole

Numbers: TypeAlias = NDArray[Any]
Order: TypeAlias = Literal["<", ">"]
"""Of a number's bytes: the lowest first, or last."""

SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1,
}  # fmt: skip
"""Bytes of a number of each type that is read."""
MOST_AXES = 8
MOST_CELLS = 2**40


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, not read yet.

    Parameters
    ----------
    dtype
        a name in SIZES
    shape
        its sizes
    read
        brings its numbers, as `shape`; bfloat16 as float32
    """

    dtype: str
    shape: Shape
    read: Callable[[], Numbers]


@dataclass(frozen=True)
class Storage:
    """Numbers in a row, which tensors are views of.

    Parameters
    ----------
    dtype
        a name in SIZES
    cells
        how many
    read
        brings the bytes from a first cell on, of so many cells: read(first, count)
    """

    dtype: str
    cells: int
    read: Callable[[int, int], bytes | bytearray]


def numbers(raw: bytes | bytearray, dtype: str, order: Order = "<") -> Numbers:
    """Bytes as numbers of this machine's; bfloat16 as float32, whose upper half it is."""
    if dtype == "bfloat16":
        return (np.frombuffer(raw, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    kind = np.dtype(dtype)
    return np.frombuffer(raw, kind.newbyteorder(order)).astype(kind, copy=False)


def view(storage: Storage, first: object, shape: object, strides: object, order: Order = "<") -> Stored:
    """A tensor of a storage: cell (i, j, ...) is its number first + i strides[0] + j strides[1] + ...

    Raises
    ------
    ValueError
        where it reaches beyond its storage, or has more cells than that.
    """
    sizes, steps = _whole_numbers(shape), _whole_numbers(strides)
    if not is_whole(first) or not 0 <= first < MOST_CELLS or len(sizes) != len(steps):  # type: ignore[operator]
        raise ValueError(f"a tensor has the sizes {sizes} and the strides {steps}, or begins nowhere")
    begin, count = int(first), prod(sizes)  # type: ignore[call-overload]
    span = 1 + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True)) if count else 0
    if count > storage.cells or begin + span > storage.cells:
        raise ValueError(f"a tensor of {sizes} reaches beyond its storage of {storage.cells:,} numbers")

    def read() -> Numbers:
        row = numbers(storage.read(begin, span), storage.dtype, order)
        if not count:
            return row.reshape(sizes)
        bytes_apart = [step * row.itemsize for step in steps]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(row, sizes, bytes_apart, writeable=False))

    return Stored(storage.dtype, sizes, read)


def _whole_numbers(given: object) -> Shape:
    """A tuple of whole numbers that sizes or strides can be."""
    if not isinstance(given, tuple | list) or len(given) > MOST_AXES:
        raise ValueError("a tensor's sizes or strides are no short tuple")
    if not all(is_whole(n) and 0 <= n < MOST_CELLS for n in given):
        raise ValueError("a tensor has sizes or strides that can't be")
    return tuple(given)
