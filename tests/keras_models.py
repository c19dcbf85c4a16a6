"""Models of Keras's with drawn weights, and what xcnn makes of their files beside what they compute."""

import os

import numpy as np

import xcnn

os.environ.setdefault("KERAS_BACKEND", "numpy")  # on JAX each operation of each net would be compiled


def drawn(model):
    """The model with weights that are nobody's defaults."""
    rng = np.random.default_rng(5)
    for weight in model.weights:
        if "seed" not in weight.path and "count" not in weight.path:
            wide = "variance" in weight.path or "gamma" in weight.path
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) if wide else rng.normal(0, 0.4, weight.shape))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # of a Normalization
            layer.finalize_state()
    return model


def first(array):
    """With its channels first."""
    return np.moveaxis(array, -1, 1)


def check_agrees(theirs, path):
    """The model that xcnn makes of one of Keras's with one input and one output: it computes the same."""
    drawn(theirs).save(path)
    mine = xcnn.load_keras(path, backend="numpy")
    x = np.random.default_rng(1).normal(size=(3, *theirs.inputs[0].shape[1:])).astype("float32")
    y, found = np.asarray(theirs(x, training=False)), mine.predict(first(x))
    assert np.abs(found - first(y)).max() < 2e-6 * np.abs(y).max()
    return mine, first(x), found
