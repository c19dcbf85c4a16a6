"""Cross-entropy of labels in few passes: its value, its gradient, and how many samples are right."""

from __future__ import annotations

import torch

from xcnn.core.types import Array
from xcnn.training.losses import Loss, cross_entropy
from xcnn_torch.memory import PLAIN

aten = torch.ops.aten
MEAN = 1
NO_LABEL = -(2**63)
"""The label that PyTorch leaves out of the mean: one that nobody gives."""
ONE = {dtype: torch.ones((), dtype=dtype, device="cpu") for dtype in (torch.float32, torch.float64)}
"""The gradient of a loss by itself."""


def fits(loss: Loss, y: Array, t: Array) -> bool:
    """Whether `judged` takes them: y (N, classes) in float32 or float64, and int64 labels (N,)."""
    return (
        loss is cross_entropy
        and {type(y), type(t)} <= PLAIN
        and y.device == t.device
        and y.dtype in (torch.float32, torch.float64)
        and t.dtype == torch.int64
        and y.ndim == 2
        and y.shape[1] > 1
        and t.shape == y.shape[:1]
        and len(y) > 0
    )


def judged(y: Array, t: Array, counts: bool) -> tuple[Array, Array, Array | None]:
    """The loss, its gradient by y, and how many labels have the largest output, where that counts.

    A label outside the classes makes its row NaN, and so the loss.
    """
    log_p = aten._log_softmax(y, 1, False)
    right = torch.count_nonzero(y.argmax(1) == t) if counts else None
    if y.is_cpu:
        try:
            return *by_labels(y, log_p, t), right
        except IndexError:  # a label outside
            pass
    return *by_shares(y, log_p, t), right


def by_labels(y: Array, log_p: Array, t: Array) -> tuple[Array, Array]:
    """By PyTorch's own operations. On a CPU they refuse a label outside the classes; a GPU would stop at it."""
    value, count = aten.nll_loss_forward(log_p, t, None, MEAN, NO_LABEL)
    dlog_p = aten.nll_loss_backward(ONE[value.dtype], log_p, t, None, MEAN, NO_LABEL, count)
    return value, aten._log_softmax_backward_data(dlog_p, log_p, 1, y.dtype)


def by_shares(y: Array, log_p: Array, t: Array) -> tuple[Array, Array]:
    """The mean as a product with the share of each sample in it, 1 / N, or NaN where the label is outside."""
    samples, classes = y.shape
    known = t.clamp(0, classes - 1)
    share = y.new_full((samples,), 1 / samples).masked_fill_(known != t, torch.nan)
    column = known[:, None]
    value = -torch.dot(log_p.gather(1, column)[:, 0], share)
    return value, log_p.exp().mul_(share[:, None]).scatter_add_(1, column, -share[:, None])
