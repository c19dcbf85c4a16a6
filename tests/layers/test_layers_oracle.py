"""Layers against PyTorch in float64: y, dx and the gradient of every weight."""

from functools import partial

import numpy as np
import pytest
from cases import settled
from draws import draws
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from layer_oracles import ORACLES, average_pool, batch_norm, conv2d, max_pool, torch, transposed

from xcnn.core import random, tree
from xcnn.layers import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    MaxPool2D,
    Next,
    Run,
)

LIMIT = 1e-12
"""Largest difference, relative to the largest cell: float64 sums of some hundred products differ by far less."""


def compare(layer, input_shape, oracle, backend, *, train=True, batch=3, seed=0):
    """Hold y, dx and all gradients of a layer to a function (torch x, dict of torch weights) -> torch y."""
    rng = np.random.default_rng(seed)
    weights, _ = layer.init(random.generator(seed), input_shape)
    weights = settled(tree.map(lambda w: w + 0.5 * rng.random(w.shape), weights))
    x = rng.standard_normal((batch, *input_shape))

    x_torch = torch.tensor(x, requires_grad=True)
    w_torch = {name: torch.tensor(w, requires_grad="running" not in name) for name, w in tree.items(weights)}
    expected = oracle(x_torch, w_torch)
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.tensor(dy))

    there, run = tree.map(backend.asarray, weights), Run(backend, train, (0,))
    y, dx, grads = both(layer, run)(there, backend.asarray(x), backend.asarray(dy))
    assert_close(backend.to_numpy(y), expected)
    assert_close(backend.to_numpy(dx), x_torch.grad)
    assert set(dict(tree.items(grads))) == set(w_torch)
    for name, gradient in tree.items(grads):
        if isinstance(gradient, Next):
            assert_close(backend.to_numpy(gradient.value), w_torch[name])  # the oracle has moved it on
        else:
            assert_close(backend.to_numpy(gradient), w_torch[name].grad)


def both(layer, run):
    """A function (weights, x, dy) -> y, dx and the gradients; on JAX compiled as a whole, which is sooner done."""
    following = set()

    def passes(weights, x, dy):
        y, backward = layer(weights, x, run)
        dx, grads = backward(dy)
        following.update(name for name, g in tree.items(grads) if isinstance(g, Next))
        return y, dx, tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)

    def both(weights, x, dy):
        y, dx, grads = compiled(weights, x, dy)
        found = {name: Next(g) if name in following else g for name, g in tree.items(grads)}
        return y, dx, tree.from_items(found)

    if run.backend.name == "jax":
        import jax

        compiled = jax.jit(passes)
    else:
        compiled = passes
    return both


def assert_close(got, expected):
    expected = expected.detach().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT * max(np.abs(expected).max(initial=0), 1e-3))


def short(value):
    """A layer's or a shape's repr; nothing for functions, whose addresses differ from process to process."""
    return "" if isinstance(value, partial) or hasattr(value, "__name__") else repr(value)[:60]


@pytest.mark.parametrize(("layer", "input_shape", "oracle"), ORACLES, ids=short)
def test_layer_against_pytorch(layer, input_shape, oracle, backend):
    compare(layer, input_shape, oracle, backend)


@pytest.mark.parametrize("input_shape", [(3, 4, 5), (3, 5), (4,)])
def test_batch_norm_in_evaluation_against_pytorch(input_shape, backend):
    compare(BatchNorm(), input_shape, batch_norm(False), backend, train=False)


drawn = settings(
    max_examples=draws(40), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
steps = st.tuples(st.integers(1, 3), st.integers(1, 3))
edges = st.tuples(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
biases = st.sampled_from([True, False, "untied"])


@drawn
@given(sizes, kernels, steps, steps, edges, st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), biases)
def test_drawn_conv2d(backend, enough, size, kernel, stride, dilation, padding, inputs, outputs, groups, bias):
    if enough():
        return
    assume(all(n + sum(p) > (k - 1) * d for n, k, d, p in zip(size, kernel, dilation, padding, strict=True)))
    layer = Conv2D(
        outputs * groups, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
    )
    oracle = conv2d(padding, stride=stride, dilation=dilation, groups=groups)
    compare(layer, (inputs * groups, *size), oracle, backend, batch=2)


@drawn
@given(sizes, kernels, steps, steps, edges, steps, st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), biases)
def test_drawn_conv2d_transpose(
    backend, enough, size, kernel, stride, dilation, padding, extra, inputs, outputs, groups, bias
):
    if enough():
        return
    extra = tuple((e - 1) % s for e, s in zip(extra, stride, strict=True))
    assume(
        all(
            (n - 1) * s + (k - 1) * d + 1 + e > sum(p)
            for n, s, k, d, e, p in zip(size, stride, kernel, dilation, extra, padding, strict=True)
        )
    )
    layer = Conv2DTranspose(
        outputs * groups,
        kernel,
        stride=stride,
        padding=padding,
        output_padding=extra,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    oracle = transposed(padding, extra, stride=stride, dilation=dilation, groups=groups)
    compare(layer, (inputs * groups, *size), oracle, backend, batch=2)


@drawn
@given(sizes, kernels, steps, edges, st.sampled_from([MaxPool2D, AveragePool2D]))
def test_drawn_pools(backend, enough, size, window, stride, padding, kind):
    if enough():
        return
    padding = tuple(tuple(p % n for p in both) for both, n in zip(padding, window, strict=True))
    assume(all(n + sum(p) >= k for n, k, p in zip(size, window, padding, strict=True)))
    oracle = (max_pool if kind is MaxPool2D else average_pool)(window, stride, padding)
    compare(kind(window, stride, padding=padding), (2, *size), oracle, backend, batch=2)
