"""Whatever is given, no error from inside comes out, and nothing that means nothing is taken (hostile.py).

A long run: `python tests/hostile.py ENGINE 8000`, and `python tests/hostile.py options 10000`.
"""

import numpy as np
import pytest
from draws import draws
from engines import USABLE
from hostile import HOSTILE, LIKE, fits, run, used

import xcnn
from xcnn import article
from xcnn.errors import XcnnError
from xcnn.layers import Run

FEW = {"numpy": 160, "strict": 160, "torch": 80}
"""Calls on each engine; JAX, which compiles each shape anew, takes its share in long runs."""


@pytest.mark.parametrize("engine", [name for name in USABLE if name in FEW])
def test_hostile_calls(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fallen, examples = run(engine, draws(FEW[engine]))
    assert not fallen, [(what, examples[what]) for what in fallen]


def test_options_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fallen, examples = run("numpy", draws(300), seed=1, options=True)
    assert not fallen, [(what, examples[what]) for what in fallen]


HERE, THERE = xcnn.backend("strict"), xcnn.backend("strict:device2")
ROW = np.full((1, 2), 0.5, "float32")
FELL_SHORT = {
    "a batch without axes": (lambda: xcnn.Flatten()({}, np.float32(1), Run(HERE)), "X101.*without axes"),
    "reshaped without axes": (lambda: xcnn.Reshape((1,))({}, np.float32(1), Run(HERE)), "X101.*without axes"),
    "no memory for a check": (lambda: xcnn.testing.check_layer(xcnn.ReLU(), (2,), batch=2**40), "X304.*this check"),
    "no memory for weights": (
        lambda: xcnn.BatchNorm().init(np.random.default_rng(0), (2**40, 2**40)), r"X304.*array of \(1099511627776,\)"),
    "no memory for a layer of the article's": (lambda: article.Dense(2**40, 2), "X304.*the layer's weights"),
    "backends that are an array": (
        lambda: xcnn.compare(xcnn.Model(xcnn.Dense(2), (2,)), ROW, backends=HERE.asarray(ROW)), "X104.*must be names"),
    "a type for targets": (lambda: xcnn.losses.binary_cross_entropy(ROW, np.dtype("f4")), "X103.*must be an array"),
    "endless digits for a type": (lambda: xcnn.Model(xcnn.Dense(2), (2,), dtype=10**5000), "X104.*dtype"),
}  # fmt: skip


@pytest.mark.parametrize("case", FELL_SHORT)
def test_what_fell_short_is_told(case):
    call, words = FELL_SHORT[case]
    with pytest.raises(XcnnError, match=words):
        call()


ON_TWO_DEVICES = {**xcnn.losses.LOSSES, "correlate2d": xcnn.correlate2d, "convolve2d": xcnn.convolve2d} | {
    f"article.{name}": getattr(article, name)
    for name in ("mse", "mse_prime", "binary_cross_entropy", "binary_cross_entropy_prime")
}


@pytest.mark.parametrize("function", ON_TWO_DEVICES.values(), ids=ON_TWO_DEVICES)
def test_arrays_of_two_devices_do_not_meet(function):
    here, there = HERE.asarray(ROW), THERE.asarray(ROW)
    for one, other in ((here, there), (there, here)):
        with pytest.raises(XcnnError, match=r"X301.*device2"):
            function(one, other)
    function(there, there)


WEIGHTLESS = (xcnn.MaxPool2D(2), xcnn.AveragePool2D(2), xcnn.Dropout(0.5), xcnn.SpatialDropout2D(0.5))


@pytest.mark.parametrize("layer", WEIGHTLESS, ids=repr)
def test_layers_without_weights_do_not_take_another_librarys_arrays(layer, backend):
    there = xcnn.backend("numpy" if backend.name != "numpy" else "strict").asarray(np.ones((1, 1, 4, 4), "float32"))
    with pytest.raises(
        XcnnError, match=f"X301.*runs on .*x is on {'numpy' if backend.name != 'numpy' else 'array_api'}"
    ):
        layer({}, there, Run(backend, train=True))


def test_a_large_rate_is_a_number_on_every_backend(backend):
    layer = article.Dense(2, 1, rng=0)
    layer.weights, layer.bias = backend.asarray(layer.weights), backend.asarray(layer.bias)
    layer.forward(backend.asarray(ROW.T, "float64"))
    layer.backward(backend.asarray([[1.0]], "float64"), learning_rate=2**70)


def test_what_a_schedule_gives_is_looked_at():
    assert xcnn.schedules.Step(0.0, every=1, factor=9.0)(10**6) == 0
    assert xcnn.schedules.Exponential(0.0, every=1, factor=9.0)(10**6) == 0
    for rate in (float("nan"), -1.0):

        class Wrong(xcnn.schedules.Schedule):
            def __call__(self, step, rate=rate):
                return rate if step > 5 else 0.1

        assert used(Wrong()).startswith("gives rates")
    assert not used(xcnn.schedules.Step(0.1, every=1, factor=9.0))  # it grows without end


def test_there_is_enough_that_is_hostile():
    assert len(HOSTILE) > 80
    assert len(LIKE) > 15
    assert fits(int | None, None)
    assert fits(tuple[int, ...], [1, 2])
    assert not fits(int, True)
    assert not fits(float, "0.5")
    assert not fits(str | tuple[int, int], (1, "a"))
