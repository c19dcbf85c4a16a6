"""`xcnn predict MODEL FOLDER --dask`: what the command says without it, of many pictures."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn.cli import predict_by_dask


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """The command in a folder with a model and photos, one of them broken, by two threads in the place of workers."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for n in range(5):
        pixels = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / ("more" if n > 2 else ".") / f"{n}.png")
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(3))
    model = xcnn.Model(net, (3, 8, 8), backend="numpy", scaling="bytes")
    model.info["classes"] = ["cat", "dog", "owl"]
    model.save(tmp_path / "model.xcnn")
    monkeypatch.chdir(tmp_path)

    def answers(*arguments):
        code, out, err = run("predict", "model.xcnn", *arguments, "--backend", "numpy", "--json")
        return code, [json.loads(line) for line in out.splitlines()], err

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(predict_by_dask, "workers", lambda address: nullcontext(pool))
        yield answers


def test_workers_say_what_one_process_says(run, tmp_path):
    files = [f"photos/{n}.png" for n in range(3)] + [f"photos/more/{n}.png" for n in (3, 4)]
    code, by_dask, _ = run("photos", "--dask", "local", "--into", "out")
    assert code == 0
    code, by_one, _ = run(*files)
    assert [each["image"] for each in by_dask] == files
    for ours, theirs in zip(by_dask, by_one, strict=True):
        assert ours["class"] == theirs["class"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)
    assert (tmp_path / "out" / "shard-000000.npy").exists()


def test_a_picture_that_can_not_be_read_is_named_and_the_others_are_classified(run, tmp_path):
    (tmp_path / "photos" / "1.png").write_bytes(b"no picture")
    code, found, err = run("photos", "--dask", "local")
    assert code == 4
    assert [each["image"] for each in found] == [f"photos/{n}" for n in ("0.png", "2.png", "more/3.png", "more/4.png")]
    assert "1.png" in err


def test_a_folder_for_outputs_wants_workers(run):
    code, _, err = run("photos/0.png", "--into", "out")
    assert code == 2
    assert "--dask local" in err
