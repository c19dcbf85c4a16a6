"""`xcnn train --parallel`, begun by mpiexec, and `--processes`, which begins it anew where a process is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_jobs import environment, needs_mpi, run_job
from PIL import Image

pytestmark = needs_mpi


@pytest.fixture
def folder(tmp_path):
    """Pictures of two classes, and where the command runs."""
    rng = np.random.default_rng(0)
    for name, least in (("dark", 0), ("light", 120)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(24):
            pixels = rng.integers(least, least + 130, (28, 28)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{n}.png")
    return tmp_path


def rows(text):
    """What `--json` told of each epoch, but for its times."""
    told = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second", "stall")}
        for row in told
        if row["schema"] == "xcnn.train.epoch.1"
    ]


IMPATIENT = "from xcnn.parallel import ending; ending.PATIENCE = 0.3; from xcnn.cli import main; main()"
"""The command, in which a rank waits less long for others to fail as well: none does."""
TRAIN = ("-m", "xcnn", "train", "photos", "--model", "article", "--epochs", "2", "--backend", "numpy", "--json")


def test_two_processes_say_once_what_one_says(folder):
    two = run_job(2, *TRAIN, "--parallel", "-o", "two.xcnn", cwd=folder)
    one = run_job(1, *TRAIN, "-o", "one.xcnn", cwd=folder)
    assert two.returncode == one.returncode == 0, two.stderr
    assert [row["epoch"] for row in rows(two.stdout)] == [1, 2]
    for row, expected in zip(rows(two.stdout), rows(one.stdout), strict=True):
        assert row == pytest.approx(expected, abs=1e-5)
    assert (folder / "two.xcnn").exists()


def test_an_error_is_told_once_with_its_code(folder):
    done = run_job(2, "-m", "xcnn", "train", "photos", "--model", "nothing", "--parallel", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("X104") == 1


def test_so_is_one_of_data_that_the_first_alone_has_met(tmp_path):
    """Its samples are read by the first before the others, who wait for it then."""
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    done = run_job(2, "-c", IMPATIENT, "train", "broken.npz", "--parallel", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.count("DataError[") == 1


def test_a_lost_process_is_begun_anew(folder):
    """From the last checkpoint, to the epochs that were asked for in all."""
    command = [sys.executable, *TRAIN, "--processes", "2", "--max-restarts", "1", "--epochs", "40", "-o", "lost.xcnn"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    end = time.monotonic() + 200
    while not (folder / "lost.xcnn").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(rank_in(folder), signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "a process was lost (exit code 9); restart 1 of 1" in err
    epochs = [row["epoch"] for row in rows(out)]
    assert epochs[-1] == 40
    assert len(epochs) <= 41  # what was saved is not computed again


def rank_in(folder):
    """The number of a process that trains in a folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if b"--parallel" in arguments and b"mpiexec" not in arguments[0] and (entry / "cwd").resolve() == folder:
                return int(entry.name)
        except OSError:  # it has ended, or is somebody else's
            continue
    raise AssertionError("no process trains")
