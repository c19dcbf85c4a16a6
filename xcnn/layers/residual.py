"""A chain of layers beside a shortcut: He et al. 2016."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from xcnn.core.checks import check_shape
from xcnn.core.likeness import check_dy, likeness, of_part
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run
from xcnn.layers.sequential import Sequential


@dataclass(frozen=True, init=False, repr=False)
class Residual(Container):
    """Y = f(X) + g(X), f being the layers one after another, g the shortcut (by default g(X) = X);  dX = df + dg.

    `Residual(Conv2D(8, 3, padding="same"), BatchNorm(), ReLU(), shortcut=Conv2D(8, 1))`; names are as in Sequential.

    Parameters
    ----------
    *layers
        f, in order
    shortcut
        g; None is g(X) = X
    **named
        layers of f that come after those, with names of yours

    Raises
    ------
    OptionError
        X104, for what is no layer, or a name twice.
    ShapeError
        X101, where f and g give other shapes.

    Examples
    --------
    >>> net = xcnn.Residual(xcnn.Conv2D(8, 3, padding="same"), xcnn.ReLU(), shortcut=xcnn.Conv2D(8, 1))
    >>> net.init(np.random.default_rng(0), (3, 28, 28))[1]
    (8, 28, 28)
    """

    def __init__(self, *layers: Layer, shortcut: Layer | None = None, **named: Layer) -> None:
        super().__init__(*layers, **named, **({} if shortcut is None else {"shortcut": shortcut}))
        if not (layers or named):
            raise OptionError(
                "X104", "Residual has no layers of its own.", hint="give at least one: Residual(Dense(8))."
            )

    @property
    def shortcut(self) -> Layer | None:
        """The layer beside the others."""
        return self.layers.get("shortcut")

    @cached_property
    def body(self) -> Sequential:
        """The other layers."""
        return Sequential(**{name: layer for name, layer in self.named if name != "shortcut"})

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        beside = input_shape = check_shape("input_shape", input_shape)
        weights, output = self.body.init(rng, input_shape)
        if self.shortcut:
            drawn, beside = self.init_one("shortcut", self.shortcut, rng, input_shape)
            weights = {**weights, "shortcut": drawn} if drawn else weights
        self.check_shapes(input_shape, output, beside)
        return weights, output

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        y, body_backward = self.body(weights, x, run)
        beside, shortcut_backward = x, None
        if self.shortcut:
            beside, shortcut_backward = self.call(len(self) - 1, weights, x, run, run.wants_dx)
        self.check_shapes(x.shape[1:], y.shape[1:], beside.shape[1:])

        of_body, of_shortcut = likeness(y), likeness(beside)
        y = y + beside
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dx, grads = body_backward(of_part(of_body, dy))
            if shortcut_backward:
                dy = self.back(len(self) - 1, shortcut_backward, of_part(of_shortcut, dy), grads)
            return dx + dy if run.wants_dx else None, grads

        return y, backward

    def check_shapes(self, input_shape: Shape, output: Shape, beside: Shape) -> None:
        """Raise X101 unless the layers and the shortcut give one shape."""
        if tuple(output) != tuple(beside):
            raise ShapeError(
                "X101",
                f"adds {tuple(output)} from its layers to {tuple(beside)} from its shortcut.",
                f"got {tuple(input_shape)} for each sample",
                hint=_hint(tuple(output), tuple(input_shape)),
                layer=self,
            )


def _hint(output: Shape, shape: Shape) -> str:
    """The shortcut that gives the layers' output, where a convolution with a kernel of one cell does."""
    if len(output) == len(shape) == 3:
        strides = [-(-n // m) for n, m in zip(shape[1:], output[1:], strict=True)]
        if all(-(-n // s) == m for n, m, s in zip(shape[1:], output[1:], strides, strict=True)):
            stride = "" if strides == [1, 1] else f", stride={tuple(strides)}"
            return f"use shortcut=Conv2D({output[0]}, 1{stride})."
        return 'padding="same" in the layers keeps height and width.'
    return "choose layers and a shortcut that give one shape."
