"""Optimizers and schedules against PyTorch's, step by step."""

import math

import numpy as np
import pytest

from xcnn.core import tree
from xcnn.errors import OptionError
from xcnn.layers import Next
from xcnn.training import optimizers as o
from xcnn.training import schedules as s


def run_ours(backend, optimizer, weights, gradients):
    w = tree.map(backend.asarray, weights)
    state = optimizer.init(w)
    for grads in gradients:
        w, state = optimizer.update(tree.map(backend.asarray, grads), state, w)
    return tree.map(backend.to_numpy, w), state


@pytest.fixture
def problem(rng):
    weights = {"conv1": {"kernel": rng.normal(size=(2, 1, 3, 3)), "bias": rng.normal(size=2)}}
    return weights, [tree.map(lambda w: rng.normal(size=w.shape), weights) for _ in range(6)]


TABLE = {
    "sgd": (o.SGD(0.1), lambda t, p: t.SGD(p, 0.1)),
    "momentum": (
        o.SGD(0.1, momentum=0.9, weight_decay=0.02),
        lambda t, p: t.SGD(p, 0.1, momentum=0.9, weight_decay=0.02),
    ),
    "nesterov": (o.SGD(0.1, momentum=0.8, nesterov=True), lambda t, p: t.SGD(p, 0.1, momentum=0.8, nesterov=True)),
    "adam": (o.Adam(0.01, beta1=0.8, epsilon=1e-6), lambda t, p: t.Adam(p, 0.01, betas=(0.8, 0.999), eps=1e-6)),
    "adamw": (o.AdamW(0.01, weight_decay=0.1), lambda t, p: t.AdamW(p, 0.01, weight_decay=0.1)),
    "rmsprop": (o.RMSprop(0.01, weight_decay=0.1), lambda t, p: t.RMSprop(p, 0.01, weight_decay=0.1)),
    "rmsprop_momentum": (o.RMSprop(0.01, rho=0.9, momentum=0.5), lambda t, p: t.RMSprop(p, 0.01, 0.9, momentum=0.5)),
}


@pytest.mark.parametrize("name", TABLE)
def test_against_pytorch(name, backend, problem):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    ours, theirs = TABLE[name]
    weights, gradients = problem
    got, state = run_ours(backend, ours, weights, gradients)
    parameters = [torch.tensor(w, requires_grad=True) for w in tree.leaves(weights)]
    optimizer = theirs(torch.optim, parameters)
    for grads in gradients:
        for parameter, g in zip(parameters, tree.leaves(grads), strict=True):
            parameter.grad = torch.tensor(g)
        optimizer.step()
    for w, parameter in zip(tree.leaves(got), parameters, strict=True):
        np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-12)
    assert state["step"] == 6


def test_clipping_against_pytorch(backend, problem):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    _, (grads, *_) = problem
    parameters = [torch.zeros(g.shape, requires_grad=True) for g in tree.leaves(grads)]
    for parameter, g in zip(parameters, tree.leaves(grads), strict=True):
        parameter.grad = torch.tensor(g, dtype=torch.float32)
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    clipped = tree.map(backend.to_numpy, o.clip_by_norm(tree.map(backend.asarray, grads), 0.5))
    for g, parameter in zip(tree.leaves(clipped), parameters, strict=True):
        np.testing.assert_allclose(g, parameter.grad.numpy(), rtol=1e-5)
    norm = math.sqrt(sum(np.sum(g**2) for g in tree.leaves(clipped)))
    assert norm == pytest.approx(0.5, rel=1e-12)
    kept = tree.map(backend.to_numpy, o.clip_by_norm(tree.map(backend.asarray, grads), 1e3))
    np.testing.assert_array_equal(kept["conv1"]["kernel"], grads["conv1"]["kernel"])


@pytest.mark.parametrize("optimizer", [v[0] for v in TABLE.values()], ids=TABLE)
def test_next_replaces_the_weight_and_nothing_else_touches_it(optimizer, backend, rng):
    weights = {"scale": rng.normal(size=3), "running_mean": rng.normal(size=3)}
    value = rng.normal(size=3)
    w = tree.map(backend.asarray, weights)
    grads = {"scale": backend.asarray(rng.normal(size=3)), "running_mean": Next(backend.asarray(value))}
    clipped = type(optimizer)(clip_norm=1e-3)
    for each in (optimizer, clipped):
        new, _ = each.update(grads, each.init(w), w)
        np.testing.assert_array_equal(backend.to_numpy(new["running_mean"]), value)
        assert np.all(backend.to_numpy(new["scale"]) != weights["scale"])


def test_a_gradient_that_is_missing_is_an_error_not_a_lost_weight(backend):
    w = {"kernel": backend.asarray(np.ones(2)), "bias": backend.asarray(np.ones(1))}
    with pytest.raises(KeyError, match="bias"):
        o.SGD().update({"kernel": w["kernel"]}, o.SGD().init(w), w)


def test_weights_keep_their_type(backend):
    for optimizer, _ in TABLE.values():
        w = {"kernel": backend.asarray(np.ones(3), "float32")}
        new, state = optimizer.update(w, optimizer.init(w), w)
        assert {backend.to_numpy(a).dtype for a in tree.leaves({**new, **state}) if not isinstance(a, int)} == {
            np.dtype("float32")
        }


def test_schedules_against_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    scheduler = torch.optim.lr_scheduler

    def theirs(make, steps=20):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        schedule = make(optimizer)
        for _ in range(steps):
            yield optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.step()

    for ours, make in [
        (s.Step(0.4, every=6, factor=0.5), lambda opt: scheduler.StepLR(opt, 6, 0.5)),
        (s.Exponential(0.4, every=1, factor=0.9), lambda opt: scheduler.ExponentialLR(opt, 0.9)),
        (s.Cosine(0.4, steps=20, final=0.1), lambda opt: scheduler.CosineAnnealingLR(opt, 20, 0.1)),
        (s.OneCycle(0.4, steps=20), lambda opt: scheduler.OneCycleLR(opt, 0.4, 20, cycle_momentum=False)),
    ]:
        np.testing.assert_allclose([ours(n) for n in range(20)], list(theirs(make)), rtol=1e-12, err_msg=repr(ours))


def test_warm_up_reaches_the_rate_and_hands_over():
    warm = s.WarmUp(4, s.Step(0.8, every=2, factor=0.5))
    assert [warm(n) for n in range(8)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.4, 0.4])
    assert [s.WarmUp(2, 0.5)(n) for n in range(4)] == [0.25, 0.5, 0.5, 0.5]
    assert s.Constant(0.3)(17) == 0.3


def test_the_schedule_is_asked_at_each_step(backend):
    weights, g = {"kernel": np.zeros(1)}, {"kernel": np.ones(1)}
    got, _ = run_ours(backend, o.SGD(s.Step(1.0, every=2, factor=0.1)), weights, [g] * 5)
    np.testing.assert_allclose(got["kernel"], -(1 + 1 + 0.1 + 0.1 + 0.01))


@pytest.mark.parametrize(
    "make",
    [
        lambda: o.SGD(-1.0),
        lambda: o.SGD(momentum=1.0),
        lambda: o.Adam(beta2=1.5),
        lambda: o.SGD(clip_norm=0),
        lambda: o.SGD("fast"),
        lambda: o.SGD(float("inf")),
        lambda: o.SGD(weight_decay=float("nan")),
        lambda: o.SGD(weight_decay=-1.0),
        lambda: o.SGD(nesterov=True),
        lambda: o.Adam(epsilon=0),
        lambda: o.Adam(clip_norm=float("inf")),
        lambda: s.Step(-1.0, every=2),
        lambda: s.WarmUp(3, -1.0),
        lambda: s.OneCycle(0.1, steps=10, start=0),
        lambda: s.Step(0.1, every=0),
        lambda: o.optimizer("adamm"),
    ],
)
def test_bad_options_are_refused(make):
    with pytest.raises(OptionError, match="X104"):
        make()


def test_optimizers_by_name():
    assert o.optimizer("adam") == o.Adam()
    assert o.optimizer(o.SGD(0.5)) == o.SGD(0.5)
