"""Standardising, which all normalising layers share: x_hat = (x - mean) / sqrt(variance + epsilon)."""

from __future__ import annotations

from math import prod
from typing import Any

from xcnn.core.checks import IMAGE, SIGNAL, VECTOR, check_rank, check_shape
from xcnn.core.types import Array, Shape


def axes_with_channels(layer: object, input_shape: Shape) -> tuple[str, ...]:
    """The names of a sample's axes: features, channels and length, or channels, height and width."""
    input_shape = check_shape("input_shape", input_shape)
    axes = {1: VECTOR, 2: SIGNAL}.get(len(input_shape), IMAGE)
    check_rank(layer, input_shape, axes)
    return axes


def standardise(xp: Any, x: Array, axes: Shape, epsilon: float) -> tuple[Array, Array]:
    """x_hat and 1 / sqrt(variance + epsilon), mean and variance being taken over these axes."""
    mean = xp.mean if prod(x.shape) else xp.sum  # nothing has a sum, but no mean
    centred = x - mean(x, axis=axes, keepdims=True)
    inverse = 1 / xp.sqrt(mean(centred * centred, axis=axes, keepdims=True) + epsilon)
    return centred * inverse, inverse


def standardise_backward(xp: Any, dx_hat: Array, x_hat: Array, inverse: Array, axes: Shape) -> Array:
    """DX = (dX_hat - mean(dX_hat) - x_hat mean(dX_hat x_hat)) / sqrt(variance + epsilon)."""
    over = xp.mean if prod(x_hat.shape) else xp.sum
    mean, slope = (over(part, axis=axes, keepdims=True) for part in (dx_hat, dx_hat * x_hat))
    return (dx_hat - mean - x_hat * slope) * inverse
