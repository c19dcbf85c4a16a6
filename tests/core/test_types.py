"""The names that options take, told once; and type checkers, which hold users' programs to them."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

import xcnn
from xcnn import types
from xcnn.core.initializers import INITIALIZERS
from xcnn.training.history import COLUMNS, Numbers
from xcnn.training.losses import LOSSES
from xcnn.training.optimizers import OPTIMIZERS
from xcnn.training.precision import PRECISIONS
from xcnn.training.progress import progress

ROOT = Path(xcnn.__file__).parents[1]
PROGRAMS = Path(__file__).parents[1] / "typing"


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (types.InitializerName, INITIALIZERS),
        (types.LossName, LOSSES),
        (types.OptimizerName, [*OPTIMIZERS, *map(str.lower, OPTIMIZERS)]),
        (types.PrecisionName, PRECISIONS),
        (Numbers, [name for name in COLUMNS if name != "epoch"]),
    ],
)
def test_names_that_types_tell_are_those_that_are_known(names, known):
    assert sorted(get_args(names)) == sorted(known)


def test_every_name_of_a_progress_is_one():
    for name in get_args(types.ProgressName):
        assert progress(name)


def test_a_program_with_types_runs(tmp_path):
    found = importlib.util.spec_from_file_location("right", PROGRAMS / "right.py")
    program = importlib.util.module_from_spec(found)
    found.loader.exec_module(program)
    assert isinstance(program.main(tmp_path), float)


def test_mypy_takes_what_is_right_and_reports_what_is_wrong(tmp_path):
    """One run of both programs; each wrong line by its kind of error, and no other.

    Without its cache it looks through all of xcnn, which takes some 20 seconds of a core, with it 2.
    """
    pytest.importorskip("mypy", reason="mypy is not installed")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty",
         "--ignore-missing-imports", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'users'}",
         "--config-file=", "right.py", "wrong.py"],
        capture_output=True, text=True, cwd=PROGRAMS, check=False,
        env={**os.environ, "MYPYPATH": f"{ROOT}"},
    )  # fmt: skip
    lines = (PROGRAMS / "wrong.py").read_text("utf-8").splitlines()
    expected = {n: line.rpartition("# ")[2] for n, line in enumerate(lines, 1) if "  # " in line}
    assert len(expected) == 22
    found = Counter()
    for line in run.stdout.splitlines():
        if ": error: " in line:
            file, number, *_ = line.split(":")
            assert file == "wrong.py", line
            found[int(number), line.rpartition("[")[2].rstrip("]")] += 1
    assert dict(found.keys()) == expected, run.stdout + run.stderr
