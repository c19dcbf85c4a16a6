"""`model.trace`: what layers get and give is what the net computes, and gradients are those of differences."""

from itertools import pairwise

import numpy as np
import pytest

import xcnn
from xcnn.core import tree

NETS = {
    "article": (xcnn.nets.article(2), (1, 6, 7), "binary_cross_entropy"),
    "chain": (
        xcnn.Sequential(
            xcnn.Conv2D(3, 3, stride=2, padding="same"), xcnn.Tanh(), xcnn.AveragePool2D(2), xcnn.Flatten(),
            head=xcnn.Dense(3),
        ),
        (2, 7, 6),
        "cross_entropy",
    ),
    "branches": (
        xcnn.Sequential(
            xcnn.Residual(xcnn.Conv2D(2, 3, padding="same"), xcnn.BatchNorm(), shortcut=xcnn.Conv2D(2, 1)),
            xcnn.Concatenate(xcnn.Conv2D(1, 1), deep=xcnn.Sequential(xcnn.Sigmoid(), xcnn.Conv2D(2, 1))),
            xcnn.GlobalAveragePool2D(), xcnn.Dense(2),
        ),
        (2, 4, 5),
        "mse",
    ),
    "single": (xcnn.Dense(2), (4,), "mse"),
}  # fmt: skip


def made(name, backend="numpy", **options):
    net, shape, loss = NETS[name]
    model = xcnn.Model(net, shape, loss=loss, backend=backend, seed=3, **{"dtype": "float64", **options})
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, *shape)).astype(model.dtype)
    y = rng.normal(size=(3, *model.output_shape)) if loss == "mse" else rng.integers(0, 2, 3)
    return model, x, y


def loss_of(model, x, y):
    return model.evaluate(x, y)["loss"]


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_those_of_differences(name):
    """Of the net's input, and of some cells of each weight, in evaluation as `evaluate` computes the loss."""
    model, x, y = made(name)
    traced, rng, step = model.trace(x, y), np.random.default_rng(1), 1e-5
    assert traced.loss == pytest.approx(loss_of(model, x, y), rel=1e-12)
    for _ in range(5):
        at = tuple(rng.integers(0, x.shape))
        moved = []
        for s in (step, -step):
            other = x.copy()
            other[at] += s
            moved.append(loss_of(model, other, y))
        assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(traced.dx[at], rel=1e-6, abs=1e-9)
    checked = 0
    for path, grad in tree.items(traced.grads):
        at = tuple(rng.integers(0, grad.shape))
        slopes = []
        for s in (step, -step):
            with model.edit(path) as weight:
                weight[at] += s
            slopes.append(loss_of(model, x, y))
            with model.edit(path) as weight:
                weight[at] -= s
        assert (slopes[0] - slopes[1]) / (2 * step) == pytest.approx(grad[at], rel=1e-6, abs=1e-9)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", NETS)
def test_layers_follow_each_other(name):
    """What a layer gets is what those before it gave, and so on the way back; its weights' gradients are the net's."""
    model, x, y = made(name)
    traced = model.trace(x, y)
    np.testing.assert_array_equal(traced.x, x)
    np.testing.assert_allclose(traced.y, model.predict(x), rtol=1e-12)
    for layer in traced.values():
        if not isinstance(layer.layer, xcnn.Sequential | xcnn.Residual | xcnn.Concatenate):
            weights = tree.map(np.asarray, layer.weights)
            run = xcnn.Run(xcnn.backend("numpy"))
            out, backward = layer.layer(weights, layer.x, run)
            dx, _ = backward(layer.dy)
            np.testing.assert_allclose(out, layer.y, rtol=1e-12)
            np.testing.assert_allclose(dx, layer.dx, rtol=1e-12)
        node = traced.grads
        for part in layer.name.split(".") if layer.name != "net" else ():
            node = node.get(part, {})
        assert [path for path, _ in tree.items(node)] == [path for path, _ in tree.items(layer.grads)]
        for mine, whole in zip(tree.leaves(layer.grads), tree.leaves(node), strict=True):
            np.testing.assert_array_equal(mine, whole)
    leaves = [layer for layer in traced.values() if layer.name.count(".") == 0]
    for before, after in pairwise(leaves):
        np.testing.assert_array_equal(before.y, after.x)
        np.testing.assert_array_equal(before.dy, after.dx)
    np.testing.assert_array_equal(leaves[0].dx, traced.dx)
    np.testing.assert_array_equal(leaves[-1].dy, traced.dy)


@pytest.mark.parametrize("name", ["chain", "branches"])
def test_backends_agree(name, backend):
    """Every array of the trace, from one seed."""
    model, x, y = made(name, dtype="float64")
    other, _, _ = made(name, backend=backend.spec)
    here, there = model.trace(x, y), other.trace(x, y)
    assert [*here] == [*there]
    assert here.loss == pytest.approx(there.loss, rel=1e-12)
    for layer in here.values():
        twin = there[layer.name]
        for mine, its in [(getattr(layer, key), getattr(twin, key)) for key in ("x", "y", "dx", "dy")] + [
            *zip(tree.leaves(layer.grads), tree.leaves(twin.grads), strict=True)
        ]:
            assert type(its) is np.ndarray
            np.testing.assert_allclose(its, mine, rtol=1e-9, atol=1e-12)


def test_nothing_is_changed_and_training_is_asked_for():
    model, x, y = made("branches", dtype="float32")
    before = tree.map(np.array, model.weights)
    asked, trained = model.trace(x, y), model.trace(x, y, train=True)
    for old, new in zip(tree.leaves(before), tree.leaves(model.weights), strict=True):
        np.testing.assert_array_equal(old, new)
    name = "residual1.batchnorm1"
    assert {*asked[name].grads} == {*trained[name].grads} == {"scale", "bias"}
    assert "running_mean" in asked[name].weights
    assert abs(trained[name].y.mean(axis=(0, 2, 3))).max() < 1e-6  # the batch's own statistics
    assert abs(asked[name].y.mean(axis=(0, 2, 3))).max() > 1e-3
    with pytest.raises(xcnn.errors.OptionError, match="train"):
        model.trace(x, y, train="no")


def test_mixed_precision_gives_the_weights_type_and_the_layer_itself():
    model, x, y = made("chain", dtype="float32")
    half, _, _ = made("chain", dtype="float32", precision="bfloat16") if _has_bfloat16() else (model, x, y)
    traced = half.trace(x, y)
    assert {layer.y.dtype.name for layer in traced.values()} == {"float32"}
    assert type(traced["conv1"].layer) is xcnn.Conv2D
    np.testing.assert_allclose(traced["conv1"].y, model.trace(x, y)["conv1"].y, atol=0.05)


def _has_bfloat16():
    return "bfloat16" in xcnn.backend("numpy").precisions


def test_it_shows_itself():
    model, x, y = made("branches")
    traced = model.trace(x, y)
    lines = str(traced).splitlines()
    assert lines[0].split() == ["layer", "class", "output", "|Y|", "|dY|", "|dX|", "|dW|"]
    assert len(lines) == 1 + 1 + len(traced) + 2
    norm = f"{np.linalg.norm(traced['residual1.conv1'].grads['kernel']):.4g}"
    assert any(line.startswith("residual1.conv1") and f"kernel {norm}" in line for line in lines)
    assert repr(traced["dense1"]) == "<Dense 'dense1': x 3x3, y 3x2, dx 3x3, dy 3x2, kernel 3x2, bias 2>"
    assert traced._repr_html_().count("<tr>") == 2 + len(traced)
