"""Run by mpiexec: updates that ranks make in parts, held to the backend's of all; as JSON from rank 0.

Of each case: how far the new arrays and the three numbers are from those of one process, and how many replicas there
are. Then what becomes of states that somebody keeps, whether a planted fault is seen, a block that is used again
while somebody holds it, and which memory of the job has a name, by which it could outlive it.
"""

import hashlib
import json
import math
from unittest import mock

import numpy as np
from trained_cases import X, Y, dense

import xcnn
from xcnn.core import tree
from xcnn.layers.layer import Next
from xcnn.optimizers import EMA, SGD, Adam, AdamW, RMSprop
from xcnn.parallel import memory, sharded
from xcnn.parallel.memory import Blocks
from xcnn.parallel.sums import HostSums

sharded.LONG = 16
SHAPES = {"a": (7, 5), "b": (3,), "c": (2, 3, 111), "norm": (4,), "d": (16,), "e": ()}
CASES = {
    "sgd": (SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01), 1.0),
    "plain": (SGD(0.1), 1.0),
    "rmsprop": (RMSprop(0.01, momentum=0.5), 1.0),
    "adam clipped": (Adam(0.01, clip_norm=0.5), 1.0),
    "adamw": (AdamW(0.01), 1.0),
    "overflowing": (SGD(0.1, clip_norm=2.0), 1e200),
    "infinite": (Adam(0.1), math.inf),
    "by all": (EMA(SGD(0.1)), 1.0),
}


def drawn(rng, scale, kind):
    """A tree of arrays, and what replaces a weight."""
    found = {name: np.array(scale * rng.standard_normal(shape), kind) for name, shape in SHAPES.items()}
    return {"inner": {"c": found.pop("c")}, **found}


def one(optimizer, grads, state, weights):
    with np.errstate(all="ignore"):
        return NUMPY.update(optimizer, grads, state, weights)


def apart(found, expected):
    """The largest difference of numbers beside their size; 0 where both are not finite."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(found, expected, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    return max(
        float(np.max(np.where(np.isfinite(a) | np.isfinite(b), np.abs(a - b) / np.maximum(np.abs(b), 1), 0), initial=0))
        for a, b in pairs
    )


def leaves(optimizer, weights, state):
    return [leaf for each in (weights, *(state[name] for name in optimizer.moments)) for leaf in tree.leaves(each)]


def tried(optimizer, scale, kind):
    weights = drawn(np.random.default_rng(1), 1, kind)
    state, alone = optimizer.init(weights), (weights, optimizer.init(weights))
    off, told, sums = 0.0, [], HostSums(NUMPY, ranks)
    for step in range(4):
        parts = [drawn(np.random.default_rng((step, rank)), scale, kind) for rank in range(ranks.size)]
        with np.errstate(all="ignore"):
            whole = tree.map(lambda *each: np.asarray(sum(each[1:], each[0])), *parts)
        whole["norm"], mine = Next(parts[0]["norm"]), {**parts[ranks.rank]}
        mine["norm"] = Next(mine["norm"])
        free = int(np.bitwise_and.reduce(ranks.table(sums.free)[:, 0].astype(np.int64)))
        with np.errstate(all="ignore"):
            weights, state, *numbers = sums.update(
                optimizer, mine, state, weights, 0.5, gives=ranks.rank == 0, own=True, free=free
            )
        *alone, norm, size = one(optimizer, whole, alone[1], alone[0])
        arrays, expected = leaves(optimizer, weights, state), leaves(optimizer, *alone)
        with np.errstate(all="ignore"):
            off = max(off, apart(arrays, expected))
            off = max(off, apart(numbers, [norm, size, 0.5 * ranks.size]))
        assert state["step"] == step + 1
        told.append(hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest())
    return off, len({*ranks.gathered(tuple(told))}), len(sums.sharded.blocks.blocks)


def kept(planted=None):
    """Whether states stay what they are while they are kept, and whether the last is each rank's own."""
    states = []

    def keep(model, history):
        copies = [leaf.copy() for leaf in tree.leaves(model.state.weights)]
        states.append((model.state, copies))

    model = xcnn.Model(dense(), X.shape[1:], optimizer=Adam(0.01), dtype="float64", backend="numpy")
    with mock.patch.object(Blocks, "free", planted or Blocks.free):
        model.fit(X, Y, epochs=4, batch_size=23, progress="none", callbacks=[keep], parallel=together)
    same = all(all(map(np.array_equal, tree.leaves(state.weights), copies)) for state, copies in states)
    leaf = model.state.weights["dense1"]["kernel"]
    leaf += ranks.rank + 1  # which the others do not see
    return same, len({*ranks.gathered(leaf.tobytes())}) == ranks.size


def mapped():
    """Files that this process has in its memory, but for those that have no name any more."""
    with open("/proc/self/maps") as lines:
        return {line.split(maxsplit=5)[5].strip() for line in lines if "/" in line and "(deleted)" not in line}


together = xcnn.parallel.mpi(timeout=60)
ranks, NUMPY = together.ranks, xcnn.backend("numpy")
found = {
    f"{name}, {kind}": tried(*case, kind)
    for name, case in CASES.items()
    for kind in ("float64", "float32")
    if kind == "float64" or case[1] == 1
}
found["kept"], found["planted"] = kept(), kept(lambda blocks: (1 << len(blocks.blocks)) - 1)
found["named"] = [*memory.named(), *(name for name in mapped() if name.startswith("/dev/shm/"))]
if ranks.rank == 0:
    print(json.dumps(found))
