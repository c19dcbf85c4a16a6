"""explain_algorithm: it names what runs, why, about how much memory that takes, and how many multiplications."""

import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest
from xcnn_native import library as native
from xcnn_numpy import NumpyBackend, fft
from xcnn_numpy.explain import because

import xcnn
from xcnn import explain_algorithm
from xcnn.backends.algorithms import correlation_of
from xcnn.backends.explanation import Explanation
from xcnn.checking.gradients import ReferenceBackend
from xcnn.errors import BackendError, OptionError, ShapeError
from xcnn.layers import Conv1D, Conv2D, Conv2DTranspose, Dense, DepthwiseConv2D, Run, Sequential

CONVOLUTIONS = [
    (Conv2D(6, 3), (5, 2, 9, 8)),
    (Conv2D(6, (2, 3), stride=2, padding="same", dilation=2, groups=2), (3, 4, 9, 8)),
    (DepthwiseConv2D(3, depth_multiplier=2, padding="full"), (2, 3, 6, 7)),
    (Conv1D(4, 3, stride=2, padding=(1, 2)), (2, 3, 11)),
    (Conv2DTranspose(4, 3, stride=2, padding="same", groups=2), (2, 6, 5, 4)),
    (Conv2DTranspose(4, (3, 2), stride=(2, 3), output_padding=(1, 2)), (2, 3, 5, 4)),
    (Conv2D(2, 1), (0, 3, 4, 4)),
]


@dataclass(frozen=True, repr=False)
class Noting(NumpyBackend):
    """Notes the shapes and options of its correlations."""

    noted: list = field(default_factory=list, compare=False)

    def chosen(self, x_shape, k_shape, stride, padding, dilation, groups):
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.noted.append((x_shape, k_shape, how))
        return super().chosen(x_shape, k_shape, stride, padding, dilation, groups)


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=repr)
def test_the_correlation_explained_is_the_one_that_runs(layer, shape):
    """Forward and in both gradients, as the layer itself asks for it."""
    backend = Noting()
    weights, output = layer.init(np.random.default_rng(0), shape[1:])
    y, backward = layer(weights, np.zeros(shape), Run(backend))
    backward(y)
    assert len(backend.noted) == 3
    for noted in backend.noted:
        assert noted == correlation_of(layer, shape)
    explained = explain_algorithm(layer, shape, NumpyBackend())
    assert (explained.x_shape, explained.k_shape) == backend.noted[0][:2]
    there = explained.x_shape if isinstance(layer, Conv2DTranspose) else explained.y_shape
    assert np.prod(there) == np.prod([shape[0], *output])


def test_multiplications_are_those_of_the_formula():
    """Counted: a correlation of ones sums as many products as there are, where no padding adds zeros."""
    for layer, shape in ((Conv2D(6, (3, 2), stride=2), (5, 2, 9, 8)), (Conv2D(6, 3, groups=3), (2, 3, 5, 4))):
        x_shape, k_shape, how = correlation_of(layer, shape)
        y = NumpyBackend(algorithm="literal").correlate(np.ones(x_shape), np.ones(k_shape), **how)
        assert explain_algorithm(layer, shape, "numpy").multiplications == y.sum()
    assert explain_algorithm(Conv2D(64, 3), (64, 32, 26, 26), "numpy").multiplications == 64 * 64 * 24 * 24 * 32 * 9


SMALL, LARGE = (Conv2D(32, 3), (8, 16, 26, 26)), (Conv2D(16, 31, padding="same"), (8, 16, 64, 64))
HUGE = (Conv2D(64, 31), (32, 64, 128, 128))


@pytest.mark.parametrize(("layer", "shape"), [SMALL, LARGE, HUGE, (Conv2D(4, 3), (0, 2, 9, 9))])
@pytest.mark.parametrize("algorithm", NumpyBackend.algorithms)
def test_it_names_the_algorithm_that_is_chosen(algorithm, layer, shape):
    if algorithm == "native" and native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    backend = xcnn.backend("numpy", algorithm=algorithm)
    explained = explain_algorithm(layer, shape, backend)
    x_shape, k_shape, how = correlation_of(layer, shape)
    named = xcnn.backend("numpy", algorithm=explained.algorithm)
    assert named.chosen(x_shape, k_shape, **how) == backend.chosen(x_shape, k_shape, **how)
    if algorithm != "auto":
        assert explained.algorithm == algorithm
        assert explained.reason == f'the backend was made with algorithm="{algorithm}".'


@pytest.mark.parametrize("compiled", [True, False])
def test_the_reason_of_auto(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr("xcnn_numpy.backend.native.library", lambda: None)
    elif native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    name, other = ("native", "native") if compiled else ("gemm", "matrix products")
    there = f"the compiled library is {'there' if compiled else 'missing'}"
    small, large, huge, none = (
        explain_algorithm(*case, NumpyBackend()) for case in (SMALL, LARGE, HUGE, (Conv2D(4, 3), (0, 2, 9, 9)))
    )
    assert {small.algorithm, large.algorithm, huge.algorithm} == {name}
    guess = fft.estimate((8, 16, 26, 26), (32, 16, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    ratio = guess.transforms / (guess.sums if compiled else guess.products)
    assert ratio > 1
    assert small.reason == f"{there}, and by estimate fft takes {ratio:.2g} times as long as {other}."
    assert large.reason.startswith(f"{there}, and by estimate fft takes 0.")
    assert large.reason.endswith('but its error follows the largest cell of all: algorithm="fft" takes it.')
    assert "but the kernel has 34,078,720 frequencies" in huge.reason
    assert huge.reason.startswith(there)
    assert none.reason == "there is nothing to compute."


def test_the_rule_and_its_reason_are_one():
    """Where times are equal, and where the kernel's frequencies are just too many."""
    for products, transforms, frequencies, pays in (
        (10, 10, 1, False),
        (10, 9, fft.LARGEST, True),
        (10, 9, fft.LARGEST + 1, False),
        (9, 10, 1, False),
    ):
        for compiled in (True, False):
            sums = products if compiled else 0.0
            estimate = fft.Estimate(0 if compiled else products, sums, transforms, frequencies)
            assert estimate.pays(compiled) is pays
            assert ('algorithm="fft"' in because(estimate, compiled)) is pays


def held(run):
    """The largest memory that Python and NumPy held during a call beyond its result, in bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = run()
        return tracemalloc.get_traced_memory()[1] - before - result.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2D(32, 3), (8, 16, 30, 30)),
        (Conv2D(32, 5, padding="same", stride=2), (12, 8, 32, 31)),
        (Conv2D(32, 1), (4, 64, 40, 40)),
        (Conv2D(16, 7, padding=3, groups=4), (20, 16, 24, 24)),
    ],
)
@pytest.mark.parametrize("algorithm", ["reference", "literal", "gemm", "fft"])
def test_workspace_is_what_is_held(algorithm, layer, shape):
    """Of a forward pass, within a factor of three: libraries beneath copy as they like."""
    backend = ReferenceBackend() if algorithm == "reference" else NumpyBackend(algorithm=algorithm)
    x_shape, k_shape, how = correlation_of(layer, shape)
    x, k = np.ones(x_shape, dtype="float32"), np.ones(k_shape, dtype="float32")
    backend.correlate(x, k, **how)
    explained = explain_algorithm(layer, shape, backend)
    assert explained.algorithm == algorithm
    measured = held(lambda: backend.correlate(x, k, **how))
    assert measured / 3 - 2**16 <= explained.workspace_bytes <= 3 * measured + 2**16


def test_workspace_of_native_is_a_kernel_and_some_rows_of_each_thread():
    if native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    layer, shape = Conv2D(32, 3, padding="same"), (8, 16, 30, 30)
    one, two, many = (
        explain_algorithm(layer, shape, xcnn.backend("numpy", algorithm="native", threads=n)).workspace_bytes
        for n in (1, 2, 100)
    )
    rows = two - one
    assert one - rows == 4 * 32 * 16 * 9
    assert 2**16 < rows < 2**18
    assert many == one + 7 * rows


def test_every_backend_explains(backend):
    explained = explain_algorithm(Conv2D(4, 3), (2, 3, 8, 9), backend)
    assert isinstance(explained, Explanation)
    assert explained.y_shape == (2, 4, 6, 7)
    assert explained.reason.endswith(".")
    if backend.name == "strict":
        assert explained.algorithm == "reference"


def test_it_prints_itself():
    lines = str(
        explain_algorithm(Conv2D(64, 3), (64, 32, 26, 26), xcnn.backend("numpy", algorithm="gemm"))
    ).splitlines()
    assert lines[0] == "x (64, 32, 26, 26) * k (64, 32, 3, 3) = y (64, 64, 24, 24)"
    assert lines[1] == 'algorithm        gemm: the backend was made with algorithm="gemm".'
    assert lines[2].startswith("workspace        about 1.5 MiB")
    assert lines[3] == "multiplications  679,477,248 for y, as many for dx, as many for dk"


def test_the_process_has_a_backend(monkeypatch):
    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("strict"))
    assert explain_algorithm(Conv2D(4, 3), (2, 3, 8, 9)).algorithm == "reference"


@pytest.mark.parametrize(
    ("layer", "shape", "error", "code", "words"),
    [
        (Dense(3), (2, 4), OptionError, "X104", "takes a convolution; got Dense"),
        (Sequential(Conv2D(3, 3)), (2, 1, 8, 8), OptionError, "X104", 'net["conv1"]'),
        ("conv1", (2, 1, 8, 8), OptionError, "X104", "got 'conv1'"),
        (Conv2D(3, 3), (1, 8, 8), ShapeError, "X101", "Conv2D expects (channels, height, width)"),
        (Conv2D(3, 3), (), ShapeError, "X101", "expects (channels, height, width)"),
        (Conv2D(3, 9), (2, 1, 8, 8), ShapeError, "X102", "Conv2D has a 9x9 kernel"),
        (Conv1D(3, 9), (2, 1, 8), ShapeError, "X102", "Conv1D has"),
        (DepthwiseConv2D(9), (2, 1, 8, 8), ShapeError, "X102", "DepthwiseConv2D has"),
        (Conv2DTranspose(3, 1, padding=4), (2, 1, 8, 8), ShapeError, "X102", "leaves nothing of the output"),
        (Conv2D(4, 3, groups=2), (2, 3, 8, 8), OptionError, "X104", "do not divide 3 channels"),
        (
            Conv2D(4, 3),
            (2, 3, 8.0, 8),
            OptionError,
            "X104",
            "each size of shape must be a whole number of at least 0; got 8.0",
        ),
        (
            Conv2D(4, 3),
            (-1, 3, 8, 8),
            OptionError,
            "X104",
            "each size of shape must be a whole number of at least 0; got -1",
        ),
    ],
)
def test_errors(layer, shape, error, code, words):
    with pytest.raises(error) as raised:
        explain_algorithm(layer, shape, "numpy")
    assert raised.value.code == code
    assert words in str(raised.value)


def test_an_unknown_backend():
    with pytest.raises(BackendError, match="X303"):
        explain_algorithm(Conv2D(3, 3), (2, 1, 8, 8), "nonsense")
