"""How far ONNX files of xcnn round, beside PyTorch's: `python tests/onnx_rounding.py layers`, or `nets`, tells.

A net computes samples three times in float32: its file in onnxruntime, PyTorch, and PyTorch's own file of the same net
in onnxruntime. Each is held to double precision, in roundings of float32 (2^-23) of the largest output.
"""

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from layer_oracles import ORACLES, F, batch_norm, torch
from onnx_exports import exported
from onnx_models import SHAPES, built, session

import xcnn
from xcnn.core import random, tree
from xcnn.exchange.onnx import verify
from xcnn.exchange.onnx.write import Net

EPSILON = float(np.finfo("float32").eps)
BATCHES = (1, 2, 7)


class Rounding(NamedTuple):
    """The largest differences to double precision, in roundings of the largest output."""

    file: float
    """xcnn's file"""
    torch: float
    """PyTorch itself"""
    torch_file: float | None
    """PyTorch's file; None where it can't be written"""


class Twin(torch.nn.Module):
    """A function of x and of weights as a module, whose weights its file has."""

    def __init__(self, function, weights):
        super().__init__()
        self.function, self.names = function, [*weights]
        for n, w in enumerate(weights.values()):
            self.register_buffer(f"w{n}", torch.from_numpy(np.array(w)))

    def forward(self, x):
        return self.function(x, {name: getattr(self, f"w{n}") for n, name in enumerate(self.names)})


class Compared:
    """A model beside its twin of PyTorch: both, and a file of each."""

    def __init__(self, model, twin, folder, *, folded=False):
        mine, theirs = Path(folder) / "mine.onnx", Path(folder) / "theirs.onnx"
        self.twin, self.running = twin.eval(), {}
        self.net = Net(model.net, dict(model.weights), model.input_shape, {})
        model.to_onnx(mine, verify=False)
        self.running["file"] = session(mine)
        if folded:
            model.to_onnx(mine, verify=False, fold_batch_norm=True)
            self.running["folded"] = session(mine)
        with contextlib.suppress(torch.onnx.errors.OnnxExporterError, RuntimeError):
            exported(twin, torch.zeros(2, *model.input_shape), theirs)
            self.running["torch_file"] = session(theirs)

    def roundings(self, seed, n):
        """Of each by its name, for a batch of n drawn samples."""
        x = random.generator(seed).standard_normal((n, *self.net.input_shape), np.float32)
        (exact,) = verify.outputs(self.net, [x])
        with torch.no_grad():
            ys = {"torch": self.twin(torch.from_numpy(x)).numpy()}
        ys |= {name: each.run(None, {each.get_inputs()[0].name: x})[0] for name, each in self.running.items()}
        whole = max(np.abs(exact).max(), 1e-30) * EPSILON
        return {name: np.abs(y - exact).max() / whole for name, y in ys.items()}


def measured(model, twin, folder, *, batches=BATCHES, draws=3):
    """How far a model's file, its twin of PyTorch, and the twin's file are from the model in double precision."""
    compared = Compared(model, twin, folder)
    found = [compared.roundings(100 * seed + n, n) for seed in range(draws) for n in batches]
    return Rounding(*(max(each[name] for each in found) if name in found[0] else None for name in Rounding._fields))


# Layers.


def nothing(x, w):
    return x


def net_of_several(x, w):
    y = F.conv2d(x, w["conv1/kernel"])
    y = F.relu(batch_norm(False)(y, {name.removeprefix("batchnorm1/"): v for name, v in w.items()}))
    return F.max_pool2d(y, 2).flatten(1) @ w["dense1/kernel"] + w["dense1/bias"]


EVALUATED = [
    *((xcnn.BatchNorm(epsilon=e), shape, batch_norm(False, epsilon=e)) for e in (1e-3, 1e-5)
      for shape in ((3, 4, 5), (3, 5), (4,))),
    (ORACLES[-1][0], ORACLES[-1][1], net_of_several),
    (xcnn.Dropout(0.4), (3, 4, 5), nothing),
    (xcnn.SpatialDropout2D(0.5), (4, 3, 2), nothing),
    (xcnn.StochasticDepth(0.5), (4, 3, 2), nothing),
    (xcnn.Concatenate(xcnn.Conv2D(2, 1), xcnn.Sequential()), (2, 4, 5),
     lambda x, w: torch.cat([F.conv2d(x, w["conv1/kernel"], w["conv1/bias"]), x], 1)),
    (xcnn.Residual(xcnn.Conv2D(2, 3, padding="same")), (2, 4, 5),
     lambda x, w: x + F.conv2d(x, w["conv1/kernel"], w["conv1/bias"], padding=1)),
]  # fmt: skip
"""Layers that do in training what they do not do else, and those that the table of oracles has no row for."""
LAYERS = [row for row in ORACLES if "BatchNorm" not in repr(row[0])] + EVALUATED


def layer_rounding(layer, shape, function, folder, **few):
    """Of a row of the table."""
    model = built(layer, shape)
    return measured(model, Twin(function, dict(tree.items(model.weights))), folder, **few)


# Nets.


def as_module(net, weights, channels):
    """A net of plain layers as a module of PyTorch with the same weights: those of recipes."""
    parts = []
    for name, layer in net.named:
        if isinstance(layer, xcnn.Residual):
            module = Residual(layer, weights[name], channels)
        elif isinstance(layer, xcnn.Sequential):
            module = as_module(layer, weights[name], channels)
        else:
            module = Twin(FUNCTIONS[type(layer)](layer), weights.get(name, {}))
        channels = weights.get(name, {}).get("kernel", np.empty(channels)).shape[0]
        parts.append(module)
    return torch.nn.Sequential(*parts)


class Residual(torch.nn.Module):
    """A chain of layers beside a shortcut."""

    def __init__(self, layer, weights, channels):
        super().__init__()
        self.body = as_module(layer.body, weights, channels)
        beside = layer.shortcut and xcnn.Sequential(shortcut=layer.shortcut)
        self.shortcut = as_module(beside, weights, channels) if beside else torch.nn.Identity()

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def convolution(layer):
    def f(x, w):
        (top, bottom), (left, right) = layer.window(tuple(x.shape[2:]))["padding"]
        y = F.conv2d(F.pad(x, (left, right, top, bottom)), w["kernel"], stride=layer.stride)
        bias = w.get("bias")
        return y if bias is None else y + (bias.reshape(-1, 1, 1) if bias.ndim == 1 else bias)

    return f


FUNCTIONS = {
    xcnn.Conv2D: convolution,
    xcnn.Dense: lambda layer: lambda x, w: x @ w["kernel"] + w["bias"],
    xcnn.BatchNorm: lambda layer: batch_norm(False, epsilon=layer.epsilon),
    xcnn.ReLU: lambda layer: lambda x, w: F.relu(x),
    xcnn.Sigmoid: lambda layer: lambda x, w: torch.sigmoid(x),
    xcnn.MaxPool2D: lambda layer: lambda x, w: F.max_pool2d(x, layer.pool_size, layer.stride),
    xcnn.GlobalAveragePool2D: lambda layer: lambda x, w: F.adaptive_avg_pool2d(x, 1).flatten(1),
    xcnn.GlobalMaxPool2D: lambda layer: lambda x, w: F.adaptive_max_pool2d(x, 1).flatten(1),
    xcnn.Flatten: lambda layer: lambda x, w: x.flatten(1),
    xcnn.Dropout: lambda layer: nothing,
}
"""The layers of recipes as functions."""


def recipe(name, seed=1):
    """A net of a recipe, and its twin."""
    shape = SHAPES.get(name, (3, 64, 64) if name == "photos" else (1, 28, 28))
    model = built(xcnn.nets.RECIPES[name].net(10), shape, seed)
    return model, as_module(model.net, model.weights, shape[0])


def published(name, side, seed=3):
    """A net of the zoo, and torchvision's with the same weights."""
    from torchvision_models import theirs

    twin = theirs(name, 1000, seed)
    net = getattr(xcnn.nets, name)(1, features=32) if name == "unet" else getattr(xcnn.nets, name)()
    model = xcnn.Model(net, (3, side, side), loss="mse", backend="numpy")
    model.load_weights(twin.state_dict())
    return model, twin


PUBLISHED = ["resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "unet", "vgg11",
             "vgg11_bn", "vgg16", "vgg16_bn"]  # fmt: skip


def table(which, folder):
    """Lines of the table."""
    if which == "layers":
        for layer, shape, function in LAYERS:
            yield f"{layer!r:.90}", layer_rounding(layer, shape, function, folder)
    if which in ("nets", "recipes"):
        for name in xcnn.nets.RECIPES:
            yield name, measured(*recipe(name), folder)
    if which == "nets":
        for name in PUBLISHED:
            yield name, measured(*published(name, 224), folder, batches=(2,), draws=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        for name, found in table(sys.argv[1], made):
            theirs = "-" if found.torch_file is None else f"{found.torch_file:.2f}"
            print(f"{found.file:7.2f} {found.torch:7.2f} {theirs:>7}  {name}", flush=True)
