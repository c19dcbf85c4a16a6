"""NumPy's losses of classifiers in one pass: PyTorch's numbers, and the losses' own behaviour at every edge."""

import numpy as np
import pytest
from draws import draws
from xcnn_native.library import library
from xcnn_numpy import loss as judge

import xcnn
from xcnn.training.losses import binary_cross_entropy, count_correct, cross_entropy

BACKEND = xcnn.backend("numpy")


def in_one_pass(loss, y, t):
    return judge.judged(loss, 0.5, y, t, 1) is not None


def close(got, expected, dtype):
    np.testing.assert_allclose(got, expected, rtol=1e-12 if dtype == "float64" else 1e-5, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_loss(dtype):
    """Drawn logits and labels, some of them huge: value, gradient and count."""
    for seed in range(draws(30)):
        rng = np.random.default_rng(seed)
        n, classes = rng.integers(1, 40), rng.integers(2, 30)
        y = (rng.standard_normal((n, classes)) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
        t = rng.integers(0, classes, n)
        assert in_one_pass(cross_entropy, y, t) == (library() is not None)
        before = y.copy()
        value, dy, right = BACKEND.loss_and_gradient(cross_entropy, 0.0, y, t)
        wide, dwide = cross_entropy(y.astype("float64"), t)
        close(value, wide, dtype)
        close(dy * n, dwide * n, dtype)
        assert (value.dtype, dy.dtype, value.shape, dy.shape) == (y.dtype, y.dtype, (), y.shape)
        assert int(right) == int(count_correct(y, t, 0.0))
        assert np.array_equal(y, before)


SIZES = [(2, 4, 5, 7), (3, 9, 6, 5), (1, 2, 1, 1), (2, 40, 3, 9), (4, 3, 33), (2, 5, 2, 3, 4), (3, 2, 48, 50)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_labels_of_places(shape, last, dtype):
    """Of images, signals and volumes, some logits huge, some equal: PyTorch's numbers."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    rng = np.random.default_rng(len(shape))
    y = (rng.standard_normal(shape) * 10.0 ** rng.integers(-1, 4, (shape[0], *[1] * (len(shape) - 1)))).astype(dtype)
    y[0, :, 0] = 1
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    if last:
        y = np.moveaxis(np.ascontiguousarray(np.moveaxis(y, 1, -1)), -1, 1)
    leaf = torch.tensor(y.astype("float64"), requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(t))
    expected.backward()
    assert in_one_pass(cross_entropy, y, t) == (library() is not None)
    value, dy, right = BACKEND.loss_and_gradient(cross_entropy, 0.0, y, t)
    close(value, expected.item(), dtype)
    close(dy * t.size, leaf.grad.numpy() * t.size, dtype)
    assert int(right) == int(count_correct(y, t, 0.0))
    assert (value.dtype, dy.dtype, dy.shape) == (y.dtype, y.dtype, y.shape)


def test_a_label_of_a_place_that_is_no_class():
    y, t = np.zeros((2, 3, 4, 5), "float32"), np.zeros((2, 4, 5), "int64")
    t[1, 3, 4] = 3
    value, dy, _ = BACKEND.loss_and_gradient(cross_entropy, 0.0, y, t)
    assert np.isnan(value)
    assert np.isnan(dy[1, :, 3, 4]).all()
    assert not np.isnan(dy[0]).any()


def test_a_place_that_is_no_number():
    y, t = np.zeros((2, 3, 4, 5), "float32"), np.zeros((2, 4, 5), "int64")
    y[1, 2, 3, 4] = np.nan
    value, dy, right = BACKEND.loss_and_gradient(cross_entropy, 0.0, y, t)
    assert np.isnan(value)
    assert np.isnan(dy[1, :, 3, 4]).all()
    assert np.isnan(dy).sum() == 3
    assert int(right) == 39


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy])
def test_it_is_pytorchs(loss):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    rng = np.random.default_rng(3)
    if loss is cross_entropy:
        y, t = rng.standard_normal((64, 10)), rng.integers(0, 10, 64)
    else:
        y, t = rng.random((640, 2)), rng.random((640, 2))
    leaf = torch.tensor(y, requires_grad=True)
    expected = getattr(torch.nn.functional, loss.__name__)(leaf, torch.tensor(t))
    expected.backward()
    value, dy, _ = BACKEND.loss_and_gradient(loss, 0.5, y, t)
    close(value, expected.item(), "float64")
    close(dy, leaf.grad.numpy(), "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_is_the_loss(dtype):
    """Drawn probabilities, some at their limits, and targets, some between 0 and 1."""
    for seed in range(draws(30)):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 700), rng.integers(1, 5)
        y = rng.choice([0.0, 1.0, 1e-40, 1 - 1e-7, 0.5, 0.25], shape) if seed % 3 == 0 else rng.random(shape)
        t = rng.integers(0, 2, shape) if seed % 2 else rng.random(shape)
        y, t = y.astype(dtype), t.astype(dtype)
        assert in_one_pass(binary_cross_entropy, y, t) == (library() is not None)
        value, dy, right = BACKEND.loss_and_gradient(binary_cross_entropy, 0.5, y, t)
        expected, dexpected = binary_cross_entropy(y, t)
        np.testing.assert_allclose(value, expected, rtol=1e-13 if dtype == "float64" else 1e-5)
        np.testing.assert_allclose(dy, dexpected, rtol=4 * np.finfo(dtype).eps)
        assert (value.dtype, dy.dtype) == (y.dtype, y.dtype)
        assert int(right) == int(count_correct(y, t, 0.5))


def test_a_probability_that_is_no_number_stays_one():
    y, t = np.asarray([[0.5, np.nan], [np.inf, 0.5]], "float32"), np.asarray([[0, 1], [1, 0]], "float32")
    value, dy, _ = BACKEND.loss_and_gradient(binary_cross_entropy, 0.5, y, t)
    assert np.isnan(value)
    assert np.isnan(dy).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy])
def test_the_bits_are_those_of_one_thread(loss):
    rng = np.random.default_rng(4)
    y = rng.random((3000, 11), "float32")
    t = rng.integers(0, 11, 3000) if loss is cross_entropy else np.round(y)
    one, four = (xcnn.backend("numpy", threads=n).loss_and_gradient(loss, 0.5, y, t) for n in (1, 4))
    assert (one[0], one[2]) == (four[0], four[2])
    np.testing.assert_array_equal(one[1], four[1])


INF = np.inf
EDGES = {
    "a class left out": ([[0.0, -INF, 1.0]], [2]),
    "a label that is left out": ([[0.0, -INF, 1.0]], [1]),
    "all left out": ([[-INF, -INF]], [0]),
    "infinite": ([[INF, 0.0]], [0]),
    "both infinite": ([[INF, INF]], [1]),
    "no number": ([[np.nan, 0.0], [1.0, 2.0]], [0, 1]),
    "huge": ([[3e38, -3e38], [3e38, 3e38]], [1, 0]),
    "below the classes": ([[0.0, 1.0], [2.0, 3.0]], [-1, 0]),
    "far below": ([[0.0, 1.0]], [-(2**63)]),
    "beyond the classes": ([[0.0, 1.0]], [2]),
    "no samples": (np.zeros((0, 3)), []),
    "a single output": ([[0.5], [-0.5]], [1, 0]),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_the_losss(name):
    y, t = np.asarray(EDGES[name][0], "float32"), np.asarray(EDGES[name][1], "int64")
    with np.errstate(all="ignore"):
        value, dy, right = BACKEND.loss_and_gradient(cross_entropy, 0.0, y, t)
        expected, dexpected = cross_entropy(y, t)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(dy, dexpected, rtol=1e-6, atol=1e-7)
    assert int(right) == int(count_correct(y, t, 0.0))


def test_all_else_goes_the_losss_way():
    y, t = np.zeros((4, 3), "float32"), np.asarray([0, 1, 2, 0])
    for other in (t.astype("int32"), t.astype("float32"), np.eye(3, dtype="float32")[t], t[:, None].repeat(2, 1)):
        assert not in_one_pass(cross_entropy, y, other)
    assert not in_one_pass(xcnn.losses.mse, y, t)
    assert not in_one_pass(cross_entropy, y.astype("float16"), t)
    assert not in_one_pass(cross_entropy, np.zeros((4, 3, 2)), np.zeros((4, 3), "int64"))
    scaled = BACKEND.loss_and_gradient(cross_entropy, None, y, t, np.asarray(4.0, "float32"))
    plain = BACKEND.loss_and_gradient(cross_entropy, None, y, t)
    close(scaled[1], 4 * plain[1], "float32")
    assert scaled[2] is plain[2] is None


@pytest.mark.parametrize("layout", ["reversed", "transposed", "read-only"])
def test_any_layout(layout):
    rng = np.random.default_rng(5)
    y, t = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    y, t = {"reversed": (y[::-1], t[::-1]), "transposed": (np.asarray(y, order="F"), t), "read-only": (y, t)}[layout]
    y.flags.writeable = t.flags.writeable = layout != "read-only"
    value, dy, _ = BACKEND.loss_and_gradient(cross_entropy, 0.0, y, t)
    expected, dexpected = cross_entropy(np.ascontiguousarray(y), np.ascontiguousarray(t))
    close(value, expected, "float64")
    close(dy, dexpected, "float64")
