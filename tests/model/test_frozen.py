"""Frozen models: the same predictions from copies of the weights, whatever becomes of the model and of the copy."""

import threading

import numpy as np
import pytest
from xcnn_native.library import library

import xcnn
from xcnn.core import tree
from xcnn.layers import Run
from xcnn.nets import recipes


def trained(backend):
    net = xcnn.Sequential(
        xcnn.Conv2D(9, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Conv2D(3, 3, padding=1), xcnn.Sigmoid(),
        xcnn.DepthwiseConv2D(3), xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dense(20), xcnn.GELU(), xcnn.Dense(3),
    )  # fmt: skip
    model = xcnn.Model(net, (2, 12, 11), loss="cross_entropy", optimizer="adam", seed=1, backend=backend)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 2, 12, 11)).astype("float32"), rng.integers(0, 3, 7)
    for _ in range(3):
        model.step(x, y)
    return model, x, y


def test_predictions_are_the_models(backend):
    """Bit for bit, of many images and of one."""
    model, x, _ = trained(backend)
    frozen = model.frozen()
    for batch in (x, x[:1], x):
        assert np.array_equal(frozen.predict(batch), model.predict(batch))


def test_what_is_trained_or_set_is_seen(backend):
    """Neither sees the other's training, and each its own, also in weights that are set."""
    model, x, y = trained(backend)
    frozen = model.frozen()
    before = frozen.predict(x)
    model.step(x, y)
    assert np.array_equal(frozen.predict(x), before)
    assert not np.array_equal(model.predict(x), before)
    frozen.step(x, y)
    after = frozen.predict(x)
    assert np.array_equal(after, model.predict(x))
    zeros = tree.map(lambda w: 0 * w, frozen.weights)
    frozen.weights = zeros
    assert np.all(frozen.predict(x) == 0)


def test_numpys_weights_are_read_only():
    """What could be changed in place is not kept."""
    model, x, _ = trained("numpy")
    frozen = model.frozen()
    before = model.predict(x)
    with pytest.raises(ValueError, match="read-only"):
        frozen.weights["dense1"]["kernel"][0, 0] = 1
    with model.edit("dense1/kernel") as kernel:
        kernel[:] = 0
    assert not np.array_equal(model.predict(x), before)
    assert np.array_equal(frozen.predict(x), before)


@pytest.mark.skipif(
    library() is None, reason="NumPy alone does not promise it: the compiled library is missing, or off"
)
def test_an_image_alone_and_in_a_batch():
    """The same bits for any number of threads, where kernels are kept too."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 3, 32, 32)).astype("float32")
    models = [
        xcnn.Model(recipes.small_resnet(), (3, 32, 32), backend=xcnn.backend("numpy", threads=n)) for n in (1, 2, 3)
    ]
    frozen = [model.frozen() for model in models]
    expected = models[0].predict(x)
    for each in (*models, *frozen):
        assert np.array_equal(each.predict(x), expected)
        assert np.array_equal(np.concatenate([each.predict(one[None]) for one in x]), expected)


def test_threads_that_share_a_layer_never_get_another_kernel_s_form():
    """Two weights take turns at one net in two threads: what is kept is replaced as a whole."""
    backend = xcnn.backend("numpy", threads=1)
    net = backend.rewrite(xcnn.Sequential(dense=xcnn.Dense(40)))
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 50)).astype("float32")
    weights = [
        {"dense": {"kernel": backend.frozen(np.full((50, 40), n, "float32")), "bias": np.zeros(40, "float32")}}
        for n in (1, 2)
    ]
    run = Run(backend, wants_backward=False)
    expected = [net(each, x, run)[0] for each in weights]
    wrong: list[int] = []

    def ask(first):
        for n in range(300):
            which = (first + n) % 2
            wrong.extend([which] if not np.array_equal(net(weights[which], x, run)[0], expected[which]) else [])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
