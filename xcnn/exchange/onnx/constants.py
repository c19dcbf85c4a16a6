"""What follows from constants and from the batch's size alone, computed when a file is read.

Shapes that a graph computes for itself, as Shape, Gather and Concat before a Reshape, depend on the number of samples.
They are computed for two numbers of them: what is equal for both is constant, and a size that is the number of samples
each time is the batch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcnn.exchange.onnx.file import Op

SAMPLES = (5, 7)
"""The two numbers of samples."""
FREE = 1 << 20
"""Cells that may be made of nothing: shapes and grids of places take far fewer."""

Value = NDArray[Any]


class TooMuch(ValueError):
    """A constant would have more cells than any net needs."""


def made(cells: int, *given: Value) -> None:
    """Raise TooMuch where cells are more than those given and what is free."""
    if cells > FREE + sum(x.size for x in given):
        raise TooMuch(f"it would be a constant of {cells:,} cells")


def elementwise(f: Callable[..., Value]) -> Callable[[Op, Sequence[Any]], Value]:
    """An operator of single cells, the arrays' shapes fitted to each other."""

    def computed(op: Op, xs: Sequence[Any]) -> Value:
        made(prod(np.broadcast_shapes(*(x.shape for x in xs))), *xs)
        return np.asarray(f(*xs))

    return computed


def divided(a: Value, b: Value) -> Value:
    """Whole numbers are cut towards 0, as ONNX has it."""
    if a.dtype.kind in "iu":
        return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)
    return np.asarray(a / b)


def cast(op: Op, xs: Sequence[Any]) -> Value:
    """Another type."""
    import onnx

    return np.asarray(xs[0]).astype(onnx.helper.tensor_dtype_to_np_dtype(op.get("to")))


def constant(op: Op, xs: Sequence[Any]) -> Value:
    """One of the attributes that a Constant may have."""
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32),
                        ("value_floats", np.float32)):  # fmt: skip
        if name in op.attributes:
            return np.asarray(op.attributes[name], dtype)
    return np.asarray(op.attributes["value"])


def constant_of_shape(op: Op, xs: Sequence[Any]) -> Value:
    """One number in all cells."""
    sizes = tuple(int(n) for n in xs[0])
    made(prod(sizes))
    number = np.reshape(op.get("value", np.zeros(1, np.float32)), ())
    return np.asarray(np.full(sizes, number, number.dtype))


def gather(op: Op, xs: Sequence[Any]) -> Value:
    """Slices of an axis, by their places."""
    x, places = xs
    axis = op.get("axis", 0)
    made(places.size * (x.size // max(x.shape[axis], 1)), x)
    return np.asarray(np.take(x, places, axis=axis))


def axes_of(op: Op, xs: Sequence[Any], n: int = 1) -> list[int] | None:
    """The axes, an attribute in older versions and an input in newer ones."""
    given = op.get("axes")
    if given is None and len(xs) > n and xs[n] is not None:
        given = xs[n]
    return None if given is None else [int(axis) for axis in given]


def slices(op: Op, xs: Sequence[Any], rank: int) -> tuple[slice, ...]:
    """What a Slice cuts out of an array of this rank."""
    if "starts" in op.attributes:
        starts, stops = op.get("starts"), op.get("ends")
        axes, steps = op.get("axes") or range(len(starts)), [1] * len(starts)
    else:
        starts, stops = ([int(n) for n in x] for x in xs[1:3])
        axes = [int(n) for n in xs[3]] if len(xs) > 3 and xs[3] is not None else range(len(starts))
        steps = [int(n) for n in xs[4]] if len(xs) > 4 and xs[4] is not None else [1] * len(starts)
    cuts = [slice(None)] * rank
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        least = -(1 << 40)
        cuts[axis] = slice(start, None if step < 0 and stop < least else stop, step)
    return tuple(cuts)


def squeeze(op: Op, xs: Sequence[Any]) -> Value:
    """Without axes of size 1."""
    axes = axes_of(op, xs)
    squeezed: Value = np.squeeze(xs[0], axis=None if axes is None else tuple(axes))
    return squeezed


def unsqueeze(op: Op, xs: Sequence[Any]) -> Value:
    """With further axes of size 1."""
    axes = axes_of(op, xs) or []
    if len(axes) + xs[0].ndim > 32:
        raise ValueError("it has more than 32 axes")
    return np.expand_dims(xs[0], tuple(axes))


def reshape(op: Op, xs: Sequence[Any]) -> Value:
    """Other axes."""
    x, shape = xs
    zero = bool(op.get("allowzero", 0))
    return np.reshape(x, tuple(x.shape[n] if m == 0 and not zero else int(m) for n, m in enumerate(shape)))


def expand(op: Op, xs: Sequence[Any]) -> Value:
    """Repeated along axes of size 1."""
    shape = np.broadcast_shapes(xs[0].shape, tuple(int(n) for n in xs[1]))
    made(prod(shape), xs[0])
    return np.asarray(np.broadcast_to(xs[0], shape))


def tile(op: Op, xs: Sequence[Any]) -> Value:
    """Repeated along each axis."""
    made(xs[0].size * prod(max(int(n), 0) for n in xs[1]), xs[0])
    return np.tile(xs[0], tuple(int(n) for n in xs[1]))


def ranged(op: Op, xs: Sequence[Any]) -> Value:
    """Numbers at equal distances."""
    start, stop, step = (np.reshape(x, ()).item() for x in xs)
    made(int(max((stop - start) / step, 0)) if step else FREE + 1)
    return np.asarray(np.arange(start, stop, step, dtype=xs[0].dtype))


def concat(op: Op, xs: Sequence[Any]) -> Value:
    """Joined along an axis."""
    return np.concatenate(xs, axis=op.get("axis", 0))


def product(op: Op, xs: Sequence[Any]) -> Value:
    """A product of two matrices."""
    a, b = xs
    if a.ndim > 2 or b.ndim > 2 or a.size * b.shape[-1] > 64 * FREE:
        raise TooMuch("it would be a product of many constants")
    made(a.size // max(a.shape[-1], 1) * b.shape[-1], a, b)
    return np.asarray(a @ b)


def dequantized(op: Op, xs: Sequence[Any]) -> Value:
    """Numbers of whole ones with a scale, one for all or one for each slice of an axis."""
    x, scale, *zero = xs
    wide = [1] * x.ndim
    if scale.ndim:
        wide[op.get("axis", 1)] = -1
    start = np.reshape(zero[0], wide if scale.ndim else ()).astype(np.float32) if zero else np.float32(0)
    return np.asarray((x.astype(np.float32) - start) * np.reshape(scale, wide if scale.ndim else ()), np.float32)


def reduced(f: Callable[..., Value]) -> Callable[[Op, Sequence[Any]], Value]:
    """An operator that makes one cell of those along some axes."""

    def computed(op: Op, xs: Sequence[Any]) -> Value:
        axes = axes_of(op, xs)
        if not axes and op.get("noop_with_empty_axes", 0):
            return np.asarray(xs[0])
        return np.asarray(f(xs[0], axis=tuple(axes) if axes else None, keepdims=bool(op.get("keepdims", 1))))

    return computed


CELLS: dict[str, Callable[..., Value]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Div": divided,
    "Equal": np.equal,
    "Exp": np.exp,
    "Floor": np.floor,
    "Greater": np.greater,
    "Less": np.less,
    "Max": lambda *xs: reduce(np.maximum, xs),
    "Min": lambda *xs: reduce(np.minimum, xs),
    "Mod": np.mod,
    "Log": np.log,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Reciprocal": np.reciprocal,
    "Round": np.round,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Where": np.where,
}
"""Operators of single cells."""

FOLDED: dict[str, Callable[[Op, Sequence[Any]], Value]] = {
    "Cast": cast,
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DequantizeLinear": dequantized,
    "Expand": expand,
    "Gather": gather,
    "Identity": lambda op, xs: np.asarray(xs[0]),
    "MatMul": product,
    "Range": ranged,
    "ReduceL2": reduced(lambda x, **how: np.sqrt(np.sum(x * x, **how))),
    "ReduceMax": reduced(np.max),
    "ReduceMean": reduced(np.mean),
    "ReduceMin": reduced(np.min),
    "ReduceProd": reduced(np.prod),
    "ReduceSum": reduced(np.sum),
    "ReduceSumSquare": reduced(lambda x, **how: np.sum(x * x, **how)),
    "Reshape": reshape,
    "Size": lambda op, xs: np.asarray(xs[0].size, np.int64),
    "Slice": lambda op, xs: np.asarray(xs[0][slices(op, xs, xs[0].ndim)]),
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": lambda op, xs: np.transpose(xs[0], op.get("perm")),
    "Unsqueeze": unsqueeze,
    "Shape": lambda op, xs: np.asarray(xs[0].shape[op.get("start", 0) : op.get("end")], np.int64),
    **{name: elementwise(f) for name, f in CELLS.items()},
}
"""Operators on constants, in NumPy."""
