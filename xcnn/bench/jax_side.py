"""JAX's side: the same net with the same weights, its training step, and its correlations, each at their best.

A step is one function under jax.jit, whose gradients are JAX's own, and which may write into what it replaces. It is
timed with images as NCHW and as NHWC, on JAX's first device; what takes least time is what counts. Each call brings its
batch to JAX, host arrays that already lie in that order, as each of ours brings its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from xcnn.bench.cases import MAPS, Call, CorrelationCase, StepCase
from xcnn.bench.jax_net import LAYOUTS, Forward, Layout, dropouts, jax, jnp, lax
from xcnn.bench.timing import best
from xcnn.core import random, tree
from xcnn.core.types import Shape, Weights
from xcnn.layers import Dense, Flatten, Sequential
from xcnn.training.optimizers import SGD
from xcnn.training.state import HostArray

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


def cross_entropy(y: Any, t: Any, axis: int) -> Any:
    """Of logits, whose classes lie along an axis, and labels that are whole numbers."""
    return -jnp.take_along_axis(jax.nn.log_softmax(y, axis), jnp.expand_dims(t, axis), axis).mean()


def binary_cross_entropy(y: Any, t: Any, axis: int) -> Any:
    """Of probabilities, kept off 0 and 1, and one-hot rows."""
    limits = jnp.finfo(y.dtype)
    p = jnp.clip(y, limits.tiny, 1 - limits.epsneg)
    return -(t * jnp.log(p) + (1 - t) * jnp.log1p(-p)).mean()


def mse(y: Any, t: Any, axis: int) -> Any:
    """The mean of squared differences."""
    return jnp.square(y - t).mean()


LOSSES = {"cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy, "mse": mse}


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
            weights = channels_last(case.net, weights, x.shape[1:])
            x, t = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if a.ndim == 4 else a for a in (x, t))
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
        classes = self.layout.images.index("C") if y.ndim > 2 else 1
        return LOSSES[self.case.loss](y, t, classes), dict(tree.items(after))


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


def prediction(case: StepCase, weights: Weights, x: HostArray, layout: Layout) -> Call:
    """Predictions of one batch, on the host when they are done."""
    if layout.channels_last:
        weights = channels_last(case.net, weights, x.shape[1:])
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
    params = tree.map(jnp.array, weights)
    compiled = jax.jit(lambda params, x: Forward(layout, None)(case.net, params, x)[0])
    return lambda: np.asarray(compiled(params, x))


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
