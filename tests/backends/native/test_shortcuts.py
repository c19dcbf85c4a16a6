"""Residuals that end in a norm: the sum is part of the norm's pass, forward and back, and of a convolution's ending."""

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import ShapeError
from xcnn.layers import (
    GELU,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GroupNorm,
    LeakyReLU,
    ReLU,
    Residual,
    Sequential,
    SiLU,
)  # fmt: skip

native = pytest.importorskip("xcnn_native.library")
if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)
from xcnn_numpy.native.shortcut import Addition  # noqa: E402


def basic(filters, stride=1):
    """A block of ResNet-18."""
    shortcut = Sequential(Conv2D(filters, 1, stride=stride, bias=False), BatchNorm()) if stride > 1 else None
    inside = (
        Conv2D(filters, 3, stride=stride, padding=1, bias=False), BatchNorm(), ReLU(),
        Conv2D(filters, 3, padding=1, bias=False), BatchNorm(),
    )  # fmt: skip
    return Residual(*inside, **({"shortcut": shortcut} if shortcut else {}))


IMAGE, SIGNAL = (3, 11, 10), (3, 17)
BLOCKS = {
    "basic": (IMAGE, [Conv2D(9, 3, padding=1), basic(9), ReLU(), basic(12, 2), ReLU()]),
    "a norm alone": (IMAGE, [Residual(BatchNorm()), ReLU()]),
    "of the samples": (IMAGE, [Residual(ReLU(), Conv2D(3, 3, padding=1), BatchNorm()), LeakyReLU(0.1)]),
    "each image's own": (IMAGE, [Conv2D(6, 3), Residual(Conv2D(6, 3, padding=1), GroupNorm(3)), SiLU()]),
    "no activation": (IMAGE, [Conv2D(9, 1), Residual(Conv2D(9, 3, padding=1), BatchNorm()), Conv2D(2, 1)]),
    "a long activation": (IMAGE, [Conv2D(9, 1), Residual(Dropout(0.3), Conv2D(9, 1), BatchNorm()), GELU()]),
    "few channels": (
        IMAGE,
        [Conv2D(3, 3), Residual(Conv2D(3, 3, padding=1), BatchNorm(), shortcut=Conv2D(3, 1)), ReLU()],
    ),
    "signals": (SIGNAL, [Conv1D(9, 3), Residual(Conv1D(9, 3, padding=1), BatchNorm()), ReLU()]),
    "within each other": (IMAGE, [Conv2D(9, 1), Residual(basic(9), ReLU(), Conv2D(9, 1), BatchNorm()), ReLU()]),
}


def models(name, dtype="float64", **options):
    """The same weights by the library, and layer by layer by matrix products."""
    shape, layers = BLOCKS[name]
    net = Sequential(*layers, Flatten(), Dense(3))
    how = {"seed": 3, "dtype": dtype, **options}
    return [
        xcnn.Model(net, shape, backend=xcnn.backend("numpy", **options), **how)
        for options in ({"threads": 2}, {"algorithm": "gemm", "fuse": False})
    ]


@pytest.mark.parametrize("name", BLOCKS)
def test_training_and_predictions_are_the_layers(name):
    """Losses, weights and statistics over some steps, and predictions of samples that were not seen, frozen and not."""
    fast, plain = models(name, optimizer=xcnn.SGD(0.01, momentum=0.9))
    shape = BLOCKS[name][0]
    rng = np.random.default_rng(0)
    x, t, new = rng.standard_normal((6, *shape)), np.arange(6) % 3, rng.standard_normal((5, *shape))
    fused = [fusion for _, _, fusion in fast.trainer.net.plan if isinstance(fusion, Addition)]
    assert fused
    assert all(fusion.tail for fusion in fused)
    for _ in range(4):
        np.testing.assert_allclose(fast.step(x, t), plain.step(x, t), rtol=1e-11)
    expected = dict(tree.items(plain.weights))
    for path, weight in tree.items(fast.weights):
        np.testing.assert_allclose(weight, expected[path], rtol=1e-8, atol=1e-10, err_msg=path)
    frozen = fast.frozen()
    for _ in range(4):
        np.testing.assert_allclose(frozen.predict(new), plain.predict(new), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(fast.predict(new), plain.predict(new), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["basic", "few channels", "signals"])
def test_gradients_of_the_samples_are_the_layers(name):
    """What a step does not ask for: dX, of a prediction's gradients and of a training pass."""
    fast, plain = models(name)
    x = np.random.default_rng(1).standard_normal((4, *BLOCKS[name][0]))
    for train in (False, True):
        found = []
        for model in (fast, plain):
            net, backend = model.trainer.net, model.trainer.backend
            y, backward = net(model.state.weights, x, xcnn.layers.Run(backend, train=train, key=(3, 0)))
            found.append((y, backward(np.cos(y))[0]))
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_shapes_that_do_not_fit_are_told_with_their_names():
    """As the layer tells them."""
    residual = Residual(Conv2D(9, 3), BatchNorm())
    told = []
    for options in ({}, {"algorithm": "gemm", "fuse": False}):
        backend = xcnn.backend("numpy", **options)
        net = backend.rewrite(Sequential(first=residual))
        drawn = residual.body.init(np.random.default_rng(0), (3, 8, 8))[0]
        weights = {"first": tree.map(lambda w: w.astype("float32"), drawn)}
        with pytest.raises(ShapeError, match="adds") as caught:
            net(weights, np.zeros((2, 3, 8, 8), "float32"), xcnn.layers.Run(backend))
        told.append(str(caught.value))
    assert told[0] == told[1]
