"""What `xcnn train` measures, weighs and looks for, and its options in a file."""

import json
import tomllib

import numpy as np
import pytest

import xcnn

PIL = pytest.importorskip("PIL.Image", reason="Pillow is a dependency")


pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def shapes(tmp_path, rng):
    """A folder of two classes of uneven counts: upright and lying bars, as PNG files."""
    for name, count in (("lying", 36), ("upright", 12)):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for n in range(count):
            pixels, at = rng.integers(0, 60, (20, 20)).astype("uint8"), rng.integers(3, 15)
            pixels[(slice(at, at + 3), slice(None)) if name == "lying" else (slice(None), slice(at, at + 3))] = 230
            PIL.fromarray(pixels).save(tmp_path / "shapes" / name / f"{n}.png")
    return tmp_path / "shapes"


QUICK = ("--model", "lenet", "--backend", "numpy", "--epochs", 1, "--output", "m.xcnn")


def test_metrics_and_class_weights(run, shapes):
    code, out, err = run("train", shapes, *QUICK, "--metrics", "f1,confusion", "--class-weights", "balanced", "--json")
    assert (code, err) == (0, "")
    epoch, result = map(json.loads, out.splitlines())
    assert {"f1", "confusion", "val_f1"} <= {*epoch}
    assert 0 <= result["test_f1"] <= 1
    model = xcnn.Model.load("m.xcnn", backend="numpy")
    counts = np.sum(epoch["confusion"], axis=1)
    np.testing.assert_allclose(model.plan["class_weight"], counts.sum() / (2 * counts))
    code, out, err = run("train", shapes, "--resume", "m.xcnn", "--epochs", 2, "--quiet")
    assert (code, err) == (0, "")
    assert "f1 " in out
    code, _, err = run("train", shapes, "--resume", "m.xcnn", "--metrics", "f1")
    assert code == 2
    assert "--metrics" in err


def test_class_weights_by_name(run, shapes):
    code, _, err = run("train", shapes, *QUICK, "--class-weights", "upright=3,lying=0.5", "--quiet")
    assert (code, err) == (0, "")
    assert xcnn.Model.load("m.xcnn", backend="numpy").plan["class_weight"] == [0.5, 3.0]
    for wrong, told in (("uprigth=3", "did you mean 'upright'"), ("even", "has a weight behind each =")):
        code, _, err = run("train", shapes, *QUICK, "--class-weights", wrong, "--quiet")
        assert code == 2
        assert told in err


def test_a_rate_is_looked_for(run, shapes):
    code, _, err = run("train", shapes, *QUICK, "--find-lr", "--optimizer", "sgd", "--progress", "none")
    assert code == 0
    rate = xcnn.Model.load("m.xcnn", backend="numpy").learning_rate
    assert f"learning rate {rate:.2g}, where the loss falls most steeply" in err or "did not fall" in err
    code, _, err = run("train", shapes, *QUICK, "--find-lr", "--learning-rate", 0.1)
    assert code == 2
    assert "contradict each other" in err


def test_options_in_a_file(run, shapes, tmp_path):
    (tmp_path / "run.toml").write_text(
        f'data = "{shapes}"\nmodel = "lenet"\nbackend = "numpy"\nepochs = 1\nbatch-size = 16\nlearning_rate = 0.01\n'
        'output = "m.xcnn"\nmetrics = ["f1", "top1"]\nquiet = true\n'
    )
    assert run("train", "--config", "run.toml", "--batch-size", 8)[0] == 0
    model = xcnn.Model.load("m.xcnn", backend="numpy")
    assert (model.info["batch_size"], model.learning_rate) == (8, 0.01)
    assert [metric.column for metric in model.metrics] == ["f1", "top1"]
    code, out, err = run("train", "--config", "run.toml", "--seed", 3, "--print-config")
    assert (code, err) == (0, "")
    found = tomllib.loads(out)
    assert found["seed"] == 3
    assert found["batch-size"] == 16
    (tmp_path / "again.toml").write_text(out)
    assert tomllib.loads(run("train", "--config", "again.toml", "--print-config")[1]) == found


@pytest.mark.parametrize(
    ("text", "told", "code"),
    [
        ("batchsize = 3", "did you mean 'batch-size'", 2),
        ("epochs = 'many'", "epochs", 2),
        ("epochs = ", "can't be read", 4),
        ("[model]\nname = 3", "must be a text, a number", 2),
        ("batch-size = 3\nbatch_size = 4", "twice", 2),
        ("config = 'other.toml'", "which is no option", 2),
    ],
)
def test_what_a_file_cannot_have_is_told(run, tmp_path, text, told, code):
    (tmp_path / "run.toml").write_text(text)
    ended, out, err = run("train", "--config", "run.toml")
    assert (ended, out) == (code, "")
    assert told in err
    assert run("train", "--config", "none.toml")[0] == 4
