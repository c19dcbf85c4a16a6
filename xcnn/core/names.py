"""Names that a user gave and nobody has: which one is meant, as far as slips of the pen and other frameworks tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from xcnn.errors import NoAttribute, OptionError, short

HABITS: Mapping[str, Mapping[str, str]] = {
    "loss": {
        "categoricalcrossentropy": "cross_entropy", "sparsecategoricalcrossentropy": "cross_entropy",
        "crossentropyloss": "cross_entropy", "ce": "cross_entropy", "nllloss": "nll",
        "logloss": "cross_entropy", "bce": "binary_cross_entropy", "bceloss": "binary_cross_entropy",
        "binarycrossentropy": "binary_cross_entropy", "bcewithlogits": "binary_cross_entropy_with_logits",
        "bcewithlogitsloss": "binary_cross_entropy_with_logits", "meansquarederror": "mse", "mseloss": "mse",
        "l2": "mse", "l2loss": "mse", "meanabsoluteerror": "mae", "l1": "mae", "l1loss": "mae", "smoothl1": "huber",
        "smoothl1loss": "huber", "huberloss": "huber", "kldivloss": "kl_divergence", "kldiv": "kl_divergence",
        "kldivergence": "kl_divergence", "binaryfocalcrossentropy": "focal", "sigmoidfocalloss": "focal",
        "focalloss": "focal", "diceloss": "dice", "hingeloss": "hinge", "squaredhinge": "squared_hinge",
        "supcon": "contrastive", "supconloss": "contrastive", "ntxent": "contrastive", "tripletloss": "triplet",
        "tripletmargin": "triplet", "tripletmarginloss": "triplet", "tripletsemihardloss": "triplet",
    },
    "optimizer": {"momentum": "SGD", "nesterov": "SGD", "gd": "SGD", "gradientdescent": "SGD"},
    "schedule": {
        "steplr": "Step", "multisteplr": "Step", "exponentiallr": "Exponential", "exponentialdecay": "Exponential",
        "cosineannealinglr": "Cosine", "cosinedecay": "Cosine", "onecyclelr": "OneCycle", "linearlr": "WarmUp",
        "piecewiseconstantdecay": "Step", "lambdalr": "Schedule", "learningrateschedule": "Schedule",
    },
    "metric": {
        "jaccard": "iou", "jaccardscore": "iou", "meaniou": "iou", "miou": "iou", "f1score": "f1", "fscore": "f1",
        "fbeta": "f1", "r2score": "r2", "rsquared": "r2", "meanabsoluteerror": "mae", "meansquarederror": "mse",
        "rootmeansquarederror": "rmse", "confusionmatrix": "confusion", "sensitivity": "recall",
        "topkcategoricalaccuracy": "top5", "topk": "top5", "topkaccuracy": "top5",
    },
    "initializer": {
        "xavier": "glorot_uniform", "xavieruniform": "glorot_uniform", "xaviernormal": "glorot_normal",
        "kaiming": "he_normal", "kaiminguniform": "he_uniform", "kaimingnormal": "he_normal",
        "normal": "standard_normal", "randomnormal": "standard_normal", "zero": "zeros", "one": "ones",
    },
    "precision": {
        "mixedbfloat16": "bfloat16", "bf16": "bfloat16", "bf16mixed": "bfloat16", "amp": "bfloat16",
        "mixedfloat16": "float16", "fp16": "float16", "half": "float16", "16mixed": "float16", "f16": "float16",
        "fp32": "float32", "float": "float32", "single": "float32", "f32": "float32", "fp64": "float64",
        "double": "float64", "f64": "float64", "tensorfloat32": "tf32",
    },
    "backend": {
        "cuda": "cupy", "gpu": "cupy", "cp": "cupy", "nvidia": "cupy", "cpu": "numpy", "np": "numpy", "scipy": "numpy",
        "numba": "numpy", "pytorch": "torch", "mps": "torch:mps", "tpu": "jax:tpu", "xla": "jax", "jnp": "jax",
        "arrayapistrict": "strict",
    },
    "device": {
        "torchgpu": "torch:cuda", "numpygpu": "cupy", "numpycuda": "cupy", "cupygpu": "cupy", "cupycuda": "cupy",
    },
    "model": {
        "lenet5": "lenet", "lenet1": "lenet", "resnet": "small-resnet", "cnn": "mnist-net",
        **{f"resnet{n}": "small-resnet" for n in (18, 20, 34, 50)},
    },
    "command": {
        "fit": "train", "test": "evaluate", "val": "evaluate", "validate": "evaluate", "score": "evaluate",
        "classify": "predict", "infer": "predict", "inference": "predict", "info": "summary", "show": "summary",
        "describe": "summary", "inspect": "summary", "benchmark": "bench", "verify": "check", "devices": "backends",
        "version": "--version",
    },
    "option": {
        "lr": "--learning-rate", "learnrate": "--learning-rate", "rate": "--learning-rate", "bs": "--batch-size",
        "batch": "--batch-size", "b": "--batch-size", "device": "--backend", "gpu": "--backend", "cuda": "--backend",
        "net": "--model", "network": "--model", "arch": "--model", "architecture": "--model", "opt": "--optimizer",
        "optim": "--optimizer", "numepochs": "--epochs", "nepochs": "--epochs", "e": "--epochs", "out": "--output",
        "save": "--output", "saveto": "--output", "checkpoint": "--resume", "restore": "--resume",
        "continue": "--resume", "imgsz": "--image-size", "imgsize": "--image-size", "size": "--image-size",
        "dtype": "--precision", "amp": "--precision", "fp16": "--precision", "verbose": "--progress",
        "silent": "--quiet", "color": "--rgb", "colour": "--rgb", "root": "--data-dir", "dataroot": "--data-dir",
        "manualseed": "--seed", "randomseed": "--seed", "v": "--version",
    },
}  # fmt: skip
"""Of each kind of name what Keras, PyTorch and others say, in small letters alone, and the name here."""

ELSEWHERE = {
    "Activation": "an activation is a layer of its own: xcnn.ReLU()",
    "CrossEntropyLoss": 'the loss has a name: xcnn.Model(net, input_shape, loss="cross_entropy")',
    "DataLoader": "fit makes batches itself; xcnn.data.source reads data sets as they are needed",
    "Identity": "xcnn.Sequential() passes X on",
    "ImageDataGenerator": "xcnn.data.folder reads pictures, fit(..., augment=[xcnn.augment.Flip()]) changes them",
    "Input": "the shape is given to xcnn.Model(net, input_shape), channels first",
    "InputLayer": "the shape is given to xcnn.Model(net, input_shape), channels first",
    "MSELoss": 'the loss has a name: xcnn.Model(net, input_shape, loss="mse")',
    "ModuleList": "xcnn.Sequential(*layers)",
    "RandomFlip": "fit(..., augment=[xcnn.augment.Flip()])",
    "RandomRotation": "fit(..., augment=[xcnn.augment.Rotate(10)])",
    "Rescaling": "bytes are scaled by the model: model.scaling",
    "SeparableConv2D": "xcnn.DepthwiseConv2D(3), then xcnn.Conv2D(filters, 1)",
    "F": "a function is a layer: xcnn.ReLU()",
    "LSTM": "there are no recurrent layers: xcnn.Conv1D and its kin are for signals",
    "GRU": "there are no recurrent layers: xcnn.Conv1D and its kin are for signals",
    "Embedding": "there is none: nets here are of images and signals",
    "callbacks": "they are xcnn's own: xcnn.EarlyStopping",
    "clip_grad_norm_": "optimizers have clip_norm",
    "device": 'a Model has its device: xcnn.Model(..., backend="cupy")',
    "from_numpy": "arrays of NumPy are taken as they are",
    "functional": "a function is a layer: xcnn.ReLU()",
    "load": "xcnn.Model.load(path)",
    "load_model": "xcnn.Model.load(path); xcnn.load_keras reads .keras files",
    "lr_scheduler": "xcnn.schedules, given as an optimizer's learning rate",
    "manual_seed": "xcnn.Model(..., seed=0)",
    "max_pool2d": "a function is a layer: xcnn.MaxPool2D(2)",
    "models": "xcnn.Sequential, xcnn.Graph, xcnn.Model; ready nets are in xcnn.nets",
    "nn": "layers are xcnn's own: xcnn.Conv2D",
    "no_grad": "predict and evaluate keep nothing for gradients",
    "random": "xcnn.Model(..., seed=0)",
    "relu": "a function is a layer: xcnn.ReLU()",
    "save": "model.save(path)",
    "set_seed": "xcnn.Model(..., seed=0)",
    "sigmoid": "a function is a layer: xcnn.Sigmoid()",
    "sklearn": "it is imported by itself: from xcnn.sklearn import Classifier",
    "softmax": "a function is a layer: xcnn.Softmax()",
    "summary": "model.summary()",
    "tensor": "arrays of NumPy are taken as they are",
    "utils": "labels may be whole numbers or names as they are",
}
"""Names in Keras and PyTorch that are none here, and what does their work."""


def meant(kind: str, given: object, known: Iterable[str]) -> str:
    """The known name of this kind that was probably meant; "" where none is near.

    Case, hyphens and underscores do not count. Where none are known, habits alone do.
    """
    from difflib import get_close_matches

    by_letters = {_letters(name): name for name in known}
    letters = _letters(given[:60] if isinstance(given, str) else short(given))
    habit = HABITS.get(kind, {}).get(letters, "")
    if habit and (not by_letters or habit.partition(":")[0] in by_letters.values()):
        return habit
    near = next(iter(get_close_matches(letters, by_letters, 1)), "")
    return by_letters.get(letters, by_letters.get(near, ""))


def unknown(kind: str, given: object, known: Iterable[str]) -> OptionError:
    """X104: there is none of this name; which is meant, or which there are."""
    known = tuple(known)
    found = meant(kind, given, known) if isinstance(given, str) else ""
    hint = (f"did you mean {found!r}? Else " if found else "") + "use one of " + ", ".join(known) + "."
    return OptionError("X104", f"there is no {kind} {short(given)}.", hint=hint)


def absent(module: str, kind: str, known: Iterable[str]) -> Callable[[str], object]:
    """The `__getattr__` of a module of such names: what is not there is told with the one that is meant.

    Parameters
    ----------
    module
        its name
    kind
        of names in HABITS
    known
        the module's names
    """

    def none_such(name: str) -> object:
        guess = "" if name.startswith("_") else meant(kind, name, known)
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise NoAttribute(f"module {module!r} has no attribute {name!r}{hint}", name=name)

    return none_such


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
