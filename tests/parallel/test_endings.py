"""However one rank ends, all do: soon, and its reason is told once. What was saved goes on with any number of ranks."""

import numpy as np
import pytest
from mpi_jobs import JOBS, needs_mpi, run_job, told

import xcnn

pytestmark = needs_mpi


def ended(what, rank, *given, processes=2):
    """A job in which this happens to a rank."""
    return run_job(processes, JOBS / "endings.py", what, rank, *given)


ALONE = {
    "fail": (1, "ValueError: one rank alone has failed"),
    "callback": (0, "ValueError: one rank alone has failed"),
    "source": (1, "OSError: the disk of one rank has gone"),
}


@pytest.mark.parametrize("what", ALONE)
def test_an_error_of_one_rank_ends_all_and_is_told_once(what):
    """In what it computes, in a callback, in the thread that reads its data."""
    rank, error = ALONE[what]
    done = ended(what, rank)
    assert done.returncode == 1
    assert done.stderr.count(error) == 1
    assert f"xcnn: rank {rank} of 2 failed, and all end:" in done.stderr


def test_a_full_disk_ends_all_and_leaves_the_checkpoint_before(tmp_path):
    done = ended("full", 0, path := tmp_path / "model.xcnn")
    assert done.returncode == 1
    assert done.stderr.count("xcnn: rank 0 of 2 failed, and all end:") == 1
    assert "File too large" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["model.xcnn"]
    assert xcnn.Model.load(path, backend="numpy").state.epoch == 1


def test_a_rank_that_leaves_is_named():
    """`sys.exit` in one rank, whose part in the others' sums never comes."""
    done = ended("leave", 1)
    assert done.returncode == 1
    assert "xcnn: rank 1 of 2 ended the program while others train, and all end." in done.stderr


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


def test_what_four_ranks_left_three_go_on_with(tmp_path):
    """Within an epoch and between two, exactly as one process goes through it."""
    path, whole = tmp_path / "model.xcnn", tmp_path / "whole.xcnn"
    assert told(run_job(4, JOBS / "resuming.py", path, 3, 8)) == ["interrupted", 8, 1, 3]
    assert told(run_job(3, JOBS / "resuming.py", path, 3, 0)) == ["finished", 15, 3, 0]
    assert told(run_job(1, JOBS / "resuming.py", whole, 3, 0)) == ["finished", 15, 3, 0]
    resumed, at_once = (xcnn.Model.load(each, backend="numpy") for each in (path, whole))
    expected = dict(xcnn.core.tree.items(at_once.weights))
    for name, weight in xcnn.core.tree.items(resumed.weights):
        np.testing.assert_allclose(weight, expected[name], rtol=0, atol=1e-12, err_msg=name)
    losses = [[row["loss"] for row in model.history.rows] for model in (resumed, at_once)]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-12)
