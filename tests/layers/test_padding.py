"""Convolutions whose padding is drawn against their kernel, up to far beyond it, in every engine, fused and not.

What is held to is the definition in float64: windows of the padded image by NumPy, their gradients by the same windows.
"""

from functools import cache

import numpy as np
import pytest
from draws import draws

import xcnn
from xcnn.core import tree
from xcnn.core.windows import extent
from xcnn.layers.layer import Run

KEY = (5, 1)
NET = {"relu": (xcnn.ReLU(),), "sigmoid": (xcnn.Sigmoid(),), "pool": (xcnn.MaxPool2D(2),), "none": ()}
NET["relu, pool"] = NET["relu"] + NET["pool"]


def drawn(rng, exact):
    """A convolution, what follows it, and the shape of its images."""
    groups, stride = int(rng.choice([1, 1, 2, 3])), (1, 1)
    if rng.random() < 0.3:
        stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    kernel, dilation = (tuple(int(n) for n in rng.integers(1, most, 2)) for most in (5, 3))
    channels, filters = (groups * int(n) for n in rng.integers(1, 4, 2))
    sides = []
    for cells, step in zip(kernel, dilation, strict=True):
        span = extent(cells, step)
        sides.append([0, 1, span - 1, span, span + 1, int(rng.integers(0, 2 * span + 1)), int(rng.integers(0, 24))])
    padding = tuple(tuple(int(rng.choice(side)) for _ in range(2)) for side in sides)
    if rng.random() < 0.25:  # the same on both sides, as most have it
        padding = tuple((n, n) for n, _ in padding)
    if rng.random() < 0.5:  # from the other side: what makes rows of whole half vectors
        sizes = [int(n) for n in rng.choice([8, 16, 24], 2)]
        sizes = [
            n - lo - hi + extent(k, d) - 1 for n, (lo, hi), k, d in zip(sizes, padding, kernel, dilation, strict=True)
        ]
    else:
        sizes = [int(n) for n in rng.integers(1, 9, 2)]
    least = [max(1, extent(k, d) - lo - hi) for k, d, (lo, hi) in zip(kernel, dilation, padding, strict=True)]
    sizes = [max(*pair) for pair in zip(sizes, least, strict=True)]
    bias = [True, False, "untied"][rng.integers(3)]
    layer = xcnn.Conv2D(filters, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    ends = [name for name in NET if not (exact and name == "sigmoid")]
    output = [
        (n + lo + hi - extent(k, d)) // s
        for n, (lo, hi), k, d, s in zip(sizes, padding, kernel, dilation, stride, strict=True)
    ]
    if min(output) < 1:
        ends = [name for name in ends if "pool" not in name]
    return layer, str(rng.choice(ends)), (channels, *sizes)


def windows(x, layer, kernel):
    """The windows of padded images (N, C, H, W): a view (N, C, H', W', h, w), and one that can be written."""
    spans = [extent(k, d) for k, d in zip(kernel[2:], layer.dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, (2, 3), writeable=True)
    (down, across), (i, j) = layer.stride, layer.dilation
    return view[:, :, ::down, ::across, ::i, ::j]


def by_definition(layer, end, weights, x, dy):
    """Y, dX, dK and dB in float64."""
    kernel = weights["kernel"]
    (o, c, *_), groups, n = kernel.shape, layer.groups, len(x)
    padded = np.pad(x, ((0, 0), (0, 0), *layer.padding))
    seen, k = windows(padded, layer, kernel.shape), kernel.reshape(groups, -1, c, *kernel.shape[2:])
    seen = seen.reshape(n, groups, c, *seen.shape[2:])
    y = np.einsum("ngcuvij,gocij->ngouv", seen, k).reshape(n, o, *seen.shape[3:5])
    bias = weights.get("bias")
    if bias is not None:
        y = y + (bias if bias.ndim == 3 else bias[:, None, None])
    if "relu" in end:
        y = np.maximum(y, 0)
    if "sigmoid" in end:
        y = 1 / (1 + np.exp(-y))
    before = y
    if "pool" in end:
        high, wide = y.shape[2] // 2, y.shape[3] // 2
        fours = [y[:, :, i : 2 * high : 2, j : 2 * wide : 2] for i in range(2) for j in range(2)]
        first, y = np.argmax(fours, axis=0), np.max(fours, axis=0)
        slope = np.zeros(before.shape)
        for tap in range(4):
            i, j = divmod(tap, 2)
            slope[:, :, i : 2 * high : 2, j : 2 * wide : 2] = np.where(first == tap, dy, 0)
        dy = slope
    if "relu" in end:
        dy = np.where(before > 0, dy, 0)
    if "sigmoid" in end:
        dy = dy * before * (1 - before)
    parts = dy.reshape(n, groups, o // groups, *dy.shape[2:])
    grads = {"kernel": np.einsum("ngcuvij,ngouv->gocij", seen, parts).reshape(kernel.shape)}
    if bias is not None:
        grads["bias"] = dy.sum(axis=0) if bias.ndim == 3 else dy.sum(axis=(0, 2, 3))
    dx = np.zeros(padded.shape)
    met = windows(dx, layer, kernel.shape)
    share = np.einsum("gocij,ngouv->ngcuvij", k, parts).reshape(met.shape)
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            met[..., i, j] += share[..., i, j]
    (top, _), (left, _) = layer.padding
    return y, dx[:, :, top : top + x.shape[2], left : left + x.shape[3]], grads


def arrays(rng, net, shape, exact):
    """Weights, x and a function that gives dY; of small whole numbers where sums are to be exact."""

    def draw(size):
        return rng.integers(-3, 4, size).astype("float64") if exact else rng.normal(size=size)

    weights, output = net.init(xcnn.core.random.generator(0), shape)
    n = int(rng.integers(1, 4))
    return {name: draw(w.shape) for name, w in weights["conv1"].items()}, draw((n, *shape)), draw((n, *output))


def computed(backend, net, fused, weights, x, dy, dtype):
    net = backend.rewrite(net) if fused else net
    weights = tree.map(lambda w: backend.asarray(w, dtype), {"conv1": weights})
    y, backward = net(weights, backend.asarray(x, dtype), Run(backend, True, KEY))
    dx, grads = backward(backend.asarray(dy, dtype))
    return backend.to_numpy(y), backend.to_numpy(dx), tree.map(backend.to_numpy, grads["conv1"])


@cache
def problem(seed, rounds):
    """Whole numbers in float32, whose sums are exact, among them ties; or normal ones in float64; and what is right."""
    rng = np.random.default_rng(seed)
    exact = bool(rng.integers(2)) and not rounds
    layer, end, shape = drawn(rng, exact)
    net = xcnn.Sequential(layer, *NET[end])
    weights, x, dy = arrays(rng, net, shape, exact)
    return layer, end, net, shape, (weights, x, dy), by_definition(layer, end, weights, x, dy), exact, rng.integers(3)


def check(backend, seed):
    algorithm = getattr(backend, "algorithm", "auto")
    layer, end, net, shape, given, expected, exact, way = problem(seed, algorithm == "fft")
    weights, x, dy = given
    dtype, slack = ("float32", 0.0) if exact else ("float64", 1e-11)
    fused = bool(way)
    got = computed(backend, net, fused, weights, x, dy, dtype)
    told = f"draw {seed}: {layer}, {end}, images {shape}, {dtype}, {'fused' if fused else 'by layers'}"
    pairs = {"y": (got[0], expected[0]), "dx": (got[1], expected[1])}
    pairs |= {name: (got[2][name], grad) for name, grad in expected[2].items()}
    for name, (a, b) in pairs.items():
        np.testing.assert_allclose(a, b, rtol=0, atol=slack * max(1.0, np.abs(b).max()), err_msg=f"{name} of {told}")


def test_drawn_padding_against_the_kernel(any_backend, enough):
    for seed in range(draws(30)):
        if enough():
            break
        check(any_backend, seed)


def test_several_images_that_see_little_of_a_widely_padded_output(any_backend):
    """Draw 39 pads images of four rows by 18, for a kernel of four: XLA reads elsewhere where padding is negative."""
    check(any_backend, 39)


@pytest.mark.parametrize("bias", [True, "untied"])
@pytest.mark.parametrize("side", [1, 2, 100])
def test_padding_as_wide_as_the_kernel_and_wider(any_backend, enough, side, bias):
    """The gradient of the bias counts the cells of Y; and Y, where X is zero, is the bias."""
    if enough():
        return
    layer = xcnn.Conv2D(1, 1, padding=side, bias=bias)
    size = 2 + 2 * side
    b = np.arange(float(size * size)).reshape(1, size, size) if bias == "untied" else np.array([3.0])
    weights = {"kernel": np.ones((1, 1, 1, 1)), "bias": b}
    x, dy = np.zeros((1, 1, 2, 2)), np.ones((1, 1, size, size))
    y, dx, grads = computed(any_backend, xcnn.Sequential(layer), True, weights, x, dy, "float32")
    np.testing.assert_allclose(
        y[0], np.broadcast_to(b.reshape(1, -1, 1) if b.ndim == 1 else b, (1, size, size)), atol=0
    )
    np.testing.assert_allclose(dx, np.ones((1, 1, 2, 2)), atol=2e-5)
    expected = np.ones((1, size, size)) if bias == "untied" else [size * size]
    np.testing.assert_allclose(grads["bias"], expected, rtol=1e-6)


def test_the_definition_is_pytorch_s():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test; it is not installed")
    for seed in range(draws(10)):
        rng = np.random.default_rng(seed)
        layer, end, shape = drawn(rng, False)
        weights, x, dy = arrays(rng, xcnn.Sequential(layer, *NET[end]), shape, False)
        at = {name: torch.tensor(w, requires_grad=True) for name, w in {**weights, "x": x}.items()}
        (top, bottom), (left, right) = layer.padding
        y = torch.nn.functional.pad(at["x"], (left, right, top, bottom))
        y = torch.nn.functional.conv2d(y, at["kernel"], None, layer.stride, 0, layer.dilation, layer.groups)
        if "bias" in at:
            y = y + (at["bias"] if layer.bias == "untied" else at["bias"][:, None, None])
        y = {"relu": torch.relu, "sigmoid": torch.sigmoid}.get(end.split(",")[0], lambda y: y)(y)
        y = torch.nn.functional.max_pool2d(y, 2) if "pool" in end else y
        y.backward(torch.tensor(dy))
        ours = by_definition(layer, end, weights, x, dy)
        np.testing.assert_allclose(ours[0], y.detach(), atol=1e-12)
        np.testing.assert_allclose(ours[1], at["x"].grad, atol=1e-12)
        for name, grad in ours[2].items():
            np.testing.assert_allclose(grad, at[name].grad, atol=1e-11)
