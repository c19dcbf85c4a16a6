"""Keras's activations, which there are layers or options of layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xcnn import layers
from xcnn.exchange.keras.given import Given, Numbers, Part, UnsupportedError, channels_first
from xcnn.layers.layer import Layer

ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "elu": layers.ELU, "gelu": layers.GELU, "hard_sigmoid": layers.HardSigmoid, "hard_silu": layers.HardSwish,
    "hard_swish": layers.HardSwish, "leaky_relu": lambda: layers.LeakyReLU(0.2), "log_softmax": layers.LogSoftmax,
    "mish": layers.Mish, "relu": layers.ReLU, "relu6": lambda: layers.ClippedReLU(6.0), "selu": layers.SELU,
    "sigmoid": layers.Sigmoid, "silu": layers.SiLU, "softmax": layers.Softmax, "softplus": layers.Softplus,
    "softsign": layers.Softsign, "swish": layers.SiLU, "tanh": layers.Tanh,
}  # fmt: skip


def activated(given: Given, *parts: Part) -> list[Part]:
    """The parts, and the activation that is an option of theirs."""
    name = given.option("activation")
    if name in (None, "linear"):
        return [*parts]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnsupportedError(f"activation={str(name)[:60]!r}")
    return [*parts, Part(ACTIVATIONS[name](), suffix="activation")]


def relu(given: Given) -> list[Part]:
    """ReLU, with a leak or a largest value."""
    given.only(threshold=0.0)
    most, leak = given.option("max_value"), given.option("negative_slope", 0.0)
    if most is not None and leak:
        raise UnsupportedError("max_value and negative_slope together")
    return [
        Part(layers.ClippedReLU(float(most)) if most is not None else layers.LeakyReLU(leak) if leak else layers.ReLU())
    ]


def prelu(given: Given) -> list[Part]:
    """A slope for each channel, or for each cell."""
    shared = given.option("shared_axes") or []
    if len(given.shape) == 1 or sorted(shared) == [*range(1, len(given.shape))]:
        return [Part(layers.PReLU(), {"negative_slope": given.array(0, lambda a: given.ordered(a.reshape(-1)))})]
    wide = (*given.shape[1:], given.shape[0])

    def each(slopes: Numbers) -> Numbers:
        return channels_first(np.broadcast_to(slopes, wide))

    return [Part(layers.PReLU(untied=True), {"negative_slope": given.array(0, each)})]


def softmax(given: Given) -> list[Part]:
    """Along the channels."""
    given.last_axis()
    return [Part(layers.Softmax())]
