"""Runs of layers that NumPy's backend fuses, held to the layers that they replace: values, gradients, names, errors."""

import pickle
import re
from functools import cache

import numpy as np
import pytest
from xcnn_native.library import library
from xcnn_numpy.native import maps

import xcnn
from xcnn.core import tree
from xcnn.errors import XcnnError
from xcnn.layers import (
    GELU,
    BatchNorm,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    LeakyReLU,
    MaxPool2D,
    Next,
    ReLU,
    Residual,
    Run,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from xcnn.layers.layer import Hook
from xcnn.nets import recipes as nets

if library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)

IMAGE = (2, 11, 10)
RUNS = {
    "conv": (Sequential(Conv2D(3, 3)), IMAGE),
    "conv, no bias": (Sequential(Conv2D(3, 3, bias=False)), IMAGE),
    "conv, relu": (Sequential(Conv2D(3, (2, 3), stride=2, padding="same"), ReLU()), IMAGE),
    "conv, sigmoid": (Sequential(Conv2D(4, 3, padding="full", groups=2), Sigmoid()), IMAGE),
    "conv, untied, sigmoid": (Sequential(Conv2D(3, 3, bias="untied"), Sigmoid()), IMAGE),
    "conv, untied, relu, pool": (Sequential(Conv2D(3, 3, bias="untied"), ReLU(), MaxPool2D(2)), IMAGE),
    "conv, relu, pool": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2)), IMAGE),
    "conv, relu, pool, odd": (Sequential(Conv2D(5, 2, padding=1, bias=False), ReLU(), MaxPool2D()), (1, 8, 36)),
    "conv, sigmoid, pool": (Sequential(Conv2D(3, 3), Sigmoid(), MaxPool2D(2)), IMAGE),
    "conv, relu, wider pool": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2, stride=1)), IMAGE),
    "conv, relu, same pool": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2, padding="same")), IMAGE),
    "conv, relu, pool of one row": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2)), (1, 4, 5)),
    "conv, dilated": (Sequential(Conv2D(3, 3, dilation=(1, 2), padding=((0, 3), (2, 1))), ReLU()), IMAGE),
    "conv of one cell": (Sequential(Conv2D(9, 1), ReLU()), IMAGE),
    "two convs": (Sequential(Conv2D(4, 3), ReLU(), Conv2D(3, 3), Tanh()), IMAGE),
    "dense": (Sequential(Dense(5)), (7,)),
    "dense, no bias, relu": (Sequential(Dense(3, bias=False), ReLU()), (40,)),
    "dense, sigmoid": (Sequential(Dense(17), Sigmoid()), (9,)),
    "dense, a few features at a time": (Sequential(Dense(64), ReLU()), (2100,)),
    "dense, not of whole vectors": (Sequential(Dense(99), ReLU()), (1400,)),
    "dense, features shared out": (Sequential(Dense(100), Sigmoid()), (2201,)),
    "dense, few units, features shared out": (Sequential(Dense(5), ReLU(), Dense(3)), (41000,)),
    "dense twice": (Sequential(Dense(16), ReLU(), Dense(1), Sigmoid()), (5,)),
    "conv, rows of half vectors": (Sequential(Conv2D(3, 3, padding="same"), ReLU()), (2, 6, 12)),
    "conv, rows of half vectors, alone": (Sequential(Conv2D(9, 3, padding="same", bias=False)), (3, 32, 24)),
    "conv, rows of half vectors, untied": (Sequential(Conv2D(3, 3, padding=1, bias="untied"), Sigmoid()), (2, 4, 4)),
    "conv, rows of half vectors, pool": (
        Sequential(Conv2D(4, 3, padding="same", groups=2), ReLU(), MaxPool2D(2)), (4, 8, 8)
    ),
    "conv, strided, rows of half vectors": (Sequential(Conv2D(4, 3, stride=2, padding="same")), (2, 8, 24)),
    "conv, strided, an odd row": (Sequential(Conv2D(3, 3, stride=2, padding=1)), (2, 9, 23)),
    "conv, strided, some cells unseen": (Sequential(Conv2D(3, 1, stride=2)), (2, 16, 16)),
    "conv, leaky": (Sequential(Conv2D(16, 3), LeakyReLU()), IMAGE),
    "conv, silu": (Sequential(Conv2D(9, 3, stride=2, padding="same"), SiLU()), IMAGE),
    "conv, untied, gelu": (Sequential(Conv2D(17, 3, bias="untied"), GELU()), IMAGE),
    "conv, untied, many": (Sequential(Conv2D(8, 3, bias="untied", padding=2), Tanh()), IMAGE),
    "conv, relu, tanh": (Sequential(Conv2D(16, 3, groups=2), ReLU(), Tanh()), IMAGE),
    "conv, no bias, tanh": (Sequential(Conv2D(40, 3, bias=False), Tanh()), IMAGE),
    "signal": (Sequential(Conv1D(9, 3, padding=1), SiLU(), Conv1D(3, 4, stride=2, bias="untied"), ReLU()), (2, 21)),
    "depthwise": (
        Sequential(DepthwiseConv2D(3, padding="same"), GELU(), DepthwiseConv2D(3, depth_multiplier=2, stride=2)),
        (9, 8, 7),
    ),
    "depthwise, untied": (Sequential(DepthwiseConv2D(3, bias="untied"), ReLU()), (9, 8, 7)),
    "transpose": (Sequential(Conv2DTranspose(9, 3, stride=2), ReLU(), Conv2DTranspose(3, 2, padding=1)), (2, 5, 6)),
    "transpose, silu": (Sequential(Conv2DTranspose(3, 4, stride=2, padding="same"), SiLU()), (9, 5, 6)),
    "transpose, cells that no tap meets": (Sequential(Conv2DTranspose(9, 1, stride=2), SiLU()), (2, 5, 6)),
    "transpose, untied": (Sequential(Conv2DTranspose(9, 3, bias="untied"), SiLU()), (2, 5, 6)),
    "dense, gelu": (Sequential(Dense(17), GELU(), Dense(4, bias=False), LeakyReLU(0.1)), (9,)),
    "mean": (Sequential(GlobalAveragePool2D()), IMAGE),
    "mean of a strided conv": (Sequential(Conv2D(5, 2, stride=(1, 2)), GlobalAveragePool2D(), Dense(2)), (2, 7, 32)),
    "norm": (Sequential(BatchNorm()), IMAGE),
    "norm, relu": (Sequential(BatchNorm(momentum=0.8, epsilon=1e-5), ReLU()), IMAGE),
    "norm of lines": (Sequential(BatchNorm(), ReLU()), (3, 7)),
    "norm of vectors": (Sequential(BatchNorm(), ReLU()), (6,)),
    "dropout": (Sequential(Dropout(0.3), Dropout(0.6)), (3, 5, 7)),
    "residual": (Sequential(Residual(Conv2D(2, 3, padding="same"), Tanh())), IMAGE),
    "residual, relu": (Sequential(Residual(Conv2D(2, 3, padding="same"), BatchNorm()), ReLU()), IMAGE),
    "residual, shortcut": (
        Sequential(
            Residual(
                Conv2D(4, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU(), Dropout(0.4),
                shortcut=Sequential(Conv2D(4, 1, stride=2), BatchNorm(), Dropout(0.2)),
            ),
            ReLU(),
        ),
        IMAGE,
    ),
    "residuals within": (
        Sequential(
            Residual(
                Residual(Conv2D(2, 3, padding="same"), ReLU(), Residual(Dropout(0.5), ReLU()), ReLU()),
                Sequential(Conv2D(2, 1), ReLU()),
                shortcut=Residual(Conv2D(2, 1)),
            ),
        ),
        IMAGE,
    ),
    "named": (Sequential(Conv2D(3, 3), ReLU(), Flatten(), Dropout(0.1), head=Dense(4), last=Sigmoid()), IMAGE),
}  # fmt: skip
CALLED = {"norm of vectors", "residuals within", "depthwise, untied"}
"""Of these some layers are called all the same: BatchNorm of vectors, a Residual that is a shortcut, and an untied bias
after a depthwise convolution."""
BEGIN = (
    Conv2D, Conv1D, Conv2DTranspose, DepthwiseConv2D, Dense, BatchNorm, Dropout, Residual, GlobalAveragePool2D,
)  # fmt: skip
"""Layers that begin a run, and are not called themselves then."""


def backend(**options):
    return xcnn.backend("numpy", **options)


def draw(net, input_shape, batch, dtype="float64"):
    """Weights without zeros and ones, a batch, and a gradient of the output."""
    rng = np.random.default_rng(3)
    weights, output = net.init(rng, input_shape)
    weights = tree.map(lambda w: (w + 0.2 * rng.random(w.shape)).astype(dtype), weights)
    return weights, *(rng.standard_normal((batch, *shape)).astype(dtype) for shape in (input_shape, output))


def passes(net, weights, x, dy, run):
    """Y, dx and the gradients."""
    y, backward = net(weights, x, run)
    return (y, *backward(dy))


def by_path(grads, path=()):
    """Gradients by path, and whether they are values that replace a weight."""
    found = {}
    for name, grad in grads.items():
        if isinstance(grad, dict):
            found |= by_path(grad, (*path, name))
        else:
            found[*path, name] = (True, grad.value) if isinstance(grad, Next) else (False, grad)
    return found


def check(got, expected, limit=1e-10):
    """The same names, shapes and types; the same numbers, relative to the largest of each array."""
    (y, dx, grads), (y_, dx_, grads_) = got, expected
    pairs = [(y, y_), (dx, dx_)]
    mine, theirs = by_path(grads), by_path(grads_)
    assert set(mine) == set(theirs)
    for path, (replaces, grad) in theirs.items():
        assert mine[path][0] is replaces
        pairs.append((mine[path][1], grad))
    for a, b in pairs:
        assert (a is None) == (b is None)
        if b is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=0, atol=limit * max(np.max(np.abs(b), initial=0.0), 0.1))


@pytest.fixture
def only_fused(monkeypatch):
    """Makes calls of layers that begin a run fail from now on, but for runs that are known to call them."""

    def refuse(self, weights, x, run):
        raise AssertionError(f"{type(self).__name__} was called")

    def begin(name=""):
        for layer in () if name in CALLED else BEGIN:
            monkeypatch.setattr(layer, "__call__", refuse)

    return begin


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_its_layers(name, train, batch, only_fused):
    """Which are called on products of matrices, so that what the engine computes is not held to itself."""
    net, input_shape = RUNS[name]
    weights, x, dy = draw(net, input_shape, batch)
    expected = passes(net, weights, x, dy, Run(backend(algorithm="gemm"), train, (5, 2)))
    only_fused(name)
    check(passes(backend().rewrite(net), weights, x, dy, Run(backend(), train, (5, 2))), expected)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_float32(name, only_fused):
    """Types stay, and rounding is that of float32."""
    net, input_shape = RUNS[name]
    run = Run(backend(), True, (5, 2))
    exact = passes(net, *draw(net, input_shape, 4), Run(backend(algorithm="gemm"), True, (5, 2)))
    single = draw(net, input_shape, 4, "float32")
    plain = passes(net, *single, run)
    only_fused(name)
    got = passes(backend().rewrite(net), *single, run)
    check(got, plain, 1e-4)
    for a, b, c in zip(got[:2], plain[:2], exact[:2], strict=True):
        assert np.max(np.abs(a - c)) <= 4 * max(np.max(np.abs(b - c)), 1e-6 * np.max(np.abs(c)))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_a_batch_of_zero(name, train):
    net, input_shape = RUNS[name]
    arrays = draw(net, input_shape, 0)
    run = Run(backend(), train, (5, 2))
    check(passes(backend().rewrite(net), *arrays, run), passes(net, *arrays, run))


@pytest.mark.parametrize("name", RUNS)
def test_nobody_wants_dx(name):
    """Then there may be none; the gradients are the same."""
    net, input_shape = RUNS[name]
    arrays = draw(net, input_shape, 3)
    _, _, grads = passes(net, *arrays, Run(backend(), True, (5, 2)))
    y, _, got = passes(backend().rewrite(net), *arrays, Run(backend(), True, (5, 2), wants_dx=False))
    check((y, None, got), (y, None, grads))


@cache
def by_products(recipe):
    """A recipe's net, its arrays for a batch of 5, and what the layers make of them on products of matrices."""
    net = nets.RECIPES[recipe].net(10)
    arrays = draw(net, (1, 28, 28), 5)
    return net, arrays, passes(net, *arrays, Run(backend(algorithm="gemm"), True, (5, 2)))


@pytest.mark.parametrize("algorithm", ["auto", "native"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("recipe", nets.RECIPES)
def test_nets_with_names(recipe, threads, algorithm):
    """Every recipe's net, forward and back, on one thread and several; twice, with the same bits."""
    net, arrays, expected = by_products(recipe)
    fast = backend(threads=threads, algorithm=algorithm)
    rewritten, run = fast.rewrite(net), Run(fast, True, (5, 2))
    got, again = (passes(rewritten, *arrays, run) for _ in range(2))
    check(got, expected)
    check(again, got, 0)


def test_names_of_layers_and_weights_stay():
    for recipe in nets.RECIPES.values():
        net = recipe.net(10)
        fused = backend().rewrite(net)
        assert re.sub("FusedSequential|RecordedSequential", "Sequential", repr(fused)) == repr(net)
        assert [name for name, _ in fused.named] == [name for name, _ in net.named]
        drawn, output = (n.init(xcnn.core.random.generator(0), (1, 28, 28)) for n in (fused, net))
        assert drawn[1] == output[1]
        assert dict(tree.items(drawn[0])).keys() == dict(tree.items(output[0])).keys()


def test_what_is_no_sequence_is_left_alone():
    class Mine(Sequential):
        pass

    for net in (Conv2D(3, 3), Mine(Conv2D(3, 3)), Mine(xcnn.Concatenate(Conv2D(2, 1), ReLU()))):
        assert backend().rewrite(net) is net
    net = Sequential(Conv2D(3, 3))
    for algorithm in ("literal", "fft"):
        assert backend(algorithm=algorithm).rewrite(net) is net


def test_a_model_that_shall_not_fuse(only_fused):
    net, x = Sequential(Conv2D(3, 3), ReLU()), np.zeros((2, 1, 5, 5))
    plain = xcnn.Model(net, (1, 5, 5), loss="mse", backend=backend(fuse=False))
    fused = xcnn.Model(net, (1, 5, 5), loss="mse", backend=backend())
    only_fused()
    assert fused.predict(x).shape == (2, 3, 3, 3)
    with pytest.raises(AssertionError, match="Conv2D was called"):
        plain.predict(x)


@pytest.mark.parametrize("name", RUNS)
def test_a_watch_sees_every_layer(name):
    """The same layers under the same paths, with the same outputs and gradients, as without fusion."""
    net, input_shape = RUNS[name]
    weights, x, dy = draw(net, input_shape, 2)

    def seen(net):
        told = []

        def look(path, layer, y, backward):
            def watched(dy):
                told.append((path, type(layer).__name__.removeprefix("Fused"), dy))
                return backward(dy)

            told.append((path, type(layer).__name__.removeprefix("Fused"), y))
            return watched

        result = passes(net, weights, x, dy, Run(backend(), True, (5, 2), Hook(look)))
        return told, result

    (told, got), (told_, expected) = seen(backend().rewrite(net)), seen(net)
    assert [entry[:2] for entry in told] == [entry[:2] for entry in told_]
    for a, b in zip(told, told_, strict=True):
        np.testing.assert_allclose(a[2], b[2], rtol=0, atol=1e-12)
    check(got, expected, 1e-12)


# What is wrong is told as the layers tell it.

NET = Sequential(
    Conv2D(4, 3, padding="same"), ReLU(), MaxPool2D(2),
    Residual(Conv2D(4, 3, padding="same"), BatchNorm(), ReLU()), ReLU(), BatchNorm(), Dropout(0.3),
    Flatten(), Dense(6), Sigmoid(), head=Dense(2),
)  # fmt: skip


def told(call):
    """The result, or the error's class and words."""
    try:
        return call()
    except XcnnError as error:
        return type(error), str(error)


def strict(x):
    return pytest.importorskip("array_api_strict", reason="array-api-strict is not installed").asarray(x)


WRONG = {
    "channels": lambda x: np.repeat(x, 2, axis=1),
    "rank": lambda x: x[:, 0],
    "one row": lambda x: x[:, :, :1],
    "another size": lambda x: x[..., :4],
    "type": lambda x: x.astype("float64"),
    "bytes": lambda x: np.ones(x.shape, "uint8"),
    "half": lambda x: x.astype("float16"),
    "library": strict,
    "bytes in the other order": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_inputs_are_told_by_the_layers(wrong):
    weights, x, dy = draw(NET, (2, 6, 8), 3, "float32")
    x = WRONG[wrong](x)
    fast = backend()
    mine, theirs = (
        told(lambda net=net: passes(net, weights, x, dy, Run(fast, True))) for net in (fast.rewrite(NET), NET)
    )
    if isinstance(theirs[0], type):
        assert mine == theirs
    else:
        check(mine, theirs, 1e-4)


PARTS = {
    "conv": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2)), IMAGE),
    "untied": (Sequential(Conv2D(3, 3, bias="untied"), Sigmoid()), IMAGE),
    "dense": (Sequential(Dense(4), Sigmoid()), (6,)),
    "norm": (Sequential(BatchNorm(), ReLU()), IMAGE),
    "dropout": (Sequential(Dropout(0.3)), IMAGE),
    "residual": (Sequential(Residual(Conv2D(2, 3, padding="same")), ReLU()), IMAGE),
    "all": (NET, (2, 6, 8)),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_small_image_or_another_type_is_told_by_the_layers(part):
    net, input_shape = PARTS[part]
    weights, x, _ = draw(net, input_shape, 3, "float32")
    for wrong in (x.astype("float64"), x[..., :1], x[:, :1], x[0], x.astype("int32")):
        mine, theirs = (
            told(lambda net=net, wrong=wrong: net(weights, wrong, Run(backend()))[0])
            for net in (backend().rewrite(net), net)
        )
        if isinstance(theirs, tuple):
            assert mine == theirs
        else:
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_a_gradient_of_another_shape_is_told_by_the_layers(part, train):
    """All but this: the error names the run's first layer, where the layers name its last."""
    net, input_shape = PARTS[part]
    weights, x, dy = draw(net, input_shape, 3, "float32")
    for wrong in (dy[:2], dy[..., :1], dy[None], dy[0]):
        error = told(lambda: passes(backend().rewrite(net), weights, x, wrong, Run(backend(), train)))  # noqa: B023
        kind, words = told(lambda: passes(net, weights, x, wrong, Run(backend(), train)))  # noqa: B023
        assert error[0] is kind
        assert error[1].splitlines()[1:] == words.splitlines()[1:]
        assert "X101" in error[1]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_a_gradient_of_another_type_is_refused_as_by_the_layers(part, train):
    net, input_shape = PARTS[part]
    weights, x, dy = draw(net, input_shape, 3, "float32")
    for wrong in (dy.astype("float64"), dy.astype("float16"), dy.astype("int32"), dy > 0, dy.tolist(), None):
        run = Run(backend(), train)
        mine, theirs = (told(lambda n=n: passes(n, weights, x, wrong, run)) for n in (backend().rewrite(net), net))  # noqa: B023
        assert mine == theirs
        assert "X103" in mine[1]


def test_a_residual_that_does_not_fit_is_told():
    net = Sequential(Residual(Conv2D(3, 3, padding="same"), ReLU()), ReLU())
    weights = {"residual1": Sequential(Conv2D(3, 3)).init(np.random.default_rng(0), IMAGE)[0]}
    x = np.zeros((2, *IMAGE))
    mine, theirs = (told(lambda net=net: net(weights, x, Run(backend()))) for net in (backend().rewrite(net), net))
    assert mine == theirs
    assert "Residual 'residual1'" in theirs[1]


LAYOUTS = {
    "reversed": lambda a: np.ascontiguousarray(np.flip(a)).view()[tuple([slice(None, None, -1)] * a.ndim)],
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "columns first": np.asfortranarray,
    "one number": lambda a: np.broadcast_to(a.flat[0], a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("part", PARTS)
def test_layouts_make_no_difference_and_nothing_is_written(part, layout):
    net, input_shape = PARTS[part]
    weights, x, dy = draw(net, input_shape, 3)
    run, fused = Run(backend(), True), backend().rewrite(net)
    placed = [
        tree.map(LAYOUTS[layout], weights) if layout != "one number" else weights,
        LAYOUTS[layout](x),
        LAYOUTS[layout](dy),
    ]
    arrays = [*tree.leaves(placed[0]), *placed[1:]]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    got = passes(fused, *placed, run)
    check(got, passes(net, *placed, run))
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ties_zeros_and_nan_as_in_the_layers():
    """Small whole numbers, so that cells are equal and sums exact; then what is not finite, in one image of four."""
    net = Sequential(Conv2D(3, 2), ReLU(), MaxPool2D(2))
    rng = np.random.default_rng(1)
    weights = {"conv1": {"kernel": rng.integers(-1, 2, (3, 2, 2, 2)) + 0.0, "bias": np.array([-1.0, 0.0, 1.0])}}
    x, dy = rng.integers(-1, 2, (4, *IMAGE)) + 0.0, rng.standard_normal((4, 3, 5, 4))
    run, fused = Run(backend(), True), backend().rewrite(net)
    check(passes(fused, weights, x, dy, run), passes(net, weights, x, dy, run), 1e-14)
    x[1, 0, 3, 3], x[1, 1, 7, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        mine, theirs = (n(weights, x, run)[0] for n in (fused, net))
    assert np.any(np.isnan(theirs))
    np.testing.assert_array_equal(mine, theirs)


def test_a_backward_pass_may_run_twice():
    """As a check of gradients does; and the second does not see the first."""
    for net, input_shape in PARTS.values():
        weights, x, dy = draw(net, input_shape, 3)
        _, backward = backend().rewrite(net)(weights, x, Run(backend(), True))
        first, second = backward(dy), backward(2 * dy)
        double = tree.map(lambda g: g if isinstance(g, Next) else 2 * g, first[1])
        check((dy, *second), (dy, 2 * first[0], double), 1e-12)


def test_gradients_of_several_losses_add_up_over_one_fused_net_used_twice():
    """One rewritten net, called for two batches before either goes back."""
    for net, input_shape in PARTS.values():
        weights, x, dy = draw(net, input_shape, 4)
        fused, run = backend().rewrite(net), Run(backend(), False)
        (_, one), (_, other) = fused(weights, x[:1], run), fused(weights, x[1:], run)
        check((dy, *one(dy[:1])), (dy, *net(weights, x[:1], run)[1](dy[:1])))
        check((dy, *other(dy[1:])), (dy, *net(weights, x[1:], run)[1](dy[1:])))


@pytest.mark.parametrize("recipe", ["lenet", "small-resnet"])
def test_training_is_the_same(recipe):
    """Some steps of a whole model with and without fusion, in float64."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 1, 28, 28)), rng.integers(0, 10, 12)
    models = [
        xcnn.Model(nets.RECIPES[recipe].net(10), (1, 28, 28), backend=backend(fuse=fuse), dtype="float64", seed=1)
        for fuse in (True, False)
    ]
    losses = [[model.step(x[n : n + 4], labels[n : n + 4]) for n in (0, 4, 8)] for model in models]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    for a, b in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)  # Adam divides by what is nearly zero
    np.testing.assert_allclose(*(model.predict(x) for model in models), rtol=0, atol=1e-5)


def test_a_model_can_be_pickled():
    """Also after it has run, when the net knows its layouts."""
    model = xcnn.Model(nets.lenet(), (1, 28, 28), backend=backend(threads=2), seed=1)
    x = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype("float32")
    before = model.predict(x)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(x), before)
    copy.step(x, np.zeros(5, dtype=int))
    np.testing.assert_array_equal(model.predict(x), before)


def test_runs_in_the_branches_of_a_concatenate_are_fused(only_fused):
    """What they compute is what the layers do, one by one."""
    branch = Sequential(Conv2D(4, 3, padding="same"), ReLU(), Conv2D(3, 1), ReLU())
    net = Sequential(xcnn.Concatenate(Sequential(), branch), Conv2D(2, 3), ReLU())
    weights, x, dy = draw(net, (3, 7, 6), 4)
    expected, back = net(weights, x, Run(backend(algorithm="gemm"), train=True))
    dx, grads = back(dy)
    fused = backend().rewrite(net)
    only_fused()
    y, back = fused(weights, x, Run(backend(), train=True))
    got, got_grads = back(dy)
    for a, b in ((y, expected), (got, dx), *zip(tree.leaves(got_grads), tree.leaves(grads), strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, "untied"])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("groups", [40, 10, 5, 4, 2])
def test_units_of_grouped_filters_end_with_their_own_bias(bias, groups, images, only_fused, monkeypatch):
    """So many filters that threads have a share of them each, and so few a group that they fill no cache line."""
    monkeypatch.setattr(maps, "LEAST", 0)
    net = Sequential(Conv2D(40, 3, groups=groups, padding="same", bias=bias), xcnn.SiLU())
    weights, x, dy = draw(net, (40, 9, 8), images)
    weights["conv1"]["bias"] = np.random.default_rng(1).standard_normal(weights["conv1"]["bias"].shape)
    expected, back = net(weights, x, Run(backend(algorithm="gemm"), train=True))
    _, grads = back(dy)
    fused = backend(threads=4).rewrite(net)
    only_fused()
    y, back = fused(weights, x, Run(backend(threads=4), train=True))
    _, got_grads = back(dy)
    for a, b in ((y, expected), *zip(tree.leaves(got_grads), tree.leaves(grads), strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
