"""What the tests of the service serve, and the pictures that they send."""

import io

import numpy as np
import pytest

import xcnn

PIL = pytest.importorskip("PIL.Image", reason="Pillow is a dependency")


def model(size=12, channels=3):
    net = xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(3))
    made = xcnn.Model(net, (channels, size, size), backend="numpy", seed=3)
    made.info["classes"] = ["cat", "dog", "owl"]
    return made


def picture(seed=0, kind="PNG", size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype("uint8")
    file = io.BytesIO()
    PIL.fromarray(pixels).save(file, kind)
    return file.getvalue()
