"""Each script of examples/ runs by itself, without a warning, and prints what its docstring promises."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

import xcnn
from xcnn.data.augment import Draws

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))

STAND_INS = {
    "mnist.py": """
import xcnn
(x, y), test = xcnn.datasets.mnist01()
xcnn.datasets.mnist = lambda data_dir: ((x[:2000], y[:2000]), test)
""",
    "fashion_mnist.py": """
import xcnn
from xcnn.data import Dataset, Samples
(x, y), (xt, yt) = xcnn.datasets.mnist01()
names = xcnn.data.published.FASHION_MNIST.classes
xcnn.datasets.fashion_mnist = lambda folder: Dataset(Samples(x, y), Samples(xt[:200], yt[:200]), names)
""",
}
"""What is put in the place of a download."""
NEEDS = {"tune_dask.py": ["distributed"], "tune_joblib.py": ["joblib"], "tune_optuna.py": ["optuna"]}
"""Packages that are no dependencies."""
ARGUMENTS = {
    "cifar10.py": ["drawn", "1", "40", "20"],
    "fashion_mnist.py": ["find", "1", "2", "512"],
    "mnist.py": ["nowhere", "1"],
    "photos_finetune.py": ["drawn", "none", "1"],
    "regression.py": ["600", "3"],
    "segment_shapes.py": ["96", "3"],
    "signal_1d.py": ["500", "3"],
}
"""Less of everything than one would take to see what a recipe can do."""

EXPECTED = {
    "article_mnist01.py": [
        r"^20/20, error=0\.0\d+$",
        r"^(29\d|30\d) of 303 test digits are recognised on BACKEND$",
    ],
    "article_xor.py": [
        r"1000/1000, error=0\.00\d+",
        r"0 xor 0 = +-?0\.0\d$",
        r"0 xor 1 = +(0\.9\d|1\.0\d)$",
        r"1 xor 0 = +(0\.9\d|1\.0\d)$",
        r"1 xor 1 = +-?0\.0\d$",
        r"^#+\.+$",
    ],
    "choose_backend.py": [
        r"^  numpy +cpu",
        r"^  numpy: accuracy (9\d|100)\.\d%, largest difference 0e\+00$",
        r"^  strict: accuracy (9\d|100)\.\d%, largest difference (0e\+00|\de-1\d)$",
        r"^moved to strict: largest difference (0e\+00|\de-1\d)$",
    ],
    "cifar10.py": [
        r"^2 steps of 20 images, \d+\.\d\d s each$",
        r"^test accuracy \d+\.\d\d%, in six views \d+\.\d\d%, of 50 images: drawn rings, not CIFAR-10$",
    ],
    "fashion_mnist.py": [
        r"^seed 0: test accuracy (9\d\.\d\d|100\.00)%, mirrored too \d+\.\d\d%, after \d+ s$",
        r"^seed 1: test accuracy (9\d\.\d\d|100\.00)%, mirrored too \d+\.\d\d%, after \d+ s$",
        r"^mean of 2: (9\d\.\d\d|100\.00)%, mirrored too \d+\.\d\d%$",
    ],
    "mnist.py": [r"^12,906 parameters, ", r"^test accuracy (9[5-9]\.\d\d|100\.00)%$"],
    "own_backend.py": [
        r"^(\d\d) of \1 checks passed$",
        r"^largest difference from the reference: \de-1[3-9]$",
        r"^reference: \d+\.\d ms\ntensordot: \d+\.\d ms$",
    ],
    "tune_dask.py": [r"^rate \S+: \d\d\.\d\d%$", r"^rate 0\.0\d*: (9[5-9]\.\d\d|100\.00)%$"],
    "tune_joblib.py": [
        r"^rate \S+, [28] filters: \d\d\.\d\d%$",
        r"^rate 0\.01, 8 filters: (9[5-9]\.\d\d|100\.00)%$",
    ],
    "photos_finetune.py": [
        r"^\d+ photos to train on, \d+ to test on: checks, rings, stripes$",
        r"^the head alone: accuracy \d+\.\d%$",
        r"^the whole net:  accuracy (4\d|[5-9]\d|100)\.\d%$",
    ],
    "regression.py": [
        r"^R2 0\.[89]\d+, mean absolute error 0\.\d+ of cosine and sine$",
        r"^[0-8]\.\d\d degrees off in the mean of 200; 95 % are within \d+\.\d\d$",
    ],
    "segment_shapes.py": [
        r"^mean IoU 0\.\d\d\d, \d\d\.\d\d% of the cells of 24 test images right$",
        r"^ground 0\.[5-9]\d\d, disc \d\.\d\d\d, square \d\.\d\d\d, triangle \d\.\d\d\d$",
        r"^drawn +found$",
        r"^[.dst]{24}  [.dst]{24}$",
    ],
    "signal_1d.py": [
        r"^test accuracy ([6-9]\d\.\d\d|100\.00)% on 250 signals, 95 % interval \d\d\.\d\d% to \d+\.\d\d%$",
        r"^\w+ taken for \w+: \d+ times$",
    ],
    "tune_optuna.py": [r"^6 trials, best accuracy (9[5-9]\.\d\d|100\.00)% with \{.*'rate': .*\}$"],
    "own_layer.py": [
        r"^numpy: Swish\(\): gradient \d",
        r"^strict: Swish\(\): gradient \d",
        r"^refused: Mistaken\(\): gradient of x",
        r"^accuracy on 2115 images, on BACKEND: (9[5-9]\.\d\d|100\.00)%$",
        r"^slopes: \[.*\d.*\]$",
    ],
}
"""What each script prints, as patterns in the order of its lines; BACKEND is the one that it was to run on."""


def test_every_script_has_an_expectation_and_every_expectation_a_script():
    assert sorted(EXPECTED) == [script.name for script in SCRIPTS]


FEWER = """
import xcnn
from xcnn.backends import probe
xcnn.available_backends = lambda: {{name: probe(name) for name in ("numpy", "strict", *{more})}}
"""
"""The backends that a script goes through: each library is imported and compiled with once, where it is asked for."""
ALL = ("own_layer.py",)
"""Scripts that go through all backends, and run on each as well."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script(script, tmp_path):
    for name in NEEDS.get(script.name, ()):
        pytest.importorskip(name, reason=f"{name} is what it shows; it is not installed")
    run_script(script, tmp_path, "numpy", FEWER.format(more=[]) if script.name in ALL else "")


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_script_on(library, tmp_path):
    """The one that trains, on the backends of which one would ask for speed; test_article.py has the article's loop."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    told = run_script(FOLDER / "own_layer.py", tmp_path, library, FEWER.format(more=[library]))
    assert re.search(rf"^{library}: Swish\(\): gradient \d", told, re.MULTILINE)


def run_script(script, tmp_path, backend, before=""):
    """Run it, look for what it promises, and give what it printed."""
    start = (
        STAND_INS.get(script.name, before)
        + "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], {}, '__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", start, str(script), *ARGUMENTS.get(script.name, [])],
        cwd=tmp_path,
        env={**os.environ, "XCNN_BACKEND": backend, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == [], "scripts leave nothing behind where they are run"
    at = 0
    for pattern in EXPECTED[script.name]:
        found = re.compile(pattern.replace("BACKEND", backend), re.MULTILINE).search(run.stdout, at)
        assert found, f"{pattern!r} is not, or not in its place, in:\n{run.stdout}"
        at = found.end()
    assert script.read_text(encoding="utf-8").startswith('"""'), "a docstring says what to see"
    return run.stdout


@pytest.fixture(scope="module")
def cifar():
    """The functions of the recipe for CIFAR-10."""
    return runpy.run_path(str(FOLDER / "cifar10.py"), run_name="cifar10")


def test_records_of_cifar_10_are_read(cifar, tmp_path, rng):
    """A label, then the rows of a red plane, of a green and of a blue one, as its authors' page has it."""
    x, y = rng.integers(0, 256, (5, 3, 32, 32), np.uint8), rng.integers(0, 10, 5, np.uint8)
    for name, part in (("a.bin", slice(0, 2)), ("b.bin", slice(2, 5))):
        records = [bytes([label]) + image.tobytes() for image, label in zip(x[part], y[part], strict=True)]
        (tmp_path / name).write_bytes(b"".join(records))
    images, labels = cifar["read"](tmp_path, ["a.bin", "b.bin"])
    np.testing.assert_array_equal(images, x)
    np.testing.assert_array_equal(labels, y)
    for content in (b"", b"\0" * 3072, b"\x0a" + b"\0" * 3072):
        (tmp_path / "b.bin").write_bytes(content)
        with pytest.raises(SystemExit, match=r"b\.bin is no file of CIFAR-10's binary version"):
            cifar["read"](tmp_path, ["a.bin", "b.bin"])


def test_whitened_patches_are_uncorrelated_and_equally_strong(cifar):
    """SciPy's correlation of images with the filters: their covariance is the unit matrix, but for epsilon."""
    x = cifar["drawn"](40, seed=3)[0].astype("float64") / 255
    filters = cifar["whitening"](x, epsilon=0.0)
    assert filters.shape == (24, 3, 2, 2)
    planes = [sum(correlate(x[:, c], k[c][None], "valid") for c in range(3)).ravel() for k in filters[:12]]
    np.testing.assert_allclose(np.cov(planes), np.eye(12), atol=1e-3)
    np.testing.assert_array_equal(filters[12:], -filters[:12])
    weaker = cifar["whitening"](x, epsilon=1.0)
    assert (np.linalg.norm(weaker.reshape(24, -1), axis=1) < 1.0).all()


def test_filters_begin_by_passing_their_inputs_on(cifar, rng):
    x = rng.standard_normal((2, 6, 5, 5))
    kernel = cifar["passing_on"](rng, (9, 6, 3, 3), 54, 81)
    y = [sum(correlate(x[:, c], kernel[f, c][None], "same") for c in range(6)) for f in range(9)]
    np.testing.assert_allclose(y[:6], np.moveaxis(x, 1, 0), atol=1e-12)
    assert 0.9 / np.sqrt(54) < abs(kernel[6:]).max() <= 1 / np.sqrt(54)


def test_half_of_the_images_are_mirrored_and_the_others_an_epoch_later(cifar, rng):
    x, samples = rng.random((200, 1, 3, 4)), np.arange(200)
    seen = [cifar["mirrored_in_turns"](x, Draws((5, epoch, 0xA06, 0), samples)) for epoch in range(4)]
    turned = [(each == x[..., ::-1]).all(axis=(1, 2, 3)) for each in seen]
    np.testing.assert_array_equal(turned[0], ~turned[1])
    np.testing.assert_array_equal(turned[:2], turned[2:])
    assert 70 < turned[0].sum() < 130
    np.testing.assert_array_equal(seen[1][~turned[1]], x[~turned[1]])


def test_six_views_are_the_image_moved_and_mirrored(cifar, rng):
    x, draws = rng.random((2, 3, 6, 5)), Draws((0, 0), np.arange(2))
    seen = [x if view is None else view(x, draws) for view in cifar["VIEWS"]]
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    moved = [wide[:, :, 1:-1, 1:-1], wide[:, :, :-2, :-2], wide[:, :, 2:, 2:]]
    expected = [moved[0], moved[0][..., ::-1], moved[1], moved[1][..., ::-1], moved[2], moved[2][..., ::-1]]
    np.testing.assert_array_equal(seen, expected)


def test_angles_are_measured_across_the_jump():
    """A bar at 179 degrees is 2 degrees from one at 1 degree, and a net's answer may have any length."""
    script = runpy.run_path(str(FOLDER / "regression.py"), run_name="regression")
    given, said = np.deg2rad([179, 1, 90, 0]), np.deg2rad([1, 179, 45, 90])
    off = script["degrees_off"](3.0 * script["targets"](said), given)
    np.testing.assert_allclose(off, [2, 2, 45, 90], atol=1e-4)


def test_drawn_bars_lie_as_their_angles_say():
    """The axis along which a bar is longest, by the moments of its picture."""
    script = runpy.run_path(str(FOLDER / "regression.py"), run_name="regression")
    x, angle = script["drawn"](30, seed=2)
    for image, turned in zip(x[:, 0], angle, strict=True):
        weights = np.where(image > 0.5, image, 0)
        rows, columns = (at - np.average(at, weights=weights) for at in np.mgrid[:32, :32])
        second = [np.average(a, weights=weights) for a in (columns**2 - rows**2, 2 * columns * rows)]
        found = np.arctan2(second[1], second[0]) / 2
        assert abs((found - turned + np.pi / 2) % np.pi - np.pi / 2) < np.deg2rad(4)


def test_published_weights_see_images_as_they_were_trained_on(rng):
    """Weights of torchvision's names get (x - mean) / std behind the layer that normalises; a head may stay."""
    script = runpy.run_path(str(FOLDER / "photos_finetune.py"), run_name="photos_finetune")
    published = xcnn.Model(xcnn.nets.resnet18(3), (3, 64, 64), seed=1)
    model, x = script["built"](3), rng.random((2, 3, 64, 64), np.float32)
    head = model.predict(x)
    loaded = model.load_weights(published.state_dict(), without=("fc", "normalise"))
    assert {name.partition(".")[0] for name in loaded.missing} == {"fc", "normalise"}
    assert not np.allclose(model.predict(x), head)
    model.load_weights(published.state_dict(), without="normalise")
    mean, std = (np.reshape(each, (3, 1, 1)) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = published.predict(((x - mean) / std).astype("float32"))
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-3, atol=1e-4)
