"""Each script of examples/ runs by itself, without a warning, and prints what its docstring promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
NEEDS = {"tune_optuna.py": ["optuna"]}
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
xcnn.available_backends = lambda: {name: probe(name) for name in ("numpy", "strict")}
"""
"""What spares the layer the checks on all backends, which the script's run on NumPy has put it to."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script(script, tmp_path):
    for name in NEEDS.get(script.name, ()):
        pytest.importorskip(name, reason=f"{name} is what it shows; it is not installed")
    run_script(script, tmp_path, "numpy")


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_script_on(library, tmp_path):
    """The one that trains, on the backends of which one would ask for speed; test_article.py has the article's loop."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    run_script(FOLDER / "own_layer.py", tmp_path, library, FEWER)


def run_script(script, tmp_path, backend, before=""):
    """Run it, and look for what it promises."""
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
