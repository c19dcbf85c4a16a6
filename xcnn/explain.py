"""How a convolution will be computed, before anything runs: the algorithm, why it, its memory, its multiplications."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from xcnn import html
from xcnn._typing import Pads, Pair, Shape
from xcnn.checks import check_whole
from xcnn.errors import OptionError
from xcnn.layers import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D
from xcnn.random import Planner
from xcnn.summary import readable
from xcnn.windows import output_size

if TYPE_CHECKING:
    from xcnn.backends import Backend
    from xcnn.layers.layer import Layer

ITEM = 4
"""Bytes of a cell: explanations are for float32."""


@dataclass(frozen=True)
class Explanation:
    """What `explain_algorithm` gives; `print` it, or read its fields.

    It is about the correlation of images x (N, C, H, W) with kernels k (O, C / groups, h, w), and its two adjoints.
    """

    x_shape: Shape
    k_shape: Shape
    y_shape: Shape
    algorithm: str
    reason: str
    """Why this algorithm, as a sentence."""
    workspace_bytes: int
    """About how much memory one of the three maps takes beside its arguments and its result, in float32."""

    @property
    def multiplications(self) -> int:
        """In each of the three maps by its formula, padding counted: half of its floating point operations."""
        return prod(self.y_shape) * prod(self.k_shape[1:])

    def __str__(self) -> str:
        maps, told = self._lines()
        return "\n".join([maps, *(f"{name:<15}  {text}" for name, text in told)])

    def _repr_html_(self) -> str:
        maps, told = self._lines()
        return html.table((maps, ""), told, words=2)

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        """The correlation, and what is told of it by name."""
        return f"x {self.x_shape} * k {self.k_shape} = y {self.y_shape}", [
            ("algorithm", f"{self.algorithm}: {self.reason}"),
            ("workspace", f"about {readable(self.workspace_bytes)} in float32"),
            ("multiplications", f"{self.multiplications:,} for y, as many for dx, as many for dk"),
        ]


def explained(
    x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, algorithm: str, reason: str, cells: int
) -> Explanation:
    """The explanation of a correlation that takes so many cells of workspace."""
    output = output_size(x_shape[2:], (k_shape[2], k_shape[3]), stride, padding, dilation)
    return Explanation(x_shape, k_shape, (x_shape[0], k_shape[0], *output), algorithm, reason, ITEM * cells)


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
    """
    from xcnn import backends  # it imports this module

    x_shape, k_shape, how = correlation_of(layer, shape)
    chosen = backends.get_backend() if backend is None else backends.backend(backend)
    return chosen.explain(x_shape, k_shape, **how)


def correlation_of(layer: Layer, shape: Shape) -> tuple[Shape, Shape, dict[str, Any]]:
    """The correlation that a convolution is: the shapes of x and k, and its options."""
    if not isinstance(layer, Conv1D | Conv2D | Conv2DTranspose | DepthwiseConv2D):
        raise OptionError(
            "X104",
            f"explain_algorithm() takes a convolution; got {layer!r}.",
            hint='a layer in a net is found by its name: explain_algorithm(net["conv1"], ...).',
        )
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
