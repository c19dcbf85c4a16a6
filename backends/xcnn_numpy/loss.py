"""Losses of classifiers in one pass of the compiled library: value, gradient, and how many samples are right."""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import numpy as np
from xcnn_native.library import address, kernel, library

from xcnn.core.types import Array
from xcnn.training.losses import Loss, binary_cross_entropy, cross_entropy
from xcnn_numpy.native.layout import LAST, holds, lying, new

Judged: TypeAlias = tuple[Array, Array, "int | None"]


def judged(loss: Loss, threshold: float | None, y: Array, t: Array, threads: int) -> Judged | None:
    """What `Backend.loss_and_gradient` gives; None where the loss or an array is not of the kinds that this is for.

    These are cross-entropy of labels, int64, of samples or of their places, and binary cross-entropy of targets shaped
    like y, of samples, or of the places of a single output.
    """
    if library() is None or not (holds(y) and type(t) is np.ndarray and y.ndim > 1 and y.size):
        return None
    if loss is cross_entropy and t.dtype == np.int64 and t.shape == (len(y), *y.shape[2:]) and y.shape[1] > 1:
        how = of_labels(y)
    elif (
        loss is binary_cross_entropy and t.dtype == y.dtype and t.shape == y.shape and (y.ndim == 2 or y.shape[1] == 1)
    ):
        y = np.ascontiguousarray(y)
        how = "binary_cross_entropy", (y.size // y.shape[1], y.shape[1]), y, (threshold or 0.0,)
    else:
        return None
    name, sizes, y, options = how
    t, dy, right = np.ascontiguousarray(t), like(y), ctypes.c_int64()
    at = address(y), address(t), *options, address(dy), ctypes.addressof(right)
    value = kernel(name, y.dtype)(*sizes, *at, threads)
    if right.value < 0:  # a label is none of the classes
        return None
    return y.dtype.type(value), dy, None if threshold is None else right.value


def of_labels(y: Array) -> tuple[str, tuple[int, ...], Array, tuple[float, ...]]:
    """The kernel for logits, the sizes that it takes, and the logits with their classes side by side, or in planes."""
    places = y.size // (y.shape[0] * y.shape[1])
    (y, last) = lying(y) if y.ndim in LAST else (np.ascontiguousarray(y), y.ndim == 2)
    if last or places == 1:
        return "cross_entropy", (len(y) * places, y.shape[1]), y, ()
    return "cross_entropy_planes", (len(y), y.shape[1], places), y, ()


def like(y: Array) -> Array:
    """An array of any content that lies as y does."""
    return new(y.shape, y.dtype, not y.flags.c_contiguous)
