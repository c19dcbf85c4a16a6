"""The memory of graphs that are gone is given back, but never while another graph is captured."""

import gc
import threading
import weakref

import pytest
from xcnn_cupy.pools import Pools


class Pool:
    def __init__(self):
        self.freed = 0

    def free_all_blocks(self):
        self.freed += 1


class Graph:
    def __init__(self, pools, pool):
        weakref.finalize(self, pools.give_back, pool).atexit = False


def test_a_pool_is_freed_when_its_graph_goes():
    pools, pool = Pools(), Pool()
    graph = Graph(pools, pool)
    graph.itself = graph  # only the collector finds it
    del graph
    assert pool.freed == 0
    gc.collect()
    assert pool.freed == 1


def test_nothing_is_freed_during_a_capture_in_any_thread():
    pools, first, second = Pools(), Pool(), Pool()
    inside, leave = threading.Event(), threading.Event()

    def capture():
        with pools.held():
            inside.set()
            leave.wait(10)

    beside = threading.Thread(target=capture)
    beside.start()
    assert inside.wait(10)
    Graph(pools, first)
    with pools.held():
        Graph(pools, second)
    assert (first.freed, second.freed) == (0, 0)
    leave.set()
    beside.join()
    assert (first.freed, second.freed) == (1, 1)


def test_a_capture_that_fails_holds_nothing_back():
    pools, pool = Pools(), Pool()

    def fails():
        with pools.held():
            pools.give_back(pool)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert pool.freed == 1
    assert not pools.waiting
