"""What is timed: training steps of known nets, and single correlations with their adjoints; and xcnn's side of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np

from xcnn import training
from xcnn._typing import Array, Backward, Shape
from xcnn.backends import Backend
from xcnn.checks import check_whole
from xcnn.errors import OptionError
from xcnn.layers import Sequential
from xcnn.layers.layer import Layer, Run, Watch
from xcnn.model import Model
from xcnn.nets import RECIPES
from xcnn.optimizers import SGD
from xcnn.training import HostArray
from xcnn.windows import output_size

Call: TypeAlias = Callable[[], object]
MAPS = ("forward", "input adjoint", "kernel adjoint")


@dataclass(frozen=True)
class StepCase:
    """A training step of a net: `input_shape` is (channels, height, width), `batch` counts images."""

    name: str
    net: Sequential
    input_shape: Shape
    batch: int
    loss: str
    optimizer: SGD

    def __str__(self) -> str:
        return f"{self.name}:{self.batch}"

    def model(self, backend: Backend) -> Model:
        """The net with its initial weights."""
        return Model(self.net, self.input_shape, loss=self.loss, optimizer=self.optimizer, backend=backend)

    def data(self, outputs: int) -> tuple[HostArray, HostArray]:
        """A batch of noise: images of 0..1, and labels for cross_entropy, else one-hot rows."""
        rng = np.random.default_rng(0)
        x = rng.random((self.batch, *self.input_shape), dtype="float32")
        labels = rng.integers(0, outputs, self.batch)
        return x, labels if self.loss == "cross_entropy" else np.eye(outputs, dtype="float32")[labels]


def step_case(name: str, batch: int) -> StepCase:
    """One of the nets that are known by name, trained by plain SGD as in the article, or by SGD with momentum.

    Raises
    ------
    OptionError
        X104, for a name that is not known, or a batch that is not a whole number above 0.
    """
    if name not in RECIPES:
        raise OptionError("X104", f"there is no net {name!r}.", hint="use one of " + ", ".join(RECIPES) + ".")
    check_whole("batch", batch)
    as_the_article = name == "article"
    return StepCase(
        name=name,
        net=RECIPES[name].net(2 if as_the_article else 10),
        input_shape=(3, 32, 32) if name == "small-resnet" else (1, 28, 28),
        batch=batch,
        loss=RECIPES[name].loss,
        optimizer=SGD(0.1) if as_the_article else SGD(0.01, momentum=0.9),
    )


STEPS = ("article:1", "article:32", "lenet:64", "lenet:256", "mnist-net:64", "mnist-net:256", "small-resnet:64")


def picked(choice: str) -> StepCase:
    """The step of a net that is written as NAME:BATCH, such as "lenet:64".

    Raises
    ------
    OptionError
        X104
    """
    name, _, batch = choice.partition(":")
    if not batch.isdecimal():
        raise OptionError("X104", f"a net is given as NAME:BATCH; got {choice!r}.", hint='for example "lenet:64".')
    return step_case(name, int(batch))


def step_call(model: Model, x: HostArray, t: HostArray) -> Call:
    """What `Model.fit` does for one batch."""

    def call() -> float:
        loss = training.take_step(model, x, t)
        model.backend.synchronize()
        return loss

    return call


def step_flop(model: Model, batch: int) -> int:
    """Additions and multiplications of a training step's correlations and matrix products.

    A layer with a kernel has three of one size: its output, the kernel's gradient and the input's. The input of the
    first such layer is data, whose gradient is of no use, and is not counted.
    """
    products: list[int] = []

    def look(path: tuple[str, ...], layer: Layer, y: Array, backward: Backward) -> Backward:
        weights = model.weights
        for name in path:
            weights = weights.get(name, {})
        if "kernel" in weights:
            products.append(prod(weights["kernel"].shape) * prod(y.shape[2:]))
        return backward

    x = model.backend.asarray(np.zeros((1, *model.input_shape)), model.dtype)
    with model.backend.active():
        model.net(model.weights, x, Run(model.backend, watch=Watch(look)))
    return 2 * batch * (3 * sum(products) - products[0])


@dataclass(frozen=True)
class CorrelationCase:
    """A valid correlation of (batch, channels, size, size) with (filters, channels / groups, kernel, kernel)."""

    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        how = (f", stride {self.stride}" if self.stride > 1 else "") + (
            f", groups {self.groups}" if self.groups > 1 else ""
        )
        shape = f"{self.batch}x{self.channels}x{self.size}x{self.size}"
        return f"{shape} -> {self.filters}, {self.kernel}x{self.kernel}{how}"

    @property
    def k_shape(self) -> Shape:
        """(filters, channels / groups, kernel, kernel)"""
        return self.filters, self.channels // self.groups, self.kernel, self.kernel

    @property
    def y_shape(self) -> Shape:
        """(batch, filters, H', W')"""
        sides, window = (self.size, self.size), (self.kernel, self.kernel)
        return self.batch, self.filters, *output_size(sides, window, (self.stride, self.stride), ((0, 0), (0, 0)))

    @property
    def flop(self) -> int:
        """Additions and multiplications of each of the three maps."""
        return 2 * prod(self.y_shape) * prod(self.k_shape[1:])

    def data(self) -> tuple[HostArray, HostArray, HostArray]:
        """x, k and dy."""
        rng = np.random.default_rng(0)
        shapes = (self.batch, self.channels, self.size, self.size), self.k_shape, self.y_shape
        x, k, dy = (rng.standard_normal(shape, dtype="float32") for shape in shapes)
        return x, k, dy


CORRELATIONS = (
    CorrelationCase(64, 1, 28, 32, 3),
    CorrelationCase(64, 32, 26, 64, 3),
    CorrelationCase(16, 64, 56, 64, 3),
    CorrelationCase(16, 128, 28, 128, 3),
    CorrelationCase(16, 256, 14, 256, 3),
    CorrelationCase(64, 6, 14, 16, 5),
    CorrelationCase(16, 32, 32, 32, 5),
    CorrelationCase(16, 32, 32, 32, 7),
    CorrelationCase(8, 16, 64, 16, 11),
    CorrelationCase(16, 32, 64, 64, 3, stride=2),
    CorrelationCase(16, 64, 32, 64, 3, groups=4),
    CorrelationCase(16, 64, 32, 64, 3, groups=64),
    CorrelationCase(16, 64, 32, 128, 1),
)


def correlation_calls(case: CorrelationCase, backend: Backend) -> dict[str, Call]:
    """Each of the three maps by its name in MAPS."""
    x, k, dy = map(backend.asarray, case.data())
    how: dict[str, Any] = {"stride": (case.stride, case.stride), "groups": case.groups}

    def finished(compute: Call) -> Call:
        def call() -> object:
            with backend.active():
                result = compute()
            backend.synchronize()
            return result

        return call

    calls = (
        lambda: backend.correlate(x, k, **how),
        lambda: backend.correlate_input_adjoint(dy, k, x.shape, **how),
        lambda: backend.correlate_kernel_adjoint(x, dy, k.shape, **how),
    )
    return dict(zip(MAPS, map(finished, calls), strict=True))
