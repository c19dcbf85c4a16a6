"""A gradient is held to its output on every backend: by each layer and run of layers, and where a loss makes it."""

import re

import numpy as np
import pytest
from cases import CASES
from engines import USABLE

import xcnn
from xcnn.core import tree
from xcnn.errors import BackendError, DTypeError, OptionError, ShapeError, XcnnError
from xcnn.layers import Concatenate, Dense, Flatten, Next, ReLU, Residual, Run, Sequential
from xcnn.training.precision import mixed, policy, widened

ROWS = {type(layer): (layer, shape) for layer, shape in CASES} | {"nothing": (Sequential(), (3,))}
"""One of each kind."""
COMPILED = (
    "Conv2D", "Conv2DTranspose", "MaxPool2D", "AveragePool2D", "BatchNorm", "Dropout", "Dense", "ReLU", "Flatten",
    "Concatenate", "Residual", "Graph", "Sequential", "nothing",
)  # fmt: skip
"""The kinds that a backend has which compiles each: its own primitives and containers. All ask in the same way."""
EACH = [
    (kind, name)
    for kind in ROWS
    for name in USABLE
    if not name.startswith("jax") or getattr(kind, "__name__", kind) in COMPILED
]
AROUND = {
    "alone": lambda layer: layer,
    "in a net": lambda layer: Sequential(ReLU(), layer),
    "before an activation": lambda layer: Sequential(layer, ReLU()),
    "in a residual": lambda layer: Residual(layer, shortcut=layer),
    "in a branch": lambda layer: Concatenate(layer, Sequential(layer, ReLU())),
}


def wrong(backend, dy):
    """Gradients that do not fit this one, with the error that says so."""
    other = xcnn.backend("strict" if backend.name != "strict" else "numpy").asarray
    host = np.array(backend.to_numpy(dy))  # where all of them are made: elsewhere each may have to be compiled
    yield backend.asarray(host[None]), ShapeError, "X101"
    yield backend.asarray(host[:1]), ShapeError, "X101"
    yield backend.asarray(host[0]), ShapeError, "X101"
    yield backend.asarray(np.zeros((), host.dtype)), ShapeError, "X101"
    yield backend.asarray(host, "float64"), DTypeError, "X103"
    yield backend.asarray(host, "int32"), DTypeError, "X103"
    yield backend.asarray(host > 0), DTypeError, "X103"
    yield other(host), BackendError, "X301"
    yield host.tolist(), DTypeError, "X103"
    yield 1.0, DTypeError, "X103"
    yield None, DTypeError, "X103"
    yield type(dy), DTypeError, "X103"
    if backend.name != "strict":  # whose arrays know no masks
        yield np.ma.masked_array(host, True), XcnnError, "X203|X301"
    if backend.name == "strict":
        yield xcnn.backend("strict:device2").asarray(host), BackendError, "X301"


def ones(backend, y):
    """Ones like y."""
    if "float16" in str(y.dtype):  # bfloat16 too, which not every host has
        return backend.xp.ones_like(y)
    return backend.asarray(np.ones(y.shape), str(y.dtype).rpartition(".")[2])


def called(layer, shape, backend, net=None, train=True):
    weights = tree.map(lambda w: backend.asarray(w, "float32"), layer.init(np.random.default_rng(0), shape)[0])
    x = backend.asarray(np.random.default_rng(1).standard_normal((2, *shape)).astype("float32"))
    return (net or layer)(weights, x, Run(backend, train))


def check(backend, y, backward):
    dy = ones(backend, y)
    for given, error, code in wrong(backend, dy):
        with pytest.raises(error, match=code):
            backward(given)
    backward(dy)


@pytest.mark.parametrize(
    ("kind", "backend"), EACH, indirect=["backend"], ids=lambda value: getattr(value, "__name__", value)
)
def test_each_layer_takes_only_what_is_like_its_output(kind, backend):
    layer, shape = ROWS[kind]
    with backend.active():
        check(backend, *called(layer, shape, backend))


@pytest.mark.parametrize(
    ("kind", "backend", "around"),
    [
        (kind, name, around)
        for kind, name in EACH
        for around in AROUND
        if around == "in a net" or not (around == "alone" or name.startswith("jax"))
    ],
    indirect=["backend"],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_so_does_each_run_of_layers_and_container(kind, around, backend):
    """On JAX nothing is fused, and its containers are those of all others."""
    net, shape = AROUND[around](ROWS[kind][0]), ROWS[kind][1]
    if backend.name == "jax":  # which compiles an activation for each shape
        net = Sequential(Sequential(), ROWS[kind][0])
    with backend.active():
        check(backend, *called(net, shape, backend, backend.rewrite(net)))


def test_so_does_a_net_that_computes_in_half(backend):
    kind = policy("bfloat16", "float32")
    if kind.name not in backend.precisions_here:
        pytest.skip("it does not compute in bfloat16")
    net = Sequential(Dense(3), ReLU(), Dense(2))
    with backend.active():
        cast = mixed(net, kind)
        for made in (cast, widened(cast, kind), widened(backend.rewrite(cast), kind)):
            check(backend, *called(net, (4,), backend, made))
        y, backward = called(net, (4,), backend, mixed(net, kind, last=False))
        with pytest.raises(DTypeError, match=r"X103.*Dense 'dense2' got a gradient of .*float32, .*bfloat16"):
            backward(backend.astype(y, "float32"))


@pytest.mark.parametrize(
    "net",
    [
        Concatenate(Dense(3), Sequential(), Sequential(Dense(2), ReLU())),
        Residual(Dense(4)),
        Sequential(Residual(Dense(4)), ReLU()),
        Residual(Dense(4), shortcut=Sequential()),
        Sequential(Residual(Dense(4), shortcut=Sequential()), ReLU()),
        Sequential(Concatenate(Sequential(), Dense(2)), Dense(3)),
    ],
    ids=repr,
)
def test_parts_of_several_types_get_gradients_of_their_own(net, backend):
    """A net's first x is wider than what its layers give in half precision, and so is what both are joined to."""
    kind = policy("bfloat16", "float32")
    if kind.name not in backend.precisions_here:
        pytest.skip("it does not compute in bfloat16")
    with backend.active():
        cast = mixed(net, kind)
        results = []
        for made in (net, cast, backend.rewrite(cast)):
            y, backward = called(net, (4,), backend, made)
            dx, grads = backward(ones(backend, y))
            results.append(
                [np.asarray(backend.to_numpy(backend.astype(a, "float32"))) for a in (dx, *tree.leaves(grads))]
            )
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05)


def test_it_is_told_by_name_with_axes_named(backend):
    net = Sequential(xcnn.Conv2D(2, 3), Flatten(), last=Dense(2))
    with backend.active():
        _, backward = called(net, (1, 4, 4), backend, backend.rewrite(net))
        with pytest.raises(ShapeError) as told:
            backward(backend.asarray(np.zeros((2, 3), "float32")))
        assert re.search(
            r"Dense 'last' got a gradient that is not shaped like its output.\n"
            r".*got \(2, 3\) = \(batch, features\), the output was \(2, 2\) = \(batch, features\)",
            str(told.value),
        )
        _, backward = called(xcnn.ReLU(), (1, 4, 4), backend)
        with pytest.raises(ShapeError, match=r"\(2, 1, 4, 4\) = \(batch, channels, height, width\)"):
            backward(backend.asarray(np.zeros((2, 3), "float32")))


class Mine:
    """A layer that looks at nothing: Y = X."""

    def __init__(self, change=lambda dx: dx, grads=lambda w: {"scale": w["scale"]}):
        self.change, self.grads = change, grads

    def init(self, rng, input_shape):
        return {"scale": np.ones(input_shape, "float32")}, input_shape

    def __call__(self, weights, x, run):
        return x, lambda dy: (self.change(dy), self.grads(weights))


CHANGES = {
    "shape": (lambda dx: dx[:1, ...], ShapeError, "Dense 'dense1' got a gradient that is not shaped"),
    "type": (lambda dx: dx > 0, DTypeError, "Dense 'dense1' got a gradient of"),
    "none": (lambda dx: None, DTypeError, "dy must be an array; it is None"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_a_layer_of_ones_own_gives_is_looked_at(case, backend):
    change, error, words = CHANGES[case]
    net = Sequential(Dense(3), Mine(change))
    with backend.active():
        _, backward = called(net, (4,), backend, backend.rewrite(net))
        with pytest.raises(error, match=words):
            backward(backend.asarray(np.zeros((2, 3), "float32")))
        net = Sequential(Mine(change), Mine())
        _, backward = called(Sequential(Mine(), Mine(change)), (4,), backend)
        with pytest.raises(error, match=words.replace("Dense 'dense1'", "Mine 'mine1'")):
            backward(backend.asarray(np.zeros((2, 4), "float32")))


GRADS = {
    "a row of it": (
        lambda w: {"scale": w["scale"][:1]},
        ShapeError,
        "'mine1' got a gradient for 'scale' that is not",
    ),
    "a number": (lambda w: {"scale": 1.0}, DTypeError, "must be an array"),
    "another type": (
        lambda w: {"scale": w["scale"] > 0},
        DTypeError,
        "'mine1' got a gradient for 'scale' of .*bool",
    ),
    "nothing": (lambda w: {}, OptionError, "no gradient for 'scale'"),
    "another name": (lambda w: {"bias": w["scale"]}, OptionError, "no gradient for 'scale'"),
    "one more": (lambda w: {**w, "bias": w["scale"]}, OptionError, "gradients for no weights"),
    "a branch": (lambda w: {"scale": dict(w)}, DTypeError, "must be an array"),
    "what follows, shaped otherwise": (lambda w: {"scale": Next(w["scale"][:1])}, ShapeError, "for 'scale'"),
}


@pytest.mark.parametrize("case", GRADS)
def test_a_steps_gradients_are_held_to_the_weights(case, backend):
    """A row of a gradient would broadcast over the weight, in silence."""
    grads, error, words = GRADS[case]
    model = xcnn.Model(Sequential(Mine(grads=grads), Dense(2)), (4,), backend=backend)
    state = model.state
    with pytest.raises(error, match=words):
        model.step(np.ones((3, 4), "float32"), [0, 1, 1])
    assert model.state is state


def of_mse(change):
    def loss(y, t):
        value, dy = xcnn.losses.mse(y, t)
        return value, change(dy)

    return loss


LOSSES = {
    "wider": of_mse(lambda dy: xcnn.core.arrays.namespace(dy).astype(dy, xcnn.core.arrays.namespace(dy).float64)),
    "whole": of_mse(lambda dy: xcnn.core.arrays.namespace(dy).astype(dy, xcnn.core.arrays.namespace(dy).int32)),
    "a row": of_mse(lambda dy: dy[:1, ...]),
    "turned": of_mse(lambda dy: dy.T),
    "a list": of_mse(lambda dy: [[0.0, 0.0]] * 3),
    "nothing": of_mse(lambda dy: None),
    "another library's": of_mse(lambda dy: xcnn.backend("strict:device2").asarray(np.zeros((3, 2), "float32"))),
    "a complex value": lambda y, t: (1j, y),
    "a flag": lambda y, t: (True, y),
}


@pytest.mark.parametrize("case", LOSSES)
def test_what_a_loss_of_ones_own_gives_is_looked_at(case, backend):
    model = xcnn.Model(Dense(2), (4,), loss=LOSSES[case], backend=backend)
    state = model.state
    x, t = np.ones((3, 4), "float32"), np.zeros((3, 2), "float32")
    for call in (model.step, model.fit, model.evaluate):
        with pytest.raises(OptionError, match=r"X104.*the loss must give a pair.*\n.*got"):
            call(x, t)
    assert model.state is state
