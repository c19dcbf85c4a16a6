"""Predictions keep nothing for a backward pass: their memory follows from the largest layers, not from their number."""

import gc
import tracemalloc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import xcnn
from xcnn.core import random, tree
from xcnn.errors import OptionError
from xcnn.layers.layer import Run

SIDE, CHANNELS, BATCH = 32, 16, 4
ACTIVATION = BATCH * CHANNELS * SIDE * SIDE * 4
"""Bytes of what each layer of `deep` gives, 256 KiB."""
WORKSPACE = 3 * 2**20
"""Bytes that the algorithm `gemm` may lay windows out in, and what is rearranged of them."""
BLOCKS = {
    "convolutions": lambda: [xcnn.Conv2D(CHANNELS, 3, padding="same"), xcnn.ReLU()],
    "norms": lambda: [xcnn.Conv2D(CHANNELS, 1), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Dropout(0.5)],
    "activations": lambda: [xcnn.Tanh(), xcnn.LeakyReLU(), xcnn.GELU()],
    "shortcuts": lambda: [xcnn.Residual(xcnn.Conv2D(CHANNELS, 3, padding="same"), xcnn.BatchNorm()), xcnn.ReLU()],
    "branches": lambda: [xcnn.Concatenate(xcnn.Conv2D(CHANNELS // 2, 1), xcnn.Conv2D(CHANNELS // 2, 1))],
    "nested": lambda: [xcnn.Sequential(xcnn.Conv2D(CHANNELS, 1), xcnn.Sequential(xcnn.ReLU(), xcnn.Tanh()))],
    "pools": lambda: [xcnn.Conv2D(CHANNELS, 1), xcnn.ReLU(), xcnn.MaxPool2D(2), xcnn.UpSampling2D(2)],
}

SOME = "norms", "shortcuts", "branches"


def deep(block, depth, **options):
    chain = xcnn.Sequential(*(layer for _ in range(depth) for layer in BLOCKS[block]()))
    return xcnn.Model(xcnn.Sequential(chain), (CHANNELS, SIDE, SIDE), loss="mse", **options)


def peak_of(call):
    """Bytes that were held at once while it was called, beyond those held before and after."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


OPTIONS = {"auto": {}, "gemm": {"algorithm": "gemm"}, "layers": {"algorithm": "gemm", "fuse": False}}
CASES = [
    (block, how) for how in OPTIONS for block in BLOCKS if how == "auto" or block in ("norms", "shortcuts", "pools")
]


@pytest.mark.parametrize(("block", "how"), CASES)
def test_memory_does_not_grow_with_depth(block, how):
    """On NumPy, whose allocations Python traces: the result, and a few arrays of the size of an activation."""
    backend = xcnn.backend("numpy", threads=1, kept_memory=0, **OPTIONS[how])
    x, peaks = np.ones((BATCH, CHANNELS, SIDE, SIDE), "float32"), []
    for depth in (2, 6):
        model = deep(block, depth, backend=backend)
        model.predict(x)  # compiles, and fills caches
        peaks.append(peak_of(lambda model=model: model.predict(x)))
    assert peaks[1] - peaks[0] < 0.5 * ACTIVATION, [peak / ACTIVATION for peak in peaks]
    assert peaks[1] < 8.2 * ACTIVATION + WORKSPACE, peaks[1] / ACTIVATION  # GELU's formula makes the most arrays


@pytest.mark.parametrize("how", ["predict", "evaluate", "fit"])
def test_memory_does_not_grow_with_calls(how):
    """The peak of one prediction, evaluation or training step is that of thirty."""
    net = xcnn.Sequential(xcnn.Conv2D(CHANNELS, 3), xcnn.ReLU(), xcnn.GlobalAveragePool2D(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 64, 64), backend=xcnn.backend("numpy", threads=1, kept_memory=0))
    x, y = np.ones((8, 1, 64, 64), "float32"), np.arange(8) % 2

    def call(times):
        for _ in range(times):
            if how == "predict":
                model.predict(x)
            elif how == "evaluate":
                model.evaluate(x, y)
            else:
                model.step(x, y)

    call(3)
    once, many = (peak_of(lambda times=times: call(times)) for times in (1, 30))
    assert many - once < ACTIVATION < 0.2 * once, (once, many)  # up to 300 KiB of tuples are kept by Python


@dataclass(frozen=True)
class Watching:
    """Passes x on, and notes how many of the arrays that came by before still live."""

    seen: tuple[list[weakref.ref], list[int]]

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        refs, alive = self.seen
        y = x + 0.0
        alive.append(sum(ref() is not None for ref in refs))
        refs.append(weakref.ref(y))
        return y, lambda dy: (dy + 0 * x, {})


def test_no_layer_is_kept(backend):
    """On every backend an array lives until the next layer has it, and in training until the backward pass."""
    alive: list[int] = []
    watching = Watching(([], alive))
    net = xcnn.Sequential(*(layer for block in SOME for layer in (*BLOCKS[block](), watching)))
    model = xcnn.Model(net, (CHANNELS, 6, 6), loss="mse", backend=backend)
    x = np.ones((2, CHANNELS, 6, 6), "float32")
    gc.disable()  # no array waits for it
    try:
        model.predict(x)
    finally:
        gc.enable()
    assert alive == [0] * len(SOME)
    with model.trainer.backend.active():
        both = model.trainer.net(model.weights, backend.asarray(x), Run(model.trainer.backend))
    assert len(both) == 2
    assert alive[-1] > 0


@pytest.mark.parametrize("fuse", [True, False])
def test_who_wants_gradients_of_a_prediction_gets_them(fuse):
    """By a run that does not train; one that wants no backward has the same y and says what to do."""
    backend = xcnn.backend("numpy", fuse=fuse)
    model = deep("shortcuts", 2, backend=backend)
    weights, x = model.weights, random.generator(1).standard_normal((2, CHANNELS, 6, 6)).astype("float32")
    y, backward = model.trainer.net(weights, x, Run(backend))
    dx, grads = backward(np.ones_like(y))
    assert dx.shape == x.shape
    assert {path for path, _ in tree.items(grads)} == {path for path, _ in tree.items(weights)}
    again, nothing = model.trainer.net(weights, x, Run(backend, wants_backward=False))
    assert np.array_equal(again, y)
    with pytest.raises(OptionError, match=r"keeps nothing for a backward pass.*\n.*wants_backward"):
        nothing(np.ones_like(y))


def test_predictions_are_the_users_own(backend):
    """Neither x nor memory of the library's, in one batch or several; their layout is C's."""
    model = xcnn.Model(xcnn.Sequential(), (2, 3, 4), loss="mse", backend=backend)
    x = np.ones((5, 2, 3, 4), "float32")
    for batch_size in (256, 5, 2):
        y = model.predict(x, batch_size)
        assert y.flags.c_contiguous
        assert not np.shares_memory(x, y)
        y += 1
        assert np.all(x == 1)
        assert np.array_equal(model.predict(x, batch_size), x)
    assert model.predict(x[:0]).shape == (0, 2, 3, 4)
