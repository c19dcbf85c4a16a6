"""Keras's norms, and what scales by numbers that were measured or given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.exchange.keras.given import Given, Numbers, Part, UnsupportedError, channels_first


def scale_and_bias(given: Given, change: Callable[[Numbers], Numbers]) -> tuple[dict[str, Callable[[], Numbers]], int]:
    """Gamma and beta, ones and zeros where there are none; and the number of the array behind them."""
    found: dict[str, Callable[[], Numbers]] = {}
    n = 0
    for name, option, default in (("scale", "scale", np.ones), ("bias", "center", np.zeros)):
        if given.option(option, True):
            found[name], n = given.array(n, change), n + 1
        else:
            found[name] = partial(default, given.shape[:1], np.float32)
    return found, n


def batch_norm(given: Given) -> list[Part]:
    """BatchNormalization of the channels."""
    given.last_axis()
    given.only(renorm=False)
    weights, n = scale_and_bias(given, given.ordered)
    weights |= {"running_mean": given.array(n, given.ordered), "running_variance": given.array(n + 1, given.ordered)}
    layer = layers.BatchNorm(momentum=given.option("momentum", 0.99), epsilon=given.option("epsilon", 1e-3))
    return [Part(layer, weights)]


def layer_norm(given: Given) -> list[Part]:
    """LayerNormalization of the channels at each place, or of all."""
    given.only(rms_scaling=False)
    axis: int | None = 1
    change: Callable[[Numbers], Numbers] = given.ordered
    if given.option("axis") == [*range(1, len(given.shape) + 1)] and len(given.shape) > 1:
        axis, change = None, channels_first
        if not (given.option("center", True) and given.option("scale", True)):
            raise UnsupportedError("all axes without scale or center")
    else:
        given.last_axis()
    weights, _ = scale_and_bias(given, change)
    return [Part(layers.LayerNorm(axis=axis, epsilon=given.option("epsilon", 1e-3)), weights)]


def group_norm(given: Given) -> list[Part]:
    """GroupNormalization of the channels; -1 is a group for each."""
    given.last_axis()
    groups = given.option("groups", 32)
    weights, _ = scale_and_bias(given, given.ordered)
    layer = layers.GroupNorm(given.shape[0] if groups == -1 else groups, epsilon=given.option("epsilon", 1e-3))
    if given.order is not None:
        raise UnsupportedError("groups of what was flattened")
    return [Part(layer, weights)]


def rescaling(given: Given) -> list[Part]:
    """A factor and a summand."""
    factor, summand = given.option("scale", 1.0), given.option("offset", 0.0)
    if given.order is not None and (isinstance(factor, list) or isinstance(summand, list)):
        raise UnsupportedError("a factor for each of what was flattened")

    def each(number: Any) -> Callable[[], Numbers]:
        return lambda: np.array(np.broadcast_to(np.asarray(number, np.float32), given.shape[:1]))

    return [Part(layers.Scale(bias=True), {"scale": each(factor), "bias": each(summand)})]


def normalization(given: Given) -> list[Part]:
    """(X - mean) / sqrt(variance) of each channel, with numbers that were measured."""
    given.last_axis()
    given.only(invert=False)
    if given.order is not None:
        raise UnsupportedError("what was flattened")

    def numbers(option: str, n: int) -> Callable[[], Numbers]:
        told = given.option(option)
        read = given.array(n) if told is None else partial(np.asarray, told, np.float32)
        return lambda: np.array(np.broadcast_to(read().reshape(-1), given.shape[:1]))

    mean, variance = numbers("mean", 0), numbers("variance", 1)

    def inverse() -> Numbers:
        deviation: Numbers = np.maximum(np.sqrt(variance()), 1e-7)
        return 1 / deviation

    return [Part(layers.Scale(bias=True), {"scale": inverse, "bias": lambda: -mean() * inverse()})]
