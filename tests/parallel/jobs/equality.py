"""Run by mpiexec: cases trained by all ranks, and by one process; how far they are apart, as JSON from rank 0.

An argument "planted=..." plants a bug that many have had, and trains with that.
"""

import hashlib
import json
import sys

import numpy as np
from trained_cases import CASES, fitted

import xcnn
from xcnn.layers.layer import Run
from xcnn.parallel.step import SharedStep

NOT_EQUAL = ("seconds", "images_per_second", "stall")


def plant(bug):
    """Take each rank's mean for a summand of the mean's; or the statistics of each rank's own samples."""
    if bug == "mean":
        size = together.size
        SharedStep.portions = lambda step, mine, t, shares: [1 / size / len(mine) for _ in mine]
    if bug == "norm":
        Run.sum_over_batch, Run.batch_size = (lambda run, part: part), (lambda run, samples: samples)


def arrays(model):
    return {path: np.asarray(model.backend.to_numpy(w)) for path, w in xcnn.core.tree.items(model.state.weights)}


def digest(model):
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in arrays(model).values())).hexdigest()


def compared(model, history, alone, its_history):
    ours, theirs = arrays(model), arrays(alone)
    weights = {path: float(np.max(np.abs(leaf - theirs[path]))) for path, leaf in ours.items()}
    rows = [
        float(np.max(np.abs(np.subtract(a[key], b[key]))))
        for a, b in zip(history.rows, its_history.rows, strict=True)
        for key in a.keys() - {*NOT_EQUAL}
    ]
    return {"weights": max(weights.values()), "rows": max(rows), "steps": model.state.step}


together = xcnn.parallel.mpi(timeout=60)
found = {}
alone = {} if not together.first else {name: fitted(CASES[name], None) for name in sys.argv[1:] if name in CASES}
for name in sys.argv[1:]:
    if name.startswith("planted="):
        bug, name = name.removeprefix("planted=").split(",")
        plant(bug)
        alone[name] = alone.get(name) or fitted(CASES[name], None)
    model, history = fitted(CASES[name], together)
    replicas = {*together.ranks.gathered(digest(model))}
    if together.first:
        found[name] = {"replicas": len(replicas), **compared(model, history, *alone[name])}
if together.first:
    print(json.dumps(found))
