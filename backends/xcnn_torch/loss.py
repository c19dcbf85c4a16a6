"""Cross-entropy of labels in few passes: its value, its gradient, and how many samples are right."""

from __future__ import annotations

import torch

from xcnn._typing import Array
from xcnn.losses import Loss, cross_entropy

aten = torch.ops.aten


def fits(loss: Loss, y: Array, t: Array) -> bool:
    """Whether `judged` takes them: y (N, classes) in float32 or float64, and int64 labels (N,)."""
    return (
        loss is cross_entropy
        and type(y) is type(t) is torch.Tensor
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
    samples, classes = y.shape
    log_p = aten._log_softmax(y, 1, False)
    known = t.clamp(0, classes - 1)
    share = y.new_full((samples,), 1 / samples).masked_fill_(known != t, torch.nan)
    column = known[:, None]
    value = -torch.dot(log_p.gather(1, column)[:, 0], share)
    dy = log_p.exp().mul_(share[:, None]).scatter_add_(1, column, -share[:, None])
    return value, dy, (y.argmax(1) == t).sum() if counts else None
