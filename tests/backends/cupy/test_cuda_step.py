"""The CUDA kernels of the training step around the layers, run on the host.

Batches, random bits, losses, updates, and spans of steps. Threads and blocks run forwards and in reverse. Memory that
a kernel does not write is NaN.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from cuda_on_host.device import HostDevice
from cuda_on_host.emulator import DTYPES, needs_compiler
from optimizer_cases import OPTIMIZERS
from xcnn_cupy.batches import gather_batch
from xcnn_cupy.device import is_channels_last
from xcnn_cupy.loss import RULES, fits, loss
from xcnn_cupy.progress import Account
from xcnn_cupy.random import LONGEST, Counted, dropped, random_bits
from xcnn_cupy.update import LEAVES, Step, rates_of_span, update, update_in_place

import xcnn
from xcnn.core import tree
from xcnn.errors import OptionError
from xcnn.layers import Next
from xcnn.training import loss_scaling, losses
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop

pytestmark = needs_compiler

KINDS = ["float32", "float64", "float16", "bfloat16"]
SUMS = {"float32": np.float32, "float64": np.float64, "float16": np.float32, "bfloat16": np.float32}
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""From 1 to the next number."""
PARAMETERS = 4096
"""Bytes that a launch can pass by value."""


class Careful(HostDevice):
    """Sees to it that what is passed by value fits."""

    def launch(self, kernel, blocks, threads, *arguments):
        packed = kernel.pack(arguments, self.address)
        assert sum(-(-np.asarray(one).nbytes // 8) * 8 for one in packed) <= PARAMETERS
        super().launch(kernel, blocks, threads, *arguments)


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def device(request):
    return Careful(request.param)


def ordered(x, last=False):
    """The same array, dense in this order of memory; only images have two."""
    if not last or x.ndim != 4:
        return np.ascontiguousarray(x)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def typed(x, kind):
    return np.asarray(x).astype(DTYPES.get(kind, kind))


def one_cell(value, kind="int64"):
    return np.array([value], kind)


# Batches


@pytest.mark.parametrize(
    ("kind", "to", "target"),
    [
        ("float32", "float32", "int64"),
        ("float32", "float16", "float32"),
        ("float32", "bfloat16", "int64"),
        ("float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 41, 31), (2, 20, 30), (7,), ()], ids=str)
def test_a_batch_is_gathered_in_another_type(device, rng, kind, to, target, shape):
    images = typed(rng.standard_normal((9, *shape)), kind)
    targets = typed(9 * rng.standard_normal((9, 2)), target)
    order, first = rng.permutation(9), one_cell(4)
    x, t = gather_batch(device, images, targets, order, first, 3, to)
    assert np.array_equal(x, typed(images[order[4:7]], to))
    assert np.array_equal(t, targets[order[4:7]])
    assert (x.dtype, t.dtype) == (typed(0, to).dtype, targets.dtype)
    first[0] = 7  # a smaller batch, at the end
    x, t = gather_batch(device, images, targets, order, first, 2, to)
    assert np.array_equal(x, typed(images[order[7:]], to))
    assert np.array_equal(t, targets[order[7:]])


@pytest.mark.parametrize("from_last", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_batch_is_gathered_with_its_channels_last(device, rng, kind, from_last):
    images = ordered(rng.standard_normal((5, 3, 7, 6)).astype("float32"), from_last)
    order = rng.permutation(5)
    x, t = gather_batch(device, images, np.arange(5), order, one_cell(1), 4, kind, channels_last=True)
    assert is_channels_last(x)
    assert np.array_equal(x, typed(images[order[1:]], kind))
    assert np.array_equal(t, order[1:])


def test_targets_may_be_larger_than_images_and_batches_empty(device, rng):
    images, targets = rng.standard_normal((4, 2)).astype("float32"), rng.standard_normal((4, 1500)).astype("float32")
    x, t = gather_batch(device, images, targets, np.arange(4), one_cell(1), 2, "float32")
    assert np.array_equal(x, images[1:3])
    assert np.array_equal(t, targets[1:3])
    x, t = gather_batch(device, images, targets, np.arange(4), one_cell(4), 0, "float32")
    assert (x.shape, t.shape) == ((0, 2), (0, 1500))


# Random bits

KEYS = [(), (3,), (7, 41, 2, 0), (-1, 2**40 + 3, -(2**35), 2**64 - 1), tuple(range(16)), (0,) * LONGEST]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("shape", [(), (2,), (3, 5, 1), (0, 4), (13001,)], ids=str)
def test_random_bits_are_those_of_all_backends(device, key, shape):
    got = random_bits(device, key, shape)
    assert got.dtype == np.int64
    assert np.array_equal(got, xcnn.backend("numpy").random_bits(key, shape))


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("now", [0, 6, -5, 2**33 + 1])
def test_a_number_of_the_key_is_counted_on_the_device(device, place, now):
    there = one_cell(now)
    key = [8, 9, 10, 11]
    key[place] = Counted(3, there)
    assert key[place] == 3
    drawn = random_bits(device, tuple(key), (5,))
    assert np.array_equal(drawn, xcnn.backend("numpy").random_bits((*key[:place], now, *key[place + 1 :]), (5,)))


def test_a_key_that_is_too_long_is_told(device):
    with pytest.raises(OptionError, match=r"X104.*at most 32 numbers.*33"):
        random_bits(device, (1,) * (LONGEST + 1), (2,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (3, 3, 5, 3), (1, 2, 3, 3), (17, 9), (2, 7, 30, 33)], ids=str)
def test_dropout_has_the_mask_of_the_random_bits_in_either_order_of_memory(device, rng, kind, last, shape):
    x, key, least = ordered(typed(rng.standard_normal(shape), kind), last), (5, -2, 1), int(0.3 * 2**32)
    y = dropped(device, x, key, least, 1 / 0.7)
    mask = xcnn.backend("numpy").random_bits(key, shape) >= least
    wide = x.astype(SUMS[kind]) * np.where(mask, SUMS[kind](1 / 0.7), 0)
    assert np.array_equal(y, wide.astype(x.dtype))
    assert is_channels_last(y) == is_channels_last(x)


@pytest.mark.parametrize("rate", [0.25, 0.9])
def test_dropout_is_the_layers(device, rng, rate):
    layer, key = xcnn.Dropout(rate), (3, 1, 4)
    x = rng.standard_normal((6, 5, 4, 3)).astype("float32")
    y, backward = layer({}, x, xcnn.Run(xcnn.backend("numpy", fuse=False), train=True, key=key))
    draw = partial(dropped, device, key=key, least=int(rate * 2**32), by=1 / (1 - rate))
    assert np.allclose(draw(x), y, rtol=2e-7, atol=0)
    assert np.array_equal(draw(x) == 0, y == 0)
    dy = ordered(rng.standard_normal(x.shape).astype("float32"), last=True)
    assert np.allclose(draw(dy), backward(dy)[0], rtol=2e-7, atol=0)


def test_dropout_by_a_count_on_the_device_and_what_is_not_finite(device):
    step = one_cell(5)
    x = np.full((40,), np.nan, "float32")
    assert np.isnan(dropped(device, x, (1, 2), 2**31, 2.0)).all()
    x = np.full((40,), np.inf, "float32")
    y = dropped(device, x, (1, Counted(2, step)), 2**31, 2.0)
    kept = xcnn.backend("numpy").random_bits((1, 5), (40,)) >= 2**31
    assert (np.isinf(y) == kept).all()
    assert (np.isnan(y) == ~kept).all()  # as inf times the layer's mask is
    assert dropped(device, np.empty((0, 3), "float32"), (1,), 5, 2.0).shape == (0, 3)


# Losses


def expected_loss(name, y, t, smoothing=0.0):
    """By xcnn/losses.py in float64, but with the limits of y's own type."""
    wide = y.astype("float64")
    if name == "binary_cross_entropy":
        least = {"float16": 2.0**-14, "float64": 2.0**-1022}.get(str(y.dtype), 2.0**-126)
        with np.errstate(invalid="ignore"):
            wide = np.minimum(np.maximum(wide, least), 1 - EPSILON[str(y.dtype)] / 2)
    options = {"label_smoothing": smoothing} if smoothing else {}
    value, dy = losses.LOSSES[name](wide, t, **options)
    return value, dy, losses.count_correct(y.astype("float64"), t, losses.THRESHOLDS[name])


def assert_close(got, expected, kind, many=1):
    rounding = max(EPSILON[kind], 0.0)
    np.testing.assert_allclose(
        np.asarray(got, "float64"),
        expected,
        rtol=8 * rounding,
        atol=many * rounding * np.max(np.abs(expected), initial=0),
    )


def predictions(rng, name, shape, kind):
    y = rng.uniform(0.05, 0.95, shape) if name == "binary_cross_entropy" else 3 * rng.standard_normal(shape)
    return typed(y, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("shape", [(7, 10), (5, 1), (3, 2), (1, 33), (2, 300)], ids=str)
def test_losses_are_the_definitions(device, rng, name, soft, kind, shape):
    y = predictions(rng, name, shape, kind)
    t = rng.integers(0, max(shape[1], 2), shape[0])
    if soft:
        t = rng.dirichlet(np.ones(shape[1]), shape[0]) if shape[1] > 1 else rng.random(shape)
    t = t.astype(SUMS[kind]) if soft else t
    assert fits(y, t)
    value, dy, right = loss(device, name, y, t)
    expected, slope, hits = expected_loss(name, y, t)
    assert (value.dtype, value.shape, dy.dtype, right.dtype) == (SUMS[kind], (), y.dtype, np.int64)
    assert_close(value, expected, str(value.dtype))
    assert_close(dy, slope, kind)
    assert right == hits


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_label_smoothing_and_the_scale_of_the_loss(device, rng, kind, soft):
    y, t = predictions(rng, "cross_entropy", (6, 9), kind), rng.integers(0, 9, 6)
    t = np.eye(9, dtype=SUMS[kind])[t] if soft else t
    scale = np.array(1024.0, "float32")
    value, dy, right = loss(device, "cross_entropy", y, t, label_smoothing=0.1, loss_scale=scale)
    expected, slope, hits = expected_loss("cross_entropy", y, t, 0.1)
    assert_close(value, expected, str(value.dtype))
    assert_close(dy, 1024 * slope, kind)
    assert right == hits


def test_small_gradients_are_scaled_before_they_are_rounded(device):
    """(softmax - t) / 4 of these is below float16's smallest number."""
    y, t = typed([[0.0, 17.0]] * 4, "float16"), np.ones(4, "int64")
    _, vanished, _ = loss(device, "cross_entropy", y, t)
    assert not vanished.any()
    _, dy, _ = loss(device, "cross_entropy", y, t, loss_scale=np.array(2.0**24, "float32"))
    assert np.allclose(dy[:, 0].astype("float64"), 2.0**24 / (1 + np.exp(17.0)) / 4, rtol=1e-3)


@pytest.mark.parametrize("classes", [1025, 5000, 100_000])
def test_many_classes(device, rng, classes):
    y, t = predictions(rng, "cross_entropy", (2, classes), "float32"), rng.integers(0, classes, 2)
    t[0] = np.argmax(y[0])
    value, dy, right = loss(device, "cross_entropy", y, t)
    expected, slope, hits = expected_loss("cross_entropy", y, t)
    assert value == pytest.approx(expected, rel=1e-6)
    assert np.allclose(dy, slope, rtol=2e-5, atol=1e-12)
    assert right == hits == 1


def test_many_samples(device, rng):
    y, t = predictions(rng, "cross_entropy", (300, 2), "float32"), rng.integers(0, 2, 300)
    value, dy, right = loss(device, "cross_entropy", y, t)
    expected, slope, hits = expected_loss("cross_entropy", y, t)
    assert value == pytest.approx(expected, rel=1e-6)
    assert np.allclose(dy, slope, rtol=2e-6, atol=2e-7 / 300)
    assert right == hits


@pytest.mark.parametrize("soft", [False, True])
def test_the_losses_are_pytorchs(rng, soft):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    functional = torch.nn.functional
    t = rng.dirichlet(np.ones(11), 5) if soft else rng.integers(0, 11, 5)
    for name, oracle, given in (
        ("cross_entropy", partial(functional.cross_entropy, label_smoothing=0.2), {"label_smoothing": 0.2}),
        ("binary_cross_entropy", functional.binary_cross_entropy, {}),
        ("binary_cross_entropy_with_logits", functional.binary_cross_entropy_with_logits, {}),
    ):
        y = predictions(rng, name, (5, 11), "float64")
        value, dy, _ = loss(HostDevice(), name, y, t, **given)
        theirs = torch.tensor(y, requires_grad=True)
        wanted = torch.tensor(np.eye(11)[t] if not soft and name != "cross_entropy" else t)
        expected = oracle(theirs, wanted)
        expected.backward()
        assert value == pytest.approx(expected.item(), rel=1e-13)
        np.testing.assert_allclose(dy, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("label", [-1, 3, 2**40, -(2**63)])
def test_a_label_outside_the_classes_makes_its_row_nan(device, rng, name, label):
    y = predictions(rng, name, (4, 3), "float32")
    t = np.array([0, label, 2, 1])
    value, dy, right = loss(device, name, y, t)
    _, slope, hits = expected_loss(name, y, t)
    assert np.isnan(value)
    assert np.isnan(dy[1]).all()
    assert np.allclose(dy[[0, 2, 3]], slope[[0, 2, 3]], rtol=1e-5)
    assert right == hits


@pytest.mark.parametrize("label", [-1, 0, 1, 2])
@pytest.mark.parametrize("name", RULES)
def test_labels_of_a_single_unit(device, rng, name, label):
    y, t = predictions(rng, name, (6, 1), "float64"), np.full(6, label)
    value, dy, right = loss(device, name, y, t)
    expected, slope, hits = expected_loss(name, y, t)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(dy, slope, rtol=1e-13, atol=1e-17)
    assert right == hits


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_0_and_1_are_clipped_as_their_type_has_it(device, kind):
    y, t = typed([[0.0], [1.0], [1.0], [0.0]], kind), np.array([0, 1, 0, 1])
    value, dy, right = loss(device, "binary_cross_entropy", y, t)
    expected, slope, hits = expected_loss("binary_cross_entropy", y, t)
    assert np.isfinite(expected)
    assert value == pytest.approx(expected, rel=4 * EPSILON[str(value.dtype)])
    with np.errstate(over="ignore"):  # 2^126 is no float16
        np.testing.assert_allclose(dy.astype("float64"), typed(slope, kind).astype("float64"), rtol=4 * EPSILON[kind])
    assert right == hits == 2


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite(device, rng, name, bad):
    y, t = predictions(rng, name, (4, 3), "float64"), np.array([0, 1, 2, 1])
    y[1, 2], y[2, 0] = bad, bad
    with np.errstate(all="ignore"):
        expected, slope = losses.LOSSES[name](y, t)
        hits = losses.count_correct(y, t, losses.THRESHOLDS[name])
    value, dy, right = loss(device, name, y, t)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(dy, slope, rtol=1e-12)
    assert right == hits


@pytest.mark.parametrize("classes", [4, 70])
def test_of_equal_outputs_the_first_counts(device, classes):
    y = np.zeros((3, classes), "float32")
    y[1, [2, classes - 1]] = 5
    for t, right in ((np.array([0, 2, 0]), 3), (np.array([1, classes - 1, classes - 1]), 0)):
        assert loss(device, "cross_entropy", y, t)[2] == right
    soft = np.zeros((3, classes), "float32")
    soft[1, [2, 3]] = 0.5
    assert loss(device, "cross_entropy", y, soft)[2] == 3


@pytest.mark.parametrize("name", RULES)
def test_no_samples(device, name):
    value, dy, right = loss(device, name, np.empty((0, 4), "float16"), np.empty((0,), "int64"))
    assert (float(value), dy.shape, int(right)) == (0.0, (0, 4), 0)


def test_what_the_losses_take():
    y, t = np.zeros((4, 3), "float32"), np.zeros(4, "int64")
    assert fits(y, t)
    assert fits(typed(y, "bfloat16"), y)
    others = [
        (y, t.astype("int32")),
        (y, y.astype("float64")),
        (y, t[:3]),
        (y.T.copy().T, t),
        (y[:, :0], t),
        (y, t[::-1]),
    ]
    others += [(y[..., None], t), (y.astype("int64"), t), (y, np.zeros((4, 1), "int64"))]
    assert not any(fits(*other) for other in others)


# Updates

SHAPES = {
    "conv1": {"kernel": (3, 2, 5, 4), "bias": (3,)},
    "inner": {"first": {"scale": (), "none": (0, 4)}},
    "dense1": {"kernel": (45, 31)},  # a chunk and a part
}


def draw(rng, dtype, size=1.0):
    def leaves(shapes):
        return {name: leaves(shape) if isinstance(shape, dict) else one(shape) for name, shape in shapes.items()}

    def one(shape):
        return ordered(typed(rng.normal(size=shape) * size, dtype), last=True)

    return leaves(SHAPES)


def assert_equal(got, expected):
    assert [name for name, _ in tree.items(got)] == [name for name, _ in tree.items(expected)]
    for (name, a), b in zip(tree.items(got), tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=isinstance(b, np.ndarray))


def norm_of(grads):
    """In long double, where nothing overflows."""
    cells = [np.ravel(g).astype(np.longdouble) for g in tree.leaves(grads) if not isinstance(g, Next)]
    return float(np.sqrt(np.sum(np.square(np.concatenate(cells)))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_update_is_the_rule_to_the_last_bit(device, rng, optimizer, dtype):
    weights = draw(rng, dtype)
    state = optimizer.init(weights)
    for _ in range(2):
        grads = draw(rng, dtype)
        before = tree.map(np.copy, weights)
        expected, expected_state = optimizer.update(grads, state, weights)
        new, state, norm, weight_norm = update(device, optimizer, grads, state, weights)
        assert_equal(new, expected)
        assert_equal(state, expected_state)
        assert (norm.shape, norm.dtype, weight_norm.shape, weight_norm.dtype) == ((), np.float64, (), np.float64)
        assert norm == pytest.approx(norm_of(grads), rel=1e-13)
        assert weight_norm == pytest.approx(norm_of(new), rel=1e-13)
        assert_equal(weights, before)
        assert is_channels_last(new["conv1"]["kernel"])
        weights = new
    assert len(device.launched) == 2 * 2


@pytest.mark.parametrize("limit", [1e-3, 1e4])
@pytest.mark.parametrize(
    ("name", "dtype"), [("momentum", "float32"), ("adam", "float64"), ("adamw", "float32"), ("rmsprop", "float32")]
)
def test_clipping(device, rng, name, dtype, limit):
    """The norm that clips is summed in another order, and so may round otherwise."""
    optimizer = type(OPTIMIZERS[name])(clip_norm=limit)
    weights, grads = draw(rng, dtype), draw(rng, dtype)
    state = optimizer.init(weights)
    expected, expected_state = optimizer.update(grads, state, weights)
    got, got_state, norm, _ = update(device, optimizer, grads, state, weights)
    few = 8 * np.finfo(dtype).eps
    for a, b in zip(tree.leaves({**got, **got_state}), tree.leaves({**expected, **expected_state}), strict=True):
        np.testing.assert_allclose(a, b, rtol=few, atol=few * np.max(np.abs(b), initial=0))
    assert norm == pytest.approx(norm_of(grads), rel=1e-13)  # before clipping


def test_updates_are_pytorchs(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    for ours, theirs in (
        (SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.02, clip_norm=5.0),
         partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.02)),
        (Adam(0.01, clip_norm=5.0), partial(torch.optim.Adam, lr=0.01)),
        (AdamW(0.01, clip_norm=5.0), partial(torch.optim.AdamW, lr=0.01)),
        (RMSprop(0.01, momentum=0.5, weight_decay=0.1, clip_norm=5.0),
         partial(torch.optim.RMSprop, lr=0.01, momentum=0.5, weight_decay=0.1)),
    ):  # fmt: skip
        weights = draw(rng, "float64")
        parameters = [torch.tensor(w, requires_grad=True) for w in tree.leaves(weights)]
        optimizer, state = theirs(parameters), ours.init(weights)
        for _ in range(2):
            grads = draw(rng, "float64")
            weights, state, norm, weight_norm = update(HostDevice(), ours, grads, state, weights)
            for parameter, g in zip(parameters, tree.leaves(grads), strict=True):
                parameter.grad = torch.tensor(g) * (5.0 / norm_of(grads))  # clip_grad_norm_ would add 1e-6 to the norm
            optimizer.step()
        for w, parameter in zip(tree.leaves(weights), parameters, strict=True):
            np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-10, atol=1e-13)
        assert norm == pytest.approx(norm_of(grads), rel=1e-13)
        assert weight_norm == pytest.approx(norm_of({"all": np.concatenate([p.detach().ravel() for p in parameters])}))


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop"])
@pytest.mark.parametrize("kinds", [["float16"], ["bfloat16"], ["float32", "bfloat16", "float16"]], ids=str)
def test_gradients_in_half_precision(device, rng, name, kinds):
    optimizer, weights, drawn = OPTIMIZERS[name], draw(rng, "float32"), draw(rng, "float32")
    state = optimizer.init(weights)
    kind = iter(kinds * 5)
    grads = tree.map(lambda g: typed(g, next(kind)), drawn)
    expected, expected_state = optimizer.update(tree.map(lambda g: g.astype("float32"), grads), state, weights)
    got, got_state, norm, _ = update(device, optimizer, grads, state, weights)
    assert_equal(got, expected)
    assert_equal(got_state, expected_state)
    assert norm == pytest.approx(norm_of(tree.map(lambda g: g.astype("float64"), grads)), rel=1e-13)
    assert len(device.launched) == len(kinds) + 1


@pytest.mark.parametrize("clip_norm", [None, 2.0])
def test_more_arrays_than_one_launch_can_take(device, rng, clip_norm):
    optimizer = AdamW(0.01, clip_norm=clip_norm)
    weights, grads = ({f"w{n}": rng.normal(size=n % 7).astype("float32") for n in range(LEAVES + 14)} for _ in range(2))
    grads["w5"] = Next(grads["w5"])
    state = optimizer.init(weights)
    expected, _ = optimizer.update(grads, state, weights)
    got, _, norm, weight_norm = update(device, optimizer, grads, state, weights)
    for name in weights:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6)
    assert norm == pytest.approx(norm_of(grads), rel=1e-13)
    assert weight_norm == pytest.approx(norm_of(got), rel=1e-13)
    filled = sum(w.size > 0 for w in weights.values())
    assert len(device.launched) == -(-filled // LEAVES) * (1 if clip_norm is None else 2) + 1


def test_next_replaces_the_weight_and_counts_only_among_the_weights(device, rng):
    weights = {"scale": rng.normal(size=3), "mean": rng.normal(size=(4, 5))}
    grads = {"scale": rng.normal(size=3), "mean": Next(rng.normal(size=(4, 5)))}
    for optimizer in (SGD(0.1, momentum=0.9, clip_norm=1e-3), Adam(0.1)):
        state = optimizer.init(weights)
        new, new_state, norm, weight_norm = update(device, optimizer, grads, state, weights)
        np.testing.assert_array_equal(new["mean"], grads["mean"].value)
        moment = optimizer.moments[0]
        assert new_state[moment]["mean"] is state[moment]["mean"]
        assert norm == pytest.approx(norm_of(grads))
        assert weight_norm == pytest.approx(norm_of(new))


def test_next_beside_gradients_in_half_precision(device, rng):
    weights = {"scale": rng.normal(size=3).astype("float32"), "mean": rng.normal(size=4).astype("float32")}
    grads = {"scale": typed(rng.normal(size=3), "float16"), "mean": Next(rng.normal(size=4).astype("float32"))}
    new, _, norm, weight_norm = update(device, SGD(0.1), grads, {"step": 0}, weights)
    np.testing.assert_array_equal(new["mean"], grads["mean"].value)
    assert norm == pytest.approx(norm_of({"scale": grads["scale"].astype("float64")}))
    assert weight_norm == pytest.approx(norm_of(new))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_only_next_and_arrays_without_cells(device, clip_norm):
    optimizer = SGD(clip_norm=clip_norm)
    grads = {"mean": Next(np.full(2, 3.0)), "none": np.empty((0, 2))}
    new, state, norm, weight_norm = update(
        device, optimizer, grads, {"step": 0}, {"mean": np.ones(2), "none": np.empty((0, 2))}
    )
    assert (norm, weight_norm, state) == (0.0, pytest.approx(np.sqrt(18)), {"step": 1})
    np.testing.assert_array_equal(new["mean"], [3.0, 3.0])
    none = {"none": np.empty((0, 2))}
    new, _, norm, weight_norm = update(device, optimizer, none, {"step": 0}, none)
    assert (new["none"].shape, norm, weight_norm) == ((0, 2), 0.0, 0.0)


class Twice(SGD):
    """A rule of one's own."""


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_gradient_may_lie_otherwise_than_its_weight(device, rng, kind):
    """As that of a transposed convolution does, whose images have their channels last."""
    weights, g = rng.standard_normal((2, 3, 4, 5)).astype("float32"), rng.standard_normal((2, 3, 4, 5)).astype(kind)
    wide = np.zeros((2, 3, 4, 10), kind)
    wide[..., ::2] = g
    optimizer, state = SGD(0.5, momentum=0.9), {"step": 0, "velocity": np.zeros_like(weights)}
    expected = update(device, optimizer, {"w": g}, {**state, "velocity": {"w": state["velocity"]}}, {"w": weights})
    for last, other in ((False, ordered(g, True)), (False, wide[..., ::2]), (True, g)):
        w, v = (ordered(one, last) for one in (weights, state["velocity"]))
        found = update(device, optimizer, {"w": other}, {"step": 0, "velocity": {"w": v}}, {"w": w})
        np.testing.assert_array_equal(found[0]["w"], expected[0]["w"])
        np.testing.assert_array_equal(found[1]["velocity"]["w"], expected[1]["velocity"]["w"])
        assert found[2] == pytest.approx(float(expected[2]), rel=1e-12)


def test_what_an_update_takes(device):
    f32, f64 = np.ones((2, 3), "float32"), np.ones((2, 3))
    cases = [
        (Twice(), f32, f32),
        (SGD(), f32, f64),
        (SGD(), f64, f32),
        (SGD(), f64, Next(f32)),
        (SGD(), typed(f32, "float16"), typed(f32, "float16")),
        (SGD(), f32, f32[:1]),
        (SGD(), np.ones((2, 6), "float32")[:, ::2], f32),
        (SGD(), f32, f32.astype(">f4")),
    ]
    for optimizer, w, g in cases:
        assert update(device, optimizer, {"w": g}, {"step": 0}, {"w": w}) is None
    assert update(device, SGD(), {"w": f64, "v": f32}, {"step": 0}, {"w": f64, "v": f32}) is None
    assert update(device, SGD(), {"relu": {}}, {"step": 0}, {"relu": {}}) is None
    assert device.launched == []
    with pytest.raises(KeyError, match="bias"):
        update(device, SGD(), {"kernel": f32}, {"step": 0}, {"kernel": f32, "bias": f32})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_cell_that_is_not_finite_shows(device, bad, dtype):
    for optimizer in (SGD(0.1), Adam()):
        ones, spoilt = {"w": np.ones(1030, dtype)}, {"w": np.ones(1030, dtype)}
        spoilt["w"][-2] = bad
        *_, norm, weight_norm = update(device, optimizer, spoilt, optimizer.init(ones), ones)
        assert not np.isfinite(norm)
        assert not np.isfinite(weight_norm)
        *_, norm, weight_norm = update(device, optimizer, ones, optimizer.init(ones), spoilt)
        assert norm == pytest.approx(np.sqrt(1030))
        assert not np.isfinite(weight_norm)
        clipping = type(optimizer)(clip_norm=1.0)
        new, _, norm, weight_norm = update(device, clipping, spoilt, clipping.init(ones), ones)
        assert not np.isfinite(norm)
        assert_equal(new, ones)  # what could not be clipped is not taken


def test_large_gradients_have_a_norm_and_can_be_clipped(device):
    """The squares of 1e25 are beyond float32, the norm is not."""
    weights, grads = {"kernel": np.zeros(5000, "float32")}, {"kernel": np.full(5000, 1e25, "float32")}
    new, _, norm, weight_norm = update(device, SGD(1.0, clip_norm=1.0), grads, {"step": 0}, weights)
    assert norm == pytest.approx(1e25 * np.sqrt(5000), rel=1e-6)
    assert weight_norm == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(new["kernel"], -1 / np.sqrt(5000), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "lost", "large"), [("float32", 1e20, 1e18), ("float64", 1e160, 1e150)])
def test_weights_whose_squares_overflow_are_lost(device, dtype, lost, large):
    for value, finite in ((lost, False), (large, True)):
        weights, grads = {"kernel": np.full(9, value, dtype)}, {"kernel": np.zeros(9, dtype)}
        *_, weight_norm = update(device, SGD(), grads, {"step": 0}, weights)
        assert np.isfinite(weight_norm) == finite


def test_sums_do_not_depend_on_the_order_of_threads(rng):
    weights, grads = draw(rng, "float32"), draw(rng, "float32")
    a, b = (
        update(HostDevice(backwards), Adam(clip_norm=0.1), grads, Adam().init(weights), weights)
        for backwards in (False, True)
    )
    assert_equal(a[0], b[0])
    assert a[2:] == b[2:]


def scaled_state(optimizer, weights, scale, good=0):
    of_scaling = {"loss_scale": np.array(scale, "float32"), "good_steps": np.array(good, "int64")}
    return {**optimizer.init(weights), **of_scaling}


@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
@pytest.mark.parametrize(
    ("scale", "good", "clip_norm"),
    [(1.0, 1999, None), (1024.0, 7, 0.5), (2.0**23, 1999, None), (2.0**24, 1999, None), (1.5, 1998, None)],
)
def test_an_update_with_the_losss_scale(device, rng, scale, good, clip_norm, bad):
    optimizer = AdamW(0.01, clip_norm=clip_norm)
    weights, drawn = draw(rng, "float32"), draw(rng, "float32")
    weights["mean"], drawn["mean"] = np.ones(3, "float32"), Next(np.full(3, 4.0, "float32"))
    grads = tree.map(lambda g: g if isinstance(g, Next) else g * np.float32(scale), drawn)
    if bad is not None:
        grads["dense1"]["kernel"][3, 5] = bad
    state = scaled_state(optimizer, weights, scale, good)
    with np.errstate(all="ignore"):
        expected, expected_state, norm, weight_norm = loss_scaling.update(optimizer, grads, state, weights)
    got, got_state, got_norm, got_reach = update(device, optimizer, grads, state, weights)
    assert got_state["step"] == expected_state["step"] == 1
    assert list(got_state) == list(expected_state)
    for a, b in zip(tree.leaves({**got, **got_state}), tree.leaves({**expected, **expected_state}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7 * np.max(np.abs(b), initial=0))
    for name in ("loss_scale", "good_steps"):
        assert got_state[name] == expected_state[name]
        assert got_state[name].dtype == expected_state[name].dtype
        assert got_state[name] is not state[name]
    np.testing.assert_allclose(got_norm, norm, rtol=1e-6)
    np.testing.assert_allclose(got_reach, weight_norm, rtol=1e-6)


# A span of steps

SAMPLES, BATCH = 30, 6


@dataclass
class Rehearsal:
    """A linear classifier's steps with dropout, as a captured step has them, all that they need on the device."""

    device: Any
    optimizer: Any
    x: Any
    t: Any
    order: Any
    weights: Any
    kind: str = "float32"
    scale: float | None = None

    def __post_init__(self):
        self.weights = tree.map(np.copy, self.weights)
        self.state = self.optimizer.init(self.weights)
        if self.scale:
            self.state |= scaled_state(self.optimizer, self.weights, self.scale)
        self.account = Account(self.device, 16)

    def step(self, count=BATCH):
        """What would be captured."""
        x, t = gather_batch(self.device, self.x, self.t, self.order, self.account.at("first"), count, "float32")
        key = (3, Counted(0, self.account.at("step")), 1)
        x = dropped(self.device, x, key, 2**30, 4 / 3)
        with np.errstate(all="ignore"):
            y = x @ self.weights["kernel"]
        value, dy, right = loss(self.device, "cross_entropy", y, t, loss_scale=self.state.get("loss_scale"))
        grads = gradients(x, dy, self.kind)
        step = Step(self.account, value, right, count)
        assert update_in_place(self.device, self.optimizer, grads, self.state, self.weights, step)

    def span(self, steps, step=0, first=0, count=BATCH):
        """A span of steps, and the account of it."""
        self.account.begin(step, first, rates_of_span(self.optimizer, self.state["step"], steps))
        for _ in range(steps):
            self.step(count)
        done = self.account.read()
        self.state["step"] += done["updates"]
        return {**done, "losses": self.account.losses_of(done["step"] - step).tolist()}


def gradients(x, dy, kind):
    """Those of a linear map, rounded; and a mean that is no gradient."""
    with np.errstate(all="ignore"):
        return {"kernel": (x.T @ dy).astype(kind), "mean": Next(np.mean(x, axis=0))}


def copied(leaf):
    return leaf if isinstance(leaf, int) else leaf.copy()


@dataclass
class Reference:
    """The same steps by xcnn's own definitions, one by one; `skipped` are those whose update was left out."""

    like: Rehearsal

    def __post_init__(self):
        self.weights, self.state = (tree.map(copied, one) for one in (self.like.weights, self.like.state))
        self.account = {"right": 0, "seen": 0, "losses": [], "updates": 0}

    def step(self, step, first, count=BATCH):
        """One step; its loss and norms."""
        like, chosen = self.like, self.like.order[first : first + count]
        mask = xcnn.backend("numpy").random_bits((3, step, 1), (count, *like.x.shape[1:])) >= 2**30
        x = like.x[chosen] * np.where(mask, np.float32(4 / 3), np.float32(0))
        with np.errstate(all="ignore"):
            y = x @ self.weights["kernel"]
            value, dy = losses.cross_entropy(y, like.t[chosen])
            dy = dy * self.state.get("loss_scale", np.float32(1))
            grads = tree.map(lambda g: g if isinstance(g, Next) else g.astype("float32"), gradients(x, dy, like.kind))
            backend = xcnn.backend("numpy", fuse=False)
            weights, state, norm, weight_norm = backend.update(like.optimizer, grads, self.state, self.weights)
        if np.isfinite(norm):
            self.account["updates"] += 1
        else:
            state["step"] -= 1
        self.weights, self.state = weights, state
        self.account["right"] += int(losses.count_correct(y, like.t[chosen], 0.0))
        self.account["seen"] += count
        self.account["losses"].append(float(value))
        return float(value), float(norm), float(weight_norm)


@pytest.fixture
def linear(device, rng):
    x, t = rng.standard_normal((SAMPLES, 8)).astype("float32"), rng.integers(0, 4, SAMPLES)
    weights = {"kernel": rng.standard_normal((8, 4)).astype("float32"), "mean": np.zeros(8, "float32")}
    return partial(Rehearsal, device, x=x, t=t, order=rng.permutation(SAMPLES), weights=weights)


def assert_same(ours, theirs, done, **fields):
    for a, b in zip(
        tree.leaves({**ours.weights, **ours.state}), tree.leaves({**theirs.weights, **theirs.state}), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    expected = {**theirs.account, **fields}
    about = pytest.approx(expected["losses"], rel=1e-5)
    assert {name: done[name] for name in expected} == {**expected, "losses": about}


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(xcnn.schedules.WarmUp(3, xcnn.schedules.Cosine(0.5, 6)), momentum=0.9, nesterov=True, clip_norm=0.3),
        AdamW(xcnn.schedules.Exponential(0.1, 2), weight_decay=0.1),
        RMSprop(0.01, momentum=0.5, clip_norm=0.5),
    ],
    ids=["sgd", "adamw", "rmsprop"],
)
def test_a_span_of_steps_is_those_steps(linear, optimizer):
    ours = linear(optimizer)
    theirs = Reference(ours)
    done = ours.span(4, step=40)
    told = [theirs.step(40 + n, n * BATCH) for n in range(4)]
    assert_same(ours, theirs, done, step=44, first=24, stopped=-1, updates=4)
    assert (done["value"], done["norm"], done["reach"]) == pytest.approx(told[-1], rel=1e-5)
    done = ours.span(1, step=44, first=24, count=5)  # the next span goes on with the optimizer's count
    theirs.account = {**dict.fromkeys(theirs.account, 0), "losses": []}
    theirs.step(44, 24, count=5)
    assert_same(ours, theirs, done, step=45, first=29, stopped=-1, updates=1)


def test_before_a_span_begins_a_step_changes_nothing(linear):
    ours = linear(Adam(0.1))
    before, account = tree.map(np.copy, {**ours.weights, **ours.state}), ours.account.read()
    ours.step()
    assert_equal({**ours.weights, **ours.state}, before)
    assert ours.account.read() == account


@pytest.mark.parametrize("scale", [None, 64.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_span(linear, bad, scale):
    ours = linear(SGD(0.1, momentum=0.9), scale=scale)
    theirs = Reference(ours)
    done = ours.span(2)
    ours.x[ours.order[2 * BATCH + 1]] = bad
    later = ours.span(3, step=2, first=2 * BATCH)
    for n in range(2):
        theirs.step(n, n * BATCH)
    assert_same(ours, theirs, done, stopped=-1)
    theirs.account = {**dict.fromkeys(theirs.account, 0), "losses": []}
    assert_same(ours, theirs, later, step=2, first=2 * BATCH, stopped=2)
    assert not np.isfinite(later["value"])


@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_a_loss_that_is_not_finite_stops_the_span_also_if_its_gradients_are(device, scale):
    weights, account = {"w": np.ones(3, "float32")}, Account(device, 4)
    state = scaled_state(Adam(), weights, scale, good=5)
    account.begin(7, 2, rates_of_span(Adam(), 0, 1))
    step = Step(account, np.array(np.inf, "float32"), np.array(2), 5)
    assert update_in_place(device, Adam(), {"w": np.full(3, 2, "float32")}, state, weights, step)
    np.testing.assert_array_equal(weights["w"], 1)
    np.testing.assert_array_equal(state["first"]["w"], 0)
    assert (state["loss_scale"], state["good_steps"]) == (scale, 5)
    done = account.read()
    assert (done["step"], done["first"], done["stopped"], done["right"], done["seen"]) == (7, 2, 7, 0, 0)
    assert (done["value"], done["norm"]) == (np.inf, pytest.approx(np.sqrt(12) / scale))


def test_steps_after_the_one_that_stopped_change_nothing(linear):
    ours = linear(Adam(0.1))
    theirs = Reference(ours)
    ours.x[ours.order[2 * BATCH]] = np.nan  # in the third of four batches
    done = ours.span(4)
    for n in range(2):
        theirs.step(n, n * BATCH)
    assert_same(ours, theirs, done, step=2, first=2 * BATCH, stopped=2, updates=2)
    ours.step()
    assert ours.account.read() == pytest.approx({name: done[name] for name in done if name != "losses"}, nan_ok=True)


def test_a_gradient_that_is_not_finite_stops_the_span(linear):
    ours = linear(SGD(0.1), kind="float16")
    theirs = Reference(ours)
    ours.x *= np.float32(1e7)  # a gradient beyond float16, a loss within float32
    before = tree.map(np.copy, ours.weights)
    done = ours.span(2)
    assert np.isfinite(done["value"])
    assert done["norm"] == np.inf
    assert_equal(ours.weights, before)
    assert_same(ours, theirs, done, step=0, first=0, stopped=0, updates=0)


def test_weights_that_are_lost_stop_the_span(linear):
    """They are written by then, unlike in a step that the host looks at."""
    ours = linear(SGD(1e30))
    done = ours.span(3)
    assert (done["stopped"], done["step"], done["seen"], done["updates"]) == (0, 0, 0, 0)
    assert np.isfinite(done["value"])
    assert np.isfinite(done["norm"])
    assert done["reach"] == np.inf


def test_a_scale_of_the_loss_that_is_too_large_only_leaves_updates_out(linear):
    ours = linear(Adam(xcnn.schedules.Step(0.1, every=2)), kind="float16", scale=2.0**19)
    theirs = Reference(ours)
    done = ours.span(5)
    norms = [theirs.step(n, n * BATCH)[1] for n in range(5)]
    assert not np.isfinite(norms[0])
    assert np.isfinite(norms[-1])
    skips = 5 - done["updates"]
    assert 1 <= skips <= 4
    assert ours.state["loss_scale"] == 2.0 ** (19 - skips)
    assert ours.state["good_steps"] == done["updates"]
    assert ours.state["step"] == done["updates"]
    assert_same(ours, theirs, done, step=5, first=5 * BATCH, stopped=-1)


def test_at_a_scale_of_1_it_is_no_longer_the_scale(linear):
    ours = linear(SGD(0.1), kind="float16", scale=2.0)
    ours.x *= np.float32(1e7)
    before = tree.map(np.copy, ours.weights)
    done = ours.span(3)
    assert (done["stopped"], done["seen"], done["updates"]) == (1, BATCH, 0)
    assert (ours.state["loss_scale"], ours.state["good_steps"]) == (1, 0)
    assert_equal(ours.weights, before)


def test_in_place_nothing_is_launched_for_what_it_is_not_for(device):
    weights = {"w": np.ones(3, "float32")}
    account = Account(device, 4)
    for optimizer, kind in ((Twice(), "float32"), (SGD(), "float64")):
        step = Step(account, np.zeros((), kind), None, 5)
        assert not update_in_place(device, optimizer, weights, {"step": 0}, weights, step)
    assert device.launched == []


def test_a_loss_of_ones_own_has_no_hits(device):
    weights, account = {"w": np.ones(3, "float32")}, Account(device, 4)
    account.begin(7, 2, rates_of_span(SGD(0.5), 0, 1))
    step = Step(account, np.array(1.5, "float32"), None, 5)
    assert update_in_place(device, SGD(0.5), {"w": np.full(3, 2, "float32")}, {"step": 0}, weights, step)
    np.testing.assert_array_equal(weights["w"], 0)
    done = account.read()
    assert (done["step"], done["first"], done["right"], done["seen"]) == (8, 7, 0, 5)
    assert account.losses_of(1).tolist() == [1.5]
