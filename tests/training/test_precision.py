"""Mixed precision: what each layer computes in, how the loss is scaled, and agreement with PyTorch's autocast.

It runs on NumPy, which has float16 (half_numpy.py), and where PyTorch is installed on its tensors too, with bfloat16.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from typing import ClassVar

import numpy as np
import pytest
from cases import CASES, settled
from half_numpy import HalfNumpy

import xcnn
from xcnn import backends
from xcnn.core import random, tree
from xcnn.core.arrays import is_floating
from xcnn.errors import DivergedError, DTypeError, OptionError, ShapeError
from xcnn.layers import (
    GELU,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    computes_in_half,
)
from xcnn.layers.layer import Hook, Next, Run
from xcnn.model.model import Model
from xcnn.training import loss_scaling, losses
from xcnn.training.optimizers import SGD, Adam
from xcnn.training.precision import PRECISIONS, Cast, mixed, policy, widened
from xcnn.training.schedules import Step

EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
FLOAT16 = PRECISIONS["float16"]


@dataclass(frozen=True, repr=False)
class TorchBackend(xcnn.Backend):
    """PyTorch's tensors on the CPU."""

    name: ClassVar[str] = "torch"
    library: ClassVar[str] = "torch"
    precisions: ClassVar[tuple[str, ...]] = tuple(PRECISIONS)

    @property
    def xp(self):
        return import_module("array_api_compat.torch")

    def asarray(self, x, dtype=None):
        x = self.xp.asarray(np.array(x) if isinstance(x, np.ndarray) else x)
        return x if dtype is None else self.astype(x, dtype)

    def to_numpy(self, x):
        return (x.float() if x.dtype == self.xp.bfloat16 else x).numpy()


def make_backend(name):
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
        return TorchBackend()
    return HalfNumpy()


PAIRS = [("half", "float16"), ("torch", "float16"), ("torch", "bfloat16")]
pairs = pytest.mark.parametrize(("name", "precision"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


@pytest.fixture
def half():
    return HalfNumpy()


def host(model):
    """Weights and optimizer state."""
    return {
        name: leaf if isinstance(leaf, int) else np.array(model.backend.to_numpy(leaf))
        for name, leaf in tree.items({"w": model.weights, **model.state.optimizer_state})
    }


def rounded(a, precision):
    """Float64 numbers that half precision has: float16's, or those of bfloat16, which are float32 cut to 16 bits."""
    if precision == "float16":
        return np.asarray(a).astype("float16").astype("float64")
    return (np.asarray(a, "float32").view("uint32") & 0xFFFF0000).view("float32").astype("float64")


# Policies.


def test_a_precision_says_what_weights_are_and_what_is_computed_in():
    assert {name: (p.dtype, p.compute, p.scales, p.mixes) for name, p in PRECISIONS.items()} == {
        "float32": ("float32", "float32", False, False),
        "tf32": ("float32", "float32", False, False),
        "bfloat16": ("float32", "bfloat16", False, True),
        "float16": ("float32", "float16", True, True),
        "float64": ("float64", "float64", False, False),
    }
    assert policy(None, "float32") is PRECISIONS["float32"]
    assert policy(None, "float64") is policy("float64", "float64") is PRECISIONS["float64"]


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("half", "float32", r"X104.*there is no precision 'half'.*\n.*use one of float32, tf32, bfloat16, float16"),
        (16, "float32", r"X104.*there is no precision 16"),
        (["float16"], "float32", r"X104.*there is no precision"),
        ("bfloat16", "float64", r'X104.*precision="bfloat16" goes with weights of float32; these are float64'),
        ("float32", "float64", r"X104.*goes with weights of float32"),
        ("float64", "float32", r'X104.*goes with weights of float64.*\n.*dtype="float64"'),
        (None, "float16", r'X104.*dtype must be "float32" or "float64".*\n.*precision="float16"'),
        (None, "int8", r'X104.*dtype must be "float32" or "float64"; got \'int8\'.$'),
    ],
)
def test_what_is_no_policy(name, dtype, message):
    with pytest.raises(OptionError, match=message):
        policy(name, dtype)


def test_a_backend_says_what_it_has_and_which_other_has_more(monkeypatch):
    numpy = xcnn.backend("numpy")
    assert numpy.with_precision(PRECISIONS["float64"]) is numpy
    monkeypatch.setattr(backends.selector, "names_with", lambda precision: [])
    with pytest.raises(OptionError) as caught:
        backends.selector.with_precision(numpy, PRECISIONS["bfloat16"])
    assert str(caught.value).splitlines() == [
        '[X104] backend "numpy" does not compute in bfloat16; it has float32, float64.',
        '  hint: use precision="float32".',
    ]
    monkeypatch.undo()
    monkeypatch.setitem(backends.registry._loaded, "strict", HalfNumpy)
    with pytest.raises(OptionError, match=r'X104.*\n.*precision="float32" or .*backend "strict"'):
        backends.selector.with_precision(numpy, FLOAT16)


def test_a_model_computes_with_what_its_backend_gives_for_the_precision():
    @dataclass(frozen=True, repr=False)
    class Told(HalfNumpy):
        coarse: bool = False

        def with_precision(self, precision):
            return replace(self, coarse=precision.name == "float16")

    told = Told()
    model = Model(Asks(), (3,), loss="mse", backend=told, precision="float16")
    assert (model.backend, model.trainer.backend.coarse) == (told, True)
    model.predict(np.ones((1, 3), "float32"))
    assert Asks.seen.pop().coarse
    model.step(np.ones((1, 3), "float32"), np.ones((1, 3)))
    assert Asks.seen.pop().coarse
    model.precision = "float32"
    model.predict(np.ones((1, 3), "float32"))
    assert not Asks.seen.pop().coarse


@dataclass(frozen=True)
class Asks:
    """Y = X; notes the backend."""

    seen: ClassVar[list] = []

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        self.seen.append(run.backend)
        return x, lambda dy: (dy, {})


# Casts.


def test_every_layer_is_cast_and_every_name_stays():
    net = Sequential(
        Conv2D(2, 3),
        BatchNorm(),
        Residual(Conv2D(2, 3, padding="same"), ReLU(), shortcut=Conv2D(2, 1)),
        both=Concatenate(Sequential(Conv2D(1, 1), Sigmoid()), Sequential()),
        flat=Flatten(),
        head=Sequential(Dense(3), Sigmoid()),
    )
    there = mixed(net, FLOAT16)
    assert there.init(random.generator(0), (1, 6, 6))[1] == net.init(random.generator(0), (1, 6, 6))[1]
    drawn, again = (dict(tree.items(one.init(random.generator(0), (1, 6, 6))[0])) for one in (net, there))
    assert drawn.keys() == again.keys()
    assert all(np.array_equal(w, again[name]) for name, w in drawn.items())
    found = {name: (type(cast.layer), cast.compute, cast.result) for name, cast in leaves_of(there)}
    assert found == {
        "conv1": (Conv2D, "float16", "float16"),
        "batchnorm1": (BatchNorm, "float32", "float16"),
        "residual1.conv1": (Conv2D, "float16", "float16"),
        "residual1.relu1": (ReLU, "float16", "float16"),
        "residual1.shortcut": (Conv2D, "float16", "float16"),
        "both.sequential1.conv1": (Conv2D, "float16", "float16"),
        "both.sequential1.sigmoid1": (Sigmoid, "float16", "float16"),
        "flat": (Flatten, "float16", "float16"),
        "head.dense1": (Dense, "float16", "float16"),
        "head.sigmoid1": (Sigmoid, "float32", "float32"),  # the loss comes next
    }
    assert mixed(net, PRECISIONS["float32"]) is mixed(net, PRECISIONS["tf32"]) is net
    assert widened(net, PRECISIONS["float64"]) is net


def leaves_of(net, path=""):
    for name, layer in net.named:
        if isinstance(layer, Cast):
            yield path + name, layer
        else:
            yield from leaves_of(layer, f"{path}{name}.")


@pairs
@pytest.mark.parametrize(("layer", "input_shape"), CASES, ids=[f"{layer}-{shape}" for layer, shape in CASES])
def test_each_layer_loses_no_more_than_the_last_place(name, precision, layer, input_shape):
    """Against float64, from the same numbers: the relative error of y, dx and each gradient, in units of the type's."""
    backend, rng = make_backend(name), np.random.default_rng(0)
    drawn, output_shape = layer.init(random.generator(0), input_shape)
    weights = tree.map(lambda w: rounded(w + 0.2 * rng.random(w.shape), precision), drawn)
    x, dy = (rounded(rng.standard_normal((3, *shape)), precision) for shape in (input_shape, output_shape))
    run = Run(backend, train=True, key=(7,))
    y, backward = mixed(layer, PRECISIONS[precision], last=False)(
        tree.map(lambda w: backend.asarray(w, "float32"), weights), backend.asarray(x, precision), run
    )
    dx, grads = backward(backend.asarray(dy, precision))
    assert types({"y": y, "dx": dx, **grads}) == {"y": precision, "dx": precision, **types(grads, "float32")}

    expected_y, expected_backward = layer(weights, x, Run(xcnn.backend("numpy"), train=True, key=(7,)))
    expected_dx, expected_grads = expected_backward(dy)
    expected = dict(tree.items({"y": expected_y, "dx": expected_dx, **expected_grads}))
    for part, got in tree.items({"y": y, "dx": dx, **grads}):
        want = value(expected[part])
        error = np.linalg.norm(backend.to_numpy(value(got)).astype("float64") - want)
        assert error <= 2 * EPS[precision] * max(np.linalg.norm(want), 1), part


def value(leaf):
    return leaf.value if isinstance(leaf, Next) else leaf


def types(arrays, expected=None):
    return {name: expected or str(value(a).dtype).rpartition(".")[2] for name, a in tree.items(arrays)}


@pytest.mark.parametrize("layer", [BatchNorm(), LayerNorm(), GELU(), Softmax()])
def test_layers_for_which_half_precision_is_too_narrow_compute_in_the_weights_type(layer, half, rng):
    x = (2000 * rng.standard_normal((8, 50))).astype("float16")  # whose squares float16 does not have
    weights, _ = layer.init(random.generator(0), (50,))
    weights = tree.map(lambda w: w.astype("float32"), weights)
    y, backward = mixed(layer, FLOAT16, last=False)(weights, x, Run(half, train=True))
    wide, wide_backward = layer(weights, x.astype("float32"), Run(half, train=True))
    np.testing.assert_array_equal(y, wide.astype("float16"))
    dy = rng.standard_normal((8, 50)).astype("float16")
    (dx, grads), (wide_dx, wide_grads) = backward(dy), wide_backward(dy.astype("float32"))
    np.testing.assert_array_equal(dx, wide_dx.astype("float16"))
    for name, g in grads.items():
        np.testing.assert_array_equal(value(g), value(wide_grads[name]))


def test_a_cast_has_no_name_and_no_key_of_its_own(half, rng):
    net = Sequential(Dropout(0.5), block=Sequential(Dropout(0.5), Dense(3)))
    there = mixed(net, FLOAT16)
    weights, _ = net.init(random.generator(0), (40,))
    weights = tree.map(lambda w: w.astype("float32"), weights)
    x, seen = rng.random((5, 40)).astype("float32"), []

    def look(path, layer, y, backward):
        seen.append((".".join(path), y))
        return backward

    run = Run(half, train=True, key=(3, 4), hook=Hook(look))
    _, backward = there(weights, x, run)
    net(weights, x, run)
    paths = [path for path, _ in seen]
    assert paths == ["dropout1", "block.dropout1", "block.dense1", "block"] * 2
    masks = [y != 0 for path, y in seen if "dropout" in path]
    np.testing.assert_array_equal(masks[:2], masks[2:])
    with pytest.raises(ShapeError, match=r"Dense 'block\.dense1' expects 40 input features but got 41"):
        there(weights, np.ones((5, 41), "float32"), run)
    with pytest.raises(ShapeError, match=r"Dense 'block\.dense1' got a gradient that is not shaped like its output"):
        backward(np.ones((5, 4), "float32"))
    with pytest.raises(DTypeError, match=r"Dropout 'dropout1' got x of uint8"):
        there(weights, np.ones((5, 40), "uint8"), run)


def test_the_first_dx_is_not_computed_where_nobody_wants_it(half):
    there = mixed(Sequential(Dense(3)), FLOAT16)
    weights = {"dense1": {"kernel": np.ones((4, 3), "float32"), "bias": np.ones(3, "float32")}}
    for wants, expected in ((True, np.float32), (False, None)):
        _, backward = there(weights, np.ones((2, 4), "float32"), Run(half, train=True, wants_dx=wants))
        dx, _ = backward(np.ones((2, 3), "float32"))
        assert getattr(dx, "dtype", None) == expected


@pytest.mark.parametrize(
    "net",
    [
        Dense(3),
        Sequential(),
        Sequential(Dense(3)),
        Sequential(Dense(3), LayerNorm()),
        Sequential(Dense(3), Residual(Dense(3))),
        Sequential(Dense(3), Concatenate(Sequential(), Dense(1))),
    ],
)
def test_the_loss_sees_the_weights_type_and_gives_it_back(net, half):
    seen = []

    def loss(y, t):
        seen.append(y.dtype)
        return losses.mse(y, t)

    model = Model(net, (3,), loss=loss, backend=half, precision="float16")
    x, t = np.ones((2, 3), "float32"), np.ones((2, *model.output_shape))
    assert np.isfinite(model.step(x, t))
    assert model.predict(x).dtype == "float32"
    model.evaluate(x, t)
    assert seen == ["float32"] * 2
    assert {w.dtype for w in tree.leaves(model.weights)} <= {np.dtype("float32")}


def test_a_last_sigmoid_can_be_sure_and_wrong(half):
    """In float16 a probability of 1 - 1e-5 is 1: its slope is 0, and the loss's is beyond all numbers."""
    net = Sequential(Dense(2), Sigmoid())
    grads = []
    for precision in ("float16", "float32"):
        model = Model(net, (1,), loss="binary_cross_entropy", backend=half, precision=precision, optimizer=SGD(1.0))
        model.weights = {"dense1": {"kernel": np.zeros((1, 2)), "bias": np.array([12.0, -12.0])}}
        model.step(np.ones((4, 1), "float32"), np.array([[0, 1]] * 4))
        grads.append(model.weights["dense1"]["kernel"])
    np.testing.assert_allclose(grads[0], grads[1], rtol=2 * EPS["float16"])
    np.testing.assert_allclose(grads[1], [[-0.5, 0.5]], rtol=1e-4)


@pytest.mark.parametrize("says", [True, False])
def test_layers_of_ones_own_compute_in_half_precision_where_they_say_so(half, says):
    @dataclass(frozen=True)
    class Notes:
        def init(self, rng, input_shape):
            return {"factor": np.ones(1), "largest": np.zeros(1)}, input_shape

        def __call__(self, weights, x, run):
            seen.append((weights["factor"].dtype, x.dtype))
            factor, largest = weights["factor"], Next(x.max(keepdims=True)[0])
            return x * factor, lambda dy: (dy * factor, {"factor": (dy * x).sum(axis=0)[:1], "largest": largest})

    if says:
        computes_in_half(Notes)
    seen = []
    model = Model(Sequential(Notes(), Dense(2)), (3,), backend=half, precision="float16")
    model.step(np.full((2, 3), 0.1, "float32"), [0, 1])
    assert seen == [("float16", "float16") if says else ("float32", "float32")]
    assert model.weights["notes1"]["largest"] == (np.float16(0.1) if says else np.float32(0.1))
    weights = tree.map(np.float32, {"factor": np.ones(1), "largest": np.zeros(1)})
    _, backward = mixed(Notes(), FLOAT16)(weights, np.ones((2, 3), "float32"), Run(half, train=True))
    assert set(types(backward(np.ones((2, 3), "float32"))[1]).values()) == {"float32"}


def test_bfloat16_of_ml_dtypes_is_floating():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, which NumPy has bfloat16 from, is not installed")
    assert is_floating(np.ones(2, ml_dtypes.bfloat16))
    assert not is_floating(np.ones(2, ml_dtypes.int4))


# Models.


def small_net():
    return Sequential(Conv2D(3, 3), BatchNorm(), ReLU(), MaxPool2D(2), Flatten(), Dense(4))


@pytest.fixture
def data(rng):
    return rng.random((24, 1, 8, 8)).astype("float32"), rng.integers(0, 4, 24)


def test_without_half_precision_nothing_is_wrapped_and_the_state_is_as_ever(half, data):
    model = Model(small_net(), (1, 8, 8), backend=half, precision="float32")
    assert model.trainer.net is model.trainer.layers is model.net
    assert set(model.state.optimizer_state) == {"step", "first", "second"}
    model.step(*data)
    assert set(model.state.optimizer_state) == {"step", "first", "second"}


def test_another_precision_may_be_assigned(half, data):
    model = Model(small_net(), (1, 8, 8), backend=half, optimizer=SGD(0.1, momentum=0.9))
    assert model.precision == "float32"
    model.step(*data)
    before = host(model)
    model.precision = "float16"
    assert model.state.optimizer_state["loss_scale"] == 2.0**16
    assert str(model).endswith("dtype='float32', precision='float16')")
    assert all(np.array_equal(leaf, host(model)[name]) for name, leaf in before.items())
    y = model.predict(data[0])
    model.precision = None
    assert model.precision == "float32"
    assert set(model.state.optimizer_state) == {"step", "velocity"}
    difference = np.linalg.norm(model.predict(data[0]) - y) / np.linalg.norm(y)
    assert 1e-6 < difference < 4 * EPS["float16"]
    for wrong, message in (("bfloat16", "does not compute in bfloat16"), ("float64", "goes with weights of float64")):
        with pytest.raises(OptionError, match=message):
            model.precision = wrong
        assert model.precision == "float32"


@pytest.mark.parametrize("kind", ["half", "torch"])
def test_a_precision_assigned_among_recordings_is_that_of_a_model_without_any(kind, half, data, tmp_path):
    """Steps and predictions were kept; after each change they are to the bit those of a model that begins there."""
    if kind == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    engine = half if kind == "half" else "torch"
    other = "float16" if kind == "half" else "bfloat16"
    x, t = (np.concatenate([each] * 3) for each in data)
    kept = Model(small_net(), (1, 8, 8), backend=engine, optimizer=SGD(0.1, momentum=0.9))
    quiet = {"batch_size": len(data[0]), "progress": "none"}
    kept.fit(x, t, epochs=2, **quiet)
    kept.predict(x)
    for number, precision in enumerate((other, None, other)):
        kept.save(tmp_path / f"{number}.xcnn")
        fresh = Model.load(tmp_path / f"{number}.xcnn", backend=engine)
        fresh.precision = kept.precision = precision
        for model in (kept, fresh):
            model.fit(x, t, epochs=2, **quiet)
        assert kept.history["loss"][-2:] == fresh.history["loss"][-2:]
        np.testing.assert_array_equal(kept.predict(x), fresh.predict(x))
        for name, leaf in host(kept).items():
            np.testing.assert_array_equal(leaf, host(fresh)[name], err_msg=name)


def test_another_optimizer_keeps_the_scale(half, data):
    model = Model(small_net(), (1, 8, 8), backend=half, precision="float16")
    model.state.optimizer_state["loss_scale"] = half.asarray(32.0, "float32")
    model.optimizer = SGD(0.1)
    assert model.state.optimizer_state["loss_scale"] == 32
    model.step(*data)
    assert set(model.state.optimizer_state) == {"step", "loss_scale", "good_steps"}


def test_a_model_does_not_move_where_its_precision_is_missing(half, data):
    model = Model(small_net(), (1, 8, 8), backend=half, precision="float16")
    model.step(*data)
    with pytest.raises(OptionError, match=r"X104.*backend \"numpy\" does not compute in float16"):
        model.to("numpy")
    assert model.backend == half
    model.step(*data)
    model.to(HalfNumpy(algorithm="literal"))
    assert (model.state.step, model.state.optimizer_state["good_steps"], model.state.optimizer_state["loss_scale"]) == (
        2,
        2,
        2.0**16,
    )
    with pytest.raises(OptionError, match=r'X104.*\n.*precision="float32"'):
        Model(small_net(), (1, 8, 8), backend="numpy", precision="float16")


def test_summary_counts_half_the_bytes_and_names_the_layers(half):
    full, less = (
        Model(Sequential(Conv2D(5, 3), Sigmoid(), Flatten(), Dense(20), Tanh(), Dense(2)), (1, 28, 28), **options)
        for options in ({"backend": half}, {"backend": half, "precision": "float16"})
    )
    summary = less.summary()
    assert [row.kind for row in summary.rows] == [row.kind for row in full.summary().rows]
    assert [2 * row.kept_bytes for row in summary.rows] == [row.kept_bytes for row in full.summary().rows]
    assert (summary.weight_bytes, summary.precision) == (full.summary().weight_bytes, "float16")
    assert "(float32, computed in float16, on half)" in str(summary)
    assert "(float32 on half)" in str(full.summary())
    assert summary.to_dict()["precision"] == "float16"


def test_a_value_beyond_float16_is_named(half):
    model = Model(Sequential(Dense(3), ReLU(), Dense(2)), (2,), backend=half, precision="float16")
    model.weights = tree.map(lambda w: np.full(w.shape, 300.0), model.weights)
    with pytest.raises(DivergedError, match=r"output of 'dense2'.*\n.*\n.*bfloat16"):
        model.step(np.ones((4, 2), "float32"), [0, 1, 0, 1])
    assert model.state.step == 0


# Training beside PyTorch.


@pairs
@pytest.mark.parametrize("optimizer", [SGD(0.05, momentum=0.9), Adam(0.003)], ids=["sgd", "adam"])
def test_against_autocast_and_its_scaler(name, precision, optimizer, rng):
    """From a scale that is too large at first: 12 steps, of which PyTorch's scaler and ours leave out the same.

    The net is smooth, so that what rounding does stays as small as rounding. Adam makes a step of full size from any
    gradient, also one that is nothing but rounding.
    """
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    f, backend, first_scale = torch.nn.functional, make_backend(name), 2.0**24
    x, y = rng.random((12, 16, 1, 12, 12)).astype("float32"), rng.integers(0, 5, (12, 16))
    net = Sequential(Conv2D(6, 3), Tanh(), AveragePool2D(2), Conv2D(8, 3), Tanh(), Flatten(), Dense(5))
    model = Model(net, (1, 12, 12), optimizer=optimizer, backend=backend, precision=precision)
    if precision == "float16":
        model.state.optimizer_state["loss_scale"] = backend.asarray(first_scale, "float32")
    start = {name: w for name, w in host(model).items() if name.startswith("w/")}

    p = {name.removeprefix("w/"): torch.tensor(w, requires_grad=True) for name, w in start.items()}
    theirs = (
        torch.optim.Adam(p.values(), 0.003)
        if isinstance(optimizer, Adam)
        else torch.optim.SGD(p.values(), 0.05, momentum=0.9)
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=first_scale, enabled=precision == "float16")
    for images, labels in zip(x, y, strict=True):
        with torch.autocast("cpu", dtype=getattr(torch, precision)):
            z = torch.tanh(f.conv2d(torch.tensor(images), p["conv1/kernel"], p["conv1/bias"]))
            z = torch.tanh(f.conv2d(f.avg_pool2d(z, 2), p["conv2/kernel"], p["conv2/bias"]))
            z = z.flatten(1) @ p["dense1/kernel"] + p["dense1/bias"]
        loss = f.cross_entropy(z.float(), torch.tensor(labels))
        theirs.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(theirs)
        scaler.update()
        assert model.step(images, labels) == pytest.approx(loss.item(), rel=EPS[precision])
        if precision == "float16":
            assert float(model.state.optimizer_state["loss_scale"]) == scaler.get_scale()

    skipped = 0
    if precision == "float16":
        skipped = np.log2(first_scale / scaler.get_scale())
        assert 2 <= skipped <= 8
    assert (model.state.step, model.state.optimizer_state["step"]) == (12, 12 - skipped)
    limit = (4 if isinstance(optimizer, SGD) else 16) * EPS[precision]
    ours = host(model)
    for key, w in start.items():
        expected = p[key.removeprefix("w/")].detach().numpy()
        assert np.linalg.norm(ours[key] - expected) <= limit * np.linalg.norm(expected - w), key


@pairs
def test_batch_normalisation_against_autocast(name, precision, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    backend, layer = make_backend(name), BatchNorm(momentum=0.9, epsilon=1e-5)
    x, t = (5 + 3 * rng.standard_normal((32, 6))).astype("float32"), rng.standard_normal((32, 3)).astype("float32")
    model = Model(Sequential(Dense(4), layer, Dense(3)), (6,), loss="mse", backend=backend, precision=precision)
    w = {name: torch.tensor(leaf) for name, leaf in host(model).items()}
    dense1, norm, dense2 = torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4, eps=1e-5, momentum=0.1), torch.nn.Linear(4, 3)
    for linear, ours in ((dense1, "w/dense1"), (dense2, "w/dense2")):
        linear.weight.data, linear.bias.data = w[ours + "/kernel"].T.contiguous(), w[ours + "/bias"]
    with torch.autocast("cpu", dtype=getattr(torch, precision)):
        z = dense2(norm(dense1(torch.tensor(x))))
    loss = torch.nn.functional.mse_loss(z.float(), torch.tensor(t))
    model.optimizer, model.weights = SGD(0.0), settled(model.weights)
    assert model.step(x, t) == pytest.approx(loss.item(), rel=EPS[precision])
    ours = host(model)
    for mine, theirs in (("running_mean", norm.running_mean), ("running_variance", norm.running_var)):
        np.testing.assert_allclose(ours["w/batchnorm1/" + mine], theirs.numpy(), rtol=EPS[precision])


# The scale.


def test_two_thousand_good_steps_double_the_scale_as_pytorch_has_it():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    backend = xcnn.backend("numpy", fuse=False)
    weights = {"w": backend.asarray([1.0], "float32")}
    optimizer = SGD(1e-4)
    state = {**optimizer.init(weights), **loss_scaling.entries(backend)}
    p = torch.ones(1, requires_grad=True)
    theirs, scaler = torch.optim.SGD([p], 1e-4), torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(1))  # it makes its scale at the first use
    seen = set()
    for n in range(2100):
        gradient = np.float32(np.inf if n in (0, 5, 60) else 1.0)
        p.grad = torch.full((1,), float(gradient * scaler.get_scale()))
        scaler.step(theirs)
        scaler.update()
        with np.errstate(invalid="ignore"):
            weights, state, norm, _ = backend.update(
                optimizer, {"w": np.full(1, gradient * state["loss_scale"], "float32")}, state, weights
            )
        assert float(norm) == gradient
        assert float(state["loss_scale"]) == scaler.get_scale(), n
        seen.add(scaler.get_scale())
    assert seen == {2.0**13, 2.0**14, 2.0**15}
    np.testing.assert_allclose(weights["w"], p.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "good_steps", "finite", "expected"),
    [
        (1024.0, 7, True, (1024.0, 8)),
        (1024.0, 1999, True, (2048.0, 0)),
        (1024.0, 1999, False, (512.0, 0)),
        (2.0**24, 1999, True, (2.0**24, 0)),
        (1.0, 3, False, (1.0, 0)),
        (1.5, 3, False, (1.0, 0)),
    ],
)
def test_how_the_scale_moves(backend, scale, good_steps, finite, expected):
    before = loss_scaling.entries(backend, scale, good_steps)
    after = loss_scaling.next_entries(before["loss_scale"], before["good_steps"], backend.asarray(finite))
    assert tuple(backend.to_numpy(after[name]).item() for name in ("loss_scale", "good_steps")) == expected
    assert {name: entry.dtype for name, entry in after.items()} == {name: e.dtype for name, e in before.items()}


def test_the_host_decides_nothing(monkeypatch):
    """An array that can't be asked for its value can still be updated: so it is while a step is captured."""
    backend = xcnn.backend("strict")
    optimizer = Adam(clip_norm=1.0)
    with backend.active():
        weights = {"w": backend.asarray([1.0, 2.0], "float32"), "mean": backend.asarray([3.0], "float32")}
        grads = {"w": backend.asarray([np.inf, 1.0], "float32"), "mean": Next(backend.asarray([4.0], "float32"))}
        state = {**optimizer.init(weights), **loss_scaling.entries(backend)}
        for method in ("__bool__", "__float__", "__int__", "__index__"):
            monkeypatch.setattr(type(weights["w"]), method, refuse)
        with np.errstate(invalid="ignore"):
            after, new_state, _, _ = backend.update(optimizer, grads, loss_scaling.entries_of(state) | state, weights)
        monkeypatch.undo()
    for name, w in weights.items():
        np.testing.assert_array_equal(backend.to_numpy(after[name]), backend.to_numpy(w))
    assert float(new_state["loss_scale"]) == 2.0**15


def refuse(array):
    raise AssertionError("an array was asked for its value")


def test_a_net_without_weights_has_a_scale_too(half):
    model = Model(ReLU(), (3,), loss="mse", backend=half, precision="float16")
    model.step(np.ones((2, 3), "float32"), np.zeros((2, 3)))
    assert model.state.optimizer_state["good_steps"] == 1


def steep(half, data, *slopes):
    """A model, and a function for one step, in which the loss's gradient is multiplied by the next of these."""
    following = iter(slopes)

    def loss(y, t):
        value, dy = losses.mse(y, t)
        return value, dy * np.float32(next(following))

    optimizer = Adam(Step(0.01, every=2, factor=0.1))
    model = Model(small_net(), (1, 8, 8), loss=loss, optimizer=optimizer, backend=half, precision="float16")
    return model, lambda: model.step(data[0], np.eye(4)[data[1]])


def test_an_overflow_skips_the_step_and_halves_the_scale(half, data):
    model, step = steep(half, data, 1e-3, 1e4, 1e-3)
    step()
    before = host(model)
    loss = step()
    after = host(model)
    assert np.isfinite(loss)
    assert (before.pop("loss_scale"), after.pop("loss_scale")) == (2.0**16, 2.0**15)
    assert (before.pop("good_steps"), after.pop("good_steps")) == (1, 0)
    assert model.state.step == 2  # the next step has a key and a batch of its own
    assert before.keys() == after.keys()
    for name, leaf in before.items():  # step too: for Adam's correction and the schedule it was none
        np.testing.assert_array_equal(after[name], leaf)
    assert before["step"] == 1
    step()
    assert (model.state.optimizer_state["step"], model.state.optimizer_state["good_steps"]) == (2, 1)
    assert np.any(host(model)["w/dense1/kernel"] != before["w/dense1/kernel"])


def test_a_gradient_that_no_scale_saves_is_divergence(half, data):
    model, step = steep(half, data, 1, 3e9, 3e9)  # the last is for the search
    step()
    model.state.optimizer_state["loss_scale"] = half.asarray(1.0, "float32")
    before = host(model)
    with pytest.raises(DivergedError, match=r"X501.*a gradient became infinite or NaN.*'dense1'"):
        step()
    for name, leaf in host(model).items():
        np.testing.assert_array_equal(leaf, before[name])


def test_at_every_overflow_the_scale_falls_until_training_goes_on_or_ends(half, data):
    def endless(y, t):
        value, dy = losses.mse(y, t)
        return value, dy + np.float32(np.inf)

    model = Model(Sequential(Flatten(), Dense(4)), (1, 8, 8), loss=endless, backend=half, precision="float16")
    for n in range(16):
        model.step(data[0], np.eye(4)[data[1]])
        assert model.state.optimizer_state["loss_scale"] == 2.0 ** (15 - n)
    with pytest.raises(DivergedError, match="X501"):
        model.step(data[0], np.eye(4)[data[1]])
    assert (model.state.step, model.state.optimizer_state["step"]) == (16, 0)


def test_gradients_too_small_for_float16_need_the_scale(half, rng):
    """A loss in units so large that its gradients are near 1e-8, which is 0 in float16."""

    def tiny(y, t):
        value, dy = losses.mse(y, t)
        return value * np.float32(1e-7), dy * np.float32(1e-7)

    x = rng.standard_normal((64, 3)).astype("float32")
    t = np.tanh(x @ np.array([[1.0], [-2.0], [0.5]]))
    moved, left = {}, {}
    for kind in ("float32", "float16", "unscaled"):
        model = Model(
            Sequential(Dense(8), Tanh(), Dense(1)), (3,), loss=tiny, optimizer=SGD(3e6), backend=half,
            precision="float32" if kind == "float32" else "float16",
        )  # fmt: skip
        if kind == "unscaled":
            model.state.optimizer_state["loss_scale"] = half.asarray(1.0, "float32")
        before = host(model)["w/dense1/kernel"]
        first = model.evaluate(x, t)["loss"]
        for _ in range(60):
            model.step(x, t)
        moved[kind] = np.linalg.norm(host(model)["w/dense1/kernel"] - before)
        left[kind] = model.evaluate(x, t)["loss"] / first
    assert left["float32"] < 0.1
    assert left["float16"] == pytest.approx(left["float32"], rel=0.02)
    assert left["unscaled"] > 0.9
    assert moved["unscaled"] == 0


@pytest.mark.parametrize(("name", "precision"), [("half", "float16"), ("torch", "bfloat16")])
@pytest.mark.parametrize("kind", ["article", "lenet"])
def test_digits_are_learnt_as_in_float32(name, precision, kind):
    """Nets like the article's and like LeNet, on some of the digits 0 and 1."""
    net, loss = {
        "article": (
            Sequential(Conv2D(2, 5, stride=2, bias="untied"), Sigmoid(), Flatten(), Dense(20), Sigmoid(), Dense(2),
                       Sigmoid()),
            "binary_cross_entropy",
        ),
        "lenet": (
            Sequential(Conv2D(4, 5, stride=2), BatchNorm(), ReLU(), MaxPool2D(2), Flatten(), Dense(2)),
            "cross_entropy",
        ),
    }[kind]  # fmt: skip
    digits = xcnn.datasets.mnist01()
    x, y = digits.train.x[:640], digits.train.y[:640]
    results = {}
    for each in (precision, "float32"):
        model = Model(net, (1, 28, 28), loss=loss, optimizer=Adam(0.01), backend=make_backend(name), precision=each)
        history = model.fit(x, y, epochs=2, batch_size=32, progress="none")
        results[each] = history["loss"][-1], model.evaluate(digits.test.x[:500], digits.test.y[:500])["accuracy"]
    assert results["float32"][1] > 0.97
    assert results[precision][1] >= results["float32"][1] - 0.01
    assert results[precision][0] == pytest.approx(results["float32"][0], abs=0.02)
