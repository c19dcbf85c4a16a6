"""One seed, one training: the article's net and the MNIST example's on all backends, and arrays going between them."""

import itertools

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import BackendUnavailable
from xcnn.nets import recipes as nets

STEPS = 100


def usable(*names):
    """Those of these backends that are here."""
    found = []
    for name in names:
        try:
            found.append(xcnn.backend(name).name)
        except BackendUnavailable:
            continue
    return found


HERE = usable("numpy", "strict", "torch", "jax", "cupy")
NETS = {
    "article": (nets.article(), xcnn.SGD(0.1), "binary_cross_entropy", 1, 14),
    "mnist-net": (nets.mnist_net(2), xcnn.SGD(0.01, momentum=0.9), "cross_entropy", 2, 8),
}
"""Each with its optimizer, its loss, the images of a batch, and the height and width that images are cut to."""


@pytest.fixture(scope="module")
def trained():
    """A net's weights and losses after 100 steps in float64 on a backend; each is trained once."""
    known = {}
    (x, y), _ = xcnn.datasets.mnist01()

    def weights_and_losses(net, backend):
        if (net, backend) not in known:
            layers, optimizer, loss, batch, side = NETS[net]
            model = xcnn.Model(
                layers, (1, side, side), loss=loss, optimizer=optimizer, backend=backend, dtype="float64", seed=7
            )
            middle = slice(14 - side // 2, 14 + side // 2)
            history = model.fit(
                x[: STEPS * batch, :, middle, middle].astype("float64"),
                y[: STEPS * batch],
                batch_size=batch,
                progress="none",
            )
            assert model.state.step == STEPS
            known[net, backend] = {n: np.array(w) for n, w in tree.items(model.to("numpy").weights)}, history.rows
        return known[net, backend]

    return weights_and_losses


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("backend", HERE[1:])
def test_a_hundred_steps_agree(net, backend, trained):
    (expected, rows), (weights, theirs) = trained(net, "numpy"), trained(net, backend)
    layers, _, loss, _, side = NETS[net]
    start = xcnn.Model(layers, (1, side, side), backend="numpy", dtype="float64", seed=7, loss=loss).weights
    for name, first in tree.items(start):
        assert np.abs(expected[name] - first).max() > 1e-6, "training moves every weight"
        np.testing.assert_allclose(weights[name], expected[name], rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose([row["loss"] for row in theirs], [row["loss"] for row in rows], rtol=1e-9)


# From one library to another.


def aligned(shape, dtype="float32"):
    """A NumPy array that begins at a multiple of 64 bytes, as every library takes it."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(count + 64, dtype="uint8")
    start = -buffer.ctypes.data % 64
    return buffer[start : start + count].view(dtype).reshape(shape)


def address(backend, x):
    return backend.to_numpy(x).ctypes.data


SHARING = [name for name in HERE if name in ("numpy", "torch", "jax")]


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(SHARING, 2)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_libraries_on_one_device_share_memory(source, target, dtype):
    here, there = xcnn.backend(source), xcnn.backend(target)
    x = aligned((8, 16), dtype)
    x += 1
    if source != "numpy":
        with here.active():
            x = here.asarray(x) * 1  # memory of the library's own
    y = there.from_other(x, here)
    assert xcnn.backend_of(y) == there
    assert address(there, y) == address(here, x)
    assert str(y.dtype).endswith(dtype)
    np.testing.assert_array_equal(there.to_numpy(y), np.ones((8, 16), dtype))


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("kind", ["read-only", "strided", "unaligned", "whole numbers", "no axes"])
def test_memory_that_can_not_be_shared_is_copied(target, kind):
    whole = np.arange(24.0)
    x = {
        "read-only": np.broadcast_to(whole, (2, 24)),
        "strided": whole[::-3],
        "unaligned": np.frombuffer(bytes(3) + whole.tobytes(), dtype="uint8")[3:].view("float64"),
        "whole numbers": np.arange(5),
        "no axes": np.asarray(2.5),
    }[kind]
    backend = xcnn.backend(target)
    y = backend.from_other(x, xcnn.backend("numpy"))
    np.testing.assert_array_equal(backend.to_numpy(y), x)
    assert backend.to_numpy(y).dtype == x.dtype


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(HERE, 2)))
def test_a_model_moves_on_with_its_training(source, target):
    """Trained here for an epoch and there for another: as if it had stayed."""
    rng = np.random.default_rng(0)
    x, t = rng.random((24, 1, 6, 6)), rng.integers(0, 3, 24)
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Dropout(0.2), xcnn.Flatten(), xcnn.Dense(3))
    moved, stayed = (xcnn.Model(net, (1, 6, 6), dtype="float64", backend=source) for _ in range(2))
    for model in (moved, stayed):
        model.fit(x, t, batch_size=8, progress="none")
    held = {name: np.array(moved.backend.to_numpy(w)) for name, w in tree.items(moved.weights)}
    before = moved.weights
    moved.to(target).fit(x, t, batch_size=8, progress="none")
    stayed.fit(x, t, batch_size=8, progress="none")
    for name, w in tree.items(moved.weights):
        other = stayed.backend.to_numpy(dict(tree.items(stayed.weights))[name])
        np.testing.assert_allclose(moved.backend.to_numpy(w), other, rtol=1e-10, atol=1e-12)
    for name, w in tree.items(before):
        np.testing.assert_array_equal(stayed.backend.to_numpy(w), held[name], err_msg="what was shared has not changed")
