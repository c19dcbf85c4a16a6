"""What is timed: training steps of known nets, and single correlations with their adjoints; and xcnn's side of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.bench.zoo import NETS
from xcnn.core.checks import check_whole
from xcnn.core.names import unknown
from xcnn.core.random import Planner
from xcnn.core.types import Array, LossName, Shape, Weights
from xcnn.core.windows import output_size
from xcnn.errors import OptionError
from xcnn.layers import Conv2DTranspose, Sequential
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer
from xcnn.model.model import Model
from xcnn.training.optimizers import SGD
from xcnn.training.state import HostArray

Call: TypeAlias = Callable[[], object]
MAPS = ("forward", "input adjoint", "kernel adjoint")


def written(layer: Any) -> str:
    """A layer as one would write it, without what its options and names are by themselves."""
    arguments = []
    if isinstance(layer, Container):
        counted = dict(type(layer)(*(inner for name, inner in layer.named if name != "shortcut")).named)
        for name, inner in layer.named:
            arguments.append(written(inner) if name in counted else f"{name}={written(inner)}")
    else:
        in_order = True
        for field in fields(layer):
            value = getattr(layer, field.name)
            if value == field.default:
                in_order = False
            else:
                arguments.append(repr(value) if in_order and not field.kw_only else f"{field.name}={value!r}")
    return f"{type(layer).__name__}({', '.join(arguments)})"


@dataclass(frozen=True)
class StepCase:
    """A training step of a net: `input_shape` is (channels, height, width), `batch` counts images."""

    name: str
    net: Sequential
    input_shape: Shape
    batch: int
    loss: LossName
    optimizer: SGD

    def __str__(self) -> str:
        return f"{self.name}:{self.batch}"

    @property
    def source(self) -> str:
        """What makes the model, in xcnn's own words."""
        return (
            f"Model({written(self.net)}, {self.input_shape}, loss={self.loss!r}, optimizer={written(self.optimizer)})"
        )

    def model(self, backend: Backend, precision: str | None = None) -> Model:
        """The net with its initial weights.

        Raises
        ------
        OptionError
            X104, where the backend can't compute in this precision.
        """
        how: dict[str, Any] = {"backend": backend, "precision": precision}
        if precision == "float64":
            how["dtype"] = "float64"
        return Model(self.net, self.input_shape, loss=self.loss, optimizer=self.optimizer, **how)

    def data(self, classes: int, *places: int, batches: int = 1, dtype: str = "float32") -> tuple[HostArray, HostArray]:
        """So many batches of noise for a net with this output shape: images of 0..1, and what the loss takes.

        That is a label for each place for cross_entropy, images of 0..1 for mse, else one-hot rows.
        """
        rng, samples = np.random.default_rng(0), batches * self.batch
        x = rng.random((samples, *self.input_shape), dtype="float32").astype(dtype, copy=False)
        if self.loss == "mse":
            return x, rng.random((samples, classes, *places), dtype="float32").astype(dtype, copy=False)
        labels = rng.integers(0, classes, (samples, *places))
        return x, labels if self.loss == "cross_entropy" else np.eye(classes, dtype=dtype)[labels]

    @property
    def flop(self) -> int:
        """Additions and multiplications of a training step's correlations and matrix products.

        A layer with a kernel has three of one size: its output, the kernel's gradient and the input's. The input of the
        first such layer is data, whose gradient is of no use, and is not counted.
        """
        products = Ledger(self.net, self.input_shape).products
        return 2 * self.batch * (3 * sum(products) - products[0])


def step_case(name: str, batch: int) -> StepCase:
    """One of the nets that are known by name, trained by plain SGD as in the article, or by SGD with momentum.

    Raises
    ------
    OptionError
        X104, for a name that is not known, or a batch that is not a whole number above 0.
    """
    if name not in NETS:
        raise unknown("net", name, NETS)
    check_whole("batch", batch)
    known = NETS[name]
    optimizer = SGD(0.1) if name == "article" else SGD(0.01, momentum=0.9)
    return StepCase(name, known.net(known.classes), known.input_shape, batch, known.loss, optimizer)


STEPS = ("article:1", "article:32", "lenet:64", "lenet:256", "mnist-net:64", "mnist-net:256", "small-resnet:64")
GPU_STEPS = ("lenet:64", "lenet:128", "mnist-net:64", "mnist-net:256", "small-resnet:64", "resnet18:64")


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
        model.state, loss = model.trainer.after_step(model.state, x, t)
        model.backend.synchronize()
        return loss

    return call


class Ledger(Planner):
    """Notes each layer of a net, its input's shape and its output's, and draws no weights."""

    rows: list[tuple[Layer, Shape, Shape]]
    weights: Weights
    output_shape: Shape

    def __init__(self, net: Layer, input_shape: Shape) -> None:
        super().__init__()
        self.rows = []
        self.weights, self.output_shape = net.init(self, input_shape)

    def note(self, layer: Layer, input_shape: Shape, output_shape: Shape) -> None:
        self.rows.append((layer, input_shape, output_shape))

    @property
    def products(self) -> list[int]:
        """Multiplications of each correlation and matrix product, for one sample."""
        return [of for row in self.rows if (of := products(*row))]


def products(layer: Layer, input_shape: Shape, output_shape: Shape) -> int:
    """Multiplications that a layer with a kernel makes of one sample by definition; 0 for all others and containers."""
    if isinstance(layer, Container):
        return 0
    weights, _ = layer.init(Planner(), input_shape)
    places = input_shape if isinstance(layer, Conv2DTranspose) else output_shape
    return prod(weights["kernel"].shape) * prod(places[1:]) if "kernel" in weights else 0


@dataclass(frozen=True)
class CorrelationCase:
    """A correlation of (batch, channels, size, size) with (filters, channels / groups, kernel, kernel).

    `padding` is cells of zeros around the image, on each side.
    """

    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    padding: int = 0

    def __str__(self) -> str:
        usual = {"stride": 1, "groups": 1, "padding": 0}
        how = "".join(f", {name} {getattr(self, name)}" for name in usual if getattr(self, name) != usual[name])
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
        return self.batch, self.filters, *output_size(sides, window, self.how["stride"], self.how["padding"])

    @property
    def how(self) -> dict[str, Any]:
        """Stride, padding and groups, as the primitives take them."""
        around = self.padding, self.padding
        return {"stride": (self.stride, self.stride), "padding": (around, around), "groups": self.groups}

    @property
    def flop(self) -> int:
        """Additions and multiplications of each of the three maps, those with padding too."""
        return 2 * prod(self.y_shape) * prod(self.k_shape[1:])

    @property
    def x_shape(self) -> Shape:
        """(batch, channels, size, size)"""
        return self.batch, self.channels, self.size, self.size

    def data(self) -> tuple[HostArray, ...]:
        """x, k and dy: noise, which can't be written to."""
        return noise(self.x_shape, self.k_shape, self.y_shape)


@lru_cache(maxsize=1)
def noise(*shapes: Shape) -> tuple[HostArray, ...]:
    """Noise of these shapes, drawn once for all ways and precisions in which one case is computed after another."""
    rng = np.random.default_rng(0)
    drawn = tuple(rng.standard_normal(shape, dtype="float32") for shape in shapes)
    for array in drawn:
        array.flags.writeable = False
    return drawn


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
RESNET18 = (
    CorrelationCase(64, 3, 224, 64, 7, stride=2, padding=3),
    CorrelationCase(64, 64, 56, 64, 3, padding=1),
    CorrelationCase(64, 64, 56, 128, 3, stride=2, padding=1),
    CorrelationCase(64, 64, 56, 128, 1, stride=2),
    CorrelationCase(64, 128, 28, 128, 3, padding=1),
    CorrelationCase(64, 128, 28, 256, 3, stride=2, padding=1),
    CorrelationCase(64, 128, 28, 256, 1, stride=2),
    CorrelationCase(64, 256, 14, 256, 3, padding=1),
    CorrelationCase(64, 256, 14, 512, 3, stride=2, padding=1),
    CorrelationCase(64, 256, 14, 512, 1, stride=2),
    CorrelationCase(64, 512, 7, 512, 3, padding=1),
)
"""Each convolution of ResNet-18, once."""


def correlation_calls(case: CorrelationCase, backend: Backend, dtype: str = "float32") -> dict[str, Call]:
    """Each of the three maps by its name in MAPS."""
    x, k, dy = (backend.asarray(array, dtype) for array in case.data())

    def finished(compute: Call) -> Call:
        def call() -> object:
            with backend.active():
                result = compute()
            backend.synchronize()
            return result

        return call

    return {name: finished(compute) for name, compute in maps(case, backend, x, k, dy).items()}


def maps(case: CorrelationCase, backend: Backend, x: Array, k: Array, dy: Array) -> dict[str, Call]:
    """Each of the three maps of these arrays by its name in MAPS."""
    how = case.how
    calls = (
        lambda: backend.correlate(x, k, **how),
        lambda: backend.correlate_input_adjoint(dy, k, x.shape, **how),
        lambda: backend.correlate_kernel_adjoint(x, dy, k.shape, **how),
    )
    return dict(zip(MAPS, calls, strict=True))
