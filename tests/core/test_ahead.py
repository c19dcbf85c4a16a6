"""Work done ahead: in order, bounded, errors in their turn, and no thread left behind."""

import threading
import time

import pytest

from xcnn.core.ahead import SPARE, ahead


def left():
    """Threads that still work ahead."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("xcnn-ahead")]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_come_in_the_order_of_jobs(workers):
    def job(n):
        time.sleep(0.002 * (n % 3))  # later ones end earlier
        return n

    assert list(ahead(((lambda n=n: job(n)) for n in range(40)), workers)) == list(range(40))
    assert not left()


@pytest.mark.parametrize("workers", [1, 4])
def test_no_more_is_made_than_there_is_room_for(workers):
    begun, room = [], workers + SPARE
    results = ahead(((lambda n=n: begun.append(n)) for n in range(100)), workers)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.001)
        assert max(begun) < taken + room
    results.close()
    assert not left()


def test_there_is_work_done_while_a_result_is_used():
    begun = threading.Event()
    results = ahead(iter([int, begun.set, int]), 1)
    next(results)
    assert begun.wait(10)
    results.close()


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_comes_in_its_turn_and_ends_all(workers):
    done = []

    def job(n):
        if n == 5:
            raise LookupError("of job 5")
        return n

    with pytest.raises(LookupError, match="of job 5"):
        done.extend(ahead(((lambda n=n: job(n)) for n in range(40)), workers))
    assert done == [0, 1, 2, 3, 4]
    assert not left()


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_so_does_an_error_of_who_gives_the_jobs(workers):
    def jobs():
        yield lambda: 0
        yield lambda: 1
        raise LookupError("no more")

    done = []
    with pytest.raises(LookupError, match="no more"):
        done.extend(ahead(jobs(), workers))
    assert done == [0, 1]
    assert not left()


@pytest.mark.parametrize("workers", [1, 4])
def test_an_interrupt_where_a_result_is_used_ends_the_threads(workers):
    def take():
        for n in ahead(((lambda: time.sleep(0.001)) for _ in range(1000)), workers):
            raise KeyboardInterrupt(n)

    with pytest.raises(KeyboardInterrupt):
        take()
    until = time.monotonic() + 10
    while left() and time.monotonic() < until:
        time.sleep(0.01)
    assert not left()


def test_jobs_are_drawn_by_one_thread_at_a_time():
    within, most = [0], [0]

    def jobs():
        for _ in range(50):
            within[0] += 1
            most[0] = max(most[0], within[0])
            time.sleep(0.0005)
            within[0] -= 1
            yield int

    assert len(list(ahead(jobs(), 4))) == 50
    assert most == [1]
