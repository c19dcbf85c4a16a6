"""Run by mpiexec: cases trained by some of the ranks, and by one process; how far they are apart, as JSON from rank 0.

The argument is a plan, as JSON: to a number of ranks the names of cases that the first so many train. A name
"planted=mean,few" plants a bug that many have had, and trains "few" with that. One job may do for all numbers of
ranks: a process takes a second to begin, and PyTorch two to be imported.
"""

import hashlib
import json
import sys
import time
from contextlib import ExitStack
from unittest import mock

import numpy as np
from trained_cases import CASES, fitted

import xcnn
from xcnn.layers.layer import Run
from xcnn.parallel import sharded
from xcnn.parallel.step import SharedStep

sharded.LONG = 16

sharded_written = sharded.ShardedUpdate.written
NOT_EQUAL = ("seconds", "images_per_second", "stall")


def planted(bug, size):
    """Take each rank's mean for a summand of the mean's; or the statistics of each rank's own samples."""
    bugs = {
        "": (),
        "mean": [(SharedStep, "portions", lambda step, mine, *given: [1 / size / len(mine) for _ in mine])],
        "norm": [
            (Run, "each_of_batch", lambda run, part: part[None]),
            (Run, "sum_over_batch", lambda run, part: part),
            (Run, "batch_size", lambda run, samples: samples),
        ],
    }
    with ExitStack() as stack:
        for owner, name, wrong in bugs[bug]:
            stack.enter_context(mock.patch.object(owner, name, wrong))
        return stack.pop_all()


def arrays(model):
    return {path: np.asarray(model.backend.to_numpy(w)) for path, w in xcnn.core.tree.items(model.state.weights)}


def digest(model):
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in arrays(model).values())).hexdigest()


def trained(name, together):
    """The weights of a case, and the rows of its history."""
    model, history = fitted(CASES[name], together)
    return model, arrays(model), history.rows


def of_one(names):
    """What one process finds of each case: each rank trains some of them, and learns of the others."""
    mine = {name: trained(name, None)[1:] for name in names[everybody.rank :: everybody.size]}
    return {name: found for each in everybody.ranks.gathered(mine) for name, found in each.items()}


def compared(ours, rows, theirs, its_rows):
    weights = [float(np.max(np.abs(leaf - theirs[path]))) for path, leaf in ours.items()]
    off = [
        float(np.max(np.abs(np.subtract(a[key], b[key]))))
        for a, b in zip(rows, its_rows, strict=True)
        for key in a.keys() - {*NOT_EQUAL}
    ]
    return {"weights": max(weights), "rows": max(off)}


def together_and_alone(names, together):
    """Of each case: what these ranks found beside one process, in how many steps, and how many replicas there are."""
    found = {}
    for name in names:
        bug, _, case = name.removeprefix("planted=").rpartition(",")
        written = mock.patch.object(sharded.ShardedUpdate, "written", autospec=True, side_effect=sharded_written)
        with planted(bug, together.size), written as updates:
            model, ours, rows = trained(case, together)
        replicas = {*together.ranks.gathered(digest(model))}
        off = compared(ours, rows, *alone[case])
        recorded = [met for met in getattr(model.trainer.net, "met", {}).values() if met.recording]
        found[name] = {"replicas": len(replicas), "steps": model.state.step, "recorded": len(recorded), **off}
        found[name]["in parts"] = updates.call_count
    return found


def wait_for_all():
    """Asleep: MPI itself would look again and again, on a core that others compute on."""
    comm = everybody.ranks.comm
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.01)


everybody = xcnn.parallel.mpi(timeout=60)
plan = {int(size): names for size, names in json.loads(sys.argv[1]).items()}
alone = of_one(list(dict.fromkeys(name.rpartition(",")[2] for names in plan.values() for name in names)))
found = {}
for size, names in plan.items():
    comm = everybody.ranks.comm.Split(everybody.rank < size)
    if everybody.rank < size:
        found[size] = together_and_alone(names, xcnn.parallel.Together(comm, timeout=60))
    wait_for_all()
if everybody.first:
    print(json.dumps(found))
