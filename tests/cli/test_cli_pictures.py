"""The first hour of the command line: a digit before anything was trained, folders, photos, files of samples."""

import json

import drawn_photos
import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn.cli.verdict import verdict
from xcnn.data.strays import Strays
from xcnn.model.report import Report

pytestmark = pytest.mark.usefixtures("empty_folder")


def draw_one(path):
    page = Image.new("L", (80, 100), "white")
    page.paste(0, (36, 20, 44, 80))
    page.save(path)


def test_a_digit_is_predicted_and_explained_before_anything_is_trained(tmp_path, run):
    draw_one(tmp_path / "digit.png")
    code, out, _ = run("predict", "digit.png", "--backend", "numpy", "--show", "seen.png")
    assert code == 0
    assert out.startswith("digit.png: 1 (")
    assert "prepared: inverted" in out
    sheet = Image.open(tmp_path / "seen.png")
    assert sheet.width > sheet.height
    assert len(np.unique(np.asarray(sheet.convert("L")))) > 5
    code, out, _ = run("predict", "lenet-mnist", "digit.png", "--json")
    assert json.loads(out)["class"] == "1"
    code, out, _ = run("explain", "digit.png")
    assert code == 0
    assert (tmp_path / "why.html").stat().st_size > 10_000


def test_a_folder_of_pictures_is_predicted_and_strays_are_counted(tmp_path, run):
    (tmp_path / "mine" / "old").mkdir(parents=True)
    for name in ("a.png", "b.png", "old/c.png"):
        draw_one(tmp_path / "mine" / name)
    for name in ("notes.txt", "Thumbs.db", ".DS_Store"):
        (tmp_path / "mine" / name).write_text("no picture")
    code, out, err = run("predict", "mine")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["mine/a.png", "mine/b.png", "mine/old/c.png"]
    assert "left out: 1 .db, 1 .txt" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run("predict", "empty")
    assert code == 2
    assert "no picture in 1 folder" in err
    code, _, err = run("predict", "lenet-mnist")
    assert code == 2
    assert "no picture is given" in err


@pytest.mark.parametrize("read", ["m.xcnn", "a.png", "mine/b.png", "link.png"])
def test_what_is_read_is_not_drawn_over(read, tmp_path, run):
    """The model, a picture, one in a folder, and one by another name of its own."""
    (tmp_path / "mine").mkdir()
    draw_one(tmp_path / "a.png")
    draw_one(tmp_path / "mine" / "b.png")
    (tmp_path / "link.png").hardlink_to(tmp_path / "a.png")
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    xcnn.Model(net, (1, 8, 8), backend="numpy").save("m.xcnn")
    before = (tmp_path / read).read_bytes()
    code, out, err = run("predict", "m.xcnn", "a.png", "mine", "--backend", "numpy", "--show", read)
    assert (code, out) == (2, "")
    assert err.startswith(f"OptionError[X104]: '{read}' is what is read, and would be lost.")
    assert (tmp_path / read).read_bytes() == before


def test_photos_are_found_chosen_and_judged(tmp_path, run):
    folder = drawn_photos.draw_folder(tmp_path / "My Photos", ("ball", "star"), 8, 3, longest=160)
    (folder / "nothing").mkdir()
    (folder / "ball" / "notes.txt").write_text("no picture")
    Image.new("RGB", (50, 40)).save(folder / "star" / "x.webp")
    code, out, err = run("train", "My Photos", "--epochs", "2", "--backend", "numpy", "-o", "pets.xcnn")
    assert code == 0
    for words in (
        "found 2 classes: ball 8, star 8; pictures of",
        "left out: 1 .txt, 1 .webp; --formats png,jpeg,bmp,gif,webp reads WEBP too; 1 folder without pictures: nothing",
        "read as 64x64", "RGB, their middles, since they differ in shape", "begun: with convolutions",
        "varied: flip,zoom,light,cutout: each time",
        "photos with",
    ):  # fmt: skip
        assert words in err, err
    assert "on other pictures like these it is right on" in out
    model = xcnn.Model.load("pets.xcnn")
    assert model.info["fit"] == "crop"
    assert set(model.predict_images(folder / "ball").tolist()) <= {"ball", "star"}
    code, out, _ = run("predict", "pets.xcnn", "My Photos/ball")
    assert code == 0
    assert len(out.splitlines()) == 8
    assert "RGB, 64x64, its middle" in out
    code, out, _ = run("evaluate", "pets.xcnn", "My Photos")
    assert code == 0
    code, _, err = run("train", "My Photos", "--resume", "pets.xcnn", "--epochs", "3")
    assert code == 0, err


def test_photos_begin_with_shapes_where_they_have_grey_or_three_colours(tmp_path, run):
    rng, options = np.random.default_rng(0), ("--model", "photos", "--epochs", "1", "--backend", "numpy")
    still = ("--optimizer", "sgd", "--learning-rate", "1e-12", "--seed", "5")
    for channels in (1, 3, 4):
        x, y = rng.random((6, channels, 12, 12), "float32"), np.arange(6) % 2
        np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        code, _, err = run("train", "data.npz", *options, *still, "-o", f"{channels}.xcnn")
        assert code == 0, err
        assert ("begun: with convolutions" in err) == (channels != 4)
        got, new = xcnn.Model.load(f"{channels}.xcnn"), xcnn.nets.photos(2, 12)
        new = xcnn.Model(new, (channels, 12, 12), backend="numpy", seed=5)
        begun = new if channels == 4 else xcnn.nets.load_backbone(new)
        np.testing.assert_allclose(got.weights["conv1"]["kernel"], begun.weights["conv1"]["kernel"], atol=1e-6)


def test_a_model_that_python_trained_asks_for_its_data(tmp_path, run):
    folder = drawn_photos.draw_folder(tmp_path / "photos", ("ball", "star"), 6, 4, longest=120)
    (x, y), (xt, _) = xcnn.datasets.image_folder(folder, (16, 16), "RGB")
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (3, 16, 16), backend="numpy")
    model.fit(x, y, epochs=1, progress="none")
    model.save("mine.xcnn")
    assert model.info["classes"] == ["ball", "star"]
    assert set(model.classify(xt).tolist()) <= {"ball", "star"}
    code, _, err = run("evaluate", "mine.xcnn")
    assert code == 4
    assert "no data are given" in err
    code, out, _ = run("evaluate", "mine.xcnn", "photos")
    assert code == 0
    assert "on all 12 images of photos; the model's file does not tell whether" in out
    code, out, _ = run("predict", "mine.xcnn", "photos/star")
    assert "RGB, 16x16" in out


def test_a_file_of_samples_is_trained_on(tmp_path, run):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.random((60, 28, 28)) * 60).astype(np.uint8) + 60 * y[:, None, None].astype(np.uint8)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    code, out, err = run("train", "data.npz", "--epochs", "1", "--backend", "numpy")
    assert code == 0
    assert "found arrays x_train, y_train, x_test, y_test: 60 images to train on, 12 to test on" in err
    assert "lenet with" in err
    assert "lenet-data.npz.xcnn" in out
    code, _, err = run("train", "data.npz", "--image-size", "32")
    assert code == 2
    code, _, err = run("train", "data.pkl")
    assert code == 4


def report_of(rows):
    return Report(tuple("abc"[: len(rows)]), np.array(rows), 0.5, (), None)


@pytest.mark.parametrize(
    ("rows", "training", "words"),
    [
        ([[5, 5], [6, 4]], 0.6, "no better than guessing, which is right on 50%"),
        ([[60, 40], [30, 70]], 0.98, "training 98%, test 65%"),
        ([[60, 40], [30, 70]], 0.66, "right on only 66% of its training pictures"),
        ([[98, 2], [1, 99]], 0.99, "most often mixed up: a taken for b, 2 of 100"),
    ],
)
def test_a_figure_is_told_in_a_sentence(rows, training, words):
    assert any(words in line for line in verdict(report_of(rows), training))


def test_help_comes_by_two_ways_and_shows_nets_and_examples(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("help", "train")
    assert (code, out) == (0, run("train", "-h")[1])
    for words in ("photos", "a folder of some hundred photos", "Where it goes:", 'xcnn train "My Photos"'):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80
    assert run("help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--epoch", "3"), "--epochs"),
        (("train", "--model", "lenett"), "did you mean 'lenet'?"),
        (("train", "--backend", "numppy"), "numpy"),
    ],
    ids=["option", "net", "backend"],
)
def test_slips_are_told_what_is_meant(arguments, words, run):
    code, _, err = run(*arguments)
    assert code in (2, 3)
    assert words in err


@pytest.mark.parametrize(
    ("option", "slip", "told"),
    [
        ("--model", "lenett", "there is no model 'lenett'"),
        ("--optimizer", "adamm", "there is no optimizer 'adamm'"),
        ("--metrics", "f2", "there is no metric 'f2'"),
        ("--precision", "float61", "there is no precision 'float61'"),
        ("--backend", "numppy", "numppy"),
    ],
)
def test_slips_are_told_before_data_are_fetched(option, slip, told, run, tmp_path):
    """Where there are none, they would be downloaded, or their lack be told."""
    code, _, err = run("train", "mnist", "--data-dir", str(tmp_path), option, slip)
    assert code in (2, 3)
    assert told in err
    assert "MNIST" not in err


def test_strays_keep_names_without_endings(tmp_path):
    strays = Strays()
    names = [tmp_path / name for name in ("a", "b.png", "c.JPG", "d.txt", "e.webp")]
    assert [path.name for path in strays.pictures(names)] == ["a", "b.png", "c.JPG"]
