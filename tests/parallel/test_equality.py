"""Several processes train what one does: to rounding in the weights, to the bit among themselves."""

import json
from importlib.util import find_spec

import pytest
from mpi_jobs import JOBS, needs_mpi, run_job, told
from xcnn_native.library import library

pytestmark = needs_mpi
CASES = [
    "all", "few", "augmented", "mixed", "bytes", "stream", "weighted", "left out", "measured", "parts", "clipped",
    "clipped in parts", "gemm", "float32", "dense", "several", "normed", "muon", "stopped", "turns", "numbers",
]  # fmt: skip
if find_spec("torch"):
    CASES.append("torch")
ALONE = {"turns": 24}
"""Of their steps those that a process takes by itself in between."""
STEPS = {"all": 30, "few": 30, "stopped": 12, "turns": 36}
OF_ANY = ["few", "mixed", "several"]
WHOLE = ["clipped", "normed", "muon", "torch"]
"""Whose weights each rank updates all: the others' are updated in parts, however small they are."""
RECORDED = ["all", "few"] if library() else []
BUGS = ["mean,few", "norm,all"]


@pytest.fixture(scope="module")
def found():
    """What so many ranks found: of three, one has no samples in the last batches of "few" and "bytes"."""
    plan = {4: OF_ANY, 3: CASES, 2: [*OF_ANY, *(f"planted={bug}" for bug in BUGS)], 1: OF_ANY}
    return told(run_job(4, JOBS / "equality.py", json.dumps(plan)))


@pytest.mark.parametrize("case", CASES)
def test_three_processes_train_what_one_does(found, case):
    """In float64 to 1e-12 after up to 30 steps; validation, accuracy and metrics too."""
    check(found["3"][case], case)
    together = found["3"][case]["steps"] - ALONE.get(case, 0)
    assert found["3"][case]["in parts"] == (0 if case in WHOLE else together)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_so_do_others(found, processes):
    for case in OF_ANY:
        check(found[str(processes)][case], case)


def check(found, case):
    """What a job found of a case: how far it is from one process."""
    assert found["steps"] == STEPS.get(case, 10)
    assert found["weights"] < (1e-5 if case == "float32" else 1e-12)
    assert found["rows"] < (1e-5 if case == "float32" else 1e-12)
    assert found["replicas"] == 1
    assert found["recorded"] or case not in RECORDED


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(found, bug):
    """The mean of means, where shares are uneven, and BatchNorm of each rank's own samples."""
    assert found["2"][f"planted={bug}"]["weights"] > 1e-4


def test_gradients_go_by_nccl_in_buckets_beside_the_backward_pass():
    """On a stand-in: 30 steps of several buckets; each waits for the first stream, and that for the last of them."""
    found = told(run_job(2, JOBS / "nccl_equality.py"))
    assert max(found["few"], found["parts"]) < 1e-12
    beside, before = found["waits"]
    assert beside == found["messages"] >= 3 * 30
    assert before == 30


def test_gradients_are_summed_through_shared_memory_in_the_order_of_ranks():
    """To the bit, alike on all; in pieces, of several arrays and types; and a rank that does not wait is seen."""
    found = told(run_job(3, JOBS / "window.py"))
    assert found == {size: [True, True, 1, True, True] for size in ("2", "3")}
