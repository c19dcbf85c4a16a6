"""Adagrad, NAdam, LAMB, Muon; what wraps another optimizer; groups of parameters."""

from dataclasses import replace

import numpy as np
import pytest
from whole import compiled

import xcnn
from xcnn.core import tree
from xcnn.errors import OptionError
from xcnn.layers import Next
from xcnn.training import optimizers as o

QUIET = {"progress": "none"}


@pytest.fixture
def problem(rng):
    weights = {"conv1": {"kernel": rng.normal(size=(4, 1, 3, 3)), "bias": rng.normal(size=4)}}
    weights["head"] = {"kernel": rng.normal(size=(5, 3)), "bias": rng.normal(size=3)}
    return weights, [tree.map(lambda w: rng.normal(size=w.shape), weights) for _ in range(7)]


def run_ours(backend, optimizer, weights, gradients):
    """Seven steps by the backend's own update."""
    if backend.name == "jax":
        pytest.skip("JAX compiles each operation by itself here; its compiled steps are compared below")
    w = tree.map(backend.asarray, weights)
    state = optimizer.init(w)
    for grads in gradients:
        w, state, norm, size = backend.update(optimizer, tree.map(backend.asarray, grads), state, w)
    flat = np.concatenate([g.ravel() for g in tree.leaves(gradients[-1])])
    if not isinstance(optimizer, o.Groups):
        assert float(norm) == pytest.approx(np.linalg.norm(flat))
    assert float(size) == pytest.approx(np.linalg.norm(np.concatenate([a.ravel() for a in hosts(backend, w)])))
    return tree.map(backend.to_numpy, w), state


def hosts(backend, weights):
    return [backend.to_numpy(leaf) for leaf in tree.leaves(weights)]


def run_theirs(make, weights, gradients):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    parameters = {path: torch.tensor(w, requires_grad=True) for path, w in tree.items(weights)}
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in which NAdam then keeps its product
    try:
        optimizer = make(torch, parameters)
        for grads in gradients:
            for path, g in tree.items(grads):
                parameters[path].grad = torch.tensor(g)
            optimizer.step()
    finally:
        torch.set_default_dtype(usual)
    return {path: parameter.detach().numpy() for path, parameter in parameters.items()}


TABLE = {
    "adagrad": (o.Adagrad(0.1), lambda t, p: t.optim.Adagrad(p.values(), 0.1)),
    "adagrad_decay": (
        o.Adagrad(0.1, weight_decay=0.1),
        lambda t, p: t.optim.Adagrad(p.values(), 0.1, weight_decay=0.1),
    ),
    "nadam": (o.NAdam(0.02), lambda t, p: t.optim.NAdam(p.values(), 0.02)),
    "nadam_options": (
        o.NAdam(0.02, beta1=0.8, beta2=0.9, epsilon=1e-5, momentum_decay=0.1),
        lambda t, p: t.optim.NAdam(p.values(), 0.02, (0.8, 0.9), 1e-5, momentum_decay=0.1),
    ),
    "groups": (
        o.Groups(
            o.AdamW(0.02, weight_decay=0.3),
            (o.Group("*bias", weight_decay=0.0, rate=0.5), o.Group("head/*", optimizer=o.SGD(momentum=0.9), rate=2.0)),
        ),
        lambda t, p: Several(
            t.optim.AdamW([p["conv1/kernel"]], 0.02, weight_decay=0.3),
            t.optim.AdamW([p["conv1/bias"], p["head/bias"]], 0.01, weight_decay=0.0),
            t.optim.SGD([p["head/kernel"]], 0.04, momentum=0.9),
        ),
    ),
}


class Several:
    """Optimizers of PyTorch's, one after another."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


@pytest.mark.parametrize("name", TABLE)
def test_against_pytorch(name, backend, problem):
    ours, theirs = TABLE[name]
    got, state = run_ours(backend, ours, *problem)
    expected = run_theirs(theirs, *problem)
    for path, w in tree.items(got):
        np.testing.assert_allclose(w, expected[path], rtol=1e-9, err_msg=path)
    assert state["step"] == 7


def lamb(w, grads, rate=0.1, b1=0.9, b2=0.999, eps=1e-6, decay=0.2):
    """The paper's algorithm 2, line by line."""
    m = v = np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        r = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = r + decay * w
        w = w - rate * np.linalg.norm(w) / np.linalg.norm(u) * u
    return w


def orthogonal(g):
    """Newton and Schulz's iteration, on the matrix as it stands."""
    x = g / (np.linalg.norm(g) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def muon(w, grads, rate=0.1, momentum=0.95):
    v = np.zeros_like(w)
    for g in grads:
        v = momentum * v + (1 - momentum) * g
        u = momentum * v + (1 - momentum) * g
        if w.ndim > 1:
            rows = u.T if w.ndim == 2 else u.reshape(len(u), -1)  # (out, in)
            u = orthogonal(rows) * max(1, rows.shape[0] / rows.shape[1]) ** 0.5
            u = u.T if w.ndim == 2 else u.reshape(w.shape)
        w = w - rate * u
    return w


@pytest.mark.parametrize(
    ("optimizer", "oracle"), [(o.LAMB(0.1, weight_decay=0.2), lamb), (o.Muon(0.1), muon)], ids=["lamb", "muon"]
)
def test_against_the_papers_lines(backend, problem, optimizer, oracle):
    got, _ = run_ours(backend, optimizer, *problem)
    weights, gradients = problem
    for path, w in tree.items(weights):
        expected = oracle(w, [dict(tree.items(grads))[path] for grads in gradients])
        np.testing.assert_allclose(dict(tree.items(got))[path], expected, rtol=1e-9, atol=1e-12, err_msg=path)


def test_muon_against_pytorch_and_makes_singular_values_alike(problem, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    w, g = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    move = o.Muon().orthogonal(g)
    assert 0.6 < np.linalg.svd(move / max(1, 4 / 6) ** 0.5)[1].min() < np.linalg.svd(move)[1].max() < 1.3
    theirs = torch.nn.Parameter(torch.tensor(w.T.copy()))  # (out, in)
    optimizer = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0)
    ours, state = {"kernel": w}, o.Muon(0.1).init({"kernel": w})
    for _ in range(3):
        theirs.grad = torch.tensor(g.T.copy())
        optimizer.step()
        ours, state = o.Muon(0.1).update({"kernel": g}, state, ours)
    np.testing.assert_allclose(ours["kernel"].T, theirs.detach().numpy(), atol=0.01)  # theirs is of bfloat16


def test_a_lamb_of_nothing_stays_finite(backend):
    w = {"kernel": backend.asarray(np.zeros(3))}
    new, size = compiled(lambda w: backend.update(o.LAMB(0.1), w, o.LAMB().init(w), w)[::3], backend)(w)
    np.testing.assert_array_equal(backend.to_numpy(new["kernel"]), 0)
    assert float(size) == 0


def test_an_average_against_pytorch(backend, problem):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    weights, gradients = problem
    optimizer = o.EMA(o.SGD(0.1, momentum=0.9), decay=0.8)
    _, state = run_ours(backend, optimizer, weights, gradients)
    net = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(w)) for w in tree.leaves(weights)])
    swa = torch.optim.swa_utils
    averaged = swa.AveragedModel(net, multi_avg_fn=swa.get_ema_multi_avg_fn(0.8))
    sgd = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for grads in gradients:
        for parameter, g in zip(net, tree.leaves(grads), strict=True):
            parameter.grad = torch.tensor(g)
        sgd.step()
        averaged.update_parameters(net)
    for got, expected in zip(hosts(backend, optimizer.asked({}, state)), averaged.module, strict=True):
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-12)


def test_lookahead_against_its_algorithm(backend, problem):
    weights, gradients = problem
    got, state = run_ours(backend, o.Lookahead(o.SGD(0.1), k=3, alpha=0.4), weights, gradients)
    for path, w in tree.items(weights):
        slow = fast = w
        for n, grads in enumerate(gradients, 1):
            fast = fast - 0.1 * dict(tree.items(grads))[path]
            if n % 3 == 0:
                slow = fast = slow + 0.4 * (fast - slow)
        np.testing.assert_allclose(dict(tree.items(got))[path], fast, rtol=1e-12)
        np.testing.assert_allclose(backend.to_numpy(dict(tree.items(state["slow"]))[path]), slow, rtol=1e-12)


WRAPPED = {
    "adagrad": o.Adagrad(0.05),
    "nadam": o.NAdam(0.01),
    "lamb": o.LAMB(0.01),
    "muon": o.Muon(0.02),
    "ema": o.EMA(o.Adam(0.01), decay=0.7),
    "lookahead": o.Lookahead(o.SGD(0.05, momentum=0.9), k=2),
    "groups": o.Groups(
        o.AdamW(xcnn.schedules.Cosine(0.02, steps=12)),
        (
            o.Group(("*bias", "*scale"), weight_decay=0.0),
            o.Group("dense*", optimizer=o.Muon(), rate=2.0),
            o.Group("conv1/*", frozen=True),
        ),
    ),
    "both": o.EMA(o.Lookahead(o.Groups(o.SGD(0.05, clip_norm=0.5), o.Group("dense1/*", rate=0.1)), k=2), decay=0.5),
}


def tiny(backend, optimizer, **options):
    net = xcnn.Sequential(
        xcnn.Conv2D(2, 3, bias=False), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Conv2D(3, 3), xcnn.Flatten(), xcnn.Dense(3)
    )
    return xcnn.Model(net, (1, 6, 6), backend=backend, optimizer=optimizer, **options)


@pytest.fixture
def data(rng):
    return rng.normal(size=(22, 1, 6, 6)).astype("float32"), rng.integers(0, 3, 22)


COMPILED = ("nadam", "muon", "groups", "both")
"""Those of which JAX compiles a step, which takes its time."""
EXPECTED = {}


@pytest.mark.parametrize("name", WRAPPED)
def test_training_is_the_same_on_every_backend(name, backend, data):
    if backend.name == "jax" and name not in COMPILED:
        pytest.skip("JAX compiles some of them")
    if name not in EXPECTED:
        reference = tiny("strict", WRAPPED[name], dtype="float64")
        reference.fit(*data, epochs=2, batch_size=6, **QUIET)
        EXPECTED[name] = hosts(reference.backend, reference.weights), reference.predict(data[0])
    model = tiny(backend, WRAPPED[name], dtype="float64")
    model.fit(*data, epochs=2, batch_size=6, **QUIET)
    for got, expected in zip(hosts(backend, model.weights), EXPECTED[name][0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.predict(data[0]), EXPECTED[name][1], rtol=1e-6, atol=1e-9)
    assert not getattr(model.compiled_step, "reason", "")


@pytest.mark.parametrize("name", WRAPPED)
def test_training_goes_on_exactly_from_a_file(name, data, tmp_path):
    whole, half = (tiny("numpy", WRAPPED[name]) for _ in range(2))
    whole.fit(*data, epochs=3, batch_size=6, **QUIET)
    half.fit(*data, epochs=1, batch_size=6, **QUIET)
    half.save(tmp_path / "m.xcnn")
    loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    assert loaded.optimizer == WRAPPED[name]
    loaded.fit(*data, epochs=3, batch_size=6, resume=True, **QUIET)
    assert loaded.history.reproducible() == whole.history.reproducible()
    np.testing.assert_array_equal(loaded.predict(data[0]), whole.predict(data[0]))


def test_what_is_frozen_stays_and_takes_no_memory(backend, data):
    model = tiny(backend, o.Groups(o.Adam(0.01), o.Group(("conv1/*", "batchnorm*"), frozen=True)))
    before = [a.copy() for a in hosts(backend, model.weights)]
    model.fit(*data, epochs=1, batch_size=6, **QUIET)
    for (path, _), old, new in zip(tree.items(model.weights), before, hosts(backend, model.weights), strict=True):
        assert np.array_equal(old, new) == path.startswith(("conv1/", "batchnorm")), path
    assert {path.partition("/")[0] for path, _ in tree.items(model.state.optimizer_state["first"])} == {
        "conv2",
        "dense1",
    }


def test_clipping_is_of_all_groups_together(backend, problem):
    weights, gradients = problem
    whole, _ = run_ours(backend, o.SGD(0.1, clip_norm=0.3), weights, gradients)
    parted, _ = run_ours(backend, o.Groups(o.SGD(0.1, clip_norm=0.3), o.Group("head/*")), weights, gradients)
    for one, other in zip(tree.leaves(whole), tree.leaves(parted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_what_follows_the_weights_is_set_with_them(data):
    model = tiny("numpy", WRAPPED["both"])
    model.fit(*data, epochs=1, batch_size=6, **QUIET)
    plain = tiny("numpy", "sgd", seed=3)
    model.weights = plain.weights
    np.testing.assert_array_equal(model.predict(data[0]), plain.predict(data[0]))
    np.testing.assert_array_equal(model.frozen().predict(data[0]), plain.predict(data[0]))


def test_the_average_is_what_is_measured_and_restored(data):
    model = tiny("numpy", WRAPPED["ema"])
    stop = xcnn.EarlyStopping(patience=9)
    history = model.fit(*data, epochs=4, batch_size=6, validation_data=data, callbacks=stop, **QUIET)
    best = min(history["val_loss"])
    assert model.evaluate(*data)["loss"] == pytest.approx(best, rel=1e-6)


def test_next_replaces_the_weight_and_what_follows_it(backend, rng):
    w = {"scale": backend.asarray(rng.normal(size=3)), "running": backend.asarray(rng.normal(size=3))}
    value = backend.asarray(rng.normal(size=3))
    grads = {"scale": w["scale"], "running": Next(value)}
    if backend.name == "jax":
        pytest.skip("JAX compiles each operation by itself here")
    for optimizer in WRAPPED.values():
        if isinstance(optimizer, o.Groups) or isinstance(getattr(optimizer, "optimizer", None), o.Lookahead):
            optimizer = o.Groups(o.SGD(0.1), o.Group("scale", rate=0.5))
        new, state, *_ = backend.update(optimizer, grads, optimizer.init(w), w)
        np.testing.assert_array_equal(backend.to_numpy(new["running"]), backend.to_numpy(value))
        for name in optimizer.following:
            np.testing.assert_array_equal(backend.to_numpy(state[name]["running"]), backend.to_numpy(value))


def test_half_precision_scales_losses_with_them(data):
    pytest.importorskip("torch", reason="a backend of half precision; PyTorch is not installed")
    for name in ("nadam", "both"):
        model = tiny("torch", WRAPPED[name], precision="float16")
        assert np.isfinite(model.fit(*data, epochs=1, batch_size=6, **QUIET)["loss"][0])


def test_another_of_its_kind_goes_on(data):
    model = tiny("numpy", o.EMA(o.Adam(0.01)))
    model.fit(*data, **QUIET)
    first = model.state.optimizer_state["first"]
    model.optimizer = o.EMA(o.Adam(0.02))
    assert model.state.optimizer_state["first"] is first
    model.learning_rate = 0.5
    assert model.optimizer == o.EMA(o.Adam(0.5))
    model.optimizer = o.EMA(o.SGD(0.5))
    assert set(model.state.optimizer_state) == {"step", "average"}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: o.Groups(o.Adam(), ()), "groups are values"),
        (lambda: o.Groups(o.Adam(), o.Group("*", weight_decay=0.1)), "Adam has no weight_decay"),
        (lambda: o.Group("*", frozen=True, rate=0.5), "what is frozen"),
        (lambda: o.Group("*", optimizer=o.SGD(0.3)), "takes its rate from the whole"),
        (lambda: o.Groups(o.EMA(o.SGD()), o.Group("*")), "wrap the groups"),
        (lambda: o.EMA(o.EMA(o.SGD())), "within another EMA"),
        (lambda: o.EMA(o.SGD(), decay=1.5), "decay"),
        (lambda: o.Lookahead(o.SGD(), k=0), "k"),
        (lambda: tiny("numpy", o.Groups(o.SGD(), o.Group("conv9/*"))), "no weight of the net has the pattern"),
    ],
)
def test_what_cannot_be_is_told(make, told):
    with pytest.raises(OptionError, match=told):
        make()


def test_rates_follow_a_schedule():
    groups = WRAPPED["groups"]
    assert groups.with_rate(0.5).optimizer.learning_rate == 0.5
    part = groups.parts[1]
    assert part.learning_rate(3) == pytest.approx(2 * groups.learning_rate(3))
    assert replace(groups) == groups
