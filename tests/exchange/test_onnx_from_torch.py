"""Nets of PyTorch through its own exporters: they are read, and compute what PyTorch does."""

import numpy as np
import pytest
from onnx_exports import exported, newer, torch

import xcnn

pytest.importorskip("onnx")

nn, F = torch.nn, torch.nn.functional


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def check_agrees(module, shape, path, **options):
    """The model that is read; its outputs are PyTorch's to 1e-5."""
    torch.manual_seed(2)
    x = torch.randn(3, *shape)
    expected = module.eval()(x).detach().numpy()
    read = xcnn.load_onnx(exported(module, x, path, **options), backend="numpy", loss="mse")
    found = read.predict(x.numpy())
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    return read


IMAGE, SIGNAL = (3, 8, 10), (4, 16)
SINGLE = {
    "reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), IMAGE, ["Padding2D", "Conv2D"]),
    "replicated": (nn.ReplicationPad2d((1, 2, 3, 0)), IMAGE, ["Padding2D"]),
    "a number around": (nn.ConstantPad2d(1, 1.5), IMAGE, ["Scale", "ZeroPadding2D", "Scale"]),
    "channels of zeros": (
        Of(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))), IMAGE,
        ["Slice", "Slice", "Permute", "ZeroPadding2D", "Permute"]),
    "cropped": (nn.ZeroPad2d((-1, 2, 0, -3)), IMAGE, ["Cropping2D", "ZeroPadding2D"]),
    "signals": (
        nn.Sequential(
            nn.ReflectionPad1d(2), nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6), nn.PReLU(6), nn.MaxPool1d(3, 2, 1),
            nn.ConvTranspose1d(6, 3, 4, stride=2, padding=1), nn.AvgPool1d(2), nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=2, mode="linear"), Of(lambda x: x.amax(2)), nn.Linear(3, 2),
        ), SIGNAL,
        ["Padding1D", "Conv1D", "PReLU", "MaxPool1D", "Conv1DTranspose", "AveragePool1D", "UpSampling1D",
         "UpSampling1D", "GlobalMaxPool1D", "Dense"]),
    "a mean of a signal": (Of(lambda x: x.mean(2)), SIGNAL, ["GlobalAveragePool1D"]),
    "a sum": (Of(lambda x: x.sum((2, 3))), IMAGE, ["GlobalAveragePool2D", "Scale"]),
    "lines along the last axis": (nn.Linear(10, 5), IMAGE, ["Permute", "Conv2D", "Permute"]),
    "softsign": (nn.Softsign(), IMAGE, ["Softsign"]),
    "log of sigmoid": (nn.LogSigmoid(), IMAGE, ["Scale", "Softplus", "Scale"]),
    "celu": (nn.CELU(0.7), IMAGE, ["Scale", "ELU", "Scale"]),
    "the larger": (Of(lambda x: torch.maximum(x, torch.tanh(2 * x))), IMAGE, None),
    "the smaller": (Of(lambda x: torch.minimum(x, 0.5 * torch.sin(torch.zeros(1)) + torch.tanh(x))), IMAGE, None),
    "absolute": (Of(lambda x: x.abs() - x**2), IMAGE, None),
    "channels in another order": (Of(lambda x: x[:, [2, 0, 1]]), IMAGE, None),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), IMAGE, ["Conv2D"]),
    "unflattened": (nn.Sequential(nn.Flatten(), nn.Unflatten(1, (6, 40))), IMAGE, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_single_modules(name, tmp_path):
    module, shape, layers = SINGLE[name]
    torch.manual_seed(1)
    read = check_agrees(module, shape, tmp_path / "a.onnx")
    if layers is not None:
        assert [type(layer).__name__ for layer in read.net] == layers
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("f4")
    read.to_onnx(tmp_path / "b.onnx", verify=False)
    again = xcnn.load_onnx(tmp_path / "b.onnx", backend="numpy", loss="mse")
    given = x if again.input_shape == shape else np.moveaxis(x, -1, 1)
    np.testing.assert_allclose(again.predict(given), read.predict(x), rtol=1e-5, atol=1e-6)


def everything():
    """One net with much of what images are put through, as the newer exporter writes it."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), nn.GroupNorm(2, 8), nn.SiLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding="same", groups=8), nn.BatchNorm2d(8), nn.Hardswish(), nn.Softplus(),
        nn.ConvTranspose2d(8, 4, 2, stride=2), nn.InstanceNorm2d(4, affine=True), nn.GELU(), nn.PixelShuffle(2),
        nn.AvgPool2d(3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.LayerNorm(20), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(1, 5), nn.Softmax(1),
    )  # fmt: skip


def test_the_newer_exporter(tmp_path):
    pytest.importorskip("onnxscript", reason="the newer exporter is of this package")
    torch.manual_seed(1)
    check_agrees(everything(), IMAGE, tmp_path / "a.onnx", **newer())


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_nets_of_torchvision(name, tmp_path):
    from torchvision_models import models

    torch.manual_seed(1)
    check_agrees(getattr(models, name)(weights=None, num_classes=7), (3, 64, 64), tmp_path / "a.onnx")


def test_any_value_within_can_be_the_output(tmp_path):
    """Of a net whose end is not convolutional, the part before it: the error says where that is."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), Of(lambda x: x.permute(2, 0, 1, 3)))
    path = exported(net.eval(), torch.zeros(2, *IMAGE), tmp_path / "a.onnx")
    with pytest.raises(xcnn.errors.ExchangeError, match=r"can be had: load_onnx.path, output=") as caught:
        xcnn.load_onnx(path)
    value = str(caught.value).rpartition("output='")[2].partition("'")[0]
    assert [type(layer) for layer in xcnn.load_onnx(path, output=value, backend="numpy").net] == [
        xcnn.Conv2D,
        xcnn.SiLU,
    ]
    within = value.replace("Mul", "Sigmoid")  # which with the product is one layer, unless it is asked for
    read = xcnn.load_onnx(path, output=within, backend="numpy")
    assert [type(layer) for layer in read.net] == [xcnn.Conv2D, xcnn.Sigmoid]
