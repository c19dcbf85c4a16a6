"""Cross-entropy of labels in few passes: its value, its gradient, and how many samples are right."""

from __future__ import annotations

import numpy as np

from xcnn.core.types import Array
from xcnn.training.losses import Loss, cross_entropy


def fits(loss: Loss, y: Array, t: Array) -> bool:
    """Whether `judged` takes them: y (N, classes) in float32 or float64, and int64 labels (N,), all of them classes."""
    return (
        loss is cross_entropy
        and type(y) is type(t) is np.ndarray
        and y.dtype.char in "fd"
        and t.dtype == np.int64
        and y.ndim == 2
        and y.shape[1] > 1
        and t.shape == y.shape[:1]
        and len(y) > 0
        and bool(np.maximum.reduce(t.view(np.uint64)) < y.shape[1])  # labels below 0 are large then
    )


def judged(y: Array, t: Array, counts: bool) -> tuple[Array, Array, Array | None]:
    """The loss, its gradient by y, and how many labels have the largest output, where that counts.

    With z = y - max(y), sums S of exp(z) and the label c of each sample, E = mean(log S - z_c), and
    dE/dy = (exp(z) / S - 1 where it is c) / N.
    """
    samples, rows = len(y), np.arange(len(y))
    z = y - np.maximum.reduce(y, axis=1, keepdims=True)
    p = np.exp(z)
    sums = np.add.reduce(p, axis=1, keepdims=True)
    value = np.add.reduce(np.log(sums[:, 0]) - z[rows, t]) / samples
    p /= sums
    p[rows, t] -= 1
    p /= samples
    return value, p, np.count_nonzero(y.argmax(axis=1) == t) if counts else None
