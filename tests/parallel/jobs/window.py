"""Run by mpiexec: arrays summed through shared memory by some of the ranks, held to sums by hand, as JSON from rank 0.

To each number of ranks: whether all cells are the sums in the order of ranks, to the bit; how many sums there are among
ranks; whether Allreduce comes to the same but for rounding; and whether a planted fault is seen: a rank that does not
wait for what the others write.
"""

import json
import time
from functools import reduce

import numpy as np

import xcnn
from xcnn.parallel.ranks import Ranks
from xcnn.parallel.window import PIECE, Window

SIZES = [3, PIECE // 4, 1, 5 * PIECE // 4 + 7, 2]


def arrays(rank, turn):
    """What a rank has: of either type, long and short, and one with two axes."""
    rng = np.random.default_rng((rank, turn))
    drawn = [rng.standard_normal(size).astype(kind) for size in SIZES for kind in ("float32", "float64")]
    return [*drawn, rng.standard_normal((70, 80))]


def same(found, expected):
    return all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def summed(ranks, turn):
    mine = arrays(ranks.rank, turn)
    ranks.totals(mine)
    return mine


def tried(ranks):
    """Several times, as slots are used in turns."""
    every, right, close = [], [], []
    by_messages = Ranks(ranks.comm)
    vars(by_messages)["window"] = None
    for turn in range(4):
        expected = [reduce(np.add, each) for each in zip(*(arrays(n, turn) for n in range(ranks.size)), strict=True)]
        found = summed(ranks, turn)
        right.append(same(found, expected))
        every += ranks.gathered(b"".join(each.tobytes() for each in found))
        pairs = zip(summed(by_messages, turn), expected, strict=True)
        close.append(all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in pairs))
    return all(right), len({*every}) // 4, all(close)


def sees_who_does_not_wait(ranks):
    """The last rank comes late, and nobody waits for it."""
    expected = [reduce(np.add, each) for each in zip(*(arrays(n, 9) for n in range(ranks.size)), strict=True)]
    wait, Window.wait = Window.wait, lambda window: None
    try:
        if ranks.rank == ranks.size - 1:
            time.sleep(0.1)
        found = summed(ranks, 9)
    finally:
        Window.wait = wait
    return not all(ranks.gathered(same(found, expected)))


everybody = xcnn.parallel.mpi(timeout=60).ranks
found = {}
for size in (2, 3):
    comm = everybody.comm.Split(everybody.rank < size)
    if everybody.rank < size:
        ranks = Ranks(comm)
        told = ranks.window is not None, *tried(ranks), sees_who_does_not_wait(ranks)
        found[size] = told
if everybody.rank == 0:
    print(json.dumps(found))
