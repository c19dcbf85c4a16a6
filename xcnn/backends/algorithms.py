"""How a backend computes a convolution: `xcnn.explain_algorithm`."""

from __future__ import annotations

from typing import Any

from xcnn.backends.contract import Backend
from xcnn.backends.explanation import Explanation
from xcnn.backends.selector import backend as make_backend
from xcnn.backends.selector import get_backend
from xcnn.core.checks import check_shape, check_whole
from xcnn.core.random import Planner
from xcnn.core.types import Shape
from xcnn.errors import OptionError, short
from xcnn.layers import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D
from xcnn.layers.layer import Layer


def explain_algorithm(layer: Layer, shape: Shape, backend: str | Backend | None = None) -> Explanation:
    """How a backend computes a convolution of a batch of this shape: `print(explain_algorithm(net["conv1"], x.shape))`.

    Parameters
    ----------
    layer
        a Conv2D, DepthwiseConv2D, Conv1D or Conv2DTranspose. Of the last two the explanation is about the images that
        they are made of: of height 1, and those of the Conv2D that leads back from Y to X.
    shape
        of its input with the batch axis, such as (batch, channels, height, width)
    backend
        by name or as an object; by default that of this process

    Raises
    ------
    OptionError
        X104, when the layer is no convolution, or the shape not one of whole numbers.
    ShapeError
        what the layer itself raises for a shape that does not fit.

    Examples
    --------
    >>> layer = xcnn.Conv2D(8, 3)
    >>> print(xcnn.explain_algorithm(layer, (32, 1, 28, 28), xcnn.backend("numpy", algorithm="gemm")))
    x (32, 1, 28, 28) * k (8, 1, 3, 3) = y (32, 8, 26, 26)
    algorithm        gemm: the backend was made with algorithm="gemm".
    workspace        about 1.4 MiB in float32
    multiplications  1,557,504 for y, as many for dx, as many for dk
    """
    x_shape, k_shape, how = correlation_of(layer, shape)
    chosen = get_backend() if backend is None else make_backend(backend)
    return chosen.explain(x_shape, k_shape, **how)


def correlation_of(layer: Layer, shape: Shape) -> tuple[Shape, Shape, dict[str, Any]]:
    """The correlation that a convolution is: the shapes of x and k, and its options."""
    if not isinstance(layer, Conv1D | Conv2D | Conv2DTranspose | DepthwiseConv2D):
        raise OptionError(
            "X104",
            f"explain_algorithm() takes a convolution; got {short(layer)}.",
            hint='a layer in a net is found by its name: explain_algorithm(net["conv1"], ...).',
        )
    shape = check_shape("shape", shape)
    for n, size in enumerate(shape):
        check_whole(f"shape[{n}]", size, least=0 if n == 0 else 1)
    batch, input_shape = (shape or (0,))[0], tuple(shape[1:])
    weights, output = layer.init(Planner(), input_shape)  # raises what does not fit
    match layer:
        case Conv1D():
            return correlation_of(layer.conv2d(), (batch, input_shape[0], 1, input_shape[1]))
        case DepthwiseConv2D():
            return correlation_of(layer.conv2d(input_shape[0]), shape)
    x_shape = output if isinstance(layer, Conv2DTranspose) else input_shape
    how = {**layer.window(input_shape[1:]), "groups": layer.groups}
    return (batch, *x_shape), weights["kernel"].shape, how
