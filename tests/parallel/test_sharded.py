"""Updates of which each rank makes its part, in memory that ranks share, held to the backend's update of all."""

import sys

import pytest
from mpi_jobs import JOBS, needs_mpi, run_job, told

pytestmark = needs_mpi


@pytest.fixture(scope="module")
def found():
    return told(run_job(3, JOBS / "sharded.py"))


def test_parts_are_what_the_backend_makes_of_the_whole(found):
    """Weights, moments, norms and the loss, clipped or not, of either type; norms beyond their type's range too.

    In two blocks, which are used in turns; in none where an optimizer looks at more than a cell.
    """
    cases = {name: each for name, each in found.items() if "," in name}
    assert len(cases) == 14
    for name, (off, replicas, blocks) in cases.items():
        assert (off < 1e-14, replicas, blocks) == (True, 1, 0 if "by all" in name else 2), name


def test_a_state_that_is_kept_stays_what_it_is(found):
    """In a callback for as long as it likes; and what training leaves is each rank's own, to be written in place."""
    assert found["kept"] == [True, True]


def test_a_block_that_is_used_while_it_is_held_is_found(found):
    same, _ = found["planted"]
    assert not same


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells of a process's memory on Linux")
def test_no_memory_that_ranks_share_has_a_name(found):
    """However a job ends then, nothing of it is left in /dev/shm."""
    assert found["named"] == []
