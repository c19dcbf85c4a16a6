"""CuPy's backend rehearsed on the host: its fused runs, its captured steps and its policies, with its own kernels."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from cuda_on_host.emulator import needs_compiler
from cuda_on_host.rehearsal import RehearsedGpu
from xcnn_cupy.cublaslt import Product

import xcnn
from xcnn.core import tree

pytestmark = needs_compiler
ORACLE = xcnn.backend("numpy", algorithm="gemm", fuse=False)
"""NumPy's layers one by one, on products of matrices: nothing of it is compiled."""


def model_on(backend, net, shape, **options):
    return xcnn.Model(net, shape, backend=backend, **options)


def lenet_like(**how):
    return xcnn.Sequential(
        xcnn.Conv2D(4, 3, **how), xcnn.ReLU(), xcnn.MaxPool2D(2),
        xcnn.Conv2D(6, 3, bias=False), xcnn.BatchNorm(), xcnn.ReLU(),
        xcnn.Flatten(), xcnn.Dropout(0.25), xcnn.Dense(10),
    )  # fmt: skip


def residual(*last):
    return xcnn.Sequential(
        xcnn.Conv2D(4, 3, padding="same", bias=False), xcnn.BatchNorm(), xcnn.ReLU(),
        xcnn.Residual(xcnn.Conv2D(4, 3, padding="same", bias=False), xcnn.BatchNorm(), xcnn.ReLU()),
        xcnn.ReLU(), *last, xcnn.Dense(3),
    )  # fmt: skip


def article():
    return xcnn.Sequential(
        xcnn.Conv2D(3, 3, bias="untied"), xcnn.Sigmoid(), xcnn.Flatten(),
        xcnn.Dense(8), xcnn.Sigmoid(), xcnn.Dense(1), xcnn.Sigmoid(),
    )  # fmt: skip


def means():
    return residual(xcnn.AveragePool2D(2), xcnn.GlobalAveragePool2D())


NETS = {
    "lenet": (lenet_like, (2, 9, 10), {"loss": "cross_entropy", "optimizer": xcnn.Adam(1e-2)}),
    "groups": (lambda: lenet_like(groups=2, stride=2, padding="same"), (2, 15, 15), {"optimizer": xcnn.RMSprop(1e-3)}),
    "residual": (means, (1, 6, 7), {"optimizer": xcnn.SGD(0.1, momentum=0.9, clip_norm=1.0)}),
    "article": (article, (1, 6, 6), {"loss": "binary_cross_entropy", "optimizer": xcnn.SGD(0.5)}),
}

CAPTURED = {  # NumPy's own arithmetic can't be recorded, so all of these has to run in kernels
    **{name: NETS[name] for name in ("lenet", "groups", "article")},
    "residual": (lambda: residual(xcnn.Flatten()), *NETS["residual"][1:]),
}


def data(rng, shape, classes, samples=12):
    return rng.standard_normal((samples, *shape)).astype("float32"), rng.integers(0, classes, samples)


def gradients(model, x, t, scale=1):
    """The loss and all gradients of a batch; the loss's is scaled on its way."""
    backend = model.trainer.backend
    run = xcnn.Run(backend, train=True, key=(5, 3))
    y, backward = model.trainer.net(model.weights, x, run)
    value, dy, right = backend.loss_and_gradient(model.loss, model.trainer.threshold, y, t)
    dx, grads = backward(dy * dy.dtype.type(scale))
    return y, value, right, dx, grads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_fused_nets_compute_as_the_layers_do(rng, name, dtype, backwards):
    make, shape, options = NETS[name]
    ours = model_on(RehearsedGpu(backwards=backwards), make(), shape, dtype=dtype, **options)
    theirs = model_on(ORACLE, make(), shape, dtype=dtype, **options)
    x, t = data(rng, shape, max(ours.output_shape[0], 2))
    x = x.astype(dtype)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for mine, other in zip(gradients(ours, x, t), gradients(theirs, x, t), strict=True):
        if isinstance(mine, dict):
            assert [path for path, _ in tree.items(mine)] == [path for path, _ in tree.items(other)]
            for (path, g), h in zip(tree.items(mine), tree.leaves(other), strict=True):
                g, h = getattr(g, "value", g), getattr(h, "value", h)
                assert g.dtype == h.dtype
                assert np.allclose(g, h, rtol=tolerance, atol=tolerance), path
        else:
            assert np.allclose(mine, other, rtol=tolerance, atol=tolerance)


@pytest.fixture
def eager_steps(monkeypatch):
    """How often a step ran launch by launch, but for being captured."""
    from xcnn_cupy.capture import CapturedStep

    seen, call = [], CapturedStep.__call__
    monkeypatch.setattr(CapturedStep, "__call__", lambda self, *arguments: (seen.append(1), call(self, *arguments))[1])
    return seen


@pytest.mark.parametrize(("precision", "rounding"), [("tf32", 2**-20), ("bfloat16", 2**-8), ("float16", 2**-11)])
@pytest.mark.parametrize("name", NETS)
def test_mixed_precision_is_as_exact_as_the_layers_are(rng, name, precision, rounding):
    """The errors of a fused net's gradients, by float64, beside those of its layers one by one in the same types.

    A rounding that carries a cell over a ReLU's edge makes both jump, so they are held to each other. (cuDNN's part in
    TF32 is computed exactly here.)
    """
    make, shape, options = NETS[name]
    ours = model_on(RehearsedGpu(), make(), shape, precision=precision, **options)
    exact = model_on(ORACLE, make(), shape, dtype="float64", **options)
    x, t = data(rng, shape, max(ours.output_shape[0], 2))
    scale = 2**10  # as float16's policy has one, or small gradients lose digits
    *_, grads = gradients(ours, x, t, scale)
    ours.trainer = replace(ours.trainer, net=ours.trainer.layers)
    *_, of_layers = gradients(ours, x, t, scale)
    *_, expected = gradients(exact, x.astype("float64"), t)
    for (path, g), h, right in zip(tree.items(grads), tree.leaves(of_layers), tree.leaves(expected), strict=True):
        if not hasattr(g, "value"):
            assert g.dtype == "float32"
            assert g.flags.c_contiguous
            error, other = (np.linalg.norm(one / np.float32(scale) - right) for one in (g, h))
            assert error <= 1.5 * other + 2 * rounding * np.linalg.norm(right), path


@pytest.mark.parametrize(
    ("precision", "math", "dtype", "channels_last"),
    [
        ("float32", "float32", "float32", False),
        ("tf32", "tf32", "float32", True),
        ("bfloat16", "float32", "bfloat16", True),
        ("float16", "float32", "float16", True),
        ("float64", "float32", "float64", False),
    ],
)
def test_what_cudnn_is_asked_under_each_policy(rng, precision, math, dtype, channels_last):
    """Strict float32 is never asked with tensor cores allowed; and the memory's order follows the policy."""
    backend = RehearsedGpu(deterministic=True, workspace=12345)
    options = {"dtype": "float64"} if precision == "float64" else {"precision": precision}
    model = model_on(backend, lenet_like(), (2, 9, 10), **options)
    x, t = data(rng, (2, 9, 10), 10)
    backend.gpu.asked.clear()
    gradients(model, x.astype(model.dtype), t)
    assert {question.map for question in backend.gpu.asked} == {"forward", "input", "kernel"}
    for question in backend.gpu.asked:
        assert (question.math, question.dtype) == (math, dtype)
        assert (question.deterministic, question.workspace) == (True, 12345)
        assert question.x == type(question.x).dense(question.x.shape, channels_last)


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_epochs_are_those_of_single_steps(rng, name, eager_steps):
    """Two epochs, with a last smaller batch, as spans of replayed graphs and step by step on NumPy."""
    make, shape, options = CAPTURED[name]
    models = [
        model_on(backend, make(), shape, seed=3, dtype="float64", **options) for backend in (RehearsedGpu(), ORACLE)
    ]
    x, t = data(rng, shape, max(models[0].output_shape[0], 2), samples=13)
    histories = [model.fit(x, t, epochs=2, batch_size=5, progress="none") for model in models]
    assert models[0].compiled_step.reason == ""
    assert sorted(models[0].compiled_step.graphs) == [(3, 3), (3, 5)]  # seed 3, batches of 3 and 5
    assert not eager_steps
    for row, other in zip(*(history.rows for history in histories), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-9)
        assert row["accuracy"] == other["accuracy"]
    assert models[0].state.step == models[1].state.step == 6
    assert models[0].state.optimizer_state["step"] == 6
    for (path, w), v in zip(tree.items(models[0].weights), tree.leaves(models[1].weights), strict=True):
        assert np.allclose(w, v, rtol=1e-9, atol=1e-11), path


def test_metrics_are_counted_within_spans(rng, eager_steps):
    """By the outputs of each step of a graph, as step by step on NumPy."""
    make, shape, options = CAPTURED["lenet"]
    models = [
        model_on(b, make(), shape, seed=3, dtype="float64", metrics=["f1", "top2"], **options)
        for b in (RehearsedGpu(), ORACLE)
    ]
    x, t = data(rng, shape, 10, samples=13)
    histories = [model.fit(x, t, epochs=2, batch_size=4, progress="none") for model in models]
    assert models[0].compiled_step.reason == ""
    assert not eager_steps
    for row, other in zip(*(history.rows for history in histories), strict=True):
        assert (row["f1"], row["top2"], row["accuracy"]) == (other["f1"], other["top2"], other["accuracy"])
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-9)


def test_what_an_account_does_not_know_is_taken_step_by_step(rng):
    """A batch in parts has several losses, of which a graph enters one; weights of samples are not gathered."""
    for how, told in (({"accumulate": 2}, "in parts"), ({"class_weight": [1, 2]}, "have weights")):
        models = [small(backend, dtype="float64", seed=1) for backend in (RehearsedGpu(), ORACLE)]
        x, t = data(rng, (1, 6, 6), 2)
        rows = [model.fit(x, t, batch_size=4, progress="none", **how).rows[0] for model in models]
        assert told in models[0].compiled_step.reason
        assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-9)


# Spans.


def small(backend, **options):
    """A model that learns, of 6x6 images."""
    return model_on(backend, article(), (1, 6, 6), loss="binary_cross_entropy", **options)


def flat(backend, loss):
    """A model of one dense layer."""
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    return xcnn.Model(net, (1, 6, 6), loss=loss, optimizer=xcnn.SGD(0.1), backend=backend, dtype="float64")


def test_spans_and_single_steps_can_be_mixed(rng):
    """Weights that a step, an assignment or another fit leaves are those that the next span begins with."""
    models = [small(backend, optimizer="adam", dtype="float64") for backend in (RehearsedGpu(), ORACLE)]
    x, t = data(rng, (1, 6, 6), 2, samples=20)
    for model in models:
        model.fit(x, t, epochs=1, batch_size=4, progress="none")
        model.step(x[:6], t[:6])
        model.fit(x, t, epochs=1, batch_size=4, progress="none")
        model.weights = tree.map(lambda w: 0.5 * w, model.weights)
        model.fit(x[:9], t[:9], epochs=2, batch_size=4, progress="none", shuffle=False)
    for w, v in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        assert np.allclose(w, v, rtol=1e-9, atol=1e-12)


def test_weights_that_were_given_do_not_change(rng):
    model = small(RehearsedGpu())
    x, t = data(rng, (1, 6, 6), 2)
    model.fit(x, t, epochs=1, batch_size=4, progress="none")
    held, copied = model.weights, tree.map(np.copy, model.weights)
    model.fit(x, t, epochs=1, batch_size=4, progress="none")
    assert all(np.array_equal(w, v) for w, v in zip(tree.leaves(held), tree.leaves(copied), strict=True))
    assert not np.array_equal(model.weights["dense1"]["kernel"], held["dense1"]["kernel"])


def test_a_schedule_is_followed_within_a_span(rng):
    schedule = xcnn.schedules.Cosine(0.5, 12)
    models = [small(backend, optimizer=xcnn.SGD(schedule), dtype="float64") for backend in (RehearsedGpu(), ORACLE)]
    x, t = data(rng, (1, 6, 6), 2, samples=24)
    for model in models:
        model.fit(x, t, epochs=2, batch_size=4, progress="none")
    for w, v in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        assert np.allclose(w, v, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("bad", ["loss", "weights"])
def test_a_span_stops_before_the_step_that_diverges(bad, eager_steps):
    """The weights are those before that batch, as without spans: also where only the update overflowed."""
    found = []
    x, t = np.ones((12, 1, 2, 2), "float32"), np.full((12, 1), 0.5, "float32")
    if bad == "weights":
        x[8:10], t[8:10] = 0.9, 1  # until then the gradient is 0
    else:
        x[8:10] = 3e38  # the sum of four is infinite
    for backend in (RehearsedGpu(), ORACLE):
        net, optimizer = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(1)), xcnn.SGD(1e38 if bad == "weights" else 0.1)
        model = model_on(backend, net, (1, 2, 2), loss="binary_cross_entropy_with_logits", optimizer=optimizer)
        start = 0.0 if bad == "weights" else 1.0
        model.weights = {"dense1": {"kernel": np.full((4, 1), start), "bias": np.zeros(1)}}
        if hasattr(model.compiled_step, "pace"):  # not on NumPy
            model.compiled_step.pace = 8  # all of the epoch in one span
        with pytest.raises(xcnn.errors.DivergedError) as raised:
            model.fit(x, t, epochs=1, batch_size=2, progress="none", shuffle=False)
        found.append((model, raised.value))
    (ours, error), (theirs, other) = found
    assert error.summary == other.summary
    assert ours.state.batch == theirs.state.batch == 4
    assert len(eager_steps) == 1  # that step alone
    for w, v in zip(tree.leaves(ours.weights), tree.leaves(theirs.weights), strict=True):
        assert np.allclose(w, v, rtol=1e-6)


def test_what_can_not_be_captured_runs_step_by_step_and_says_why(rng, caplog):
    @xcnn.pure
    class Own(xcnn.SGD):
        pass

    x, t = data(rng, (1, 6, 6), 2)
    with caplog.at_level("INFO", logger="xcnn"):
        model = small(RehearsedGpu(), optimizer=Own(0.1))
        model.fit(x, t, epochs=2, batch_size=4, progress="none")
    assert model.state.step == 6
    assert "Own has no kernel" in model.compiled_step.reason
    assert caplog.text.count("training steps run one by one: Own has no kernel") == 1


@pytest.mark.parametrize("ours", [False, True])
def test_a_loss_that_changes_between_epochs(ours, rng):
    """What is not known to be pure is not captured; ours is captured anew when an option of it is another."""
    smoothing = 0.0

    def loss(y, t):
        return xcnn.losses.cross_entropy(y, t, label_smoothing=smoothing)

    x, labels = data(rng, (1, 6, 6), 2)
    models = []
    for backend in (RehearsedGpu(), ORACLE):
        smoothing, option = 0.0, partial(xcnn.losses.cross_entropy, label_smoothing=0.0)

        def change(model, history, option=option):
            nonlocal smoothing
            smoothing = option.keywords["label_smoothing"] = 0.6

        models.append(flat(backend, option if ours else loss))
        models[-1].fit(x, labels, epochs=2, batch_size=4, callbacks=[change], progress="none")
    for w, v in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        assert np.allclose(w, v, rtol=1e-9, atol=1e-12)
    assert models[0].compiled_step.reason.startswith("" if ours else "loss is not marked as pure")
    assert bool(models[0].compiled_step.graphs) is ours


def test_a_loss_whose_value_is_no_array_is_not_captured(rng):
    @xcnn.pure
    def loss(y, t):
        value, dy = xcnn.losses.cross_entropy(y, t)
        return float(value), dy

    x, labels = data(rng, (1, 6, 6), 2)
    model = flat(RehearsedGpu(), loss)
    model.fit(x.astype("float64"), labels, batch_size=4, progress="none")
    assert model.compiled_step.reason == "the loss's value is no array of the device."


def test_data_that_is_too_large_stays_on_the_host(rng, monkeypatch):
    x, t = data(rng, (1, 6, 6), 2)
    model = small(RehearsedGpu())
    monkeypatch.setattr(model.trainer.backend.gpu, "free", 1000)
    model.fit(x, t, epochs=2, batch_size=4, progress="none")
    assert model.state.step == 6
    assert "the data set takes" in model.compiled_step.reason
    monkeypatch.setattr(model.trainer.backend.gpu, "free", 10**6)
    model.fit(x[:8], t[:8], epochs=1, batch_size=4, progress="none")
    assert model.state.step == 8
    assert model.compiled_step.reason == ""


def test_data_that_is_changed_between_epochs_is_seen(rng):
    """As by a callback that augments it in place."""
    models = [small(backend, optimizer="adam", dtype="float64") for backend in (RehearsedGpu(), ORACLE)]
    for model in models:
        x, t = data(np.random.default_rng(1), (1, 6, 6), 2)
        x = x.astype("float64")

        def turn(model, history, x=x):
            x[...] = x[:, :, ::-1].copy()

        model.fit(x, t, epochs=3, batch_size=4, progress="none", callbacks=turn)
        model.trainer = replace(model.trainer, seed=9)  # and so is another seed
        model.fit(x, t, epochs=1, batch_size=4, progress="none")
    assert models[0].compiled_step.reason == ""
    for w, v in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        assert np.allclose(w, v, rtol=1e-9, atol=1e-12)


def test_data_is_brought_to_the_device_once(rng, monkeypatch):
    """Each epoch brings its order alone; what cannot be written to is not even looked at."""
    model = small(RehearsedGpu())
    x, labels = data(rng, (1, 6, 6), 2)
    x.flags.writeable = labels.flags.writeable = False
    brought, device = [], type(model.backend.gpu)
    put = device.put

    def counted(self, there, here, *more):
        brought.append(here.nbytes)
        put(self, there, here, *more)

    monkeypatch.setattr(device, "put", counted)
    model.fit(x, labels, epochs=4, batch_size=4, progress="none")
    assert model.compiled_step.reason == ""
    order = 8 * len(x)
    assert [brought.count(size) for size in (x.nbytes, order)] == [1, 4 + (labels.nbytes == order)]


def test_graphs_can_be_turned_off(rng):
    x, t = data(rng, (1, 6, 6), 2)
    model = small(RehearsedGpu(compiles=False))
    model.fit(x, t, epochs=1, batch_size=4, progress="none")
    assert model.state.step == 3
    assert model.compiled_step.reason == "the backend was made with compiles=False."


def test_an_interrupted_span_is_forgotten(rng, monkeypatch):
    """What was not told of is taken back: training goes on from the standing before it."""
    x, t = data(rng, (1, 6, 6), 2, samples=16)
    models = [small(RehearsedGpu(), dtype="float64") for _ in range(2)]
    step, calls = models[0].compiled_step, []
    read = step.account.read

    def interrupted():
        calls.append(1)
        found = read()
        if len(calls) == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(step.account, "read", interrupted)
    history = models[0].fit(x, t, epochs=1, batch_size=2, progress="none")
    assert history.stopped == "interrupted"
    assert models[0].state.batch == 1
    models[0].fit(x, t, epochs=1, batch_size=2, progress="none", resume=True)
    models[1].fit(x, t, epochs=1, batch_size=2, progress="none")
    for w, v in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        assert np.array_equal(w, v)


# Without the plans that one would like.


@pytest.mark.parametrize(
    "refused",
    [{"relu"}, {"forward"}, {"input"}, {"kernel"}, {"product"}, {"preferred"}, {"product", "input"}],
    ids=lambda names: ", ".join(sorted(names)),
)
def test_other_ways_where_cudnn_has_no_plan(rng, monkeypatch, refused):
    make, shape, options = NETS["lenet"]
    backend = RehearsedGpu()
    monkeypatch.setattr(backend.gpu, "refused", refused)
    ours = model_on(backend, make(), shape, **options)
    theirs = model_on(ORACLE, make(), shape, **options)
    x, t = data(rng, shape, 10)
    *_, grads = gradients(ours, x, t)
    *_, expected = gradients(theirs, x, t)
    for g, h in zip(tree.leaves(grads), tree.leaves(expected), strict=True):
        assert np.allclose(getattr(g, "value", g), getattr(h, "value", h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "refused", "by_cublaslt"),
    [
        ("auto", set(), True),
        ("auto", {"preferred"}, False),
        ("auto", {"product"}, False),
        ("gemm", set(), True),
        ("cudnn", set(), False),
    ],
    ids=str,
)
def test_who_multiplies_for_a_dense_layer(rng, monkeypatch, algorithm, refused, by_cublaslt):
    backend = RehearsedGpu(algorithm=algorithm, deterministic=True, workspace=1000)
    device = backend.gpu
    for name, value in (("refused", refused), ("asked", []), ("multiplied", [])):
        monkeypatch.setattr(device, name, value)
    model = model_on(backend, xcnn.Sequential(xcnn.Dense(5)), (7,))
    x, t = data(rng, (7,), 5, samples=3)
    *_, dx, grads = gradients(model, x, t)
    *_, expected_dx, expected = gradients(model_on(ORACLE, model.net, (7,), seed=model.seed), x, t)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grads["dense1"]["kernel"], expected["dense1"]["kernel"], rtol=1e-5, atol=1e-7)
    how = {"deterministic": True, "workspace": 1000}
    products = {Product(3, 7, 5, **how), Product(7, 3, 5, a_turned=True, **how), Product(3, 5, 7, b_turned=True, **how)}
    assert set(device.multiplied) == (products if by_cublaslt else set())
    assert len(device.asked) == (0 if by_cublaslt else 3)


def test_matrices_that_begin_or_lie_anywhere_in_memory(rng):
    """What cublasLt can't read is copied, and what it can't write is written elsewhere."""
    matrices = RehearsedGpu().matrices
    cells = rng.standard_normal(2 * 6 * 8 + 1).astype("float32")
    a, b = cells[1:49].reshape(6, 8), cells[49:].reshape(8, 6)
    out = np.full(37, np.nan, "float32")[1:].reshape(6, 6)
    for one, other, expected in ((a, b, a @ b), (b.T, b, b.T @ b), (a[::2, ::2], b[::2], a[::2, ::2] @ b[::2])):
        into = out[: len(one)]
        assert matrices.multiply(one, other, into) is into
        np.testing.assert_allclose(into, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(matrices.multiply(one, other), expected, rtol=1e-4, atol=1e-6)
    assert matrices.multiply(a.astype("int32"), b.astype("int32")) is None
    assert matrices.multiply(a.astype("float64"), b) is None
    assert matrices.multiply(a[:0], b) is None


def test_images_that_begin_anywhere_in_memory(rng):
    """cuDNN reads 16 bytes at once: a slice that begins in between is copied."""
    cells = rng.standard_normal(2 * 3 * 5 * 5 + 1).astype("float32")
    x, k = cells[1:].reshape(2, 3, 5, 5), rng.standard_normal((4, 3, 3, 3)).astype("float32")
    assert x.ctypes.data % 16
    backend = RehearsedGpu(algorithm="cudnn")
    assert np.allclose(backend.correlate(x, k), xcnn.backend("numpy", algorithm="gemm").correlate(x, k), atol=1e-5)


def test_explanations_name_the_algorithm_and_why():
    conv = xcnn.Conv2D(8, 3)
    explained = {
        name: xcnn.explain_algorithm(conv, (4, 2, 9, 9), RehearsedGpu(algorithm=name)) for name in ("auto", "gemm")
    }
    assert (explained["auto"].algorithm, explained["auto"].workspace_bytes) == ("cudnn", 0)
    assert explained["gemm"].algorithm == "gemm"
    assert explained["gemm"].workspace_bytes > 0


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_captured_epochs_in_mixed_precision(rng, precision, eager_steps):
    """As launch by launch, bit for bit: also where the loss's scale is too large at first."""
    make, shape, options = CAPTURED["lenet"]
    models = [
        model_on(RehearsedGpu(compiles=compiles), make(), shape, precision=precision, **options)
        for compiles in (True, False)
    ]
    x, t = data(rng, shape, 10, samples=13)
    for model in models:
        if precision == "float16":
            scale = np.asarray(2.0**24, "float32")
            model.state = replace(model.state, optimizer_state={**model.state.optimizer_state, "loss_scale": scale})
        model.fit(40 * x, t, epochs=2, batch_size=5, progress="none")
    one, other = models
    assert one.compiled_step.reason == ""
    assert len(eager_steps) == other.state.step == 6
    assert one.state.step == 6
    for w, v in zip(tree.leaves(one.weights), tree.leaves(other.weights), strict=True):
        assert np.array_equal(w, v)
    assert one.state.optimizer_state["step"] == other.state.optimizer_state["step"]
    if precision == "float16":
        assert one.state.optimizer_state["loss_scale"] == other.state.optimizer_state["loss_scale"] < 2**24
        assert one.state.optimizer_state["step"] < 6


def test_a_summary_asks_the_device_what_is_free():
    backend = RehearsedGpu()
    model = model_on(backend, xcnn.Sequential(xcnn.Dense(2)), (3,))
    summary = model.summary(4)
    assert summary.free_bytes == backend.gpu.free
    assert summary.prediction_bytes is None  # nobody counts there
    assert model.trainer.at_once == 256
