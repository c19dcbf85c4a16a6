"""What each layer gets and gives on one way through a net and back: `model.trace(x, y)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xcnn.core import html, tree
from xcnn.core.arrays import namespace
from xcnn.core.text import columns
from xcnn.core.types import Array, Backward, Weights
from xcnn.errors import OptionError, counted, host_memory, printable
from xcnn.layers.container import Container
from xcnn.layers.layer import Hook, Layer, Next, Run
from xcnn.model.held import Held
from xcnn.model.host_data import inputs_of, samples_of
from xcnn.training.losses import Loss, targets, value_and_gradient
from xcnn.training.precision import within
from xcnn.training.state import HostArray

TITLES = ("layer", "class", "output", "|Y|", "|dY|", "|dX|", "|dW|")
NET = "net"
"""The name of a net that is a single layer."""


@dataclass(frozen=True, eq=False, repr=False)
class LayerTrace:
    """One layer of a trace: NumPy arrays, the batch's axis first.

    Parameters
    ----------
    name
        its path in the net, `conv1` or `residual1.conv2`
    layer
        the layer itself
    x, y
        its input and its output
    dx, dy
        the loss's gradients by both
    weights, grads
        its weights and the loss's gradients by them, by name; statistics that no gradient trains are not in `grads`
    """

    name: str
    layer: Layer
    x: HostArray
    y: HostArray
    dx: HostArray
    dy: HostArray
    weights: Weights
    grads: Weights

    @property
    def kind(self) -> str:
        """The layer's class."""
        return type(self.layer).__name__

    def __repr__(self) -> str:
        arrays = {"x": self.x, "y": self.y, "dx": self.dx, "dy": self.dy, **dict(tree.items(self.weights))}
        shapes = ", ".join(f"{name} {_size(array)}" for name, array in arrays.items())
        return f"<{self.kind} {printable(self.name)!r}: {shapes}>"

    def cells(self) -> tuple[str, ...]:
        """The layer's line in the table."""
        grads = ", ".join(f"{path} {_norm(grad)}" for path, grad in tree.items(self.grads))
        norms = (_norm(array) for array in (self.y, self.dy, self.dx))
        return printable(self.name), self.kind, _size(self.y, 1), *norms, grads


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Mapping[str, LayerTrace]):
    """What `model.trace(x, y)` gives: a mapping from a layer's name to what it got and gave. `print` it for a table.

    Layers stand in the order in which they were done; a container follows the layers that it holds.

    Parameters
    ----------
    loss
        the mean over the batch
    x, y, dx, dy
        the net's input and output, and the loss's gradients by both
    t
        the labels or targets
    grads
        the tree of all weights' gradients
    """

    loss: float
    x: HostArray
    y: HostArray
    t: HostArray
    dx: HostArray
    dy: HostArray
    grads: Weights
    layers: dict[str, LayerTrace] = field(default_factory=dict)

    def __getitem__(self, name: str) -> LayerTrace:
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        return "\n".join([*map(str.rstrip, columns([TITLES, *self._rows()], words=3)), "", self._note()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.table(TITLES, self._rows(), words=3, notes=[self._note()])

    def _rows(self) -> list[tuple[str, ...]]:
        own = [layer.cells() for layer in self.layers.values()]
        return [("input", "", _size(self.x, 1), _norm(self.x), _norm(self.dx), "", ""), *own]

    def _note(self) -> str:
        return f"loss {self.loss:.6g} of {counted(len(self.x), 'sample')}; |A| is the root of the sum of squares"


@dataclass
class Seen:
    """What one layer got and gave so far, on the backend."""

    layer: Layer
    weights: Weights
    x: Array
    y: Array = None
    dx: Array = None
    dy: Array = None
    grads: Weights = field(default_factory=dict)


@dataclass
class Watch:
    """Keeps what a net's layers get and give; `hook` is what a run takes."""

    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def hook(self) -> Hook:
        """For a Run."""
        return Hook(self.after, before=self.before)

    def before(self, path: tuple[str, ...], layer: Layer, weights: Weights, x: Array) -> None:
        """A layer is about to be called."""
        self.seen[".".join(path)] = Seen(within(layer), weights, x)

    def after(self, path: tuple[str, ...], layer: Layer, y: Array, backward: Backward) -> Backward:
        """A layer was called; its backward, looked at."""
        name = ".".join(path)
        mine = self.seen.pop(name)
        self.seen[name] = mine  # behind those that it holds
        mine.y = y

        def looking(dy: Array) -> tuple[Array, Weights]:
            mine.dy = dy
            mine.dx, mine.grads = backward(dy)
            return mine.dx, mine.grads

        return looking


def trace(model: Held, x: Any, y: Any, train: bool = False, loss: Loss | None = None) -> Trace:
    """Send a batch through the net and back, as `Model.trace` says; by another loss than the model's, if one is given.

    Without y the targets are zeros.
    """
    if y is None:
        x = inputs_of(model, x)
        t = np.zeros((len(x), *model.output_shape), model.dtype)
    else:
        x, t = samples_of(model, x, y)
    backend, weights, trainer = model.trainer.backend, model.state.weights, model.trainer
    watch = Watch()
    run = Run(backend, train, (trainer.seed, model.state.step), watch.hook)
    with host_memory("this batch"), backend.active():
        sent, wanted = backend.asarray(x), backend.asarray(t)
        out, backward = trainer.layers(weights, sent, run)
        if not isinstance(model.net, Container):
            watch.before((NET,), model.net, weights, sent)
            backward = watch.after((NET,), model.net, out, backward)
        value, dy = value_and_gradient(loss or model.loss, out, wanted)
        number = value if isinstance(value, int | float) else backend.to_number(value)
        dx, grads = backward(dy)
        host = Host(backend, model.dtype)
        layers = {name: host.layer(name, seen) for name, seen in watch.seen.items()}
        return Trace(float(number), x, host.array(out), t, host.array(dx), host.array(dy), host.tree(grads), layers)


def score(y: Array, t: Array) -> tuple[Array, Array]:
    """The output of the class that t names, as a loss: E = sum of t y, and for a single unit y or -y;  dE/dy = t."""
    xp, named = namespace(y, t), targets(y, t)
    named = 2 * named - 1 if y.ndim > 1 and y.shape[1] == 1 and tuple(t.shape) != tuple(y.shape) else named
    return xp.sum(named * y), named


@dataclass(frozen=True)
class Host:
    """Brings what a net computed to the host, in the model's type."""

    backend: Any
    dtype: str

    def array(self, array: Array) -> Any:
        """A copy that nobody else has; of several arrays, as a graph's, a tuple."""
        if isinstance(array, tuple | list):
            return tuple(map(self.array, array))
        here: HostArray = np.array(self.backend.to_numpy(array), self.dtype)
        return here

    def tree(self, leaves: Weights) -> Weights:
        """A tree of weights or gradients, without what no gradient trains."""
        here = {
            name: self.tree(leaf) if isinstance(leaf, dict) else self.array(leaf)
            for name, leaf in leaves.items()
            if not isinstance(leaf, Next)
        }
        return {name: leaf for name, leaf in here.items() if not isinstance(leaf, dict) or leaf}

    def layer(self, name: str, seen: Seen) -> LayerTrace:
        """One layer's."""
        if seen.dx is None:
            raise OptionError("X104", f"{printable(name)!r} was not gone through on the way back, or gave no dX.")
        x, y, dx, dy = (self.array(array) for array in (seen.x, seen.y, seen.dx, seen.dy))
        return LayerTrace(name, seen.layer, x, y, dx, dy, self.tree(seen.weights), self.tree(seen.grads))


def _norm(array: Any) -> str:
    if isinstance(array, tuple):
        return ", ".join(map(_norm, array))
    return f"{np.linalg.norm(array.astype('float64')):.4g}"


def _size(array: Any, first: int = 0) -> str:
    """The sizes of an array's axes from this one on; of several arrays, each one's."""
    if isinstance(array, tuple):
        return ", ".join(_size(each, first) for each in array)
    return "x".join(map(str, array.shape[first:])) or "1"
