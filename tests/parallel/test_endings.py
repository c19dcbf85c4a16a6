"""However one rank ends, all do: soon, and its reason is told once. What was saved goes on with any number of ranks."""

import numpy as np
import pytest
from mpi_jobs import JOBS, needs_mpi, run_job, told

import xcnn

pytestmark = needs_mpi


def ended(what, rank, processes=2):
    """A job in which this happens to a rank."""
    return run_job(processes, JOBS / "endings.py", what, rank)


def test_an_error_of_one_rank_ends_all_and_is_told_once():
    done = ended("fail", 1)
    assert done.returncode == 1
    assert done.stderr.count("ValueError: one rank alone has failed") == 1
    assert "xcnn: rank 1 of 2 failed, and all end:" in done.stderr


def test_an_error_of_all_is_told_by_the_first():
    done = ended("diverge", 0)
    assert done.returncode == 1
    assert done.stderr.count("DivergedError: [X501]") == 1
    assert "rank" not in done.stderr.partition("DivergedError")[0]


def test_ranks_that_would_train_otherwise_are_told():
    done = ended("differ", 0)
    assert done.stderr.count("the ranks do not train in the same way: their optimizer differ.") == 1


def test_a_killed_rank_ends_all():
    assert ended("kill", 1).returncode == 9


def test_a_signal_to_one_rank_ends_all_after_the_same_step():
    first, second = told(ended("interrupt", 1))
    assert first == second == ["interrupted", 4, 2, 0]


@pytest.mark.parametrize("what", ["stall", "stop"])
def test_a_rank_that_stalls_is_named(what):
    """One that is at work shows where; one that is stopped is named by those that wait."""
    done = ended(what, 1)
    assert done.returncode == 124
    assert f"rank 1 of 2 {'has taken no step' if what == 'stall' else 'did not come to a sum'} for 1.5 s" in done.stderr
    assert ("time.sleep(60)" in done.stderr) == (what == "stall")


def test_what_two_ranks_left_three_go_on_with(tmp_path):
    """Within an epoch and between two, exactly as one process goes through it."""
    path, whole = tmp_path / "model.xcnn", tmp_path / "whole.xcnn"
    assert told(run_job(2, JOBS / "resuming.py", path, 3, 8)) == ["interrupted", 8, 1, 3]
    assert told(run_job(3, JOBS / "resuming.py", path, 3, 0)) == ["finished", 15, 3, 0]
    assert told(run_job(1, JOBS / "resuming.py", whole, 3, 0)) == ["finished", 15, 3, 0]
    resumed, at_once = (xcnn.Model.load(each, backend="numpy") for each in (path, whole))
    expected = dict(xcnn.core.tree.items(at_once.weights))
    for name, weight in xcnn.core.tree.items(resumed.weights):
        np.testing.assert_allclose(weight, expected[name], rtol=0, atol=1e-12, err_msg=name)
    losses = [[row["loss"] for row in model.history.rows] for model in (resumed, at_once)]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-12)
