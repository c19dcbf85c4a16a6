"""JAX's side: the same net with the same weights, its training step, and its correlations, each at their best.

A step is one function under jax.jit, whose gradients are JAX's own, and which may write into what it replaces. It is
timed with images as NCHW and as NHWC, on JAX's first device; what takes least time is what counts. Each call brings its
batch to JAX, host arrays that already lie in that order, as each of ours brings its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from xcnn.bench.cases import MAPS, Call, CorrelationCase, StepCase
from xcnn.bench.timing import best
from xcnn.core import random, tree
from xcnn.core.types import Pair, Shape, Weights
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
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer
from xcnn.training.optimizers import SGD
from xcnn.training.state import HostArray

try:
    jax: Any = import_module("jax")
except ImportError as _error:
    raise MissingDependency("X601", "the bench against JAX needs jax.", hint='pip install "xcnn[jax]"') from _error
jnp: Any = jax.numpy
lax: Any = jax.lax


@dataclass(frozen=True)
class Layout:
    """In which order the axes of images lie, and those of kernels; `spatial` are an image's height and width."""

    images: str
    kernels: str
    spatial: Pair

    @property
    def channels_last(self) -> bool:
        """Whether a cell's channels lie beside each other."""
        return self.images == "NHWC"

    def of_channels(self, values: Any) -> Any:
        """One number for each channel, as it meets images."""
        return values if self.channels_last else values[:, None, None]


LAYOUTS = (Layout("NCHW", "OIHW", (2, 3)), Layout("NHWC", "HWIO", (1, 2)))


# The net.


@dataclass(frozen=True)
class Forward:
    """A forward pass in training: where channels lie, and a key for each dropout that is still to come."""

    layout: Layout
    keys: Iterator[Any]

    def __call__(self, layer: Layer, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """Y, and the running statistics after it."""
        match layer:
            case Sequential():
                return self.chain(layer, weights, x)
            case Residual():
                return self.residual(layer, weights, x)
            case BatchNorm():
                return self.batch_norm(layer, weights, x)
        return self.stateless(layer, weights, x), {}

    def stateless(self, layer: Layer, weights: Weights, x: Any) -> Any:
        """Y of a layer that has no running statistics."""
        match layer:
            case Conv2D():
                return self.convolution(layer, weights, x)
            case Dense():
                y = x @ weights["kernel"]
                return y + weights["bias"] if layer.bias else y
            case MaxPool2D():
                return self.max_pool(layer, x)
            case GlobalAveragePool2D():
                return x.mean(self.layout.spatial)
            case Dropout():
                kept = jax.random.bernoulli(next(self.keys), 1 - layer.rate, x.shape)
                return jnp.where(kept, x / (1 - layer.rate), 0)
            case Flatten():
                return x.reshape(len(x), -1)
            case Sigmoid():
                return jax.nn.sigmoid(x)
            case ReLU():
                return jax.nn.relu(x)
        raise OptionError("X104", f"the bench has no function of JAX for a {type(layer).__name__}.")

    def chain(self, layers: Sequential, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """One layer after another."""
        moved: Weights = {}
        for name, layer in layers.named:
            x, running = self(layer, weights.get(name, {}), x)
            if running:
                moved[name] = running
        return x, moved

    def residual(self, layer: Residual, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """f(x) + g(x)"""
        y, moved = self.chain(layer.body, weights, x)
        if layer.shortcut is None:
            return y + x, moved
        beside, running = self(layer.shortcut, weights.get("shortcut", {}), x)
        return y + beside, {**moved, "shortcut": running} if running else moved

    def convolution(self, layer: Conv2D, weights: Weights, x: Any) -> Any:
        """K ⋆ x + B"""
        how = layer.window(self.sizes(x))
        y = lax.conv_general_dilated(
            x, weights["kernel"], how["stride"], how["padding"],
            rhs_dilation=how["dilation"],
            dimension_numbers=(self.layout.images, self.layout.kernels, self.layout.images),
            feature_group_count=layer.groups,
        )  # fmt: skip
        if not layer.bias:
            return y
        return y + (weights["bias"] if layer.bias == "untied" else self.layout.of_channels(weights["bias"]))

    def max_pool(self, layer: MaxPool2D, x: Any) -> Any:
        """The largest cell of each window."""
        how = layer.window(self.sizes(x))
        size, stride, padding = ([one] * 4 for one in (1, 1, (0, 0)))
        for n, axis in enumerate(self.layout.spatial):
            size[axis] = pair("pool_size", layer.pool_size)[n]
            stride[axis], padding[axis] = how["stride"][n], how["padding"][n]
        return lax.reduce_window(x, -jnp.inf, lax.max, size, stride, padding)

    def batch_norm(self, layer: BatchNorm, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """Scale (x - mean) / sqrt(variance + epsilon) + bias."""
        cells = (0, *self.layout.spatial)
        mean, variance = x.mean(cells), x.var(cells)
        of_channels, m = self.layout.of_channels, x.size // mean.size
        factor = weights["scale"] * lax.rsqrt(variance + layer.epsilon)
        running = layer.moved(jnp, weights, mean, variance * (m / (m - 1)))
        moved = {name: following.value for name, following in running.items()}
        return (x - of_channels(mean)) * of_channels(factor) + of_channels(weights["bias"]), moved

    def sizes(self, x: Any) -> Pair:
        """Height and width."""
        rows, columns = (x.shape[axis] for axis in self.layout.spatial)
        return rows, columns


def dropouts(layer: Layer) -> int:
    """How many a net has."""
    return sum(map(dropouts, layer)) if isinstance(layer, Container) else isinstance(layer, Dropout)


TURNED: dict[int, tuple[int, ...]] = {4: (2, 3, 1, 0), 3: (1, 2, 0)}
"""The axes of a kernel (filters, channels, height, width), and of an untied bias, where channels lie last."""


def channels_last(net: Sequential, weights: Weights, input_shape: Shape) -> Weights:
    """The weights (host arrays) of the net for images as NHWC, which are flattened in that order too."""
    turned = tree.map(lambda w: w.transpose(TURNED.get(w.ndim, range(w.ndim))), weights)
    kinds = [type(layer) for layer in net]
    if Flatten in kinds:
        at = kinds.index(Flatten)
        name, _ = net.named[kinds.index(Dense, at)]
        _, image = Sequential(**dict(net.named[:at])).init(random.generator(0), input_shape)
        kernel = weights[name]["kernel"]
        turned[name]["kernel"] = kernel.reshape(*image, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)
    return turned


# The step.


def cross_entropy(y: Any, t: Any) -> Any:
    """Of logits, and labels that are whole numbers."""
    return -jnp.take_along_axis(jax.nn.log_softmax(y), t[:, None], axis=1).mean()


def binary_cross_entropy(y: Any, t: Any) -> Any:
    """Of probabilities, kept off 0 and 1, and one-hot rows."""
    limits = jnp.finfo(y.dtype)
    p = jnp.clip(y, limits.tiny, 1 - limits.epsneg)
    return -(t * jnp.log(p) + (1 - t) * jnp.log1p(-p)).mean()


LOSSES = {"cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy}


class Training:
    """A net that JAX trains on one batch, again and again.

    Parameters
    ----------
    weights
        a tree of host arrays, as the training begins
    x, t
        host arrays: images (N, C, H, W) in the weights' type, and labels or one-hot rows
    """

    case: StepCase
    layout: Layout
    double: bool
    x: Any
    t: Any
    state: dict[str, Any]
    compiled: Any

    def __init__(self, case: StepCase, weights: Weights, x: HostArray, t: HostArray, layout: Layout) -> None:
        self.case, self.layout, self.double = case, layout, x.dtype == np.float64
        if layout.channels_last:
            x, weights = np.ascontiguousarray(x.transpose(0, 2, 3, 1)), channels_last(case.net, weights, x.shape[1:])
        self.x, self.t = x, t.astype("int32") if t.dtype == np.int64 else t
        with jax.enable_x64(self.double):
            self.state = self.begun({path: jnp.array(w) for path, w in tree.items(weights)})
        self.compiled = jax.jit(self.following, donate_argnums=0)

    def begun(self, weights: dict[str, Any]) -> dict[str, Any]:
        """What a step replaces: parameters and running statistics by their paths, velocities, and the dropouts' key."""
        running = {path: w for path, w in weights.items() if "running_" in path}
        params = {path: w for path, w in weights.items() if path not in running}
        velocity = jax.tree.map(jnp.zeros_like, params) if self.case.optimizer.momentum else {}
        return {"params": params, "running": running, "velocity": velocity, "key": jax.random.key(0)}

    def step(self) -> float:
        """One training step; its loss, when it is done."""
        with jax.enable_x64(self.double):
            self.state, loss = self.compiled(self.state, self.x, self.t)
        return float(loss.item())

    def following(self, state: dict[str, Any], x: Any, t: Any) -> tuple[dict[str, Any], Any]:
        """The state after a step on a batch, and its loss."""
        count = dropouts(self.case.net)
        key, *keys = jax.random.split(state["key"], 1 + count) if count else [state["key"]]
        graded = jax.value_and_grad(self.loss, has_aux=True)
        (loss, running), grads = graded(state["params"], state["running"], keys, x, t)
        params, velocity = moved(self.case.optimizer, state["params"], state["velocity"], grads)
        return {"params": params, "running": running, "velocity": velocity, "key": key}, loss

    def loss(self, params: dict[str, Any], running: dict[str, Any], keys: list[Any], x: Any, t: Any) -> Any:
        """The loss, and the running statistics after this batch."""
        forward = Forward(self.layout, iter(keys))
        y, after = forward(self.case.net, tree.from_items(params | running), x)
        return LOSSES[self.case.loss](y, t), dict(tree.items(after))


def moved(
    sgd: SGD, params: dict[str, Any], velocity: dict[str, Any], grads: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and velocities after a step of SGD; without momentum there are no velocities."""
    if sgd.momentum:
        grads = velocity = jax.tree.map(lambda v, g: sgd.momentum * v + g, velocity, grads)
    return jax.tree.map(lambda w, g: w - sgd.learning_rate * g, params, grads), velocity


def best_step(case: StepCase, weights: Weights, x: HostArray, t: HostArray) -> tuple[str, Call]:
    """The layout that takes JAX least time, and the step."""
    return best({layout.images: Training(case, weights, x, t, layout).step for layout in LAYOUTS})


# Correlations.


def correlation_calls(case: CorrelationCase, layout: Layout, dtype: str = "float32") -> dict[str, Call]:
    """Each of the three maps by its name in MAPS: the adjoints are JAX's own, of arrays that JAX already has."""
    correlate = partial(
        lax.conv_general_dilated,
        window_strides=case.how["stride"],
        padding=case.how["padding"],
        dimension_numbers=(layout.images, layout.kernels, layout.images),
        feature_group_count=case.groups,
    )
    maps = (
        lambda x, k, dy: correlate(x, k),
        lambda x, k, dy: jax.vjp(lambda x: correlate(x, k), x)[1](dy)[0],
        lambda x, k, dy: jax.vjp(lambda k: correlate(x, k), k)[1](dy)[0],
    )
    orders = ("NCHW", layout.images), ("OIHW", layout.kernels), ("NCHW", layout.images)
    hosts = (
        array.transpose([before.index(axis) for axis in after])
        for array, (before, after) in zip(case.data(), orders, strict=True)
    )
    with jax.enable_x64(dtype == "float64"):
        arrays = [jnp.array(host, dtype) for host in hosts]
    return {name: finished(jax.jit(compute), arrays, dtype) for name, compute in zip(MAPS, maps, strict=True)}


def best_correlation(case: CorrelationCase, name: str, dtype: str = "float32") -> tuple[str, Call]:
    """The layout that takes JAX least time for one of the three maps, and the map."""
    return best({layout.images: correlation_calls(case, layout, dtype)[name] for layout in LAYOUTS})


# What both share.


def finished(compute: Any, arrays: list[Any], dtype: str) -> Call:
    """A call that computes from these arrays, and ends when that is done."""

    def call() -> Any:
        with jax.enable_x64(dtype == "float64"):
            return compute(*arrays).block_until_ready()

    return call


def matrix_product(a: HostArray, b: HostArray) -> Call:
    """A call of jnp.matmul."""
    dtype = str(a.dtype)
    with jax.enable_x64(dtype == "float64"):
        return finished(jax.jit(jnp.matmul), [jnp.array(a), jnp.array(b)], dtype)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let XLA use so many threads on the processor, unless JAX has begun to compute in this process before.

    XLA makes its threads once, as many as NPROC says when JAX is first asked for its devices, and keeps them: neither
    can they be changed afterwards, nor do they end with the block.
    """
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = str(threads)
    try:
        jax.devices()
    finally:
        if before is None:
            del os.environ["NPROC"]
        else:
            os.environ["NPROC"] = before
    yield


def version() -> str:
    """JAX's."""
    return str(jax.__version__)
