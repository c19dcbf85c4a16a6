"""Losses of classifiers in one pass of the compiled library: value, gradient, and how many samples are right."""

from __future__ import annotations

import ctypes
from typing import Any, TypeAlias

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import KINDS, address, library

from xcnn.core.types import Array
from xcnn.training.losses import Loss, binary_cross_entropy, cross_entropy

Judged: TypeAlias = tuple[Array, Array, "int | None"]


def judged(loss: Loss, threshold: float | None, y: Array, t: Array, threads: int) -> Judged | None:
    """What `Backend.loss_and_gradient` gives; None where the loss or an array is not of the kinds that this is for.

    These are cross-entropy of labels (N,), int64, and binary cross-entropy of targets shaped like y (N, units).
    """
    if library() is None or not (type(y) is type(t) is np.ndarray and y.ndim == 2 and y.dtype in TYPES and y.size):
        return None
    if loss is cross_entropy and t.dtype == np.int64 and t.shape == y.shape[:1] and y.shape[1] > 1:
        return run("cross_entropy", (), threshold, y, t, threads)
    if loss is binary_cross_entropy and t.dtype == y.dtype and t.shape == y.shape:
        return run("binary_cross_entropy", (threshold or 0.0,), threshold, y, t, threads)
    return None


TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def run(
    name: str, options: tuple[Any, ...], threshold: float | None, y: Array, t: Array, threads: int
) -> Judged | None:
    """Call a kernel; None where a label is none of the classes."""
    y, t, right = np.ascontiguousarray(y), np.ascontiguousarray(t), ctypes.c_int64()
    dy = empty(y.shape, y.dtype)
    kernel = getattr(library(), f"{name}_{KINDS[y.dtype.char]}")
    value = kernel(*y.shape, address(y), address(t), *options, address(dy), ctypes.addressof(right), threads)
    if right.value < 0:
        return None
    return y.dtype.type(value), dy, None if threshold is None else right.value
