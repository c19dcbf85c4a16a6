"""xcnn where it is no folder of files: in a zip on sys.path, and in an app that PyInstaller froze."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import xcnn
from xcnn.backends.registry import GROUP, OURS

ROOT = Path(xcnn.__file__).parents[1]
APP = """
import sys
import numpy as np, xcnn
from xcnn import datasets
data = datasets.mnist01()
net = xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
xcnn.Model(net, (1, 28, 28), backend="numpy", seed=1).save(sys.argv[1])
model = xcnn.Model.load(sys.argv[1], backend=xcnn.backend("numpy", fuse=False, algorithm="gemm"))
print(getattr(sys, "frozen", False), float(model.predict(data.test.x[:8]).sum()))
"""
LEFT_OUT = (
    "torch", "jax", "jaxlib", "cupy", "cupyx", "cupy_backends", "numba", "llvmlite", "matplotlib", "dask", "sparse",
    "pandas", "sympy", "networkx", "IPython", "pytest", "hypothesis", "mypy", "setuptools", "tkinter",
)  # fmt: skip


def run(command, **environment):
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def expected(tmp_path):
    """What the app tells where xcnn is a folder."""
    frozen, number = run([sys.executable, "-P", "-c", APP, str(tmp_path / "expected.xcnn")]).split()
    assert frozen == "False"
    return float(number)


def test_xcnn_s_own_backends_are_known_without_metadata_too():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    assert declared == OURS


def test_from_a_zip(tmp_path, expected):
    """Without metadata: as a folder that was zipped has none."""
    packed = tmp_path / "app.zip"
    with zipfile.ZipFile(packed, "w") as made:
        for folder in (ROOT / "xcnn", *(ROOT / "backends").iterdir()):
            for path in folder.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    made.write(path, path.relative_to(folder.parent))
    script = f"""
import importlib.metadata
importlib.metadata.entry_points = lambda **_: ()
{APP}
from xcnn_cupy import kernels
assert xcnn.__file__.startswith({str(packed)!r})
assert "template" in kernels.source("pooling")
"""
    (told,) = run([sys.executable, "-P", "-c", script, str(tmp_path / "m.xcnn")], PYTHONPATH=str(packed)).splitlines()
    assert float(told.split()[1]) == expected


@pytest.mark.skipif(find_spec("PyInstaller") is None, reason="PyInstaller is not installed: no app is frozen")
def test_a_frozen_app_predicts(tmp_path, expected):
    (tmp_path / "app.py").write_text(APP)
    folders = [f"--{name}={tmp_path / name}" for name in ("distpath", "workpath", "specpath")]
    out = [f"--exclude-module={name}" for name in LEFT_OUT]
    run([sys.executable, "-m", "PyInstaller", "--log-level=ERROR", *folders, *out, str(tmp_path / "app.py")])
    app = tmp_path / "distpath" / "app" / ("app.exe" if os.name == "nt" else "app")
    assert run([str(app), str(tmp_path / "m.xcnn")]).split() == ["True", str(expected)]
