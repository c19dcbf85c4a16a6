"""Add and Multiply: what they give, what shapes go together, and squeeze-and-excitation written by hand."""

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import OptionError, ShapeError
from xcnn.layers import (
    Add,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool2D,
    Multiply,
    ReLU,
    Run,
    Sequential,
    Sigmoid,
)


def called(net, x, backend):
    """Y, dx and the gradients on the host, for dy = 1, 2, 3, ... of every cell."""
    drawn, output = net.init(np.random.default_rng(0), x.shape[1:])
    weights = tree.map(backend.asarray, drawn)
    y, backward = net(weights, backend.asarray(x), Run(backend))
    shape = (len(x), *output)
    assert tuple(y.shape) == shape
    dy = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    dx, grads = backward(backend.asarray(dy))
    return backend.to_numpy(y), backend.to_numpy(dx), dy, drawn, tree.map(backend.to_numpy, grads)


def test_squeeze_and_excitation_by_hand(backend, rng):
    gate = Sequential(GlobalAveragePool2D(), Dense(2), ReLU(), Dense(4), Sigmoid())
    x = rng.standard_normal((3, 4, 5, 6))
    y, _, _, drawn, _ = called(Multiply(Sequential(), gate), x, backend)
    one, two = (drawn["sequential2"][name] for name in ("dense1", "dense2"))
    squeezed = np.maximum(x.mean(axis=(2, 3)) @ one["kernel"] + one["bias"], 0) @ two["kernel"] + two["bias"]
    np.testing.assert_allclose(y, x / (1 + np.exp(-squeezed))[:, :, None, None], rtol=1e-12)


@pytest.mark.parametrize("kind", [Add, Multiply])
def test_three_branches_of_three_shapes(kind, backend, rng):
    """Beside (C, H, W) there are (C,) and (C, 1, 1); each gets its gradient summed over what it was broadcast to."""
    x = rng.standard_normal((2, 3, 4, 5))
    net = kind(Sequential(), GlobalAveragePool2D(), small=Sequential(GlobalAveragePool2D(), xcnn.Reshape((3, 1, 1))))
    y, dx, dy, _, _ = called(net, x, backend)
    mean = x.mean(axis=(2, 3), keepdims=True)
    expected, slopes = (x + 2 * mean, (1, 2)) if kind is Add else (x * mean**2, (mean**2, 2 * x * mean))
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    np.testing.assert_allclose(
        dx, dy * slopes[0] + (dy * slopes[1]).sum(axis=(2, 3), keepdims=True) / 20, rtol=1e-12, atol=1e-12
    )


def test_a_sum_of_one_branch_is_that_branch(backend, rng):
    x = rng.standard_normal((2, 4))
    for kind in (Add, Multiply):
        y, dx, dy, drawn, grads = called(kind(Dense(3)), x, backend)
        np.testing.assert_allclose(y, x @ drawn["dense1"]["kernel"], rtol=1e-12)
        np.testing.assert_allclose(dx, dy @ drawn["dense1"]["kernel"].T, rtol=1e-12)
        np.testing.assert_allclose(grads["dense1"]["kernel"], x.T @ dy, rtol=1e-12)


@pytest.mark.parametrize(("kind", "verb"), [(Add, "adds"), (Multiply, "multiplies")])
def test_shapes_that_do_not_go_together(kind, verb):
    net = kind(Conv2D(4, 3), wide=Conv2D(4, 3, padding="same"))
    with pytest.raises(ShapeError, match=rf"X101.*{kind.__name__} {verb} cell by cell(.|\n)*conv1 \(4, 4, 4\), wide"):
        net.init(np.random.default_rng(0), (3, 6, 6))
    with pytest.raises(ShapeError, match="X101"):  # (W,) is no row: axes are those of channels first
        kind(Sequential(), Sequential(Flatten(), Dense(6))).init(np.random.default_rng(0), (3, 6, 6))


@pytest.mark.parametrize("kind", [Add, Concatenate, Multiply])
def test_several_values_are_for_those_without_branches(kind, backend):
    with pytest.raises(
        OptionError, match=rf"{kind.__name__} needs at least one branch(.|\n)*both=\({kind.__name__}\(\)"
    ):
        kind().init(np.random.default_rng(0), (3,))
    with pytest.raises(OptionError, match="branches, which all see one value"):
        kind(Dense(3)).init(np.random.default_rng(0), ((3,), (3,)))
    x = backend.asarray(np.ones((2, 3)))
    with pytest.raises(OptionError, match="X104"):
        kind(Dense(3))({}, (x, x), Run(backend))
    with pytest.raises(OptionError, match="X104"):
        kind()({}, x, Run(backend))
