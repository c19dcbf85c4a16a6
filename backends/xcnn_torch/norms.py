"""Norms of gradients and weights: exact where sums are long, finite where their type holds them."""

from __future__ import annotations

from math import inf, isfinite

import torch

from xcnn.core.types import Array
from xcnn_torch.memory import LONG
from xcnn_torch.recording import at_once

LINE = 2**12
"""Cells whose squares PyTorch adds up."""


def norm_of(arrays: list[Array]) -> Array:
    """The Euclidean norm of all together, finite where they are and their type holds it."""
    if arrays[0].is_cpu:
        return norm_on_cpu(arrays)
    if arrays[0].dtype == torch.float32:  # which on a GPU costs no second look, and float64 holds its squares
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(arrays, 2, torch.float64))).float()
    return norm_by_largest(arrays)


@at_once
def norm_on_cpu(arrays: list[Array]) -> Array:
    """The same where a number can be looked at: scaled only where squares have overflowed."""
    short = len(arrays) == 1 and arrays[0].numel() <= LONG
    norm = torch.linalg.vector_norm(arrays[0]) if short else plain_norm(arrays)
    return norm if isfinite(norm.item()) else norm_by_largest(arrays)


def norm_by_largest(arrays: list[Array]) -> Array:
    """The norm of all over the largest cell, times that."""
    arrays = [a for a in arrays if a.numel()] or [arrays[0].new_zeros(1)]
    largest = torch.stack(torch._foreach_norm(arrays, inf)).max()
    unit = torch.where(torch.isfinite(largest) & (largest > 0), largest, 1.0)
    return plain_norm(list(torch._foreach_div(arrays, unit))) * unit


def plain_norm(arrays: list[Array]) -> Array:
    """The root of the sum of all squares."""
    return together(norms_of(arrays))


def together(norms: list[Array]) -> Array:
    """The norm of several norms."""
    return torch.linalg.vector_norm(torch.stack(norms)) if len(norms) > 1 else norms[0]


def norms_of(arrays: list[Array]) -> list[Array]:
    """The norm of each, in no order; by lines where PyTorch's CPU would add many squares one after another."""
    long = [a for a in arrays if a.numel() > LONG and a.is_cpu and a.dtype != torch.float64 and a.is_contiguous()]
    if len(arrays) == 1 and not long:
        return [torch.linalg.vector_norm(arrays[0])]
    if not long:
        return list(torch._foreach_norm(arrays))
    short = [a for a in arrays if not any(a is other for other in long)]
    return [*(torch._foreach_norm(short) if short else ()), *map(norm_by_lines, long)]


def norm_by_lines(a: Array) -> Array:
    """The norm of the norms of lines of cells, and of what is left over."""
    cells, lines = a.view(-1), a.numel() // LINE
    of_lines = torch.linalg.vector_norm(cells[: lines * LINE].view(lines, LINE), dim=1)
    return torch.linalg.vector_norm(torch.cat((of_lines, torch.linalg.vector_norm(cells[lines * LINE :]).view(1))))


def weight_norm_of(weights: list[Array], squares: list[Array]) -> Array:
    """The norm of new weights: infinite where their type can't hold its square, NaN where a moment is not finite."""
    norms, squares = norms_of(weights), [m for m in squares if m.numel()]
    if squares:
        norms += torch._foreach_mul(torch._foreach_max(squares), 0.0)
    return together(norms)
