"""Losses of classifiers in one pass of the compiled library: value, gradient, and how many samples are right."""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import address, kernel, library

from xcnn.core.types import Array
from xcnn.training.losses import Loss, binary_cross_entropy, cross_entropy
from xcnn_numpy.native.layout import holds

Judged: TypeAlias = tuple[Array, Array, "int | None"]


def judged(loss: Loss, threshold: float | None, y: Array, t: Array, threads: int) -> Judged | None:
    """What `Backend.loss_and_gradient` gives; None where the loss or an array is not of the kinds that this is for.

    These are cross-entropy of labels (N,), int64, and binary cross-entropy of targets shaped like y (N, units).
    """
    if library() is None or not (holds(y) and type(t) is np.ndarray and y.ndim == 2 and y.size):
        return None
    options: tuple[float, ...] = ()
    if loss is cross_entropy and t.dtype == np.int64 and t.shape == y.shape[:1] and y.shape[1] > 1:
        name = "cross_entropy"
    elif loss is binary_cross_entropy and t.dtype == y.dtype and t.shape == y.shape:
        name, options = "binary_cross_entropy", (threshold or 0.0,)
    else:
        return None
    y, t, dy, right = np.ascontiguousarray(y), np.ascontiguousarray(t), empty(y.shape, y.dtype), ctypes.c_int64()
    at = address(y), address(t), *options, address(dy), ctypes.addressof(right)
    value = kernel(name, y.dtype)(*y.shape, *at, threads)
    if right.value < 0:  # a label is none of the classes
        return None
    return y.dtype.type(value), dy, None if threshold is None else right.value
