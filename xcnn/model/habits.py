"""What users of Keras and PyTorch write by habit, and what it would do here."""

from __future__ import annotations

import warnings
from pathlib import PurePath
from typing import Any, NoReturn

from xcnn.core.options import nearest
from xcnn.errors import NoAttribute, printable
from xcnn.layers import BatchNorm
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer

SETTING = {
    "lr": "model.learning_rate = ...",
    "trainable": 'xcnn.optimizers.Groups(optimizer, Group("conv1/*", frozen=True)) keeps weights as they are.',
    "device": 'model.to("cupy") moves it.',
    "criterion": "model.loss = ...",
}
"""Attributes that some would set."""
READING = {
    "train": "model.fit(x, y) trains; a model has no mode: predict and evaluate compute as outside training.",
    "eval": "a model has no mode: predict and evaluate compute as outside training.",
    "compile": "the loss and the optimizer are given to xcnn.Model(net, input_shape, loss=..., optimizer=...).",
    "get_weights": "model.weights is the tree of them.",
    "set_weights": 'model.weights = ..., or model.weights["conv1"]["kernel"] = ...',
    "load_state_dict": "model.load_weights(path) reads PyTorch's; xcnn.Model.load(path) what save wrote.",
    "parameters": "model.weights is the tree of them.",
    "layers": "model.net.layers has them by name.",
    "predict_proba": "model.probabilities(x)",
    "predict_on_batch": "model.predict(x)",
    "train_on_batch": "model.step(x, y)",
    "test_on_batch": "model.evaluate(x, y)",
    "cuda": 'model.to("torch:cuda") or model.to("cupy") moves it.',
    "cpu": 'model.to("numpy") moves it.',
    "score": "model.evaluate(x, y)",
    "lr": "model.learning_rate",
    "fit_generator": "model.fit(batches, steps_per_epoch=...)",
    "predict_classes": "model.classify(x)",
    "get_layer": 'model.net["conv1"]',
    "count_params": "model.summary().parameters",
    "trainable_weights": "model.weights is the tree of them.",
    "named_parameters": "model.weights is the tree of them.",
    "zero_grad": "gradients are not kept: a step computes its own.",
    "half": 'model.precision = "float16"',
    "bfloat16": 'model.precision = "bfloat16"',
    "double": 'build it with dtype="float64".',
    "float": 'weights are float32 unless it is built with dtype="float64".',
    "modules": "model.net.layers has them by name.",
    "children": "model.net.layers has them by name.",
    "trainable": 'xcnn.optimizers.Groups(optimizer, Group("conv1/*", frozen=True)) keeps weights as they are.',
    "backward": "model.step(x, y) takes a step; model.trace(x, y) has the gradients.",
    "confusion_matrix": "model.report(x, y).confusion",
    "partial_fit": "model.step(x, y), or model.fit(x, y, epochs=1)",
    "get_params": "xcnn.sklearn has estimators of scikit-learn.",
    "classes_": 'model.info["classes"] has their names.',
    "save_pretrained": "model.save(path)",
    "add": "a net is a value: xcnn.Sequential(*net, xcnn.ReLU()), then a model of it.",
    "requires_grad_": 'xcnn.optimizers.Groups(optimizer, Group("conv1/*", frozen=True)) keeps weights as they are.',
}
"""Attributes that some would read."""


def no_attribute(model: object, name: str) -> NoReturn:
    """Raise NoAttribute, with what is meant where that is known."""
    said = f"{type(model).__name__!r} object has no attribute {name!r}"
    guess = None if name.startswith("_") else nearest(name, [n for n in dir(type(model)) if not n.startswith("_")])
    hint = READING.get(name) or (f"did you mean {guess!r}?" if guess else "")
    raise NoAttribute(f"{said}: {hint}" if hint else said, name=name, obj=model)


def tell_momentum(net: Layer, stacklevel: int = 4) -> None:
    """Warn where a BatchNorm's momentum is small: PyTorch's is the share of what is new, here it is of what stays."""
    for layer in inner(net):
        if isinstance(layer, BatchNorm) and 0 < layer.momentum < 0.5:
            warnings.warn(
                f"BatchNorm(momentum={layer.momentum}) keeps that share of its running statistics at each step, as in "
                f"Keras, so that the last batches decide; PyTorch's momentum={layer.momentum} is "
                f"{1 - layer.momentum:g} here.",
                stacklevel=stacklevel,
            )
            return


ENDINGS = {
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "Keras reads none"),
    ".npz": "numpy.load reads none",
    ".onnx": "model.to_onnx(path) writes ONNX",
    **dict.fromkeys((".pickle", ".pkl"), "pickle reads none"),
    **dict.fromkeys((".pt", ".pth"), "torch.load reads none; model.save_weights(path) writes safetensors"),
}
"""Ends of names of files that other programs read, and what is to be known of checkpoints there."""


def tell_ending(path: object, stacklevel: int = 4) -> None:
    """Warn where a checkpoint is given a name that says another format."""
    ending = PurePath(path).suffix.lower() if isinstance(path, str | PurePath) else ""
    if ending in ENDINGS:
        warnings.warn(
            f"{printable(PurePath(str(path)).name)} is a checkpoint of xcnn's, whatever its name: {ENDINGS[ending]}; "
            "call it .xcnn.",
            stacklevel=stacklevel,
        )


def inner(net: Any) -> list[Layer]:
    """The layers of a net, those within containers too."""
    return [leaf for layer in net for leaf in inner(layer)] if isinstance(net, Container) else [net]
