"""Numbers of layers and losses are arguments of compiled steps, unless code asks for them."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.core.lifting import lifted, numbers_of, side
from xcnn.core.pure import made_of
from xcnn.core.tracing import NotLifted, behind, check_limits, floor, standing
from xcnn.errors import OptionError

pytest.importorskip("jax")
from xcnn_jax import compiled

RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((16, 2, 6, 6)), RNG.integers(0, 4, 16)


def net(drop=0.3, channels=0.2, alpha=0.5, slope=0.1, momentum=0.9, batch=1e-3, layer=1e-3, group=1e-3):
    return xcnn.Sequential(
        xcnn.Conv2D(4, 3), xcnn.BatchNorm(momentum=momentum, epsilon=batch), xcnn.ELU(alpha=alpha),
        xcnn.Residual(xcnn.GroupNorm(2, epsilon=group), xcnn.SpatialDropout2D(channels)), xcnn.LayerNorm(epsilon=layer),
        xcnn.Flatten(), xcnn.Dropout(drop), xcnn.LeakyReLU(negative_slope=slope), xcnn.Dense(4),
    )  # fmt: skip


def models(made, loss, **how):
    """The same on JAX and on NumPy."""
    return [
        xcnn.Model(made, (2, 6, 6), loss=loss, backend=b, dtype="float64", optimizer="sgd", **how)
        for b in ("jax", "numpy")
    ]


def train(pair, t=T):
    """Steps and spans; the loss of each, which must be the same."""
    losses = []
    for model in pair:
        model.step(X[:8], t[:8])
        losses.append(model.fit(X, t, batch_size=8, epochs=3, progress="none").rows[-1]["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-9)
    for (name, w), other in zip(tree.items(pair[0].weights), tree.leaves(pair[1].weights), strict=True):
        np.testing.assert_allclose(np.asarray(w), other, rtol=1e-7, atol=1e-9, err_msg=name)
    assert pair[0].compiled_step.reason == ""


def sizes():
    return compiled.one._cache_size(), compiled.many._cache_size()


LOSS = partial(xcnn.losses.cross_entropy, label_smoothing=0.1)
CHANGES = [
    {"drop": 0.7}, {"channels": 0.6}, {"alpha": 0.9}, {"slope": 0.4}, {"momentum": 0.5}, {"batch": 0.3},
    {"layer": 0.2}, {"group": 0.1}, {"drop": 1e-9}, {"loss": 0.3},
    {"drop": 0.6, "alpha": 0.1, "batch": 0.7, "loss": 0.9},
]  # fmt: skip


def test_changes_of_numbers_compile_nothing_and_mean_what_they_mean_on_numpy():
    train(models(net(), LOSS))
    before = sizes()
    for change in CHANGES:
        smoothing = change.pop("loss", 0.1)
        train(models(net(**change), partial(xcnn.losses.cross_entropy, label_smoothing=smoothing)))
        assert sizes() == before, change


def test_a_models_loss_is_changed_and_nothing_compiled():
    targets = RNG.standard_normal((16, 4))
    pair = models(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4)), partial(xcnn.losses.huber, delta=0.5))
    train(pair, targets)
    before = sizes()
    for delta in (0.25, 0.01, 0.9):
        for model in pair:
            model.loss = partial(xcnn.losses.huber, delta=delta)
        train(pair, targets)
    assert sizes() == before


def test_what_a_check_asks_is_part_of_the_key():
    """Code that was compiled for a number that can be is not run with one that can't."""
    pair = models(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4)), LOSS)
    train(pair)
    for wrong in (-0.1, 1.0, 1.5, 2.5):
        for model in pair:
            model.loss = partial(xcnn.losses.cross_entropy, label_smoothing=wrong)
            with pytest.raises(OptionError, match=rf"label_smoothing must be at least 0 and below 1; got {wrong}"):
                model.step(X[:8], T[:8])
    for model in pair:
        model.loss = LOSS
    train(pair)
    assert (xcnn.losses.cross_entropy, "label_smoothing") not in compiled.CONSTANT


def test_a_rate_of_zero_drops_nothing():
    train(models(net(drop=0.0, channels=0.0), LOSS))
    train(models(net(), LOSS))


@xcnn.pure
@dataclass(frozen=True)
class Asking(xcnn.layers.Flatten):
    """A layer of a user's own with one number that it computes with, and others that it asks for."""

    by: float = 2.0
    root: float = 4.0
    most: float = 3.0
    name: str = "x"

    def __call__(self, weights, x, run):
        factor = self.by * math.sqrt(self.root) * (2 if self.most > 3.5 else 1)
        y, backward = super().__call__(weights, x, run)
        return y * factor, lambda dy: backward(dy * factor)


def test_numbers_that_code_asks_for_stay_constants():
    results = []
    for options in ({}, {"by": 3.0}, {"root": 25.0}, {"most": 5.0}, {"by": 0.5}):
        pair = models(xcnn.Sequential(Asking(**options), xcnn.Dense(4)), LOSS)
        train(pair)
        results.append(float(pair[0].evaluate(X, T)["loss"]))
    assert len(set(results)) == 5
    assert {(Asking, "root"), (Asking, "most")} <= compiled.CONSTANT
    assert (Asking, "by") not in compiled.CONSTANT
    before = sizes()
    train(models(xcnn.Sequential(Asking(by=4.0), xcnn.Dense(4)), LOSS))
    assert sizes() == before


@xcnn.pure
@dataclass
class Turning:
    """A layer whose number a callback changes."""

    by: float = 2.0

    def init(self, rng, input_shape):
        return xcnn.Flatten().init(rng, input_shape)

    def __call__(self, weights, x, run):
        y, backward = xcnn.Flatten()(weights, x, run)
        return self.by * y, lambda dy: backward(self.by * dy)


def test_a_number_that_a_callback_changes_is_followed():
    class Change:
        def __call__(self, model, history):
            model.net["turning1"].by = 2.0 + history.rows[-1]["epoch"]

    losses, before = [], None
    for b in ("jax", "numpy"):
        model = xcnn.Model(
            xcnn.Sequential(Turning(), xcnn.Dense(4)), (2, 6, 6), backend=b, dtype="float64", optimizer="sgd"
        )
        model.fit(X, T, batch_size=8, progress="none")
        before = before or sizes()
        history = model.fit(X, T, batch_size=8, epochs=4, callbacks=Change(), progress="none")
        losses.append([row["loss"] for row in history.rows])
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert sizes() == before


@xcnn.pure
def sharp(y, t, *, power=2.0, gain=1.0):
    """A loss of a user's own: its power must be a number, its gain need not."""
    value, dy = xcnn.losses.mse(y, t)
    return value * gain * math.pow(2.0, power), dy * gain * math.pow(2.0, power)


def test_keywords_of_losses_of_ones_own():
    targets = RNG.standard_normal((16, 4))
    flat = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4))
    for options in ({"power": 2.0, "gain": 0.3}, {"power": 3.0, "gain": 0.3}, {"power": 3.0, "gain": 0.1}):
        pair = models(flat, partial(sharp, **options))
        for model in pair:
            model.optimizer = xcnn.SGD(0.001)
        train(pair, targets)
    assert compiled.CONSTANT & {(sharp, "power"), (sharp, "gain")} == {(sharp, "power")}


def test_errors_of_layers_are_told_as_they_are():
    @xcnn.pure
    def wrong(y, t, *, gain=0.5):
        raise OptionError("X104", f"the gain {gain} can't be.")

    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(4)), (2, 6, 6), loss=partial(wrong, gain=0.25),
                       backend="jax")  # fmt: skip
    with pytest.raises(OptionError, match=r"the gain 0\.25 can't be"):
        model.step(X[:8], T[:8])
    assert (wrong, "gain") not in compiled.CONSTANT


def test_lifting():
    """Numbers are found by their owners and replaced; all else is the very same."""
    whole = net(), LOSS
    found = numbers_of(whole)
    assert {(owner[0].__name__, owner[1]): number for owner, number in found.values()} == {
        ("BatchNorm", "momentum"): 0.9, ("BatchNorm", "epsilon"): 1e-3, ("ELU", "alpha"): 0.5,
        ("GroupNorm", "epsilon"): 1e-3, ("SpatialDropout2D", "rate"): 0.2, ("LayerNorm", "epsilon"): 1e-3,
        ("Dropout", "rate"): 0.3, ("LeakyReLU", "negative_slope"): 0.1, ("cross_entropy", "label_smoothing"): 0.1,
    }  # fmt: skip
    same = lifted(whole, {path: number for path, (_, number) in found.items()})
    assert made_of(same) == made_of(whole)
    other = lifted(whole, dict.fromkeys(found, 0.25))
    assert {number for _, number in numbers_of(other).values()} == {0.25}
    assert other[0]["residual1"].body["spatialdropout1"].rate == 0.25  # what a class computes once is made anew
    assert whole[0]["residual1"].body["spatialdropout1"].rate == 0.2
    assert other[0]["conv1"] is whole[0]["conv1"]
    assert lifted(whole, {}) is whole
    assert len({side(n) for n in (-2.0, -1.0, 0.0, 0.1, 0.9, 1.0, 2.0, 9.0, math.inf, -math.inf, math.nan)}) == 7


def test_tracers_stand_for_numbers_within_a_block():
    tracer = object()
    with standing({id(tracer): (tracer, 0.25)}):
        assert behind(tracer) == 0.25
        check_limits(tracer, 0, 1)
        with pytest.raises(NotLifted):
            check_limits(tracer, 0, 0.5)
    assert behind(tracer) is tracer
    check_limits(0.3, 0, 0.5)
    assert floor(np, 0.3, 2**32) == int(0.3 * 2**32)
