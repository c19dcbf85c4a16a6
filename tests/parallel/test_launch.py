"""A job that is told to end, by whoever tells the process that began it: once, soon, and before that process goes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from mpi_jobs import environment, needs_mpi

pytestmark = needs_mpi
JOB = """
import signal, sys, time
found = []
signal.signal(signal.SIGINT, lambda number, frame: found.append(number))
open("begun", "w").close()
while not found:
    time.sleep(0.02)
time.sleep(0.5)  # another would come now
open("ended", "w").write(str([*map(int, found)]))
"""
PROGRAM = f"""
import signal, sys, xcnn
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background commands ignore
xcnn.parallel.launch(1, lambda run: [sys.executable, '-c', {JOB!r}])
"""


def present(path, seconds=60):
    """Whether a file comes to be there."""
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes that are sent signals")
@pytest.mark.parametrize(("name", "whole"), [("SIGINT", False), ("SIGTERM", True)], ids=["one", "its group"])
def test_a_job_is_told_once_and_waited_for(tmp_path, name, whole):
    """As by `kill`, and as a terminal and `timeout` do it; the exit is what the signal makes of any program."""
    number = getattr(signal, name)
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            assert present(tmp_path / "begun")
            begun = time.monotonic()
            (os.killpg if whole else os.kill)(process.pid, number)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -number
    assert time.monotonic() - begun < 8
    assert (tmp_path / "ended").read_text() == str([signal.SIGINT.value])
