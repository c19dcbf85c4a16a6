"""A convolution and the batch norm behind it as one pass: in prediction what the layers give in float64."""

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.layers import (
    GELU,
    BatchNorm,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    LeakyReLU,
    ReLU,
    Run,
    Sequential,
    Tanh,
)

native = pytest.importorskip("xcnn_native.library")
if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)
from xcnn_numpy.native import maps  # noqa: E402
from xcnn_numpy.native.folded import Folded  # noqa: E402

NETS = {
    "many filters": (Sequential(Conv2D(16, 3, padding="same", bias=False), BatchNorm(), ReLU()), (3, 9, 8)),
    "few filters": (Sequential(Conv2D(5, 3, stride=2), BatchNorm(epsilon=0.1), LeakyReLU(0.2)), (2, 11, 10)),
    "one image's pixel": (Sequential(Conv2D(9, 3), BatchNorm(), GELU(), Tanh()), (2, 3, 3)),
    "groups": (Sequential(Conv2D(12, 3, groups=3), BatchNorm()), (6, 7, 7)),
    "depthwise": (Sequential(DepthwiseConv2D(3, padding=1), BatchNorm(), ReLU()), (10, 6, 7)),
    "groups that end together": (Sequential(Conv2D(24, 3, groups=4), BatchNorm(), GELU()), (8, 9, 9)),
    "depthwise, in shares": (Sequential(DepthwiseConv2D(3, padding=1), BatchNorm(), ReLU()), (24, 9, 8)),
    "depthwise, shares that end together": (Sequential(DepthwiseConv2D(3, padding=1), BatchNorm(), Tanh()), (24, 9, 8)),
    "transposed, with gaps": (Sequential(Conv2DTranspose(5, 2, stride=3), BatchNorm(), ReLU()), (4, 5, 4)),
    "lines": (Sequential(Conv1D(8, 3), BatchNorm(), ReLU()), (3, 12)),
}


def drawn(net, shape, dtype):
    """Weights and statistics without zeros and ones, and some samples."""
    rng = np.random.default_rng(5)
    weights, output = net.init(rng, shape)
    weights = tree.map(lambda w: (w + 0.5 * rng.random(w.shape)).astype(dtype), weights)
    return weights, rng.standard_normal((4, *shape)).astype(dtype), output


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_a_prediction_is_that_of_the_layers(name, dtype, monkeypatch):
    monkeypatch.setattr(maps, "LEAST", 0)  # two threads share however little
    net, shape = NETS[name]
    backend = xcnn.backend("numpy", threads=2)
    weights, x, output = drawn(net, shape, dtype)
    fused = backend.rewrite(net)
    assert isinstance(fused.plan[0][2], Folded)
    y, _ = fused(weights, x, Run(backend, wants_backward=False))
    reference = xcnn.backend("numpy", algorithm="literal", fuse=False)
    expected, _ = net(tree.map(lambda w: w.astype("float64"), weights), x.astype("float64"), Run(reference))
    assert (y.dtype, y.shape) == (x.dtype, (4, *output))
    most = 64 * np.finfo(dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=most)
    alone = np.concatenate([fused(weights, one[None], Run(backend, wants_backward=False))[0] for one in x])
    assert np.array_equal(alone, y)


@pytest.mark.parametrize("train", [True, False])
def test_who_wants_gradients_gets_both_layers(train):
    """In training by the batch's own statistics, else by the running ones."""
    net, shape = NETS["many filters"]
    backend = xcnn.backend("numpy")
    weights, x, output = drawn(net, shape, "float64")
    dy = np.random.default_rng(6).standard_normal((4, *output))
    results = []
    for each in (net, backend.rewrite(net)):
        y, backward = each(weights, x, Run(backend, train))
        results.append({"y": y, **dict(zip(("dx", "grads"), backward(dy), strict=True))})
    for (path, a), b in zip(tree.items(results[1]), tree.leaves(results[0]), strict=True):
        np.testing.assert_allclose(getattr(a, "value", a), getattr(b, "value", b), atol=1e-11, err_msg=path)


def test_statistics_of_another_layer_are_told_by_it():
    """Numbers of other channels do not fit; then the layers are called, and say so."""
    net, shape = NETS["many filters"]
    backend = xcnn.backend("numpy")
    weights, x, _ = drawn(net, shape, "float32")
    wrong = {**weights, "batchnorm1": {name: w[:5] if w.ndim else w for name, w in weights["batchnorm1"].items()}}
    with pytest.raises(xcnn.errors.XcnnError, match="batchnorm1"):
        backend.rewrite(net)(wrong, x, Run(backend, wants_backward=False))
