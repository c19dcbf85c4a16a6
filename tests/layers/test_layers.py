"""What every layer must do, for each row of the table, and what errors it raises."""

import numpy as np
import pytest
from cases import CASES, EVALUATED
from engines import USABLE
from whole import whole

import xcnn
from xcnn.checking.gradients import check_layer
from xcnn.core import random, tree
from xcnn.layers import Concatenate, Next, Residual, Run, Sequential

ROWS = {repr(layer): (layer, input_shape) for layer, input_shape in CASES}
COMPILED = {type(ROWS[name][0]): ROWS[name] for name in sorted(ROWS, key=len)}
"""Of each kind the row with most options, for a backend that compiles each: test_layers_oracle.py has others on it."""


@pytest.mark.parametrize(
    ("backend", "layer", "input_shape"),
    [(name, *row) for name in USABLE for row in (COMPILED.values() if name.startswith("jax") else CASES)],
    indirect=["backend"],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_layer(layer, input_shape, backend):
    report = check_layer(whole(layer, backend), input_shape, backend=backend, batch=3)
    assert set(report.errors) == {"gradient", "agreement", "float32"}


@pytest.mark.parametrize(("layer", "input_shape"), EVALUATED, ids=repr)
def test_layer_in_evaluation(layer, input_shape, backend):
    report = check_layer(whole(layer, backend), input_shape, backend=backend, batch=3, train=False)
    assert set(report.errors) == {"gradient", "agreement", "float32"}


def test_every_layer_is_in_the_table():
    named = {name for name in xcnn.layers.__all__ if name not in ("Layer", "Next", "Run")}
    assert {type(layer).__name__ for layer, _ in CASES} == named


FIRST = [
    *(case for case in CASES if type(case[0]).__name__ in ("Conv1D", "Concatenate", "Residual", "DepthwiseConv2D")),
    *(case for case in CASES if type(case[0]).__name__ not in ("Conv1D", "Concatenate", "Residual", "DepthwiseConv2D")),
]
"""The table, those first that pass on whether anybody wants dX."""
AROUND = {
    "alone": lambda layer: layer,
    "within Sequential": Sequential,
    "within Residual": lambda layer: Residual(inner=layer, shortcut=layer),
    "within Concatenate": lambda layer: Concatenate(layer, Sequential(layer)),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("fuse", [True, False])
def test_every_layer_may_be_a_nets_first(backend, fuse, around, enough):
    """Nobody wants its dX then, and the gradients are what they are where somebody does."""
    if fuse and (backend.name == "jax" or type(backend.rewrite(Sequential())) is Sequential):
        return  # the backend has no fused runs
    for layer, input_shape in FIRST:
        if enough():
            break
        net = Sequential(AROUND[around](layer))
        drawn, output = net.init(random.generator(0), input_shape)
        rng = np.random.default_rng(0)
        weights = tree.map(lambda w: backend.asarray(w, "float32"), drawn)
        x, dy = (backend.asarray(rng.standard_normal((2, *shape)), "float32") for shape in (input_shape, output))
        running, found = backend.rewrite(net) if fuse else net, []
        for wants_dx in (True, False):
            _, backward = running(weights, x, Run(backend, train=True, key=(7,), wants_dx=wants_dx))
            dx, grads = backward(dy)
            assert dx is not None or not wants_dx
            found.append(dict(tree.items(grads)))
        assert found[1].keys() == dict(tree.items(drawn)).keys(), layer
        for name, g in found[1].items():
            values = [backend.to_numpy(one.value if isinstance(one, Next) else one) for one in (g, found[0][name])]
            np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6, err_msg=f"{layer} {name}")


def test_layers_before_the_first_weights_have_no_way_back(backend, rng):
    """In training nobody wants the gradient of what has no weights behind it; who wants dX gets it."""

    class Unasked(xcnn.Flatten):
        def __call__(self, weights, x, run):
            y, backward = super().__call__(weights, x, run)
            return y, backward if run.wants_dx else lambda dy: pytest.fail("nobody wants this gradient")

    plain, net = (
        xcnn.Sequential(first(), xcnn.Dense(3), xcnn.ReLU(), xcnn.Dense(2)) for first in (xcnn.Flatten, Unasked)
    )
    weights, _ = net.init(np.random.default_rng(0), (2, 3))
    weights = tree.map(lambda w: backend.asarray(w, "float32"), weights)
    x, dy = (backend.asarray(rng.standard_normal(shape).astype("float32")) for shape in ((4, 2, 3), (4, 2)))
    results = {}
    for wants_dx in (True, False):
        for name, each in (("layers", plain), ("fused", backend.rewrite(plain)), ("ours", net)):
            _, backward = each(weights, x, Run(backend, train=True, wants_dx=wants_dx))
            results[name, wants_dx] = backward(dy)
    exact = results["layers", True][1]
    for (name, wants_dx), (dx, grads) in results.items():
        assert (dx is None) is not wants_dx, name
        for got, expected in zip(tree.leaves(grads), tree.leaves(exact), strict=True):
            np.testing.assert_allclose(backend.to_numpy(got), backend.to_numpy(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [xcnn.Conv1D(2, 3), Concatenate(xcnn.Conv1D(2, 3), xcnn.Conv1D(1, 3))], ids=repr)
def test_a_net_may_begin_with_a_convolution_of_signals(backend, layer):
    net = Sequential(layer, xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 8), backend=backend)
    before = backend.to_numpy(next(iter(tree.leaves(model.weights)))).copy()
    assert model.step(np.random.default_rng(0).random((3, 1, 8)), np.array([0, 1, 0])) > 0
    assert not np.array_equal(backend.to_numpy(next(iter(tree.leaves(model.weights)))), before)


@pytest.mark.parametrize("shortcut", [None, xcnn.Conv2D(1, 1)])
@pytest.mark.parametrize("fuse", [True, False])
def test_a_net_may_begin_with_a_residual(fuse, shortcut):
    """Nobody wants the first dX, and a convolution gives none then."""
    block = xcnn.Residual(xcnn.Conv2D(1, 3, padding="same"), shortcut=shortcut)
    net = xcnn.Sequential(block, xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 4, 4), backend=xcnn.backend("numpy", fuse=fuse))
    before = model.weights["residual1"]["conv1"]["kernel"].copy()
    assert model.step(np.ones((3, 1, 4, 4), "float32"), np.array([0, 1, 0])) > 0
    assert not np.array_equal(model.weights["residual1"]["conv1"]["kernel"], before)
