"""Which pictures `xcnn evaluate` tests on: what training left out, a data set's own test images, or all of another."""

import json
import shutil

import numpy as np
import pytest

import xcnn
from xcnn.model.model import Model

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_what_training_left_out_of_its_folder_is_tested_on_wherever_it_lies_now(trained, shapes, tmp_path, run):
    x, y = xcnn.datasets.image_folder(shapes, size=(12, 12)).test
    right = np.mean(Model.load(trained, backend="numpy").predict(x).argmax(axis=1) == y)
    for name in ("shapes", "moved"):
        code, out, _ = run("evaluate", trained, tmp_path / name, "--backend", "numpy")
        assert code == 0
        assert out.startswith(f"accuracy {right:.2%}, loss ")
        told = " ".join(out.split())
        assert told.endswith(f"on {len(x)} images of {tmp_path / name}, those that training left out")
        shutil.copytree(shapes, tmp_path / "moved", dirs_exist_ok=True)
    shutil.copy(shapes / "lying" / "1.png", shapes / "lying" / "new.png")  # the folder that it was trained on still
    result = json.loads(run("evaluate", trained, shapes, "--backend", "numpy", "--json")[1])
    assert (result["part"], result["samples"] - len(x) in (0, 1)) == ("held out", True)


def test_all_of_another_folder_is_tested_on(trained, shapes, tmp_path, run):
    for name in ("lying", "upright"):
        (tmp_path / "others" / name).mkdir(parents=True)
        shutil.copy(shapes / name / "1.png", tmp_path / "others" / name)
    code, out, _ = run("evaluate", trained, "others", "--backend", "numpy")
    assert code == 0
    assert " ".join(out.split()).endswith("on all 2 images of others, another folder than it was trained on")
    shutil.rmtree(tmp_path / "others" / "lying")
    assert " on 1 image of others, another folder" in " ".join(run("evaluate", trained, "others")[1].split())
    model = Model.load(trained, backend="numpy")
    del model.info["data"]
    model.plan = {}
    model.save("elsewhere.xcnn")
    told = " ".join(run("evaluate", "elsewhere.xcnn", shapes)[1].split())
    unknown = "; the model's file does not tell whether it was trained on some of them"
    assert told.endswith(f"on all 60 images of {shapes}{unknown}")


def test_the_test_images_of_a_folder_that_has_them_are_tested_on(trained, shapes, tmp_path, run):
    for part in ("train", "test"):
        shutil.copytree(shapes, tmp_path / "parted" / part)
    (tmp_path / "parted" / "test" / "lying" / "1.png").unlink()
    told = " ".join(run("evaluate", trained, "parted")[1].split())
    assert told.endswith("on 59 test images of parted")


def test_a_file_of_samples_is_known_by_its_samples(tmp_path, rng, run):
    x, y = rng.integers(0, 255, (40, 1, 12, 12)).astype("uint8"), np.arange(40) % 2
    np.savez("a.npz", x=x, y=y)
    np.savez("b.npz", x=x[:25], y=y[:25])
    np.savez("c.npz", x=x[:1], y=y[:1])
    np.savez("d.npz", x_train=x, y_train=y, x_test=x[:7], y_test=y[:7])
    how = ("--model", "article", "--epochs", 1, "--backend", "numpy", "-q", "--validation", 0.25, "-o", "m.xcnn")
    assert run("train", "a.npz", *how)[0] == 0
    shutil.copy("a.npz", "moved.npz")
    for name, part, samples in (
        ("a.npz", "held out", 10),
        ("moved.npz", "held out", 10),
        ("b.npz", "all", 25),
        ("c.npz", "all", 1),
        ("d.npz", "test", 7),
    ):
        code, out, _ = run("evaluate", "m.xcnn", name, "--json", "--backend", "numpy")
        assert code == 0
        assert (name, json.loads(out)["part"], json.loads(out)["samples"]) == (name, part, samples)
