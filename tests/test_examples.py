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
}
"""What is put in the place of a download."""
NEEDS = {"tune_dask.py": ["distributed"], "tune_optuna.py": ["optuna"]}
"""Packages that are no dependencies."""
ARGUMENTS = {"mnist.py": ["nowhere", "1"]}

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
    "mnist.py": [r"^12,906 parameters, ", r"^test accuracy (9[5-9]\.\d\d|100\.00)%$"],
    "own_backend.py": [
        r"^(\d\d) of \1 checks passed$",
        r"^largest difference from the reference: \de-1[3-9]$",
        r"^reference: \d+\.\d ms\ntensordot: \d+\.\d ms$",
    ],
    "tune_dask.py": [r"^rate \S+: \d\d\.\d\d%$", r"^rate 0\.0\d*: (9[5-9]\.\d\d|100\.00)%$"],
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
