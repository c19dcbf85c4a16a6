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
from xcnn.core.windows import extent, pair
from xcnn.errors import MissingDependency, OptionError
from xcnn.layers import (
    ELU,
    GELU,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    SpatialDropout2D,
    Tanh,
    UpSampling2D,
)
from xcnn.layers.activations import Activation
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer
from xcnn.training.optimizers import SGD
from xcnn.training.state import HostArray

try:
    torch: Any = import_module("torch")
except ImportError as _error:
    raise MissingDependency("X601", "the bench against PyTorch needs torch.", hint="pip install torch") from _error

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
WALKS = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


# The net.


class _ResidualTwin(torch.nn.Sequential):  # type: ignore[misc]
    """Modules one after another, beside one that is named "shortcut" or beside the input itself."""

    def forward(self, x: Any) -> Any:
        """f(x) + g(x)"""
        y = x
        for name, module in self.named_children():
            if name != "shortcut":
                y = module(y)
        return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class _ConcatenateTwin(torch.nn.Sequential):  # type: ignore[misc]
    """Modules side by side, whose outputs' channels are joined."""

    def forward(self, x: Any) -> Any:
        """[f1(x), f2(x), ...]"""
        return torch.cat([module(x) for module in self], dim=1)


class _ChannelsNorm(torch.nn.LayerNorm):  # type: ignore[misc]
    """Normalises the channels at each place of images; a mere view of them as NHWC where they lie so."""

    def forward(self, x: Any) -> Any:
        """LayerNorm over axis 1"""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _UntiedConv2d(torch.nn.Conv2d):  # type: ignore[misc]
    """A convolution with a bias for each output element."""

    bias: Any

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


def module(layer: Layer, weights: Weights, before: Layer | None = None) -> Any:
    """PyTorch's module for a layer whose weights have these shapes, its parts named as ours are.

    A "same" padding that our layer puts at the end alone (a stride over an even size) is put around the image, as is
    usual in PyTorch: windows are shifted by a cell, shapes and work are the same.
    """
    nn = torch.nn
    made = activation(layer, before) or pool(layer) or norm(layer, weights)
    if made:
        return made
    match layer:
        case Sequential():
            return nn.Sequential(modules(layer, weights))
        case Residual():
            return _ResidualTwin(modules(layer, weights))
        case Concatenate():
            return _ConcatenateTwin(modules(layer, weights))
        case Conv2D() | DepthwiseConv2D() | Conv2DTranspose():
            return convolution(layer, weights)
        case Dense():
            return nn.Linear(*weights["kernel"].shape, bias=layer.bias)
        case SpatialDropout2D():
            return nn.Dropout2d(layer.rate)
        case Dropout():
            return nn.Dropout(layer.rate)
        case Flatten():
            return nn.Flatten()
        case UpSampling2D():
            bilinear = {"mode": "bilinear", "align_corners": False} if layer.interpolation == "bilinear" else {}
            return nn.Upsample(scale_factor=pair("size", layer.size), **bilinear)
    raise OptionError("X104", f"the bench has no PyTorch module for a {type(layer).__name__}.")


def activation(layer: Layer, before: Layer | None) -> Any:
    """The module of an activation, in place where no gradient needs what was there before; None for other layers."""
    nn = torch.nn
    spare = before is not None and not isinstance(before, Activation | Dropout | Flatten)
    match layer:
        case ReLU():
            return nn.ReLU(inplace=spare)
        case LeakyReLU():
            return nn.LeakyReLU(layer.negative_slope, inplace=spare)
        case ELU():
            return nn.ELU(layer.alpha, inplace=spare)
        case GELU():
            return nn.GELU("tanh" if layer.approximate else "none")
        case Sigmoid() | Tanh() | SiLU() | Softplus():
            return getattr(nn, type(layer).__name__)()
    return None


def pool(layer: Layer) -> Any:
    """The module of a pooling; None for other layers."""
    nn = torch.nn
    match layer:
        case MaxPool2D() | AveragePool2D():
            size = pair("pool_size", layer.pool_size)
            where = size, layer.stride, padding_around(layer.padding, size)
            return nn.MaxPool2d(*where) if isinstance(layer, MaxPool2D) else nn.AvgPool2d(*where, False, False)
        case GlobalAveragePool2D():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case GlobalMaxPool2D():
            return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    return None


def norm(layer: Layer, weights: Weights) -> Any:
    """The module of a normalisation; None for other layers."""
    nn = torch.nn
    match layer:
        case BatchNorm():
            return nn.BatchNorm2d(weights["scale"].shape[0], eps=layer.epsilon, momentum=1 - layer.momentum)
        case GroupNorm():
            return nn.GroupNorm(layer.groups, weights["scale"].shape[0], eps=layer.epsilon)
        case LayerNorm(axis=None):
            return nn.LayerNorm(weights["scale"].shape, eps=layer.epsilon)
        case LayerNorm(axis=1):
            return _ChannelsNorm(weights["scale"].shape, eps=layer.epsilon)
    return None


def convolution(layer: Conv2D | DepthwiseConv2D | Conv2DTranspose, weights: Weights) -> Any:
    """The module of a convolution with a kernel of this shape."""
    filters, channels, *kernel = weights["kernel"].shape
    if isinstance(layer, DepthwiseConv2D):
        layer = layer.conv2d(filters // layer.depth_multiplier)
    dilation = pair("dilation", layer.dilation)
    spans = extent(kernel[0], dilation[0]), extent(kernel[1], dilation[1])
    options = {
        "stride": pair("stride", layer.stride),
        "padding": padding_around(layer.padding, spans),
        "dilation": dilation,
        "groups": layer.groups,
    }
    if isinstance(layer, Conv2DTranspose):
        extra = pair("output_padding", layer.output_padding, least=0)
        options.update(output_padding=extra, bias=bool(layer.bias))
        return torch.nn.ConvTranspose2d(filters, channels * layer.groups, kernel, **options)
    sizes = channels * layer.groups, filters, kernel
    if layer.bias == "untied":
        return _UntiedConv2d(*sizes, bias_shape=weights["bias"].shape, **options)
    return torch.nn.Conv2d(*sizes, bias=layer.bias, **options)


def padding_around(padding: Padding, window: Pair) -> Any:
    """Cells of padding on both sides, by height and width."""
    around: dict[object, Any] = {"valid": 0, "same": tuple(n // 2 for n in window)}
    return around.get(padding, padding)


def modules(container: Container, weights: Weights) -> OrderedDict[str, Any]:
    """The modules of a container's layers by name."""
    before = [None, *container] if isinstance(container, Sequential | Residual) else [None] * len(container)
    return OrderedDict(
        (name, module(layer, weights.get(name, {}), None if name == "shortcut" else last))
        for (name, layer), last in zip(container.named, before, strict=False)
    )


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
        tensor = state[name_of(path)]
        yield path, tensor.T if host.ndim == 2 else torch.atleast_1d(tensor)


def name_of(path: str) -> str:
    """The name of the twin's tensor for the weight at this path."""
    *parents, name = path.split("/")
    return ".".join([*parents, NAMES.get(name, name)])


def passes(
    net: Layer, weights: Weights, loss: str, x: HostArray, t: HostArray
) -> tuple[HostArray, dict[str, HostArray]]:
    """The twin's output in training, and its gradients by the paths of our weights, in our orientation."""
    made = twin(net, weights)
    y = made(torch.tensor(x))
    LOSSES[loss](y, torch.tensor(t)).backward()
    parameters = dict(made.named_parameters())
    trained = (path for path, _ in tree.items(weights) if name_of(path) in parameters)
    grads = {path: parameters[name_of(path)].grad.numpy() for path in trained}
    return y.detach().numpy(), {path: g.T if g.ndim == 2 else g for path, g in grads.items()}


# The step.

LOSSES = {
    "cross_entropy": torch.nn.functional.cross_entropy,
    "binary_cross_entropy": torch.nn.functional.binary_cross_entropy,
    "mse": torch.nn.functional.mse_loss,
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


def prediction(made: Any, x: HostArray, layout: str) -> Call:
    """The output of a twin in evaluation, as a host array."""
    made = made.to(memory_format=LAYOUTS[layout])
    images = torch.tensor(x).to(memory_format=LAYOUTS[layout])

    def call() -> HostArray:
        with torch.inference_mode():
            y: HostArray = made(images).numpy()
            return y

    return call


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
