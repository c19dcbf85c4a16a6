"""What a net needs is counted before it is made: against its own arrays, and against the memory of a pass."""

import tracemalloc
from math import prod

import numpy as np
import pytest
from checkpoints import joined, split
from spent import assert_soon, started

from xcnn import layers as L
from xcnn.checking.gradients import ReferenceBackend
from xcnn.core import random
from xcnn.errors import CheckpointError, OptionError
from xcnn.model.model import Model
from xcnn.model.needs import Counter


def counted(net, input_shape):
    """Cells, without a cell being made."""
    counter = Counter(input_shape)
    _, output = net.init(counter, input_shape)
    counter.note(net, input_shape, output)
    return counter.cells


def test_without_padding_it_is_what_the_layers_give():
    net = L.Sequential(L.Conv2D(4, 3, stride=2), L.Residual(L.ReLU(), shortcut=L.Conv2D(4, 1)), L.Flatten(), L.Dense(5))
    branch = prod((4, 5, 5))
    assert counted(net, (2, 11, 12)) == 2 * 11 * 12 + branch + 3 * branch + branch + 5


NETS = {
    "the image": (L.GlobalAveragePool2D(), (1, 700, 600)),
    "an image made larger": (L.UpSampling2D(150), (1, 4, 4)),
    "matrices that interpolate": (L.UpSampling2D(1, "bilinear"), (1, 600, 1)),
    "zeros around": (L.ZeroPadding2D(300), (1, 2, 2)),
    "zeros that a stride leaves out": (L.Conv2D(1, 1, stride=700, padding=300), (1, 2, 2)),
    "as much in one dimension": (L.Conv1D(1, 2, stride=400_000, padding=(200_000, 200_000)), (1, 2)),
    "in each channel": (L.DepthwiseConv2D(1, stride=400, padding=200), (4, 2, 2)),
    "a transposed convolution": (L.Conv2DTranspose(1, 2, stride=500), (1, 2, 2)),
    "one whose edges are cut off": (L.Conv2DTranspose(1, 2, dilation=600, padding=300), (1, 2, 2)),
    "padding of a pool": (L.MaxPool2D(600, padding="same", stride=600), (1, 2, 2)),
    "an untied bias": (L.Conv2D(3, 1, bias="untied"), (1, 300, 300)),
    "branches": (L.Concatenate(L.Sequential(), L.ReLU(), L.Sequential()), (1, 300, 300)),
    "a shortcut": (L.Residual(L.Conv2D(1, 1), shortcut=L.Conv2D(1, 1, stride=300, padding=299)), (1, 2, 2)),
    "depth": (L.Sequential(*(L.Sequential(L.Tanh(), L.Sequential(L.ELU())) for _ in range(9))), (1, 200, 200)),
}  # fmt: skip


@pytest.mark.parametrize("which", [name for name in NETS if name != "padding of a pool"])
def test_a_pass_takes_no_more_than_a_few_times_that(which):
    net, shape = NETS[which]
    weights, _ = net.init(random.generator(0), shape)
    x, run = np.ones((1, *shape)), L.Run(ReferenceBackend(), True, (0,))
    net(weights, x, run)  # imports
    tracemalloc.start()
    try:
        kept = net(weights, x, run)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept
    assert peak + x.nbytes > 2**20  # else nothing was measured
    assert peak + x.nbytes < 6 * 8 * counted(net, shape)


@pytest.mark.parametrize("which", NETS)
def test_planning_takes_none(which):
    net, shape = NETS[which]
    counted(net, shape)
    tracemalloc.start()
    try:
        counted(net, shape)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**17


HUGE = {  # a small net, and what its file says instead
    "a wide image": (L.GlobalMaxPool2D(), {}, (1, 100_000, 100_000)),
    "wide edges": (L.ZeroPadding2D(1), {"padding": 40_000}, None),
    "large cells": (L.UpSampling2D(2), {"size": 5000}, None),
    "edges that a stride leaves out": (L.MaxPool2D(2), {"pool_size": 40_000, "padding": 39_999}, None),
    "edges of a convolution": (L.Conv2D(2, 2), {"padding": 40_000, "stride": 80_000}, None),
    "far apart": (L.Conv2DTranspose(1, 2), {"stride": 2**20}, None),
    "many taps of little": (L.MaxPool2D(2), {"pool_size": 10_000, "padding": "same", "stride": 10_000}, None),
}


@pytest.mark.parametrize("which", HUGE)
def test_files_whose_nets_are_huge_are_refused_soon(which, tmp_path):
    layer, says, shape = HUGE[which]
    path = tmp_path / "m.xcnn"
    Model(L.Sequential(L.ReLU(), layer), (1, 8, 8), loss="mse", backend="numpy").save(path)
    entries, config, payload = split(path.read_bytes())
    config["net"]["named"][1][1].update(says)
    config["input_shape"] = shape or config["input_shape"]
    path.write_bytes(joined(entries, config, payload))
    began = started()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"X404\] m\.xcnn is not read: a single sample would take"):
            Model.load(path, backend="numpy")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert_soon(began, 1)


def test_layers_within_each_other_are_each_counted():
    """Forty joinings of a net with itself double its channels forty times."""
    twice = L.Concatenate(L.ReLU(), L.Tanh())
    assert counted(L.Sequential(*[twice] * 40), (1, 8, 8)) == 64 + 2 * sum(64 * 2 ** (n + 1) for n in range(40))


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
def test_the_limit_of_load_is_exact_and_an_argument(dtype, size, tmp_path):
    net = L.Sequential(L.ZeroPadding2D(2), L.GlobalAveragePool2D(), L.Dense(2))
    model = Model(net, (1, 3, 3), backend="numpy", dtype=dtype)
    model.save(tmp_path / "m.xcnn")
    needed = size * counted(net, (1, 3, 3))
    assert needed == size * (9 + 49 + 1 + 2)
    assert Model.load(tmp_path / "m.xcnn", backend="numpy", max_bytes=needed).net == net
    with pytest.raises(CheckpointError, match=rf"X404.*at most {needed - 1} B.*\n.*max_bytes={needed}\)"):
        Model.load(tmp_path / "m.xcnn", backend="numpy", max_bytes=needed - 1)
    for wrong in (0, True, "2 GiB", None, 2.5):
        with pytest.raises(OptionError, match="max_bytes"):
            Model.load(tmp_path / "m.xcnn", backend="numpy", max_bytes=wrong)


@pytest.mark.parametrize(("side", "samples"), [(28, 256), (512, 7), (4096, 1)])
def test_predictions_go_by_batches_of_as_many_cells(side, samples, monkeypatch):
    net = L.Sequential(L.Conv2D(32, 3), L.ReLU(), L.GlobalAveragePool2D(), L.Dense(2))
    model = Model(net, (1, side, side), backend="numpy")
    assert model.trainer.at_once == samples
    if side == 512:
        seen, forward = [], type(model.trainer).forward
        monkeypatch.setattr(type(model.trainer), "forward", lambda *args: seen.append(len(args[2])) or forward(*args))
        x = np.zeros((9, 1, side, side), "float32")
        model.predict(x), model.predict(x, batch_size=5), model.evaluate(x, np.zeros(9, int))
        assert seen == [7, 2, 5, 4, 7, 2]


def test_a_layer_that_can_t_be_planned_goes_by_batches_as_before():
    class Centred(L.Dense):
        def init(self, rng, input_shape):
            weights, output = super().init(rng, input_shape)
            weights["kernel"] -= 1
            return weights, output

    model = Model(L.Sequential(own=Centred(3)), (10**6,), backend="numpy")
    assert model.trainer.at_once == 256
    assert model.summary(4).prediction_bytes
