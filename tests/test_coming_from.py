"""What docs/coming-from.md says of the defaults of Keras, of PyTorch and of xcnn, held to all three."""

import inspect
import os
import re
from pathlib import Path

import numpy as np
import pytest

import xcnn

PAGE = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")


def rows(title):
    """Of one section's last table: cells of Keras, PyTorch and xcnn by the first."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {first.replace("`", ""): rest for first, *rest in cells[2:]}


DEFAULTS = rows("Defaults")


def default(function, name):
    return inspect.signature(function).parameters[name].default


def numbers(row, place):
    return [float(number) for number in re.findall(r"\d[\d.e-]*", DEFAULTS[row][place])]


def test_xcnn_s_own():
    assert numbers("BatchNorm: momentum, as Keras counts it", 2) == [xcnn.BatchNorm().momentum]
    for layer in (xcnn.BatchNorm(), xcnn.LayerNorm(), xcnn.GroupNorm(2)):
        assert numbers("BatchNorm, LayerNorm, GroupNorm: epsilon", 2) == [layer.epsilon]
    assert numbers("LeakyReLU: slope", 2) == [xcnn.LeakyReLU().negative_slope]
    assert numbers("SGD: rate", 2) == [xcnn.SGD().learning_rate]
    assert numbers("Adam: rate, epsilon", 2) == [xcnn.Adam().learning_rate, xcnn.Adam().epsilon]
    assert numbers("AdamW: weight decay", 2) == [xcnn.AdamW().weight_decay]
    rms = xcnn.RMSprop()
    assert numbers("RMSprop: rate, rho, epsilon", 2) == [rms.learning_rate, rms.rho, rms.epsilon]
    assert numbers("fit: batch size", 2) == [default(xcnn.Model.fit, "batch_size")]
    assert xcnn.Dense(2).kernel_initializer == xcnn.Conv2D(2, 3).kernel_initializer == "glorot_uniform"
    assert xcnn.GELU() == xcnn.GELU(approximate=False)


def test_pytorch_s():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch import nn, optim

    assert numbers("BatchNorm: momentum, as Keras counts it", 1) == [1 - nn.BatchNorm2d(1).momentum]
    for layer in (nn.BatchNorm2d(1), nn.LayerNorm(1), nn.GroupNorm(1, 1)):
        assert numbers("BatchNorm, LayerNorm, GroupNorm: epsilon", 1) == [layer.eps]
    assert numbers("LeakyReLU: slope", 1) == [nn.LeakyReLU().negative_slope]
    assert numbers("SGD: rate", 1) == [default(optim.SGD, "lr")]
    assert numbers("Adam: rate, epsilon", 1) == [default(optim.Adam, "lr"), default(optim.Adam, "eps")]
    assert numbers("AdamW: weight decay", 1) == [default(optim.AdamW, "weight_decay")]
    assert numbers("RMSprop: rate, rho, epsilon", 1) == [default(optim.RMSprop, n) for n in ("lr", "alpha", "eps")]
    assert nn.GELU().approximate == "none"
    drawn = nn.Linear(200, 300).requires_grad_(False)
    assert float(drawn.bias.abs().max()) > 0
    assert float(drawn.weight.abs().max()) == pytest.approx(200**-0.5, rel=1e-2)  # sqrt(6 / ((1 + 5) inputs))
    with pytest.raises(ValueError, match="strided"):
        nn.Conv2d(1, 1, 3, stride=2, padding="same")
    assert torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)).shape == (1, 1, 2, 2)


def test_keras_s():
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    pytest.importorskip("jax", reason="what Keras computes convolutions with is not installed")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    made = keras.layers
    assert numbers("BatchNorm: momentum, as Keras counts it", 0) == [made.BatchNormalization().momentum]
    for layer in (made.BatchNormalization(), made.LayerNormalization(), made.GroupNormalization()):
        assert numbers("BatchNorm, LayerNorm, GroupNorm: epsilon", 0) == [layer.epsilon]
    assert numbers("LeakyReLU: slope", 0) == [pytest.approx(float(made.LeakyReLU().negative_slope))]
    ask = keras.optimizers
    assert numbers("SGD: rate", 0) == [default(ask.SGD.__init__, "learning_rate")]
    assert numbers("Adam: rate, epsilon", 0) == [default(ask.Adam.__init__, n) for n in ("learning_rate", "epsilon")]
    assert numbers("AdamW: weight decay", 0) == [default(ask.AdamW.__init__, "weight_decay")]
    names = ("learning_rate", "rho", "epsilon")
    assert numbers("RMSprop: rate, rho, epsilon", 0) == [default(ask.RMSprop.__init__, n) for n in names]
    dense = made.Dense(300)
    dense.build((1, 200))
    limit = (6 / 500) ** 0.5
    assert 0.95 * limit < np.abs(np.asarray(dense.kernel)).max() <= limit
    assert not np.asarray(dense.bias).any()


def model(**options):
    return xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy", **options)


TOLD = {
    "Input": (lambda: xcnn.Input((8, 8, 1)), "input_shape"),
    "Sequential of a list": (lambda: xcnn.Sequential([xcnn.Dense(2)]), "unpacked with a star"),
    "SeparableConv2D": (lambda: xcnn.SeparableConv2D(4, 3), "DepthwiseConv2D"),
    "RandomFlip": (lambda: xcnn.RandomFlip(), "augment.Flip"),
    "callbacks.": (lambda: xcnn.callbacks.EarlyStopping(), "xcnn.EarlyStopping"),
    "load_model": (lambda: xcnn.load_model("m.keras"), "Model.load"),
    "utils.to_categorical": (lambda: xcnn.utils.to_categorical([0, 1]), "whole numbers"),
    "Model of inputs": (lambda: xcnn.Model(inputs=1, outputs=2), "xcnn.Graph"),
    "padding in capitals": (lambda: xcnn.Conv2D(2, 3, padding="SAME"), '"same"'),
    "a share in percent": (lambda: xcnn.Dropout(25), "below 1"),
    "decay": (lambda: xcnn.Adam(decay=0.1), "schedules"),
    "clipvalue": (lambda: xcnn.SGD(clipvalue=1.0), "clip_norm"),
    "center": (lambda: xcnn.BatchNorm(center=False), "always there"),
    "a stride by position": (lambda: xcnn.DepthwiseConv2D(3, 2), "by position"),
    "two strides by position": (lambda: xcnn.StandardizedConv2D(8, 3, 2), "by position"),
    "history.history": (lambda: xcnn.History().history, 'history["loss"]'),
    "predict_classes": (lambda: model().predict_classes, "classify"),
    "get_layer": (lambda: model().get_layer, "model.net"),
    "count_params": (lambda: model().count_params, "summary"),
    "trainable": (lambda: setattr(model(), "trainable", False), "frozen=True"),
    "validation_steps": (lambda: model().fit(0, 0, validation_steps=2), "validation_data"),
    "fit by position": (lambda: model().fit(0, 0, 32, 3), "by position"),
    "in, out, kernel": (lambda: xcnn.Conv2D(1, 8, 3), "follows from the input"),
    "in, out": (lambda: xcnn.Dense(64, 10), "follows from the input"),
    "num_features": (lambda: xcnn.BatchNorm(8), "follows from the input"),
    "padding by position": (lambda: xcnn.MaxPool2D(3, 2, 1), "padding="),
    "padding of means by position": (lambda: xcnn.AveragePool2D(3, 2, True), "padding="),
    "padding_mode": (lambda: xcnn.Conv2D(8, 3, padding_mode="reflect"), "only zeros"),
    "inplace": (lambda: xcnn.ReLU(inplace=True), "in place"),
    "CrossEntropyLoss()": (lambda: xcnn.CrossEntropyLoss(), '"cross_entropy"'),
    "nn.": (lambda: xcnn.nn.Conv2d, "xcnn.Conv2D"),
    "Identity": (lambda: xcnn.Identity(), "Sequential()"),
    "DataLoader": (lambda: xcnn.DataLoader([]), "batches itself"),
    "manual_seed": (lambda: xcnn.manual_seed(0), "seed=0"),
    "no_grad": (lambda: xcnn.no_grad(), "predict"),
    "clip_grad_norm_": (lambda: xcnn.clip_grad_norm_, "clip_norm"),
    "lr_scheduler": (lambda: xcnn.lr_scheduler.StepLR, "xcnn.schedules"),
    "zero_grad": (lambda: model().zero_grad(), "not kept"),
    "named_parameters": (lambda: model().named_parameters(), "model.weights"),
    "half": (lambda: model().half(), "precision"),
    "double": (lambda: model().double(), 'dtype="float64"'),
    "the device": (lambda: model().to("cpu"), '"numpy"'),
    "momentum by position": (lambda: xcnn.SGD(0.1, 0.9), "momentum="),
    "betas by position": (lambda: xcnn.Adam(1e-3, 0.9, 0.999), "beta1="),
    "load": (lambda: xcnn.load("m.pt"), "Model.load"),
    "save": (lambda: xcnn.save(model(), "m.pt"), "model.save"),
}


@pytest.mark.parametrize("habit", TOLD)
def test_a_habit_is_told_what_is_meant(habit):
    """And never makes another net than it would there."""
    work, words = TOLD[habit]
    with pytest.raises((xcnn.errors.XcnnError, AttributeError)) as told:
        work()
    assert words in str(told.value)


def test_a_transposed_image_is_not_taken_for_one_with_channels_first():
    with pytest.raises(xcnn.errors.ShapeError, match="channels come first"):
        model().fit(np.zeros((8, 4, 4, 1), "float32"), [0, 1] * 4, progress="none")


def test_names_of_layers_are_there():
    """All names in the last column that look like xcnn's are."""
    told = [cells[-1] for title in ("Names", "One net, three ways") for cells in rows(title).values()]
    names = {name for cell in told for name in re.findall(r"`(?:xcnn\.)?([A-Z]\w+)", cell)}
    assert len(names) > 12
    assert [name for name in names if not hasattr(xcnn, name)] == []
