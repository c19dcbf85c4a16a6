"""The net that comes trained: as good as is said, small, and asked without a model of one's own."""

import os
from importlib.resources import files

import drawn_photos
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


def photos(channels=3, side=64, classes=2):
    return xcnn.Model(xcnn.nets.photos(classes, side), (channels, side, side), backend="numpy", seed=3)


def features(model, x):
    """What the dense layer of a net for photos is given."""
    *rest, weight, bias = model.state_dict().items()
    count = weight[1].shape[1]
    seen = photos(x.shape[1], x.shape[2], count)
    seen.load_weights({**dict(rest), weight[0]: np.eye(count, dtype="float32"), bias[0]: np.zeros(count, "float32")})
    return seen.predict(x)


def test_a_backbone_is_small_and_leaves_the_head():
    content = (files("xcnn.nets") / "weights" / "photos-shapes.safetensors").read_bytes()
    assert len(content) < 300_000
    new, begun = photos(), xcnn.nets.load_backbone(photos())
    same = {name: np.array_equal(array, begun.state_dict()[name]) for name, array in new.state_dict().items()}
    head = str(len(new.net.layers) - 1)
    assert {name for name, alike in same.items() if alike} == {f"{head}.weight", f"{head}.bias"}


@pytest.mark.parametrize("side", [8, 28])
def test_a_backbone_sees_the_same_in_grey_and_in_grey_as_colours(side):
    x = np.random.default_rng(0).random((2, 1, side, side), "float32")
    grey, colour = (xcnn.nets.load_backbone(photos(channels, side)) for channels in (1, 3))
    np.testing.assert_allclose(features(grey, x), features(colour, np.repeat(x, 3, 1)), rtol=1e-4, atol=1e-5)


def test_a_backbone_is_for_its_own_net():
    other = xcnn.Model(xcnn.nets.lenet(2), (1, 28, 28), backend="numpy")
    with pytest.raises(xcnn.errors.OptionError, match=r"not xcnn\.nets\.photos") as told:
        xcnn.nets.load_backbone(other)
    assert told.value.code == "X104"


def told_apart(model, x, y, of_each):
    """The share of pictures that are nearest to the mean of their own class's first ones, by their features."""
    seen = features(model, x)
    seen = (seen - seen.mean(0)) / (seen.std(0) + 1e-6)
    known = np.arange(len(y)) % (2 * of_each) < of_each
    means = np.stack([seen[known & (y == label)].mean(0) for label in np.unique(y)])
    nearest = ((seen[~known, None] - means) ** 2).sum(2).argmin(1)
    return np.mean(nearest == y[~known])


def test_a_backbone_tells_kinds_apart_that_it_never_saw():
    """Shapes of no class that it learned, nearest to the mean of a few: what a training then begins with."""
    rng, kinds, each = np.random.default_rng(7), ("ball", "cross", "flower"), 30
    drawn = [drawn_photos.photo(kind, rng, 130).resize((64, 64)) for kind in kinds for _ in range(each)]
    x = np.stack([np.moveaxis(np.asarray(picture, np.float32) / 255, 2, 0) for picture in drawn])
    y = np.repeat(np.arange(len(kinds)), each)
    assert told_apart(xcnn.nets.load_backbone(photos()), x, y, each // 2) > told_apart(photos(), x, y, each // 2) + 0.2
