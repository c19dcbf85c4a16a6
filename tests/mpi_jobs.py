"""Jobs of several processes, run by mpiexec: scripts in tests/parallel/jobs, where mpi4py and MPI are there."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from c_library import compiled

ROOT = Path(__file__).parents[1]
JOBS = ROOT / "tests" / "parallel" / "jobs"
BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
needs_mpi = pytest.mark.skipif(
    not (MPIEXEC and find_spec("mpi4py")), reason="no mpi4py with an mpiexec: pip install mpi4py mpich"
)
YIELD = """
#include <time.h>
int sched_yield(void) { struct timespec least = {0, 1}; return nanosleep(&least, 0); }
"""
"""MPI looks for messages again and again and yields in between, which took half of the processor that ranks share."""


@cache
def sleeping():
    """Variables with which a rank that waits sleeps a little instead of yielding; none without a C compiler."""
    library = compiled(YIELD, "yield.so") if sys.platform == "linux" else None
    return {} if library is None else {"LD_PRELOAD": str(library)}


def environment(*more):
    """What a job is started with: xcnn and these folders to import from, no backend by name, and ranks that sleep."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends"), *map(str, more)])
    known = {name: value for name, value in os.environ.items() if name != "XCNN_BACKEND"}
    return {**known, **sleeping(), "PYTHONPATH": path, "MPIR_CVAR_POLLS_BEFORE_YIELD": "1"}


def started(processes, *program, **options):
    """A job of so many processes, each running a script with arguments, as it runs.

    They may have one core together: who waits lets the others have it, after a single look, and sleeps.
    """
    return subprocess.Popen(
        [MPIEXEC, "-n", str(processes), sys.executable, *map(str, program)],
        env=environment(JOBS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def run_job(processes, *program, timeout=300, **options):
    """The job when it is done."""
    process = started(processes, *program, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def told(done):
    """What rank 0 wrote, as JSON, of a job that ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
