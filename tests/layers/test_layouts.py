"""Every layer, alone and between others, given arrays that lie in memory in every way, on every backend.

What is right is the same net's float64 on the reference's primitives, from copies that lie as they are indexed.
"""

import numpy as np
import pytest
from cases import CASES, settled
from draws import draws
from engines import COMPILER, MADE
from memory_layouts import KEY, LAYOUTS, drawn_net, lying
from whole import whole

import xcnn
from xcnn.checking.parity import reference
from xcnn.core import tree
from xcnn.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    ReLU,
    Reshape,
    Run,
    Sequential,
)
from xcnn.layers.batch_norm import SETTLED

# How arrays lie in memory. Each has the shape and type of the one that it is made of, not always its numbers.


# Nets around a layer.


def passes(net, backend, weights, x, dy, train):
    """All results of a net, by name, as float64 NumPy arrays."""
    with backend.active():
        there = backend.asarray
        y, backward = net(tree.map(there, weights), there(x), Run(backend, train, KEY))
        dx, grads = backward(there(dy))
        named = {"y": y, "dx": dx, **{f"d{name}": getattr(g, "value", g) for name, g in tree.items(grads)}}
        return {name: np.asarray(backend.to_numpy(a), "float64") for name, a in named.items()}


def copies(nested):
    return tree.map(lambda a: np.array(a, "float64", order="C"), nested)


def apart(got, expected, limit):
    """The results that are further apart than this, by the largest number of each."""
    assert got.keys() == expected.keys()
    found = {}
    for name, right in expected.items():
        assert got[name].shape == right.shape, name
        most = max(np.max(np.abs(right), initial=0.0), 1.0)
        far = np.max(np.abs(got[name] - right), initial=0.0) / most
        if not far <= limit:
            found[name] = far
    return found


def is_steady(net, weights, x, dy, train, expected):
    """Whether rounding x can not make a large difference, as it does where two cells of a pooling are nearly equal."""
    near = passes(net, reference(), weights, x * (1 + 1e-6), dy, train)
    return not apart(near, expected, 1e-3)


def check_drawn(number, backend, run_as=lambda net: net):
    """One net, one layout of each array; what is odd, or None."""
    rng = np.random.default_rng(number)
    net, input_shape = drawn_net(number, rng)
    dtype = ("float64", "float32")[rng.integers(2)]
    weights, output = net.init(rng, input_shape)
    batch = int(rng.integers(1, 5))
    weights = tree.map(lambda w: (w + 0.2 * rng.random(w.shape)).astype(dtype), weights)
    x, dy = (rng.standard_normal((batch, *shape)).astype(dtype) for shape in (input_shape, output))
    x, dy = lying(x, rng), lying(dy, rng)
    if rng.random() < 0.3:
        weights = tree.map(lambda w: lying(w, rng) if w.ndim > 1 else w, weights)
    train = rng.random() < 0.7
    exact = copies({"weights": weights, "x": x, "dy": dy})
    expected = passes(net, reference(), exact["weights"], exact["x"], exact["dy"], train)
    if dtype == "float32" and not is_steady(net, exact["weights"], exact["x"], exact["dy"], train, expected):
        return None
    limit = 1e-9 if dtype == "float64" else 2e-4
    held = [a.copy() for a in (*tree.leaves(weights), x, dy)]
    for form in (backend.rewrite(net), net):
        odd = apart(passes(run_as(form), backend, weights, x, dy, train), expected, limit)
        if odd:
            return f"{number}: {form} on {batch} of {input_shape}, {dtype}, strides {x.strides}, {dy.strides}: {odd}"
    for a, b in zip((*tree.leaves(weights), x, dy), held, strict=True):
        np.testing.assert_array_equal(a, b, err_msg="an argument was written")
    return None


FIRST = 2 * len(CASES)
"""Nets from this number on have layers around the layer of the table; those below `len(CASES)` are the layer alone."""


def numbers(few, name):
    """The nets of one test: some of each kind, other ones for each backend."""
    count = draws(few)
    begin = sum(map(ord, name)) % len(CASES)
    return [begin + n for n in range(count // 4)] + [FIRST + begin + n for n in range(count - count // 4)]


def test_every_layout_on_every_backend(backend):
    """Fused and layer by layer, in float64 and float32, in training and not."""
    found = [check_drawn(n, backend, lambda net: whole(net, backend)) for n in numbers(FEW[backend.name], backend.name)]
    assert not any(found), "\n".join(filter(None, found))


FEW = {"numpy": 8, "strict": 4, "torch": 8, "jax": 2, "cupy": 8}
"""How many nets are drawn within the suite: JAX compiles each."""


@pytest.mark.parametrize("algorithm", ["literal", "gemm", "fft"])
def test_every_layout_by_every_algorithm(algorithm):
    backend = xcnn.backend("numpy", algorithm=algorithm)
    found = [check_drawn(n, backend) for n in numbers(6, algorithm)]
    assert not any(found), "\n".join(filter(None, found))


def test_every_layout_by_cuda_kernels():
    """Compiled for the host, which computes on NumPy arrays."""
    if not COMPILER:
        pytest.skip("there is no C++ compiler to run CUDA kernels with")
    backend = MADE["kernels"](algorithm="gemm")
    found = [check_drawn(n, backend) for n in numbers(4, "kernels")]
    assert not any(found), "\n".join(filter(None, found))


@pytest.fixture
def odd_memory(monkeypatch):
    """New tensors of PyTorch's hold NaN until they are written, small ones come from memory that is used again, and
    convolutions go in parts."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from xcnn_torch import memory
    from xcnn_torch.fused import convolution

    monkeypatch.setattr(memory, "LARGE", 200)
    monkeypatch.setattr(convolution, "AT_ONCE", 700)
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield torch
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.mark.usefixtures("odd_memory")
def test_every_layout_in_memory_that_holds_other_numbers():
    backend = xcnn.backend("torch")
    found = [check_drawn(n, backend) for n in numbers(12, "odd")]
    assert not any(found), "\n".join(filter(None, found))


NORMS = {(5, 3): 1, (5, 3, 7): 2, (5, 3, 4, 6): 3}


@pytest.mark.usefixtures("odd_memory")
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", NORMS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_normalisation_writes_all_its_results(layout, shape, relu, rng):
    """PyTorch's `native_batch_norm.out` leaves the mean alone for most layouts; held to its autograd."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    backend, net = xcnn.backend("torch"), Sequential(BatchNorm(momentum=0.7), *([ReLU()] if relu else []))
    x, dy = (layout(2 + rng.standard_normal(shape), rng) for _ in range(2))
    weights = settled(net.init(rng, shape[1:])[0])
    got = passes(backend.rewrite(net), backend, weights, x, dy, True)
    norm = torch.nn.functional.batch_norm
    there = torch.tensor(np.array(x, order="C"), requires_grad=True)
    scale, bias = (
        torch.ones(3, dtype=torch.float64).requires_grad_(),
        torch.zeros(3, dtype=torch.float64).requires_grad_(),
    )
    mean, variance = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    y = norm(there, mean, variance, scale, bias, True, 1 - 0.7, 1e-3)
    y = y.relu() if relu else y
    y.backward(torch.tensor(np.array(dy, order="C")))
    names = [f"dbatchnorm1/running_{name}" for name in ("mean", "variance", "steps")]
    expected = {"y": y.detach(), "dx": there.grad, "dbatchnorm1/scale": scale.grad, "dbatchnorm1/bias": bias.grad}
    expected |= dict(zip(names, (mean, variance, torch.tensor([SETTLED + 1])), strict=True))
    assert not apart(got, {name: value.numpy() for name, value in expected.items()}, 1e-9)


def test_the_net_that_was_trained_wrongly(rng):
    """A convolution leaves its channels last, and a Reshape keeps them so: as on the reference, step by step."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    net = Sequential(Conv2D(4, 3, bias=False), Reshape((4, 100)), BatchNorm(), Flatten(), Dense(2))
    x, labels = rng.standard_normal((40, 2, 12, 12)).astype("float32"), rng.integers(0, 2, 40)
    losses = []
    for backend in ("torch", "numpy"):
        model = xcnn.Model(net, (2, 12, 12), backend=backend, seed=1)
        losses.append([model.step(x[n : n + 8], labels[n : n + 8]) for n in range(0, 40, 8)])
    np.testing.assert_allclose(*losses, rtol=1e-4)
