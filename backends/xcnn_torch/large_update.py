"""The update of large weights on the CPU by the compiled library: old arrays are read, and new ones written.

PyTorch's own kernels write into what they are given, which would have to be copied first, and copying takes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf, sqrt
from typing import Any, TypeAlias

import torch
from xcnn_native.library import library
from xcnn_native.update import changes_at

from xcnn.core.types import Array
from xcnn.training.optimizers import Optimizer
from xcnn_torch.memory import empty_like, lying_as
from xcnn_torch.norms import norm_by_largest
from xcnn_torch.recording import at_once

KINDS = {torch.float32: "f32", torch.float64: "f64"}
"""The library's names of types."""
Changed: TypeAlias = Callable[[Any, Any, list[Array], list[list[Array]]], tuple[Array, Array, list[list[Array]]]]
"""(rate, step, gradients, [weights, *moments]) -> the norms of gradients and new weights, [new weights, *moments]."""


def fits(slopes: list[Array]) -> bool:
    """Whether the library is there for gradients of this type on the CPU."""
    return slopes[0].is_cpu and slopes[0].dtype in KINDS and library() is not None


@cache
def rule(optimizer: Optimizer) -> Changed:
    """What an optimizer of any rate does, which recordings take as one operation."""

    @at_once
    def changed(rate: Any, step: Any, slopes: list[Array], olds: list[list[Array]]) -> Any:
        kind, dtype = KINDS[slopes[0].dtype], slopes[0].dtype
        threads, clip = torch.get_num_threads(), optimizer.clip_norm
        squares = getattr(library(), f"sum_of_squares_{kind}")
        scale = 1.0
        if clip is not None:
            scale = clip / max(float(norm_from(sum(squares(g.numel(), g.data_ptr()) for g in slopes), slopes)), clip)
        change = changes_at(optimizer, float(rate), int(step), scale, threads)
        here = [[lying_as(old[n], g) for old in olds] for n, g in enumerate(slopes)]
        made = [[empty_like(g) for _ in olds] for g in slopes]
        leaves = [
            (g.numel(), [a.data_ptr() for a in (w, g, *moments)], [a.data_ptr() for a in new])
            for g, (w, *moments), new in zip(slopes, here, made, strict=True)
        ]
        of_slopes, of_weights, largest = 0.0, 0.0, torch.finfo(dtype).max
        for more in change(kind, leaves):
            of_slopes += more[0]
            of_weights += more[1] if more[1] <= largest else inf
        new = [list(column) for column in zip(*made, strict=True)]
        return norm_from(of_slopes, slopes), torch.tensor(sqrt(of_weights), dtype=dtype), new

    return changed


def norm_from(squares: float, slopes: list[Array]) -> Array:
    """The norm of gradients from the sum of their squares; from themselves where their type does not hold that."""
    dtype = slopes[0].dtype
    if sqrt(squares) <= torch.finfo(torch.float32).max:
        return torch.tensor(sqrt(squares), dtype=dtype)
    return norm_by_largest(slopes)
