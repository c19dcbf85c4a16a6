"""Whether both sides compute the same: a net's output, and the gradient of each of its weights, beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.bench.cases import StepCase
from xcnn.core import tree
from xcnn.core.types import Weights
from xcnn.layers import Dropout, GlobalMaxPool2D, LeakyReLU, MaxPool2D, ReLU
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Next, Run
from xcnn.model.model import Model
from xcnn.training.state import HostArray

OUTPUT, GRADIENT = {"float32": 1e-4, "float64": 1e-11}, {"float32": 2e-3, "float64": 1e-9}
"""The largest differences that rounding explains."""
KINKED, SHARE = (ReLU, LeakyReLU, MaxPool2D, GlobalMaxPool2D), 0.1
"""In float32 a cell of a deep net may come to lie on the other side of a kink, and all gradients before it differ by
its share, as PyTorch's own do between float32 and float64: with such layers gradients may differ by so much.
"""
FLOOR = 1e-3
"""Gradients smaller than this share of all gradients' norm, as those that are 0 but for rounding, count as so large."""


@dataclass(frozen=True)
class Agreement:
    """Differences of both sides: of outputs by their largest cell, of gradients by their norms.

    Parameters
    ----------
    output
        largest difference by largest cell
    gradient
        norm of the difference by the norm, of the weight that differs most
    weight
        its path
    holds
        whether rounding explains both
    """

    output: float
    gradient: float
    weight: str
    holds: bool

    def __str__(self) -> str:
        return f"y by {self.output:.1e}, the gradient of {self.weight} by {self.gradient:.1e}"


def agreement(case: StepCase, backend: Backend, dtype: str = "float32") -> Agreement:
    """Compare a training step's forward and backward pass with PyTorch's, without dropout, whose masks differ.

    Scales and biases, which begin as ones and zeros, are moved a little.
    """
    from xcnn.bench import torch_side

    model = replace(case, net=without_dropout(case.net)).model(backend, dtype)
    model.weights = moved(tree.map(backend.to_numpy, model.weights))
    weights = tree.map(backend.to_numpy, model.weights)
    x, t = case.data(*model.output_shape, dtype=dtype)
    y, grads = passes(model, x, t)
    expected_y, expected = torch_side.passes(model.net, weights, case.loss, x, t)
    if grads.keys() != expected.keys():
        return Agreement(np.inf, np.inf, ", ".join(grads.keys() ^ expected.keys()), False)
    floor = FLOOR * np.sqrt(sum(norm(g) ** 2 for g in expected.values()))
    apart = {path: norm(grads[path] - g) / max(norm(g), floor) for path, g in expected.items()}
    worst = max(apart, key=lambda path: np.nan_to_num(apart[path], nan=np.inf))
    output = float(np.max(np.abs(y - expected_y)) / np.max(np.abs(expected_y)))
    kinked = dtype == "float32" and any(isinstance(layer, KINKED) for layer in leaves(case.net))
    holds = output <= OUTPUT[dtype] and apart[worst] <= (SHARE if kinked else GRADIENT[dtype])
    return Agreement(output, apart[worst], worst, holds)


def passes(model: Model, x: HostArray, t: HostArray) -> tuple[HostArray, dict[str, HostArray]]:
    """The net's output in training, and the gradient of each weight by its path."""
    trainer, backend = model.trainer, model.trainer.backend
    with backend.active():
        run = Run(backend, train=True, wants_dx=False)
        y, backward = trainer.net(model.state.weights, backend.asarray(x, model.dtype), run)
        output = np.array(backend.to_numpy(y))
        _, dy, _ = backend.loss_and_gradient(model.loss, None, y, backend.asarray(t))
        grads = tree.items(backward(dy)[1])
        return output, {path: np.array(backend.to_numpy(g)) for path, g in grads if not isinstance(g, Next)}


def norm(g: HostArray) -> float:
    """The root of the sum of squares."""
    return float(np.linalg.norm(g.astype("float64").ravel()))


def moved(weights: Weights) -> Weights:
    """The weights, scales and biases with some noise."""
    rng = np.random.default_rng(0)

    def near(path: str, w: HostArray) -> HostArray:
        return w + np.asarray(rng.uniform(0, 0.2, w.shape), w.dtype) if path.endswith(("scale", "bias")) else w

    return tree.from_items({path: near(path, w) for path, w in tree.items(weights)})


def without_dropout(layer: Layer) -> Any:
    """The net with dropouts' rates at zero."""
    if isinstance(layer, Container):
        return type(layer)(**{name: without_dropout(inner) for name, inner in layer.named})
    return replace(layer, rate=0.0) if isinstance(layer, Dropout) else layer


def leaves(layer: Layer) -> Iterator[Any]:
    """The layers of a net that hold no others."""
    if isinstance(layer, Container):
        for inner in layer:
            yield from leaves(inner)
    else:
        yield layer


def alike(net: Layer) -> bool:
    """Whether PyTorch's twin pads as ours does: "same" may put more at the end where windows are strides apart."""
    return all(getattr(layer, "padding", 0) != "same" or getattr(layer, "stride", 1) == 1 for layer in leaves(net))
