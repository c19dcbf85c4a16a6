"""The losses of classifiers in two launches: value, gradient, and how many samples are right."""

from __future__ import annotations

from xcnn.core.types import Array
from xcnn.training.losses import THRESHOLDS
from xcnn_cupy.channels import SUMS
from xcnn_cupy.device import MOST_CELLS, Device, is_in_order
from xcnn_cupy.kernels import Kernel

RULES = {
    "binary_cross_entropy": "BinaryCrossEntropy",
    "binary_cross_entropy_with_logits": "BinaryCrossEntropyWithLogits",
    "cross_entropy": "CrossEntropy",
}
"""Losses by their names in xcnn/losses.py, and in loss.cu."""
PER_THREAD = 4
"""Classes that a thread takes, as far as there are threads."""


def fits(y: Array, t: Array) -> bool:
    """Whether `loss` takes these: y (N, classes), as it is indexed, and int64 labels (N,) or numbers like y."""
    kind = SUMS.get(str(y.dtype))
    if kind is None or y.ndim != 2 or y.shape[1] < 1 or y.size > MOST_CELLS:
        return False
    if not (is_in_order(y, range(2)) and is_in_order(t, range(t.ndim))):
        return False
    return (tuple(t.shape), str(t.dtype)) in [(tuple(y.shape[:1]), "int64"), (tuple(y.shape), kind)]


def loss(
    device: Device, name: str, y: Array, t: Array, label_smoothing: float = 0.0, loss_scale: Array | None = None
) -> tuple[Array, Array, Array]:
    """A loss of xcnn/losses.py: its value, its gradient by y, and what `count_correct` counts.

    Parameters
    ----------
    name
        one of RULES; `label_smoothing` is for "cross_entropy"
    y : (N, classes)
        predictions, of any floating type; t as `fits` has it
    loss_scale : float32, one cell
        the gradient is multiplied by it before it is rounded to y's type

    Returns
    -------
    value
        float32, or float64 where y is
    dy
        like y
    right
        int64; both scalars are arrays without axes
    """
    samples, classes = y.shape
    kind = SUMS[str(y.dtype)]
    size = max(samples if name == "cross_entropy" else samples * classes, 1)
    dy, losses = device.empty(y.shape, y.dtype), device.empty((samples,), kind)
    right, value, count = device.empty((samples,), "int32"), device.empty((), kind), device.empty((), "int64")
    if samples:
        labels, targets = (t, None) if t.ndim == 1 else (None, t)
        numbers = classes, label_smoothing, THRESHOLDS[name], size
        rows = Kernel("loss", "rows", y.dtype, RULES[name])
        device.launch(rows, samples, threads_for(classes), y, labels, targets, *numbers, loss_scale, dy, losses, right)
    device.launch(Kernel("loss", "mean", kind), 1, threads_for(samples), losses, right, samples, size, value, count)
    return value, dy, count


def threads_for(cells: int) -> int:
    """How many threads of one block share so many cells."""
    return min(max(-(-cells // (32 * PER_THREAD)), 1) * 32, 1024)
