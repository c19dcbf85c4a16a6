"""The CUDA kernels of layers, run on the host: against NumPy and PyTorch in float64, and the package's definitions.

Threads and blocks run forwards and in reverse. Memory that a kernel does not write is NaN.
"""

from math import prod

import numpy as np
import pytest
from cuda_on_host.device import HostDevice
from cuda_on_host.emulator import DTYPES, needs_compiler
from xcnn_cupy import epilogue, layout, lowering, normalisation, pooling
from xcnn_cupy.device import is_channels_last, is_in_order
from xcnn_strided import lowering as strided_lowering
from xcnn_strided import pooling as strided_pooling

import xcnn
from xcnn.core import reference
from xcnn.core.windows import output_size
from xcnn.layers import BatchNorm
from xcnn.layers.batch_norm import RUNNING, SETTLED

pytestmark = needs_compiler

KINDS = ["float32", "float64", "float16", "bfloat16"]
SUMS = {"float32": np.float32, "float64": np.float64, "float16": np.float32, "bfloat16": np.float32}
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""From 1 to the next number."""


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def device(request):
    return HostDevice(request.param)


@pytest.fixture(params=[(False, "float32"), *((True, kind) for kind in KINDS), (False, "float16")], ids=str)
def setting(request):
    """A direction and a type: all types, and both directions for packs of two lengths."""
    backwards, kind = request.param
    return HostDevice(backwards), kind


@pytest.fixture(params=[False, True], ids=["as-indexed", "channels-last"])
def last(request):
    return request.param


def ordered(x, last=False):
    """The same array, dense in this order of memory."""
    if not last or x.ndim != 4:
        return np.ascontiguousarray(x)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def normal(rng, shape, kind, last=False):
    return ordered(rng.standard_normal(shape).astype(DTYPES.get(kind, kind)), last)


def wide(*arrays):
    """In float64."""
    found = [np.asarray(x, dtype=np.float64) for x in arrays]
    return found if len(found) > 1 else found[0]


def agrees(got, wanted, kind, digits):
    """Equal up to so many last digits of the type beside the largest numbers; halves are rounded once, from float32."""
    digits = 0.6 if kind in ("float16", "bfloat16") else digits
    assert got.shape == wanted.shape
    assert np.array_equal(np.isnan(wide(got)), np.isnan(wanted))
    room = digits * EPSILON[kind] * max(1.0, float(np.nanmax(np.abs(wanted), initial=0.0)))
    np.testing.assert_allclose(wide(got), wanted, rtol=0, atol=room)


def sums_agree(got, wanted, sizes, kind):
    """Sums, up to the last digits of a sum of numbers of these absolute values."""
    assert got.shape == wanted.shape
    assert (np.abs(wide(got) - wanted) <= 4 * EPSILON[kind] * sizes).all()


def laid_out(shapes):
    """Shapes with each order of memory that they can lie in."""
    return [(shape, last) for shape in shapes for last in (False, True)[: 1 + (len(shape) == 4)]]


def lies(x, last):
    """Whether x is dense in this order."""
    return is_in_order(x, (0, 2, 3, 1) if last else range(x.ndim))


# ---- Layout ----


def test_an_array_comes_into_another_type_and_order(setting, rng, last):
    device, kind = setting
    x = ordered(rng.integers(-99, 99, (2, 9, 5, 11)).astype(DTYPES.get(kind, kind)), not last)
    for target in KINDS:
        y = layout.converted(device, x, target, last)
        assert str(y.dtype) == target
        assert lies(y, last)
        assert np.array_equal(wide(y), wide(x))
    assert len(device.launched) == 4


VIEWS = {
    "transposed": lambda x: x.transpose(3, 1, 0, 2),
    "reversed": lambda x: x[:, ::-1, :, ::-1],
    "every second": lambda x: x[:, :, ::2, 1::2],
    "a part": lambda x: x[:, 3:20, 1:, 2:9],
    "repeated": lambda x: np.broadcast_to(x[:, :, :1, :1], x.shape),
    "repeated rows": lambda x: np.broadcast_to(x[0, 0, 0], (70, 9)),
    "a matrix turned": lambda x: x[0, :, 3].T,
    "three axes": lambda x: x[:, 4].transpose(2, 0, 1),
    "a column": lambda x: x[1, :, 2, 3],
    "one cell": lambda x: x[1, 2, 3, 4],
    "images beside channels": lambda x: x.swapaxes(0, 1),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_becomes_dense(device, rng, view):
    for memory in (False, True):
        x = VIEWS[view](normal(rng, (3, 70, 8, 9), "float32", memory))
        for last in (False, True)[: 1 + (x.ndim == 4)]:
            y = layout.converted(device, x, "float32", last)
            assert lies(y, last)
            assert np.array_equal(y, x)


def test_views_at_random_become_dense(device, rng):
    for _ in range(40):
        x = rng.standard_normal(rng.integers(1, 40, 4) // rng.integers(1, 9, 4) + 1)
        steps = (slice(None, None, int(step)) for step in rng.choice([-2, -1, 1, 1, 1, 3], 4))
        x = x.transpose(rng.permutation(4))[tuple(steps)]
        last = bool(rng.integers(2))
        y = layout.converted(device, x, "float64", last)
        assert lies(y, last)
        assert np.array_equal(y, x)


def test_what_is_right_already_is_not_touched(setting, rng, last):
    device, kind = setting
    x = normal(rng, (2, 3, 4, 5), kind, last)
    assert layout.converted(device, x, kind, last) is x
    one_channel = normal(rng, (2, 1, 4, 5), kind)
    assert layout.converted(device, one_channel, kind, last) is one_channel
    assert layout.dense(device, x) is x
    assert device.launched == []


def test_dense_copies_what_has_gaps(device, rng):
    x = normal(rng, (2, 3, 4, 5), "float32")[:, :, :, :3]
    y = layout.dense(device, x)
    assert lies(y, False)
    assert np.array_equal(y, x)


def test_a_turn_goes_through_tiles():
    """(N, C, H, W) with the channels last, and back; three channels are left to the cache."""
    shape, strides = (2, 33, 5, 7), (33 * 35, 35, 7, 1)
    (sizes, source, target), turned, chunks = layout.plan(shape, strides, 1, True)
    assert (sizes, source, target) == ((1, 2, 35, 33), (0, 33 * 35, 1, 35), (33 * 70, 33 * 35, 33, 1))
    assert turned
    assert chunks == 2 * 2 * 2
    assert layout.plan(shape, (33 * 35, 1, 7 * 33, 33), 1, False)[1]
    assert not layout.plan((2, 3, 5, 7), (105, 35, 7, 1), 1, True)[1]
    assert layout.plan(shape, strides, 1, False) == (((1, 1, 1, 2310), (0, 0, 0, 1), (2310, 2310, 2310, 1)), False, 3)


def test_many_arrays_are_converted_in_few_launches(device, rng):
    shapes = [(4, 3, 3, 3), (40,), (16, 17, 3, 3), (5, 9), (0, 3)] * 14
    arrays = [normal(rng, shape, "float32") for shape in shapes]
    last = [len(shape) == 4 for shape in shapes]
    kinds = ["bfloat16"] * 65 + ["float32"] * 5
    found = layout.converted_all(device, arrays, kinds, last)
    for x, y, target, is_last in zip(arrays, found, kinds, last, strict=True):
        assert str(y.dtype) == target
        assert lies(y, is_last)
        assert np.array_equal(y, x.astype(y.dtype))
    assert [x is y for x, y in zip(arrays, found, strict=True)][-5:] == [False, True, False, True, True]
    assert device.launched == ["convert<float, bfloat16>", "convert<float, float>"]


def test_more_arrays_than_a_launch_can_pass(device):
    arrays = [np.full(3, n, dtype=np.float64) for n in range(layout.COPIES + 1)]
    found = layout.converted_all(device, arrays, ["float32"] * len(arrays), [False] * len(arrays))
    assert [y.tolist() for y in found] == [[n] * 3 for n in range(len(arrays))]
    assert len(device.launched) == 2


def test_copies_of_the_same_type_keep_all_bits(device):
    x, y = np.array([2**53 + 1, -(2**62) - 1, 7]), np.zeros(3, np.int64)
    layout.launch(device, ("int64", "int64"), [(x, y)])
    assert np.array_equal(x, y)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (0,)])
def test_empty_arrays_are_converted_without_a_launch(device, shape):
    y = layout.converted(device, np.zeros(shape, np.float32), "float16", len(shape) == 4)
    assert (y.shape, y.dtype, device.launched) == (shape, np.float16, [])


def test_halves_round_as_numpy_does(device):
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519, 65520, 1e-8, np.inf, -np.inf, np.nan, -0.0], np.float32)
    for target in ("float16", "bfloat16"):
        with np.errstate(over="ignore"):
            wanted = x.astype(DTYPES.get(target, target))
        assert np.array_equal(wide(layout.converted(device, x, target, False)), wide(wanted), equal_nan=True)


# ---- Epilogue ----

SHAPES = [(3, 5, 3, 7), (2, 16, 4, 6), (5, 1, 3, 4), (7, 10), (2, 3, 11)]
"""With packs and without, with one channel, features, signals."""
LARGE = [(6, 4, 32, 50), (300, 24)]
"""So that several blocks share out a channel."""
FUNCTIONS = {
    None: (lambda z: z, lambda y: np.ones_like(y)),
    "relu": (lambda z: np.maximum(z, 0), lambda y: (y > 0) * 1.0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}


def channels(values, rank):
    """(C,) beside images; an untied bias as it is."""
    return values.reshape(-1, *[1] * (rank - 2)) if values.ndim == 1 else values


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_bias_and_activation(setting, rng, activation):
    (device, kind), (f, _) = setting, FUNCTIONS[activation]
    for shape, last in laid_out(SHAPES):
        untied = [normal(rng, shape[1:], SUMS[kind])] if len(shape) == 4 else []
        for bias in (None, normal(rng, shape[1:2], SUMS[kind]), *untied):
            y = normal(rng, shape, kind, last)
            wanted = f(wide(y) + (0 if bias is None else channels(wide(bias), len(shape))))
            epilogue.activate(device, y, bias, activation)
            agrees(y, wanted, kind, 1.5)


def test_a_bias_of_another_type(device, rng):
    y, bias = normal(rng, (2, 5, 3, 4), "float16"), normal(rng, (5,), "float16")
    wanted = wide(y) + channels(wide(bias), 4)
    epilogue.activate(device, y, bias, None)
    agrees(y, wanted, "float16", 1.0)


def gradients_agree(device, kind, rng, last, shape, activation, wants):
    f, slope = FUNCTIONS[activation]
    dy = normal(rng, shape, kind, last)
    y = ordered(f(wide(normal(rng, shape, kind))).astype(dy.dtype), last)
    dz, dbias = epilogue.activation_backward(device, dy, y, activation, wants)
    wanted = wide(dy) * slope(wide(y))
    agrees(dz, wanted, kind, 2.0)
    assert (dz is dy) == (activation is None)
    assert dz.dtype == dy.dtype
    assert is_channels_last(dz) == is_channels_last(dy)
    if wants is None:
        assert dbias is None
        return
    assert dbias.dtype == SUMS[kind]
    axes = 0 if wants == "untied" else tuple(n for n in range(len(shape)) if n != 1)
    sums_agree(dbias, wanted.sum(axis=axes), np.abs(wide(dy)).sum(axis=axes), str(dbias.dtype))
    if wants == "untied":
        assert lies(dbias[None], last)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_the_gradients_of_bias_and_activation(setting, rng, activation):
    for shape, last in laid_out(SHAPES):
        for wants in (None, "tied", "untied")[: 3 if len(shape) == 4 else 2]:
            gradients_agree(*setting, rng, last, shape, activation, wants)


def test_the_gradient_of_a_bias_that_blocks_share_out(setting, rng):
    for shape, last in laid_out(LARGE):
        setting[0].launched.clear()
        gradients_agree(*setting, rng, last, shape, "relu", "tied")
        assert len(setting[0].launched) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_sums_do_not_depend_on_the_order_in_which_threads_run(rng, kind, last):
    dy, y = (normal(rng, LARGE[0], kind, last) for _ in range(2))
    one, other = (epilogue.activation_backward(HostDevice(back), dy, y, "relu", "tied") for back in (False, True))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activations_of_numbers_that_are_not_finite(setting, activation):
    device, kind = setting
    layer = {"relu": xcnn.ReLU, "sigmoid": xcnn.Sigmoid, "tanh": xcnn.Tanh}[activation]()
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0, 60000.0, -60000.0]]).astype(DTYPES.get(kind, kind))
    with np.errstate(invalid="ignore"):
        wanted, backward = layer({}, wide(x), xcnn.Run(xcnn.backend("numpy"), train=True, key=()))
        y = x.copy()
        epilogue.activate(device, y, None, activation)
        assert np.array_equal(wide(y), wanted, equal_nan=True)
        dy = np.array([[1.0, np.inf, np.inf, np.inf, np.nan, 2.0, -np.inf]]).astype(x.dtype)
        dz, _ = epilogue.activation_backward(device, dy, y, activation, None)
        assert np.array_equal(wide(dz), backward(wide(dy))[0], equal_nan=True)


def test_a_sum_and_its_relu(setting, rng, last):
    device, kind = setting
    for relu, shape in ((False, (3, 5, 7, 9)), (False, (2, 16, 5, 6)), (True, (3, 5, 7, 9)), (True, (2, 16, 5, 6))):
        a, b = (normal(rng, shape, kind, last) for _ in range(2))
        a[1, 2, 3, 4] = np.nan
        y = epilogue.add(device, a, b, relu)
        wanted = wide(a) + wide(b)
        agrees(y, np.maximum(wanted, 0) if relu else wanted, kind, 1.0)
        assert is_channels_last(y) == last
    dz = epilogue.relu_backward(device, b, y)
    agrees(dz, np.where(wide(y) <= 0, 0, wide(b)), kind, 0.0)  # at a NaN the gradient goes on, as PyTorch's does
    assert is_channels_last(dz) == last


def test_arrays_that_are_not_cut_at_16_bytes(device, rng):
    """Cell by cell, with the same result."""
    x = normal(rng, (3, 8, 2, 2), "float16", True)
    inner = np.frombuffer(b"  " + x.transpose(0, 2, 3, 1).tobytes(), np.float16)[1:].reshape(3, 2, 2, 8)
    shifted = inner.transpose(0, 3, 1, 2)
    assert np.array_equal(epilogue.add(device, shifted, x, True), epilogue.add(device, x, x, True))
    assert device.launched == ["add<float16, 1, ReLU>", "add<float16, 8, ReLU>"]


def test_the_epilogue_of_an_empty_batch(device, last):
    y = ordered(np.zeros((0, 3, 4, 5), np.float32), last)
    epilogue.activate(device, y, np.ones(3, np.float32), "relu")
    assert epilogue.add(device, y, y, True).shape == y.shape
    assert device.launched == []
    for wants, shape in (("tied", (3,)), ("untied", (3, 4, 5))):
        dz, dbias = epilogue.activation_backward(device, y, y, "relu", wants)
        assert dz.shape == y.shape
        assert np.array_equal(dbias, np.zeros(shape))


# ---- Pooling ----

POOLS = [
    ((2, 3, 6, 8), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((2, 16, 7, 9), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 1, 9, 7), (3, 2), (1, 1), ((0, 2), (1, 0))),
    ((2, 8, 7, 8), (2, 1), (3, 4), ((1, 0), (0, 0))),  # cells between windows
    ((1, 2, 3, 4), (2, 3), (1, 2), ((4, 3), (5, 0))),  # windows that see only padding
    ((1, 5, 4, 4), (4, 4), (4, 4), ((0, 0), (0, 0))),
    ((1, 8, 20, 20), (18, 17), (1, 2), ((0, 0), (2, 2))),  # more than 256 taps
    ((9, 24, 16, 16), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((0, 3, 6, 8), (2, 2), (2, 2), ((0, 0), (0, 0))),
]


def test_max_pool(setting, rng, last):
    device, kind = setting
    for shape, size, stride, padding in POOLS:
        x = normal(rng, shape, kind, last)
        flat = x.transpose(0, 2, 3, 1).reshape(-1) if last else x.reshape(-1)
        flat[rng.permutation(x.size)[: x.size // 3]] = 1  # equal cells
        for value in (np.nan, -np.inf, np.inf):
            flat[rng.permutation(x.size)[: x.size // 20]] = value
        assert np.shares_memory(flat, x) or not x.size
        y, which = pooling.max_pool(device, x, size, stride=stride, padding=padding)
        wanted, taps = strided_pooling.max_pool(wide(x), size, stride=stride, padding=padding)
        assert np.array_equal(wide(y), wanted, equal_nan=True)
        assert np.array_equal(which, taps)
        assert (y.dtype, which.dtype) == (x.dtype, taps.dtype)
        for made in (y, which):
            assert lies(made, last)


def test_the_adjoint_of_max_pool(setting, rng, last):
    device, kind = setting
    for shape, size, stride, padding in POOLS:
        output = output_size(shape[2:], size, stride, padding)
        dy = normal(rng, (*shape[:2], *output), kind, last)
        which = rng.integers(0, prod(size), dy.shape).astype(np.uint8 if prod(size) <= 256 else np.uint32)
        dx = pooling.max_pool_adjoint(device, dy, ordered(which, last), shape, size, stride=stride, padding=padding)
        wanted = reference.max_pool_adjoint(wide(dy), which, shape, size, stride=stride, padding=padding)
        agrees(dx, wanted, kind, 2.0)
        assert dx.dtype == dy.dtype


def test_the_adjoint_of_max_pool_takes_gradients_in_any_order(device, rng):
    dy, which = normal(rng, (2, 8, 3, 4), "float32"), rng.integers(0, 4, (2, 8, 3, 4)).astype(np.uint8)
    how = {"stride": (2, 2), "padding": reference.NO_PADDING}
    one = pooling.max_pool_adjoint(device, dy, which, (2, 8, 6, 8), (2, 2), **how)
    other = pooling.max_pool_adjoint(device, dy, ordered(which, True), (2, 8, 6, 8), (2, 2), **how)
    assert is_channels_last(other)
    assert np.array_equal(one, other)


def test_a_gradient_that_is_not_finite_stays_where_it_belongs(device):
    dy, which = np.full((1, 1, 1, 2), np.inf, np.float32), np.array([[[[1, 2]]]], np.uint8)
    dx = pooling.max_pool_adjoint(device, dy, which, (1, 1, 2, 4), (2, 2), stride=(2, 2))
    assert dx.tolist() == [[[[0, np.inf, 0, 0], [0, 0, np.inf, 0]]]]


def test_sum_pool_and_its_adjoint(setting, rng, last):
    device, kind = setting
    for shape, size, stride, padding in POOLS:
        how = {"stride": stride, "padding": padding}
        x = normal(rng, shape, kind, last)
        y = pooling.sum_pool(device, x, size, **how)
        agrees(y, reference.sum_pool(wide(x), size, **how), kind, 20.0)
        assert lies(y, last)
        dy = normal(rng, y.shape, kind, last)
        dx = pooling.sum_pool_adjoint(device, dy, shape, size, **how)
        agrees(dx, reference.sum_pool_adjoint(wide(dy), shape, size, **how), kind, 20.0)
        assert dx.dtype == x.dtype


def test_the_mean_of_images(setting, rng, last):
    device, kind = setting
    for shape in ((2, 16, 7, 7), (3, 40, 4, 6), (5, 3, 1, 1), (70, 1, 5, 20), (60, 8, 2, 3), (0, 3, 4, 4)):
        x = normal(rng, shape, kind, last)
        y = pooling.image_mean(device, x)
        agrees(y, wide(x).mean(axis=(2, 3)), kind, 2.0)
        assert y.dtype == x.dtype
        dy = normal(rng, shape[:2], kind)
        dx = pooling.image_mean_adjoint(device, dy, shape, last)
        agrees(dx, np.broadcast_to(wide(dy)[:, :, None, None] / prod(shape[2:]), shape), kind, 1.0)
        assert lies(dx, last)


# ---- Normalisation ----

MOMENTUM, SMALL = 0.9, 1e-3
NORMS = [*SHAPES, (40, 8, 1, 1), *LARGE]


def norm_weights(rng, c, kind):
    """scale, bias, running_mean, running_variance, running_steps."""
    numbers = [rng.standard_normal(c) for _ in range(3)]
    return [x.astype(SUMS[kind]) for x in (*numbers, rng.uniform(0.5, 2, c), np.full(1, 1000.0))]


def normalised(device, x, given, relu, train=True):
    """Y, the running values after, and a backward pass."""
    scale, bias, *running = given
    mean, moved = running[0], running
    if train:
        mean, inverse, *moved = normalisation.statistics(device, x, running, MOMENTUM, SMALL)
    else:
        inverse = normalisation.inverses(device, running[1], SMALL)
    by = mean, inverse, scale, bias, relu
    y = normalisation.normalise(device, x, *by)
    return y, moved, lambda dy: normalisation.normalise_backward(device, dy, x, *by, train)


def by_torch(x, dy, given, relu, train=True):
    """The same by PyTorch in float64: y, running values, dx, dscale, dbias."""
    torch = pytest.importorskip("torch")
    scale, bias, *running = (torch.tensor(wide(one)) for one in given)
    leaves = [torch.tensor(wide(x)), scale, bias]
    for leaf in leaves:
        leaf.requires_grad_()
    y = torch.nn.functional.batch_norm(leaves[0], *running[:2], scale, bias, train, 1 - MOMENTUM, SMALL)
    running[2] += train
    y = torch.relu(y) if relu else y
    y.backward(torch.tensor(wide(dy)))
    return y.detach().numpy(), [one.numpy() for one in running], [leaf.grad.numpy() for leaf in leaves]


@pytest.mark.parametrize(("relu", "train"), [(False, True), (True, True), (True, False)])
def test_batch_normalisation(setting, rng, relu, train):
    for shape, last in laid_out(NORMS):
        norm_agrees(*setting, rng, last, shape, relu, train)


def norm_agrees(device, kind, rng, last, shape, relu, train):
    x, dy, given = normal(rng, shape, kind, last), normal(rng, shape, kind, last), norm_weights(rng, shape[1], kind)
    y, moved, backward = normalised(device, x, given, relu, train)
    dy[(wide(y) == 0) | (np.abs(wide(y)) < 1e-4)] = 0  # at the ReLU's corner both slopes are right
    wanted, wanted_moved, wanted_grads = by_torch(x, dy, given, relu, train)
    agrees(y, wanted, kind, 8.0)
    assert (y.dtype, is_channels_last(y)) == (x.dtype, is_channels_last(x))
    sums = str(np.dtype(SUMS[kind]))
    for got, number in zip(moved, wanted_moved, strict=True):
        agrees(got, number, sums, 8.0)
        assert got.dtype == sums
    dx, *grads = backward(dy)
    agrees(dx, wanted_grads[0], kind, 16.0)
    assert (dx.dtype, is_channels_last(dx)) == (x.dtype, is_channels_last(x))
    room = EPSILON[sums] * 6 * np.abs(wide(dy)).sum() / shape[1]  # 6 is above all of x_hat
    for got, number in zip(grads, wanted_grads[1:], strict=True):
        np.testing.assert_allclose(got, number, rtol=0, atol=room)
        assert got.dtype == sums


def test_a_mean_far_above_the_deviations(device, rng, last):
    """The variance keeps some digits, also where a thread's first cell is far off."""
    x = rng.normal(1000, 1, (8, 8, 20, 20))
    x[:, :4, 0] = 0
    x = ordered(x.astype(np.float32), last)
    given = norm_weights(rng, 8, "float32")
    given[1][:] = 0
    wanted, (_, variance, _), _ = by_torch(x, np.ones_like(x), given, False)
    y, (_, moved, _), _ = normalised(device, x, given, False)
    np.testing.assert_allclose(moved, variance, rtol=1e-5)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-3)


def test_the_relu_lets_through_what_its_output_shows(device, rng, last):
    """Also where y underflows to zero in its type."""
    kind = "float16"
    x, dy = (normal(rng, (4, 8, 5, 6), kind, last) for _ in range(2))
    scale = np.float32([3e-8, 1e-7, 1e-6, 1, 1e-9, 1e-8, 1e-5, 1e-4])
    bias, mean, variance, steps = (np.full(n, value, np.float32) for n, value in ((8, 0), (8, 0), (8, 1), (1, 0)))
    given = scale, bias, mean, variance, steps
    y, _, backward = normalised(device, x, given, True)
    through = wide(dy) * (wide(y) > 0)
    assert ((wide(y) == 0) & (wide(x) > 0.5)).any()
    dbias = backward(dy)[2]
    np.testing.assert_allclose(dbias, through.sum(axis=(0, 2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_a_normalisation_do_not_depend_on_the_order_of_threads(rng, kind, last):
    x, dy = (normal(rng, (6, 4, 32, 50), kind, last) for _ in range(2))
    given = norm_weights(rng, 4, kind)
    runs = [normalised(device, x, given, True) for device in (HostDevice(), HostDevice(backwards=True))]
    (y, moved, backward), (y2, moved2, backward2) = runs
    for one, other in zip((y, *moved, *backward(dy)), (y2, *moved2, *backward2(dy)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 8)])
def test_a_single_cell_does_not_move_the_running_values(device, rng, shape):
    x, dy, given = normal(rng, shape, "float32"), normal(rng, shape, "float32"), norm_weights(rng, shape[1], "float32")
    y, moved, backward = normalised(device, x, given, False)
    assert np.array_equal(y.reshape(-1), given[1])
    assert np.array_equal(moved[0], given[2])
    assert np.array_equal(moved[1], given[3])
    dx, dscale, dbias = backward(dy)
    assert np.array_equal(dx, np.zeros(shape))
    assert np.array_equal(dscale, np.zeros(shape[1]))
    assert np.array_equal(dbias, dy.reshape(-1))


def test_running_statistics_start_as_the_layer_has_them(rng):
    x = normal(rng, (4, 3, 5, 7), "float64", False)
    for steps, begun in ((0, False), (0, True), (1, True), (20, True), (SETTLED, True)):
        mean, variance = (rng.random(3), 1 + rng.random(3)) if begun else (np.zeros(3), np.ones(3))
        running = [mean, variance, np.full(1, float(steps))]
        got = normalisation.statistics(HostDevice(), x, running, MOMENTUM, SMALL)[2:]
        axes = (0, 2, 3)
        wanted = BatchNorm(momentum=MOMENTUM).moved(
            np, dict(zip(RUNNING, running, strict=True)), x.mean(axes), x.var(axes, ddof=1)
        )
        for name, value in zip(RUNNING, got, strict=True):
            np.testing.assert_allclose(value, wanted[name].value, rtol=1e-12)


def test_nan_and_infinity_are_not_lost_in_a_normalisation(device, rng, last):
    x, given = normal(rng, (2, 4, 5, 6), "float32", last), norm_weights(rng, 4, "float32")
    x[0, 1, 2, 3], x[1, 2, 0, 0] = np.nan, np.inf
    y, moved, backward = normalised(device, x, given, True)
    dx, dscale, _ = backward(np.ones_like(x))
    for values in (y, dx):
        assert np.isnan(values[:, 1:3]).all()
        assert np.isfinite(values[:, [0, 3]]).all()
    for values in (*moved[:2], dscale):
        assert np.isfinite(values).tolist() == [True, False, False, True]
    dy = np.ones_like(x)
    dy[0, 0, 0, 0] = np.nan
    dx = normalised(device, np.nan_to_num(x), given, False, train=False)[2](dy)[0]
    assert np.isnan(dx).sum() == 1  # in evaluation a cell's gradient is its own


def test_an_empty_batch_is_normalised_by_the_running_values(setting, rng, last):
    device, kind = setting
    x, given = normal(rng, (0, 5, 3, 4), kind, last), norm_weights(rng, 5, kind)
    y, _, backward = normalised(device, x, given, True, train=False)
    dx, dscale, dbias = backward(x)
    assert y.shape == dx.shape == x.shape
    assert np.array_equal(dscale, np.zeros(5))
    assert np.array_equal(dbias, np.zeros(5))


# ---- Lowering ----

MAPS = [
    ((2, 3, 6, 7), (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((3, 2, 8, 5), (3, 3), (2, 1), ((1, 1), (2, 0)), (1, 2)),
    ((1, 1, 4, 6), (1, 1), (3, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 2, 2, 2), (2, 2), (1, 2), ((10, 0), (0, 7)), (2, 1)),  # padding outweighs the image
    ((2, 2, 6, 7), (2, 3), (1, 1), ((-1, 1), (2, -2)), (1, 1)),  # padding takes cells away
    ((5, 8, 12, 11), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
]


def test_windows_are_laid_out_as_columns(setting, rng, last):
    device, kind = setting
    for shape, kernel, stride, padding, dilation in MAPS:
        output = output_size(shape[2:], kernel, stride, padding, dilation)
        x = normal(rng, shape, kind, last)
        found = lowering.columns(device, x, kernel, output, stride, padding, dilation)
        ((_, wanted),) = strided_lowering.columns(np, ordered(x), kernel, output, stride, padding, dilation, shape[0])
        assert np.array_equal(found, wanted)
        assert found.dtype == x.dtype


def test_columns_are_folded(setting, rng):
    """The adjoint: each number of the matrix goes back to the cell that it came from."""
    device, kind = setting
    for shape, kernel, stride, padding, dilation in MAPS:
        output = output_size(shape[2:], kernel, stride, padding, dilation)
        rows, size = shape[1] * prod(kernel), prod(shape)
        found = normal(rng, (rows, shape[0] * prod(output)), kind)
        dx = lowering.folded(device, found, shape, kernel, output, stride, padding, dilation)
        wanted = np.zeros(size + 1)
        cells = np.arange(1, size + 1, dtype=np.float64).reshape(shape)  # 0 is the padding
        ((_, origins),) = strided_lowering.columns(np, cells, kernel, output, stride, padding, dilation, shape[0])
        np.add.at(wanted, origins.astype(int), wide(found))
        agrees(dx, wanted[1:].reshape(shape), kind, 2.0)
        assert dx.dtype == found.dtype


def test_no_images_are_lowered_without_a_launch(device):
    how = (2, 3), (5, 5), (1, 1), reference.NO_PADDING, (1, 1)
    found = lowering.columns(device, np.zeros((0, 2, 6, 7)), *how)
    assert found.shape == (12, 0)
    assert lowering.folded(device, found, (0, 2, 6, 7), *how).shape == (0, 2, 6, 7)
    assert device.launched == []


def test_lowered_maps_are_those_of_the_reference(device, rng):
    x, k = rng.standard_normal((2, 3, 7, 8)), rng.standard_normal((4, 3, 3, 2))
    how = {"stride": (2, 1), "padding": ((1, 1), (0, 2)), "dilation": (1, 2)}
    y = reference.correlate(x, k, **how)
    n, o, *output = y.shape
    args = (3, 2), tuple(output), *how.values()
    met = lowering.columns(device, x, *args)
    product = (k.reshape(o, -1) @ met).reshape(o, n, *output).swapaxes(0, 1)
    np.testing.assert_allclose(product, y, rtol=0, atol=1e-12)
    back = k.reshape(o, -1).T @ y.swapaxes(0, 1).reshape(o, -1)
    dx = lowering.folded(device, back, x.shape, *args)
    np.testing.assert_allclose(dx, reference.correlate_input_adjoint(y, k, x.shape, **how), rtol=0, atol=1e-11)
