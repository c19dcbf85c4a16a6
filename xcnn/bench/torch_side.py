"""PyTorch's side: the same net with the same weights, its training step, and its correlations, each at their best.

A step is timed with images as NCHW and as channels_last, and with each of the ways in which PyTorch's SGD walks over
the weights; what takes least time is what counts. torch.compile is not among them: it was slower on all of these nets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from typing import Any

from xcnn.bench.cases import MAPS, Call, CorrelationCase, StepCase
from xcnn.bench.timing import best
from xcnn.core import tree
from xcnn.core.types import Padding, Pair, Weights
from xcnn.core.windows import pair
from xcnn.errors import MissingDependency, OptionError
from xcnn.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)
from xcnn.layers.layer import Layer
from xcnn.training.optimizers import SGD
from xcnn.training.state import HostArray

try:
    torch: Any = import_module("torch")
except ImportError as error:
    raise MissingDependency("X601", "the bench against PyTorch needs torch.", hint="pip install torch") from error

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
WALKS = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


# The net.


class ResidualTwin(torch.nn.Sequential):  # type: ignore[misc]
    """Modules one after another, beside one that is named "shortcut" or beside the input itself."""

    def forward(self, x: Any) -> Any:
        """f(x) + g(x)"""
        y = x
        for name, module in self.named_children():
            if name != "shortcut":
                y = module(y)
        return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class UntiedConv2d(torch.nn.Conv2d):  # type: ignore[misc]
    """A convolution with a bias for each output element."""

    def __init__(self, *sizes: int, bias_shape: tuple[int, ...], **options: Any) -> None:
        super().__init__(*sizes, **options, bias=False)
        self.bias = torch.nn.Parameter(torch.zeros(bias_shape))

    def forward(self, x: Any) -> Any:
        """K ⋆ x + B"""
        return self._conv_forward(x, self.weight, None) + self.bias


def twin(net: Layer, weights: Weights) -> Any:
    """PyTorch's module for the net, with a copy of the weights (a tree of host arrays) in their type."""
    made = module(net, weights).to(getattr(torch, str(next(iter(tree.leaves(weights))).dtype)))
    with torch.no_grad():
        for (_, there), host in zip(tensors(made, weights), tree.leaves(weights), strict=True):
            there.copy_(torch.tensor(host))
    return made


def module(layer: Layer, weights: Weights) -> Any:
    """PyTorch's module for a layer whose weights have these shapes, its parts named as ours are.

    A "same" padding that our layer puts at the end alone (a stride over an even size) is put around the image, as is
    usual in PyTorch: windows are shifted by a cell, shapes and work are the same.
    """
    nn = torch.nn
    match layer:
        case Sequential():
            return nn.Sequential(modules(layer, weights))
        case Residual():
            return ResidualTwin(modules(layer, weights))
        case Conv2D():
            filters, channels, *kernel = weights["kernel"].shape
            sizes = channels * layer.groups, filters, kernel
            padding = padding_around(layer.padding, (kernel[0], kernel[1]))
            options = {"stride": pair("stride", layer.stride), "padding": padding, "groups": layer.groups}
            if layer.bias == "untied":
                return UntiedConv2d(*sizes, bias_shape=weights["bias"].shape, **options)
            return nn.Conv2d(*sizes, bias=layer.bias, **options)
        case Dense():
            return nn.Linear(*weights["kernel"].shape)
        case BatchNorm():
            return nn.BatchNorm2d(weights["scale"].shape[0], eps=layer.epsilon, momentum=1 - layer.momentum)
        case MaxPool2D():
            size = pair("pool_size", layer.pool_size)
            return nn.MaxPool2d(size, layer.stride, padding_around(layer.padding, size))
        case GlobalAveragePool2D():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Dropout():
            return nn.Dropout(layer.rate)
        case Flatten():
            return nn.Flatten()
        case Sigmoid():
            return nn.Sigmoid()
        case ReLU():
            return nn.ReLU(inplace=True)
    raise OptionError("X104", f"the bench has no PyTorch module for a {type(layer).__name__}.")


def padding_around(padding: Padding, window: Pair) -> Any:
    """Cells of padding on both sides, by height and width."""
    around: dict[object, Any] = {"valid": 0, "same": tuple(n // 2 for n in window)}
    return around.get(padding, padding)


def modules(container: Sequential | Residual, weights: Weights) -> OrderedDict[str, Any]:
    """The modules of a container's layers by name."""
    return OrderedDict((name, module(layer, weights.get(name, {}))) for name, layer in container.named)


NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "running_variance": "running_var",
    "running_steps": "num_batches_tracked",
}


def tensors(made: Any, weights: Weights) -> Iterator[tuple[str, Any]]:
    """The twin's tensors by the paths of our weights, in our orientation, on the twin's own memory."""
    state = made.state_dict()
    for path, host in tree.items(weights):
        *parents, name = path.split("/")
        tensor = state[".".join([*parents, NAMES.get(name, name)])]
        yield path, tensor.T if host.ndim == 2 else torch.atleast_1d(tensor)


# The step.

LOSSES = {
    "cross_entropy": torch.nn.functional.cross_entropy,
    "binary_cross_entropy": torch.nn.functional.binary_cross_entropy,
}


def step_call(made: Any, loss: str, optimizer: SGD, x: HostArray, t: HostArray, layout: str, walk: str) -> Call:
    """One training step of the twin; it gives the loss, as ours does."""
    made = made.to(memory_format=LAYOUTS[layout])
    images, targets = torch.tensor(x).to(memory_format=LAYOUTS[layout]), torch.tensor(t)
    measure = LOSSES[loss]
    sgd = torch.optim.SGD(made.parameters(), lr=optimizer.learning_rate, momentum=optimizer.momentum, **WALKS[walk])

    def call() -> float:
        sgd.zero_grad(set_to_none=True)
        value = measure(made(images), targets)
        value.backward()
        sgd.step()
        return float(value.item())

    return call


def best_step(case: StepCase, weights: Weights, x: HostArray, t: HostArray) -> tuple[str, Call]:
    """The way that takes PyTorch least time, in words, and the step."""
    ways = {
        f"{layout}, {walk} SGD": step_call(twin(case.net, weights), case.loss, case.optimizer, x, t, layout, walk)
        for layout, walk in product(LAYOUTS, WALKS)
    }
    return best(ways)


# Correlations.


def correlation_calls(case: CorrelationCase, layout: str, dtype: str = "float32") -> dict[str, Call]:
    """Each of the three maps by its name in MAPS."""
    x, k, dy = (
        torch.tensor(array, dtype=getattr(torch, dtype)).to(memory_format=LAYOUTS[layout]) for array in case.data()
    )
    return maps(case, x, k, dy)


def maps(case: CorrelationCase, x: Any, k: Any, dy: Any) -> dict[str, Call]:
    """Each of the three maps of these tensors by its name in MAPS."""
    stride, padding = [case.stride, case.stride], [case.padding, case.padding]

    def adjoint(*wanted: bool) -> Any:
        arguments = None, stride, padding, [1, 1], False, [0, 0], case.groups  # bias, ..., not transposed, ...
        return torch.ops.aten.convolution_backward(dy, x, k, *arguments, wanted)

    calls = (
        lambda: torch.nn.functional.conv2d(x, k, stride=stride, padding=padding, groups=case.groups),
        lambda: adjoint(True, False, False)[0],
        lambda: adjoint(False, True, False)[1],
    )
    return dict(zip(MAPS, calls, strict=True))


def best_correlation(case: CorrelationCase, name: str, dtype: str = "float32") -> tuple[str, Call]:
    """The layout that takes PyTorch least time for one of the three maps, and the map."""
    return best({layout: correlation_calls(case, layout, dtype)[name] for layout in LAYOUTS})


# What both share.


def matrix_product(a: HostArray, b: HostArray) -> Call:
    """A call of torch.mm."""
    first, second = torch.tensor(a), torch.tensor(b)
    return lambda: torch.mm(first, second)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def version() -> str:
    """PyTorch's."""
    return str(torch.__version__)
