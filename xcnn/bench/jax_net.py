"""JAX's side: a net in training as functions of JAX, with images as NCHW or as NHWC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any

from xcnn.core.types import Pair, Weights
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
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer

try:
    jax: Any = import_module("jax")
except ImportError as _error:
    raise MissingDependency("X601", "the bench against JAX needs jax.", hint='pip install "xcnn[jax]"') from _error
jnp: Any = jax.numpy
lax: Any = jax.lax
ACTIVATIONS: dict[type[Layer], Callable[[Any], Any]] = {
    ReLU: jax.nn.relu,
    Sigmoid: jax.nn.sigmoid,
    SiLU: jax.nn.silu,
    Softplus: jax.nn.softplus,
    Tanh: jnp.tanh,
}


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

    def windows(self, size: Pair, how: dict[str, Any]) -> tuple[list[int], list[int], list[Pair]]:
        """Sizes, strides and paddings of windows, for each axis of images."""
        sizes, strides, around = [1] * 4, [1] * 4, [(0, 0)] * 4
        for n, axis in enumerate(self.spatial):
            sizes[axis], strides[axis], around[axis] = size[n], how["stride"][n], how["padding"][n]
        return sizes, strides, around


LAYOUTS = (Layout("NCHW", "OIHW", (2, 3)), Layout("NHWC", "HWIO", (1, 2)))


def dropouts(layer: Layer) -> int:
    """How many a net has."""
    return sum(map(dropouts, layer)) if isinstance(layer, Container) else isinstance(layer, Dropout)


@dataclass(frozen=True)
class Forward:
    """A forward pass: where channels lie, and in training a key for each dropout that is still to come; else None."""

    layout: Layout
    keys: Iterator[Any] | None

    def __call__(self, layer: Layer, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """Y, and the running statistics after it."""
        match layer:
            case Sequential():
                return self.chain(layer, weights, x)
            case Residual():
                return self.residual(layer, weights, x)
            case Concatenate():
                return self.joined(layer, weights, x)
            case BatchNorm():
                return self.batch_norm(layer, weights, x)
        y = self.activation(layer, x)
        if y is None:
            y = self.pooled(layer, x)
        return (self.stateless(layer, weights, x) if y is None else y), {}

    def stateless(self, layer: Layer, weights: Weights, x: Any) -> Any:
        """Y of another layer that has no running statistics."""
        match layer:
            case Conv2D():
                return self.convolution(layer, weights, x)
            case DepthwiseConv2D():
                channels = x.shape[self.layout.images.index("C")]
                return self.convolution(layer.conv2d(channels), weights, x)
            case Conv2DTranspose(groups=1):
                return self.transposed(layer, weights, x)
            case Dense():
                y = x @ weights["kernel"]
                return y + weights["bias"] if layer.bias else y
            case GroupNorm() | LayerNorm(axis=None | 1):
                return self.norm(layer, weights, x)
            case Dropout():
                return self.dropped(layer, x)
            case Flatten():
                return x.reshape(len(x), -1)
            case UpSampling2D():
                return self.enlarged(layer, x)
        raise OptionError("X104", f"the bench has no function of JAX for a {type(layer).__name__}.")

    # Containers.

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

    def joined(self, layer: Concatenate, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """[f1(x), f2(x), ...]"""
        each = {name: self(part, weights.get(name, {}), x) for name, part in layer.named}
        y = jnp.concatenate([y for y, _ in each.values()], axis=self.layout.images.index("C"))
        return y, {name: running for name, (_, running) in each.items() if running}

    # Convolutions.

    def convolution(self, layer: Conv2D, weights: Weights, x: Any) -> Any:
        """K ⋆ x + B"""
        how = layer.window(self.sizes(x))
        y = lax.conv_general_dilated(
            x, weights["kernel"], how["stride"], how["padding"],
            rhs_dilation=how["dilation"],
            dimension_numbers=(self.layout.images, self.layout.kernels, self.layout.images),
            feature_group_count=layer.groups,
        )  # fmt: skip
        return self.biased(layer, weights, y)

    def transposed(self, layer: Conv2DTranspose, weights: Weights, x: Any) -> Any:
        """K * x, spread by the stride, + B"""
        how, sizes = layer.window(self.sizes(x)), layer.output_size(self.sizes(x))
        kernel = jnp.flip(weights["kernel"], [self.layout.kernels.index(axis) for axis in "HW"])
        around = []
        for n, (size, k) in enumerate(zip(self.sizes(x), pair("kernel_size", layer.kernel_size), strict=True)):
            reach, before = extent(k, how["dilation"][n]) - 1, how["padding"][n][0]
            spread = (size - 1) * how["stride"][n] + 1
            around.append((reach - before, sizes[n] + before - spread))
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), around,
            lhs_dilation=how["stride"],
            rhs_dilation=how["dilation"],
            dimension_numbers=(
                self.layout.images, self.layout.kernels.translate({ord("I"): "O", ord("O"): "I"}), self.layout.images,
            ),
        )  # fmt: skip
        return self.biased(layer, weights, y)

    def biased(self, layer: Conv2D | Conv2DTranspose, weights: Weights, y: Any) -> Any:
        """Y + B"""
        if not layer.bias:
            return y
        return y + (weights["bias"] if layer.bias == "untied" else self.layout.of_channels(weights["bias"]))

    # What works cell by cell, and poolings: None for other layers.

    def activation(self, layer: Layer, x: Any) -> Any:
        """Y of an activation."""
        match layer:
            case LeakyReLU():
                return jax.nn.leaky_relu(x, layer.negative_slope)
            case ELU():
                return jax.nn.elu(x, layer.alpha)
            case GELU():
                return jax.nn.gelu(x, approximate=layer.approximate)
        function = ACTIVATIONS.get(type(layer))
        return None if function is None else function(x)

    def pooled(self, layer: Layer, x: Any) -> Any:
        """Y of a pooling."""
        match layer:
            case GlobalAveragePool2D():
                return x.mean(self.layout.spatial)
            case GlobalMaxPool2D():
                return x.max(self.layout.spatial)
            case MaxPool2D():
                how = layer.window(self.sizes(x))
                return lax.reduce_window(x, -jnp.inf, lax.max, *self.layout.windows(pair("", layer.pool_size), how))
            case AveragePool2D(ceil_mode=False):
                size, how = pair("", layer.pool_size), layer.window(self.sizes(x))
                where = self.layout.windows(size, how)
                sums = lax.reduce_window(x, 0.0, lax.add, *where)
                if layer.count_include_pad or not any(map(any, how["padding"])):
                    return sums / prod(size)
                return sums / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, *where)
        return None

    def dropped(self, layer: Dropout, x: Any) -> Any:
        """M x / (1 - rate), whole channels where they drop as one; x in a prediction."""
        if self.keys is None:
            return x
        together = self.layout.spatial if isinstance(layer, SpatialDropout2D) else ()
        shape = [1 if axis in together else size for axis, size in enumerate(x.shape)]
        kept = jax.random.bernoulli(next(self.keys), 1 - layer.rate, shape)
        return jnp.where(kept, x / (1 - layer.rate), 0)

    def enlarged(self, layer: UpSampling2D, x: Any) -> Any:
        """Each cell as several."""
        times = pair("size", layer.size)
        if layer.interpolation == "nearest":
            for axis, n in zip(self.layout.spatial, times, strict=True):
                x = jnp.repeat(x, n, axis)
            return x
        shape = [*x.shape]
        for axis, n in zip(self.layout.spatial, times, strict=True):
            shape[axis] *= n
        return jax.image.resize(x, shape, "bilinear")

    # Normalisations.

    def batch_norm(self, layer: BatchNorm, weights: Weights, x: Any) -> tuple[Any, Weights]:
        """Scale (x - mean) / sqrt(variance + epsilon) + bias, in a prediction of the running statistics."""
        moved: Weights = {}
        if self.keys is None:
            mean, variance = weights["running_mean"], weights["running_variance"]
        else:
            cells = (0, *self.layout.spatial)
            mean, variance = x.mean(cells), x.var(cells)
            m = x.size // mean.size
            running = layer.moved(jnp, weights, mean, variance * (m / (m - 1)))
            moved = {name: following.value for name, following in running.items()}
        of_channels = self.layout.of_channels
        factor = weights["scale"] * lax.rsqrt(variance + layer.epsilon)
        return (x - of_channels(mean)) * of_channels(factor) + of_channels(weights["bias"]), moved

    def norm(self, layer: GroupNorm | LayerNorm, weights: Weights, x: Any) -> Any:
        """The same over some channels, or all cells, or all channels of each image."""
        shape, channels = x.shape, self.layout.images.index("C")
        scale, bias = weights["scale"], weights["bias"]
        cells: tuple[int, ...] = (*range(1, x.ndim),)
        if isinstance(layer, GroupNorm):
            x = x.reshape(*shape[:channels], layer.groups, -1, *shape[channels + 1 :])
            cells = tuple(axis for axis in range(1, x.ndim) if axis != channels)
        elif layer.axis is not None:
            cells = (channels,) if len(shape) > 2 else (1,)
        if len(shape) > scale.ndim + 1:
            scale, bias = self.layout.of_channels(scale), self.layout.of_channels(bias)
        mean, variance = x.mean(cells, keepdims=True), x.var(cells, keepdims=True)
        return ((x - mean) * lax.rsqrt(variance + layer.epsilon)).reshape(shape) * scale + bias

    def sizes(self, x: Any) -> Pair:
        """Height and width."""
        rows, columns = (x.shape[axis] for axis in self.layout.spatial)
        return rows, columns
