"""The net that comes trained: as good as is said, small, and asked without a model of one's own."""

import os
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

import xcnn

FOLDER = os.environ.get("XCNN_DATA_DIR") or None  # "" names none


@pytest.fixture(scope="module")
def model():
    return xcnn.nets.pretrained("lenet-mnist", backend="numpy")


def test_it_is_small_and_in_half_precision():
    from safetensors.numpy import load

    content = (files("xcnn.nets") / "weights" / "lenet-mnist.safetensors").read_bytes()
    assert len(content) < 150_000
    assert {array.dtype.name for array in load(content).values()} == {"float16"}
    assert "Attribution-Share Alike 3.0" in (files("xcnn.nets") / "weights" / "LICENSE").read_text()


def test_it_knows_zeros_and_ones_among_ten(model):
    _, (x, y) = xcnn.datasets.mnist01()
    assert np.mean(model.predict(x).argmax(axis=1) == y) > 0.995
    assert model.classify(x[:2]).tolist() == [str(label) for label in y[:2]]


@pytest.mark.skipif(FOLDER is None, reason="XCNN_DATA_DIR names no folder of MNIST: only 0 and 1 are looked at")
def test_it_is_right_on_99_of_100_test_digits(model):
    _, (x, y) = xcnn.datasets.mnist(FOLDER)
    assert model.evaluate(x, y)["accuracy"] >= 0.99


def test_another_name_is_told():
    with pytest.raises(xcnn.errors.OptionError, match="no pretrained net 'lenet'") as told:
        xcnn.nets.pretrained("lenet")
    assert "lenet-mnist" in told.value.hint


@pytest.fixture
def one(tmp_path):
    page = Image.new("L", (80, 100), "white")
    page.paste(0, (36, 20, 44, 80))
    page.save(tmp_path / "one.png")
    return tmp_path / "one.png"


def test_names_of_files_go_in_and_names_of_classes_come_out(model, one):
    assert model.predict_images(one).tolist() == ["1"]
    assert model.predict_images([one, str(one)]).tolist() == ["1", "1"]
    (one.parent / "notes.txt").write_text("no picture")
    assert model.predict_images(one.parent).tolist() == ["1"]
    pixels = np.array(Image.open(one))
    with pytest.raises(xcnn.errors.ShapeError) as told:
        model.predict(pixels)
    assert "predict_images" in told.value.hint
    for wrong in (3, [3], []):
        with pytest.raises(xcnn.errors.OptionError):
            model.predict_images(wrong)
