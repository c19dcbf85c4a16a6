"""The JAX backend: compiled steps and spans of them against the same steps operation by operation; devices; types."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import BackendError, BackendUnavailable, DivergedError, DTypeError, OptionError
from xcnn.layers.layer import Next
from xcnn.training import spans as all_spans
from xcnn.training.schedules import OneCycle, WarmUp

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

from xcnn_jax import compiled, losses  # noqa: E402 - imports JAX


def small_net():
    return xcnn.Sequential(
        xcnn.Conv2D(3, 3, padding=1, bias=False), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.MaxPool2D(2), xcnn.Dropout(0.3),
        xcnn.Flatten(), xcnn.Dense(4),
    )  # fmt: skip


def flat_net():
    """For what does not depend on the layers: with masks and running statistics, and soon compiled."""
    return xcnn.Sequential(xcnn.Flatten(), xcnn.BatchNorm(), xcnn.Dropout(0.3), xcnn.Dense(4))


def made(net=None, compiles=True, **how):
    backend = xcnn.backend("jax", compiles=compiles)
    return xcnn.Model(net or small_net(), (2, 6, 6), backend=backend, **{"dtype": "float64", **how})


@pytest.fixture
def data(rng):
    return rng.standard_normal((40, 2, 6, 6)), rng.integers(0, 4, 40)


@pytest.fixture
def spans(monkeypatch):
    """How many steps each span took, in order."""
    taken = []
    known = compiled.CompiledStep.span

    def span(self, seed, at, *arguments):
        after = known(self, seed, at, *arguments)
        taken.append(0 if after is None else after.state.step - at.step)
        return after

    monkeypatch.setattr(compiled.CompiledStep, "span", span)
    return taken


def hosted(model):
    return {name: np.array(w) for name, w in tree.items(model.weights)}


def assert_equal_models(one, other, rtol=1e-9, atol=1e-12, accuracy=0.0):
    """Weights and losses within rounding; of accuracies, a part of the samples may be nearly undecided."""
    theirs = hosted(other)
    for name, w in hosted(one).items():
        np.testing.assert_allclose(w, theirs[name], rtol=rtol, atol=atol, err_msg=name)
    for column, around in (("loss", 0.0), ("accuracy", accuracy)):
        np.testing.assert_allclose(
            [row[column] for row in one.history.rows],
            [row[column] for row in other.history.rows],
            rtol=rtol,
            atol=around,
        )


OPTIMIZERS = [
    (xcnn.Adam(OneCycle(0.01, 20)), small_net()),
    (xcnn.AdamW(0.003, clip_norm=0.1), flat_net()),
    (xcnn.SGD(WarmUp(5, 0.1), momentum=0.9, nesterov=True, weight_decay=1e-3), flat_net()),
    (xcnn.RMSprop(0.003, momentum=0.5), flat_net()),
]


@pytest.mark.parametrize(("optimizer", "net"), OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_spans_are_steps_operation_by_operation(optimizer, net, data, spans):
    """Masks, running statistics, rates that change, a last smaller batch; NumPy's need not be compiled one by one."""
    x, t = (np.concat([whole, whole[:4]]) for whole in data)
    models = [
        made(net, optimizer=optimizer, seed=5),
        xcnn.Model(net, (2, 6, 6), backend="numpy", dtype="float64", optimizer=optimizer, seed=5),
    ]
    for model in models:
        model.fit(x, t, epochs=3, batch_size=8, progress="none")
    assert max(spans) > 1
    assert sum(spans) == 18
    assert_equal_models(*models)
    for one, other in zip(*(tree.leaves(model.state.optimizer_state) for model in models), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-9, atol=1e-12)


MEASURED = {
    "metrics": ({"metrics": ["f1", "top2", "confusion"]}, {}),
    "weights": ({"metrics": ["f1"]}, {"class_weight": [1, 0.5, 2, 1], "sample_weight": np.linspace(0, 2, 40)}),
    "ignored": ({"loss": partial(xcnn.losses.cross_entropy, ignore_index=1)}, {}),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_and_weighed_within_spans(name, data, spans, monkeypatch):
    """Metrics, weights and labels left out, as NumPy's steps one by one have them; a span keeps 4 steps' outputs."""
    options, how = MEASURED[name]
    monkeypatch.setattr(all_spans, "KEPT_BYTES", 4 * 6 * 4 * 8)
    models = [
        made(flat_net(), seed=5, **options),
        xcnn.Model(flat_net(), (2, 6, 6), backend="numpy", dtype="float64", seed=5, **options),
    ]
    for model in models:
        model.fit(*data, epochs=3, batch_size=6, progress="none", **how)
    assert sum(spans) == 21
    assert 1 < max(spans) <= (4 if models[0].metrics else 7)
    assert_equal_models(*models)
    for row, other in zip(*(model.history.rows for model in models), strict=True):
        assert [row[metric.column] for metric in models[0].metrics] == [
            other[metric.column] for metric in models[0].metrics
        ]


def test_histories_are_the_same_however_long_spans_are(data):
    """They follow from how fast steps are; sums are added step by step."""
    rows = []
    for pace in (1, 2, 5):
        model = made(flat_net(), seed=5, metrics="top2")
        model.compiled_step.pace = pace
        model.fit(*data, batch_size=4, progress="none", class_weight=[1, 0.3, 2, 1])
        rows.append([model.history.rows[0][column] for column in ("loss", "accuracy", "top2")])
    assert rows[0] == rows[1] == rows[2]


def test_single_steps_are_compiled_too(data):
    models = [made(compiles=compiles, optimizer="adam") for compiles in (True, False)]
    x, t = data
    for at in range(0, 24, 8):
        one, other = (model.step(x[at : at + 8], t[at : at + 8]) for model in models)
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert_equal_models(*models)
    assert [*models[0].weights] == [*models[1].weights] == ["conv1", "batchnorm1", "dense1"]
    assert [*models[0].state.optimizer_state] == [*models[1].state.optimizer_state]
    assert models[0].state.optimizer_state["step"] == 3
    assert isinstance(models[0].state.optimizer_state["step"], int)
    assert [model.compiled_step.reason for model in models] == ["", "the backend was made with compiles=False."]


def test_equal_steps_are_compiled_once(data):
    """Nets, losses and optimizers are values; the seed and the learning rate are arguments."""
    x, t = data
    sizes = []
    for seed, rate in ((1, 0.1), (2, 0.3), (2**63 + 7, OneCycle(0.1, 9))):
        made(flat_net(), optimizer=xcnn.SGD(rate), seed=seed).step(x[:5], t[:5])
        sizes.append(compiled.one._cache_size())
    assert sizes[0] == sizes[1] == sizes[2]


CONSTANTS = {
    xcnn.SGD: [
        {"momentum": 0.9, "weight_decay": 1e-3, "clip_norm": 0.1, "nesterov": True},
        {"momentum": 0.5, "weight_decay": 0.1, "clip_norm": 2.0, "nesterov": True},
    ],
    xcnn.AdamW: [
        {"clip_norm": 0.1},
        {"beta1": 0.5, "beta2": 0.9, "epsilon": 0.1, "weight_decay": 0.5, "clip_norm": 1, "learning_rate": 0.02},
    ],
    xcnn.RMSprop: [
        {"momentum": 0.5, "weight_decay": 0.1},
        {"momentum": 0.9, "rho": 0.5, "epsilon": 1.0, "weight_decay": 1},
    ],
}


@pytest.mark.parametrize("kind", CONSTANTS, ids=lambda kind: kind.__name__)
def test_constants_of_optimizers_are_arguments(kind, data, rng):
    """Others compile nothing, in steps and in spans, and mean what they mean on NumPy; one that is 0 may."""
    x, t = rng.standard_normal((16, 5)), data[1][:16]
    models = [
        xcnn.Model(xcnn.Sequential(xcnn.Dense(4)), (5,), backend=b, dtype="float64", optimizer=kind(0.05))
        for b in ("jax", "numpy")
    ]
    sizes = []
    for options in CONSTANTS[kind]:
        for model in models:
            model.optimizer = kind(**{"learning_rate": 0.05, **options})
            if kind is xcnn.SGD:
                model.step(x[:8], t[:8])
            model.fit(x, t, batch_size=8, progress="none")
            assert getattr(model.compiled_step, "reason", "") == ""
        assert_equal_models(*models)
        sizes.append((compiled.one._cache_size(), compiled.many._cache_size()))
    assert sizes[0] == sizes[1]


def test_a_wide_seed_draws_the_same_masks_as_on_numpy(data):
    weights = []
    for backend in ("jax", "numpy"):
        model = xcnn.Model(flat_net(), (2, 6, 6), backend=backend, dtype="float64", seed=2**64 - 3)
        model.fit(*data, batch_size=8, progress="none")
        weights.append(hosted(model))
    for name, w in weights[0].items():
        np.testing.assert_allclose(w, weights[1][name], rtol=1e-9, atol=1e-12)


@xcnn.pure
@dataclass(frozen=True)
class Poisoned(xcnn.layers.Flatten):
    """A layer that gives NaN where the first image's first cell says so."""

    def __call__(self, weights, x, run):
        y, backward = super().__call__(weights, x, run)
        return jnp.where(jnp.any(x[:, 0, 0, 0] == 100), jnp.nan, 1.0) * y, backward


@pytest.mark.parametrize("batch", [1, 4])
def test_a_span_that_diverges(batch, data, spans):
    """The step that makes a NaN is named, and the weights are those from before it."""
    x, t = data
    net = xcnn.Sequential(Poisoned(), xcnn.Dense(4))
    x[batch * 8] = 100
    models = [made(net, compiles=compiles, optimizer=xcnn.SGD(0.01)) for compiles in (True, False)]
    messages = []
    for model in models:
        model.compiled_step.pace = 8
        with pytest.raises(DivergedError) as raised:
            model.fit(x, t, batch_size=8, shuffle=False, progress="none")
        messages.append(str(raised.value))
    assert spans[0] == batch
    assert f"batch {batch + 1}; first non-finite value: output of" in messages[0]
    assert messages[0].splitlines()[0] == messages[1].splitlines()[0]
    assert models[0].state.batch == models[1].state.batch == batch
    assert_equal_models(*models)


def test_a_span_whose_weights_overflow(data):
    """The gradients are finite, but the updated weights are not: that step is not taken either."""
    x, t = data[0].astype("float32"), data[1]
    x[16] = 1e20
    net, how = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4)), {"dtype": "float32", "loss": "cross_entropy"}
    models = [made(net, compiles=compiles, optimizer=xcnn.SGD(1e25), **how) for compiles in (True, False)]
    for model in models:
        model.compiled_step.pace = 8
        with pytest.raises(DivergedError, match="the weights became too large"):
            model.fit(x, t, batch_size=8, shuffle=False, progress="none")
    assert models[0].state.step == models[1].state.step


def test_what_somebody_holds_does_not_change(data):
    model = made(flat_net(), optimizer="adam")
    held, state = model.weights, model.state.optimizer_state
    before = hosted(model)
    model.fit(*data, epochs=2, batch_size=8, progress="none")
    for name, w in tree.items(held):
        np.testing.assert_array_equal(np.asarray(w), before[name])
    assert all(not np.asarray(w).any() for w in tree.leaves(state["first"]))


# What can't be compiled.


@xcnn.pure
@dataclass(frozen=True)
class Branching(xcnn.layers.Flatten):
    """A layer that asks an array for a number."""

    def __call__(self, weights, x, run):
        y, backward = super().__call__(weights, x, run)
        return (y * 2 if float(jnp.max(x)) > 0 else y), backward


def test_a_layer_that_asks_for_numbers(data, spans):
    x, t = data
    model = made(xcnn.Sequential(Branching(), xcnn.Dense(4)))
    history = model.fit(x, t, batch_size=8, progress="none")
    assert np.isfinite(history.rows[-1]["loss"])
    assert spans == [0] * 5
    model.step(x, t)
    assert model.compiled_step.reason.startswith("ConcretizationTypeError: ")
    eager = made(xcnn.Sequential(Branching(), xcnn.Dense(4)), compiles=False)
    np.testing.assert_array_equal(model.predict(x[:2]) != 0, eager.predict(x[:2]) != 0)


class Bare(xcnn.optimizers.Optimizer):
    """An optimizer of a user's own that is no dataclass."""

    learning_rate, clip_norm, moments = 0.1, None, ()

    def change(self, rate, step, w, g):
        return (w - rate * g,)


def test_an_optimizer_that_is_no_dataclass(data):
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4))
    models = [made(net, optimizer=Bare()), made(net, optimizer=xcnn.SGD(0.1))]
    for model in models:
        model.fit(*data, batch_size=8, progress="none")
    assert_equal_models(*models)
    models[0].step(*data)
    assert models[0].compiled_step.reason == "Bare is no dataclass."


@xcnn.pure
class Unhashed(xcnn.layers.Flatten):
    """A layer with a list."""

    __hash__ = None

    def __init__(self):
        object.__setattr__(self, "sizes", [1, 2])


def test_a_layer_that_can_not_be_hashed(data, spans):
    model = made(xcnn.Sequential(Unhashed(), xcnn.Dense(4)))
    model.fit(*data, batch_size=8, progress="none")
    assert max(spans) > 1


def test_errors_within_a_compiled_step_are_the_layers(data):
    model = made(loss=partial(xcnn.losses.huber, delta=-1))
    with pytest.raises(OptionError, match="delta must be a positive number"):
        model.step(data[0], np.zeros((40, 4)))
    assert model.compiled_step.reason == ""


def test_data_that_do_not_fit_are_brought_batch_by_batch(data, spans, monkeypatch):
    monkeypatch.setattr(xcnn.backend("jax").__class__, "free_memory", lambda self: 1000)
    models = [made(flat_net()), xcnn.Model(flat_net(), (2, 6, 6), backend="numpy", dtype="float64")]
    for model in models:
        model.fit(*data, batch_size=8, progress="none")
    assert spans == [0] * 5
    assert_equal_models(*models)


# The forward pass.


def test_the_forward_pass_is_compiled_outside_training(data):
    model, eager = made(), made(compiles=False)
    before = compiled.forward._cache_size()
    np.testing.assert_allclose(model.predict(data[0]), eager.predict(data[0]), rtol=1e-12)
    assert compiled.forward._cache_size() == before + 1
    assert model.evaluate(*data) == pytest.approx(eager.evaluate(*data), rel=1e-12)


MEASURES = {
    "cross_entropy": (xcnn.losses.cross_entropy, {}),
    "options": (partial(xcnn.losses.cross_entropy, label_smoothing=0.1), {}),
    "weights": (partial(xcnn.losses.cross_entropy, ignore_index=2), {"sample_weight": np.linspace(0.5, 2, 40)}),
    "nll": ("nll", {"class_weight": [1, 0.5, 2, 1]}),
}


@pytest.mark.parametrize("name", MEASURES)
def test_the_loss_of_an_evaluation_is_one_program(name, data):
    """Of each size of batch, for every model with an equal loss, whatever the samples weigh; as NumPy has it."""
    loss, weights = MEASURES[name]
    layers = xcnn.Flatten(), xcnn.Dense(4), *([xcnn.LogSoftmax()] if loss == "nll" else [])
    sizes = []
    for factor in (1, 1, 3):
        ours, numpy = (
            xcnn.Model(xcnn.Sequential(*layers), (2, 6, 6), loss=loss, backend=b, dtype="float64")
            for b in ("jax", "numpy")
        )
        how = {option: factor * np.asarray(weight) for option, weight in weights.items()}
        measured = ours.evaluate(*data, batch_size=20, **how)
        assert measured == pytest.approx(numpy.evaluate(*data, batch_size=20, **how), rel=1e-12)
        sizes.append(losses.compiled._cache_size())
    assert sizes[0] == sizes[1] == sizes[2]


def mean(y, t):
    """A loss of a user's own."""
    return jnp.mean(y), jnp.ones_like(y) / y.size


@xcnn.pure
def number(y, t):
    """A loss that asks an array for its value."""
    return float(jnp.mean(y)), jnp.ones_like(y) / y.size


@pytest.mark.parametrize("loss", [mean, number])
def test_a_loss_that_can_not_be_compiled_is_measured_all_the_same(loss, data):
    """Nobody has said that it is pure, or it asks for a number."""
    model = made(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4)), loss=loss)
    assert model.evaluate(*data)["loss"] == pytest.approx(model.predict(data[0]).mean(), rel=1e-9)
    with model.backend.active():
        y, judge = jnp.ones((2, 4)), partial(xcnn.Backend.loss_and_gradient, model.backend)
        assert losses.loss_and_gradient(judge, loss, None, y, y, None) is None


def test_its_backward_is_the_layers(data):
    model = made()
    run = xcnn.Run(model.backend)
    with model.backend.active():
        x = model.backend.asarray(data[0])
        (y, backward), (y0, backward0) = (net(model.weights, x, run) for net in (model.trainer.net, model.net))
        dx, grads = backward(jnp.ones_like(y))
        dx0, grads0 = backward0(jnp.ones_like(y0))
    np.testing.assert_allclose(dx, dx0, rtol=1e-12)
    for (name, g), g0 in zip(tree.items(grads), tree.leaves(grads0), strict=True):
        value, value0 = (one.value if isinstance(one, Next) else one for one in (g, g0))
        np.testing.assert_allclose(value, value0, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
def test_windows_side_by_side(size, rng):
    """Ties, infinities and NaN, against the reference."""
    x = rng.integers(-2, 3, (3, 2, 6, 8)).astype("float64")
    x[rng.random(x.shape) < 0.15] = np.nan
    x[rng.random(x.shape) < 0.2] = -np.inf
    dy = rng.standard_normal((3, 2, 6 // size[0], 8 // size[1]))
    backend = xcnn.backend("jax")
    with backend.active():
        y, which = backend.max_pool(backend.asarray(x), size, stride=size)
        dx = backend.max_pool_adjoint(backend.asarray(dy), which, x.shape, size, stride=size)
    y0, which0 = xcnn.core.reference.max_pool(x, size, stride=size)
    np.testing.assert_array_equal(y, y0)
    np.testing.assert_array_equal(which, which0)
    np.testing.assert_allclose(
        dx, xcnn.core.reference.max_pool_adjoint(dy, which0, x.shape, size, stride=size), rtol=1e-12
    )


# Types.


def in_half(precision):
    """Two equal models in mixed precision, one of which computes operation by operation."""
    first = {"bfloat16": (xcnn.Conv2D(3, 3), xcnn.Flatten()), "float16": (xcnn.Flatten(), xcnn.BatchNorm())}[precision]
    net = xcnn.Sequential(*first, xcnn.ReLU(), xcnn.Dense(4))
    how = {"dtype": "float32", "precision": precision, "optimizer": xcnn.SGD(0.05)}
    return [made(net, compiles=compiles, **how) for compiles in (True, False)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_in_spans(precision, data, spans):
    x, t = data[0].astype("float32"), data[1]
    models = in_half(precision)
    for model in models:
        model.fit(x, t, epochs=2, batch_size=8, progress="none")
    assert max(spans) > 1
    assert_equal_models(*models, rtol=0.02, atol=2e-3, accuracy=1 / len(x))
    assert {str(w.dtype) for w in tree.leaves(models[0].weights)} == {"float32"}


def test_skipped_steps_of_float16(data):
    """A scale that is too large is halved within the span, and the step's update left out."""
    x, t = data[0].astype("float32"), data[1]
    models = in_half("float16")
    for model in models:
        model.state.optimizer_state["loss_scale"] = model.backend.asarray(2.0**24, "float32")
        model.compiled_step.pace = 8
        model.fit(x, t, batch_size=8, progress="none")
    states = [model.state.optimizer_state for model in models]
    assert float(states[0]["loss_scale"]) == float(states[1]["loss_scale"]) < 2.0**24
    assert states[0]["step"] == states[1]["step"] < 5
    assert models[0].state.step == 5


def test_wide_numbers_are_the_backends_own():
    """JAX's switch for 64 bits is on while the backend computes, and the process's else."""
    backend = xcnn.backend("jax")
    assert backend.asarray(np.ones(2)).dtype == "float64"
    assert backend.asarray([1, 2]).dtype == "int64"
    assert jnp.ones(2).dtype == "float32"
    with backend.active():
        assert jnp.ones(2).dtype == "float64"
    assert not jax.config.jax_enable_x64


def test_stricter_rules_of_the_process_are_those_of_its_own_code(data):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        model = made(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4)), dtype="float32", optimizer="sgd")
        model.fit(data[0].astype("float32"), data[1], batch_size=8, progress="none")
        inside = model.predict(data[0].astype("float32"))
        with pytest.raises(Exception, match="promotion"):
            jnp.ones(2, "int32") + jnp.ones(2, "float32")
    np.testing.assert_array_equal(inside, model.predict(data[0].astype("float32")))


def test_products_are_exact_unless_tf32_is_asked_for():
    with xcnn.backend("jax").active():
        assert jax.config.jax_default_matmul_precision == "highest"
    with xcnn.backend("jax", tf32=True).active():
        assert jax.config.jax_default_matmul_precision == "default"


def test_tf32_is_refused_on_a_cpu():
    with pytest.raises(OptionError, match="does not compute in tf32") as raised:
        made(dtype="float32", precision="tf32")
    assert raised.value.code == "X104"


# Devices.


def test_devices():
    assert xcnn.backend("jax:cpu") == xcnn.backend("jax") == xcnn.backend("jax:cpu:0")
    assert xcnn.backend("jax").device_name() == "cpu"
    with pytest.raises(BackendUnavailable, match=r"JAX .* has no device 'tpu'"):
        xcnn.backend("jax:tpu")
    with pytest.raises(BackendUnavailable, match="but no 'cpu:99'"):
        xcnn.backend("jax:cpu:99")
    with pytest.raises(BackendUnavailable, match="but no 'cpu:x'"):
        xcnn.backend("jax:cpu:x")


def test_a_second_device(data):
    """The tests' JAX has two, both of the one processor."""
    if len(jax.devices("cpu")) < 2:
        pytest.skip("JAX was started with one device")
    other = xcnn.backend("jax:cpu:1")
    assert other.spec == "jax:cpu:1"
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Flatten(), xcnn.Dropout(0.3), xcnn.Dense(4))
    model = xcnn.Model(net, (2, 6, 6), backend=other)
    model.fit(data[0].astype("float32"), data[1], batch_size=8, progress="none")
    place = {next(iter(w.devices())) for w in tree.leaves(model.weights)}
    assert place == {jax.devices("cpu")[1]}
    assert xcnn.backend_of(tree.leaves(model.weights)[0]) == other
    with pytest.raises(BackendError, match="has its kernel on jax:cpu:1 but x is on jax"):
        model.net(model.weights, xcnn.backend("jax").asarray(data[0], "float32"), xcnn.Run(other))


def test_arrays_of_others_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(DTypeError, match="a Tensor is neither a host array nor JAX's"):
        xcnn.backend("jax").asarray(torch.ones(2))


def test_memory_that_runs_out_is_told(monkeypatch):
    backend = xcnn.backend("jax")
    with pytest.raises(xcnn.errors.DeviceMemoryError, match="X304"), backend.active():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), backend.active():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-21, 1e-18, 1.0, 1e17, 1e20, 1e36])
def test_the_gradients_norm_holds_where_their_squares_do_not(scale, rng):
    """In compiled code, held to NumPy's norm in double precision."""
    from xcnn_jax.norms import norm_of

    grads = {"a": rng.standard_normal((30, 7)) * scale, "b": rng.standard_normal(5) * scale, "none": np.zeros((0, 3))}
    with xcnn.backend("jax").active():
        found = jax.jit(norm_of)({name: g.astype("float32") for name, g in grads.items()})
    expected = np.linalg.norm(
        np.concatenate([np.asarray(g, "float32").astype("float64").ravel() for g in grads.values()])
    )
    assert found.dtype == np.float32
    assert float(found) == pytest.approx(expected, rel=1e-6)
