"""Layers one after another: the chain rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xcnn.core.checks import check_shape
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers.container import Container
from xcnn.layers.layer import Run


@dataclass(frozen=True, init=False, repr=False)
class Sequential(Container):
    """Y = fn(... f2(f1(X)));  dX = the layers' backwards, from the last to the first.

    Layers are values and hold no weights: one object at two places has weights of its own at each, where Keras and
    PyTorch share them. The layers' names are the keys of the weights, and stand in errors and summaries; `net["conv1"]`
    and `net[0]` are layers, `net[1:3]` is a net of two, and `"conv1" in net` asks for a name.

    Parameters
    ----------
    *layers
        in order, named by class and count: conv1, relu1, conv2
    **named
        layers that come after those, with names of yours

    Raises
    ------
    OptionError
        X104, for what is no layer, or a name twice.
    ShapeError
        what the layers raise, with their names in front.

    Examples
    --------
    >>> net = xcnn.Sequential(xcnn.Dense(4), xcnn.ReLU(), head=xcnn.Dense(2))
    >>> [*net.layers], net.init(np.random.default_rng(0), (3,))[1]
    (['dense1', 'relu1', 'head'], (2,))
    """

    def __getitem__(self, at: str | int | slice) -> Any:
        """A layer by its name or its place; of a slice, a Sequential of these layers with the names that they have."""
        return Sequential(**dict(self.named[at])) if isinstance(at, slice) else super().__getitem__(at)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        input_shape = check_shape("input_shape", input_shape)
        weights, shapes = self.init_each(rng, input_shape, chained=True)
        return weights, shapes[-1] if shapes else input_shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        backwards, last = [], self.last_wanted(weights, run)
        for n in range(len(self)):
            x, back = self.call(n, weights, x, run, wants_dx=n > last or run.wants_dx, behind=n > 0)
            backwards.append(back)

        made = None if backwards else likeness(x)

        def backward(dy: Array) -> tuple[Array, Weights]:
            grads: Weights = {}
            if made is not None:  # nothing within does it
                check_dy(self, made, dy)
            for n in reversed(range(last, len(self))):
                dy = self.back(n, backwards[n], dy, grads)
            return dy if last == 0 else None, grads

        return x, backward

    def last_wanted(self, weights: Weights, run: Run) -> int:
        """The layer whose gradients are the last that anybody wants on the way back: that of the first weights.

        It is the first layer where the run wants dX, or looks on.
        """
        if run.wants_dx or run.by_layer:
            return 0
        return next((n for n, (name, _) in enumerate(self.named) if weights.get(name)), 0)
