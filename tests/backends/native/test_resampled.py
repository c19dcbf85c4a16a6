"""Images whose rows and columns are mapped each by itself: products of matrices, forward and back."""

import numpy as np
import pytest

import xcnn
from xcnn.layers import AdaptiveAveragePool2D, Conv2D, Flatten, Resize, Run, Sequential, UpSampling2D

native = pytest.importorskip("xcnn_native.library")
if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)
from xcnn_numpy.native.resampled import MOST, Mapped  # noqa: E402

LAYERS = [
    UpSampling2D(2, "bilinear"), UpSampling2D((3, 2), "bilinear"), Resize((9, 5), interpolation="bilinear"),
    Resize((30, 25), interpolation="bilinear", align_corners=True), Resize((1, 40)), Resize(factor=0.7),
    AdaptiveAveragePool2D((3, 2)), AdaptiveAveragePool2D(1), AdaptiveAveragePool2D((7, 20)),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("channels", [1, 5, 40])
def test_they_are_products_of_matrices(layer, dtype, last, channels):
    backend, rng = xcnn.backend("numpy", threads=2), np.random.default_rng(channels)
    x = rng.standard_normal((3, channels, 11, 9)).astype(dtype)
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    net = backend.rewrite(Sequential(layer))
    assert isinstance(net.plan[0][2], Mapped)
    assert net.plan[0][2].fits({}, x)
    with backend.active():
        y, backward = net({}, x, Run(backend))
        dy = rng.standard_normal(y.shape).astype(dtype)
        dx, _ = backward(dy)
    a, b = layer.matrices(np.empty(0), 11, 9)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(y, a @ x.astype("float64") @ b.T, **tolerance)
    np.testing.assert_allclose(dx, a.T @ dy.astype("float64") @ b, **tolerance)
    assert (y.dtype, dx.dtype, dx.shape) == (x.dtype, x.dtype, x.shape)


def test_long_rows_are_the_layers_own():
    """Whose products are not added one after another."""
    backend, x = xcnn.backend("numpy"), np.ones((1, 1, MOST + 1, 4), "float32")
    fusion = backend.rewrite(Sequential(AdaptiveAveragePool2D(1))).plan[0][2]
    assert not fusion.fits({}, x)
    assert fusion.fits({}, x[:, :, :MOST])


def test_they_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    x = np.random.default_rng(0).standard_normal((2, 9, 7, 6))
    model = xcnn.Model(
        Sequential(Conv2D(9, 1), UpSampling2D((2, 3), "bilinear"), Flatten()), x.shape[1:], loss="mse", dtype="float64"
    )
    kernel, bias = (torch.tensor(np.array(model.weights["conv1"][name])) for name in ("kernel", "bias"))
    expected = torch.nn.functional.conv2d(torch.tensor(x), kernel, bias)
    expected = torch.nn.functional.interpolate(expected, scale_factor=(2, 3), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(model.predict(x), expected.flatten(1).numpy(), rtol=1e-12, atol=1e-12)
