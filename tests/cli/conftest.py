"""What tests of the command line share."""

import pytest
from PIL import Image


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """Where the test runs, without variables that name a backend or data."""
    monkeypatch.chdir(tmp_path)
    for name in ("XCNN_BACKEND", "XCNN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shapes(tmp_path, rng):
    """A folder of two classes: upright and lying bars, as PNG files."""
    for name in ("lying", "upright"):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for n in range(30):
            pixels = rng.integers(0, 60, (20, 20)).astype("uint8")
            at = rng.integers(3, 15)
            if name == "lying":
                pixels[at : at + 3] = 230
            else:
                pixels[:, at : at + 3] = 230
            Image.fromarray(pixels).save(tmp_path / "shapes" / name / f"{n}.png")
    return tmp_path / "shapes"


@pytest.fixture
def trained(shapes, run):
    options = ("--model", "article", "--epochs", 4, "--image-size", 12, "-o", "m.xcnn", "--backend", "numpy", "-q")
    code, _, _ = run("train", shapes, *options)
    assert code == 0
    return "m.xcnn"
