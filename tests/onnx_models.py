"""Models that the tests of ONNX write: all their weights are away from what they begin with."""

import numpy as np

import xcnn
from xcnn.core import random, tree

SHAPES = {"small-resnet": (3, 16, 16)}
"""Of a sample of a net that is known by name, where it is not that of a digit."""


def moved(model, seed=1):
    """The model with weights that are all away from what they begin with: biases, scales and running statistics."""
    rng = random.generator(seed)
    weights = {path: np.array(w) for path, w in tree.items(model.weights)}
    for path, w in weights.items():
        name = path.rpartition("/")[2]
        if name in ("bias", "running_mean", "scale"):
            w += rng.uniform(-0.4, 0.4, w.shape).astype(w.dtype)
        elif name == "running_variance":
            w *= rng.uniform(0.5, 2, w.shape).astype(w.dtype)
    model.weights = tree.from_items(weights)
    return model


def built(layer, shape, seed=1, **options):
    return moved(xcnn.Model(layer, shape, loss="mse", backend="numpy", seed=seed + 2, **options), seed)


def session(path):
    """A session of onnxruntime on one thread, which waits for none: others spin while they have nothing to do."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
