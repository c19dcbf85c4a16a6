"""Cell by cell: activations, and what does nothing outside of training."""

from __future__ import annotations

import numpy as np

from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.exchange.onnx.writers import Tree, writes
from xcnn.layers import (
    ELU,
    GELU,
    SELU,
    ClippedReLU,
    Dropout,
    HardSigmoid,
    HardSwish,
    Layer,
    LeakyReLU,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    SpatialDropout2D,
    StochasticDepth,
    Tanh,
)


@writes(ReLU, Sigmoid, Tanh, Softplus, Mish, HardSwish, SELU)
def by_name(layer: Layer, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Activations that ONNX has without options."""
    op = {"ReLU": "Relu", "SELU": "Selu"}.get(type(layer).__name__, type(layer).__name__)
    return here.node(op, x, shape=x.shape)


@writes(Softsign)
def softsign(layer: Softsign, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """By its formula: onnxruntime's own operator rounds once more, as a product with a reciprocal."""
    size = here.node("Abs", x, shape=x.shape, part="size")
    raised = here.node("Add", size, here.constant("one", 1.0), shape=x.shape, part="raised")
    return here.node("Div", x, raised, shape=x.shape)


@writes(ClippedReLU)
def clipped_relu(layer: ClippedReLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A line between two levels."""
    least, most = here.constant("least", 0.0), here.constant("most", float(layer.max_value))
    return here.node("Clip", x, least, most, shape=x.shape)


@writes(HardSigmoid)
def hard_sigmoid(layer: HardSigmoid, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A line between 0 and 1."""
    return here.node("HardSigmoid", x, shape=x.shape, alpha=layer.slope, beta=0.5)


@writes(PReLU)
def prelu(layer: PReLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Two lines for each channel, or for each cell."""
    wide = x.shape if layer.untied else (-1, *(1 for _ in x.shape[1:]))
    return here.node("PRelu", x, here.constant("slope", np.reshape(weights["negative_slope"], wide)), shape=x.shape)


@writes(LeakyReLU)
def leaky_relu(layer: LeakyReLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Two lines."""
    return here.node("LeakyRelu", x, shape=x.shape, alpha=layer.negative_slope)


@writes(ELU)
def elu(layer: ELU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A line and an exponential."""
    return here.node("Elu", x, shape=x.shape, alpha=layer.alpha)


@writes(GELU)
def gelu(layer: GELU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The normal distribution's, or its form with tanh."""
    return here.node("Gelu", x, shape=x.shape, approximate="tanh" if layer.approximate else "none")


@writes(SiLU)
def silu(layer: SiLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The product of x and its sigmoid."""
    return here.node("Mul", x, here.node("Sigmoid", x, shape=x.shape, part="sigmoid"), shape=x.shape)


@writes(Softmax, LogSoftmax)
def softmax(layer: Softmax | LogSoftmax, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Along one axis."""
    return here.node(type(layer).__name__, x, shape=x.shape, axis=layer.axis)


@writes(Dropout)
def dropout(layer: Dropout, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Nothing, outside of training; the rate stays told."""
    return here.node("Dropout", x, here.constant("rate", np.array(layer.rate, "float32")), shape=x.shape)


@writes(SpatialDropout2D, StochasticDepth)
def dropped_whole(layer: Layer, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Nothing: ONNX has no dropout of whole channels or samples."""
    return here.node("Identity", x, shape=x.shape)
