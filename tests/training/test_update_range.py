"""Gradients whose squares leave their type's range: norms hold them, and a moment that is lost is told, not kept.

The oracles are PyTorch's optimizers and norms in long double.
"""

import math

import numpy as np
import pytest
from engines import PAIRS

import xcnn
from xcnn.core import tree
from xcnn.errors import DivergedError
from xcnn.layers import Next
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop, clip_by_norm, global_norm, weight_norm

RANGE = {"float32": (1e20, 7e20), "float64": (1e155, 1e156)}
"""Gradients whose squares times 1 - β₂ are within the type and beyond it; the squares themselves are beyond."""
MOMENTS = [Adam(0.1), AdamW(0.1), Adam(0.1, beta2=0.0), RMSprop(0.1), RMSprop(0.1, momentum=0.5, weight_decay=0.1)]
SCALES = {"float32": [1e-30, 1e-19, 1.0, 1e19, 1e30, 1e38], "float64": [1e-200, 1.0, 1e160, 1e300]}


ONE_EACH = list({name: (name, algorithm) for name, algorithm in PAIRS if name != "rehearsal"}.values())
"""A backend of each kind: updates do not ask for the algorithm."""
each_backend = pytest.mark.parametrize("any_backend", ONE_EACH, indirect=True)


def updated(backend, optimizer, weights, grads, dtype):
    there, slopes = (tree.map(lambda a: backend.asarray(a, dtype), each) for each in (weights, grads))
    new, state, norm, reached = backend.update(optimizer, slopes, optimizer.init(there), there)
    return tree.map(backend.to_numpy, new), state, float(norm), float(reached)


def blocks(monkeypatch):
    from xcnn_numpy import update

    monkeypatch.setattr(update, "implementation", lambda: (update.by_blocks, update.sum_of_squares))


@each_backend
@pytest.mark.parametrize("way", ["fused", "blocks", "rule"])
@pytest.mark.parametrize("dtype", RANGE)
@pytest.mark.parametrize("optimizer", MOMENTS, ids=lambda one: type(one).__name__)
def test_a_moment_that_is_lost_shows_in_the_reach(any_backend, optimizer, dtype, way, rng, monkeypatch):
    """Were it kept, all later updates of this weight would be 0."""
    backend = xcnn.backend(any_backend, fuse=False) if way == "rule" else any_backend
    if way == "blocks":
        if any_backend.name != "numpy":
            pytest.skip("Only NumPy's update has a second way.")
        blocks(monkeypatch)
    weights = {"a": rng.normal(size=(3, 4)), "none": np.zeros((0, 4)), "b": rng.normal(size=(20, 30))}
    grads = tree.map(np.ones_like, weights)
    for large in (RANGE[dtype][1], -RANGE[dtype][1] * 1e3):
        grads["b"][7, 9] = large
        *_, norm, reached = updated(backend, optimizer, weights, grads, dtype)
        assert norm == pytest.approx(abs(large), rel=1e-6)
        assert not math.isfinite(reached)


@each_backend
@pytest.mark.parametrize("dtype", RANGE)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam(0.1), lambda t, p: t.Adam(p, 0.1, foreach=False)),
        (AdamW(0.1), lambda t, p: t.AdamW(p, 0.1, foreach=False)),
        (Adam(0.1, beta2=0.9999), lambda t, p: t.Adam(p, 0.1, betas=(0.9, 0.9999), foreach=False)),
        (RMSprop(0.1, rho=0.999), lambda t, p: t.RMSprop(p, 0.1, 0.999, foreach=False)),
    ],
    ids=["adam", "adamw", "beta2", "rmsprop"],
)
def test_a_square_beyond_the_type_is_survived_as_pytorch_survives_it(any_backend, ours, theirs, dtype, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    weights, large = rng.normal(size=9), RANGE[dtype][0]
    g = rng.normal(size=9)
    g[4] = large
    p = torch.tensor(weights.astype(dtype), requires_grad=True)
    p.grad = torch.tensor(g.astype(dtype))
    theirs(torch.optim, [p]).step()
    new, _, norm, reached = updated(any_backend, ours, {"k": weights}, {"k": g}, dtype)
    np.testing.assert_allclose(new["k"], p.detach().numpy(), rtol=3e-6 if dtype == "float32" else 1e-12)
    assert norm == pytest.approx(large, rel=1e-6)
    assert reached == pytest.approx(float(np.linalg.norm(p.detach().numpy())), rel=1e-6)


@pytest.mark.parametrize("name", ["numpy", "strict", "torch", "jax"])
@pytest.mark.parametrize("optimizer", [Adam(0.1), RMSprop(0.1)], ids=["adam", "rmsprop"])
def test_training_ends_where_a_moment_is_lost_and_keeps_the_weights(name, optimizer):
    """Also where steps are compiled, recorded, and taken in spans: the third batch of four is too large."""
    try:
        backend = xcnn.backend(name)
    except xcnn.errors.BackendUnavailable as error:
        pytest.skip(str(error))
    model = xcnn.Model(xcnn.Sequential(xcnn.Dense(1)), (2,), optimizer=optimizer, loss="mse", backend=backend)
    x, y = np.ones((16, 2), "float32"), np.zeros((16, 1), "float32")
    x[8:12], y[8:12] = 1e10, -1e12
    told = (
        r"(?s)X501.*optimizer's moments became.*epoch 1, batch 3.*moment '(second|square)' of 'dense1/.*try clip_norm"
    )
    with pytest.raises(DivergedError, match=told):
        model.fit(x, y, epochs=2, batch_size=4, shuffle=False, progress="none")
    assert model.state.step == model.state.optimizer_state["step"] == 2
    for leaf in [*tree.leaves(model.weights), *tree.leaves(model.state.optimizer_state)[1:]]:
        assert np.isfinite(backend.to_numpy(leaf)).all()
    clipped = xcnn.Model(model.net, (2,), optimizer=type(optimizer)(0.1, clip_norm=1.0), loss="mse", backend=backend)
    clipped.fit(x, y, epochs=1, batch_size=4, shuffle=False, progress="none")
    assert clipped.state.step == 4


@pytest.mark.parametrize("dtype", SCALES)
def test_norms_of_finite_gradients_are_finite_where_their_type_holds_them(backend, dtype, rng):
    for scale in SCALES[dtype]:
        grads = {"a": rng.uniform(-1, 1, (3, 4)) * scale, "none": np.zeros((0, 2)), "b": rng.uniform(-1, 1, 9) * scale}
        cells = np.concatenate([g.ravel() for g in grads.values()]).astype(dtype).astype(np.longdouble)
        expected = float(np.sqrt(np.sum(cells**2)))
        there = tree.map(lambda g: backend.asarray(g, dtype), grads)
        assert float(global_norm(there)) == pytest.approx(expected, rel=1e-6), scale
        new, _, norm, _ = backend.update(SGD(0.0), there, {"step": 0}, there)
        assert float(norm) == pytest.approx(expected, rel=1e-6), scale
        assert np.array_equal(backend.to_numpy(new["a"]), grads["a"].astype(dtype))
        clipped = clip_by_norm(there, expected / 4)
        for got, g in zip(tree.leaves(clipped), tree.leaves(grads), strict=True):
            np.testing.assert_allclose(backend.to_numpy(got), g.astype(dtype) / 4, rtol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_is_not_finite_where_a_gradient_is_not(backend, bad):
    grads = {"a": backend.asarray(np.array([1.0, bad]), "float32"), "b": backend.asarray(np.ones(2), "float32")}
    assert not math.isfinite(float(global_norm(grads)))
    assert not math.isfinite(float(weight_norm(grads, {"step": 0})))
    assert not math.isfinite(float(weight_norm({"b": grads["b"]}, {"step": 0, "second": grads})))
    *_, norm, _ = backend.update(SGD(), grads, {"step": 0}, grads)
    assert not math.isfinite(float(norm))


def test_norms_of_nothing(backend):
    none = {"a": backend.asarray(np.zeros((0, 3)), "float32")}
    assert float(global_norm(none)) == float(weight_norm(none, {"step": 0, "second": none})) == 0
    assert global_norm({"a": Next(none["a"])}) == weight_norm({}, {"step": 0}) == 0.0


@each_backend
@pytest.mark.parametrize("optimizer", [Adam, RMSprop])
@pytest.mark.parametrize("second", [0.0, 0.5, 0.999])
def test_adaptive_rules_are_their_closed_form_at_every_size_of_the_gradient(any_backend, optimizer, second, rng):
    """In long double; also where no second moment is kept, and the step is the gradient's sign."""
    given = {"beta2": second, "beta1": 0.5} if optimizer is Adam else {"rho": second}
    ours = optimizer(0.1, **given)
    slopes = [rng.normal(size=40) * 10.0 ** rng.integers(-14, 6, 40) for _ in range(3)]
    w = np.longdouble(rng.normal(size=40))
    weights = {"k": any_backend.asarray(np.float64(w))}
    state = ours.init(weights)
    m = v = np.zeros(40, np.longdouble)
    for t, g in enumerate(map(np.longdouble, slopes), 1):
        weights, state, *_ = any_backend.update(ours, {"k": any_backend.asarray(np.float64(g))}, state, weights)
        rest = 1 - np.longdouble(second)
        m, v = (m + g) / 2, second * v + rest * g * g
        bias1, bias2 = (1 - np.longdouble(0.5) ** t, 1 - np.longdouble(second) ** t) if optimizer is Adam else (1, 1)
        w = w - np.longdouble(0.1) * ((m if optimizer is Adam else g) / bias1) / (np.sqrt(v / bias2) + 1e-8)
    np.testing.assert_allclose(any_backend.to_numpy(weights["k"]), np.float64(w), rtol=1e-12, atol=1e-13)


@each_backend
def test_clipping_is_to_the_norm_itself_where_pytorch_divides_by_a_millionth_more(any_backend, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    weights, slopes, limit = rng.normal(size=9), [rng.normal(size=9) for _ in range(4)], 0.5

    def theirs(clip):
        p = torch.tensor(weights, requires_grad=True)
        optimizer = torch.optim.AdamW([p], 0.1)
        for g in slopes:
            p.grad = torch.tensor(g)
            clip(p)
            optimizer.step()
        return p.detach().numpy()

    def exact(p):
        p.grad *= limit / torch.linalg.vector_norm(p.grad)

    ours = AdamW(0.1, clip_norm=limit)
    there = {"k": any_backend.asarray(weights)}
    state = ours.init(there)
    for g in slopes:
        there, state, *_ = any_backend.update(ours, {"k": any_backend.asarray(g)}, state, there)
    got = any_backend.to_numpy(there["k"])
    np.testing.assert_allclose(got, theirs(exact), rtol=1e-12)
    by_pytorch = theirs(lambda p: torch.nn.utils.clip_grad_norm_([p], limit))
    assert 1e-9 < np.max(np.abs(got / by_pytorch - 1)) < 1e-5  # its 1e-6 beside the norm
