"""Run by mpiexec: trained with NcclSums on a stand-in of NCCL, and by one process; what was sent, as JSON."""

import json

import numpy as np
from nccl_stand_in import CURRENT, OnDevice, cupy, nccl
from trained_cases import CASES, fitted

import xcnn
from xcnn.layers.layer import Next
from xcnn.parallel import nccl as module
from xcnn.parallel import together as parallel
from xcnn.parallel.nccl import NcclSums


class HostNcclSums(NcclSums):
    """Its sums are NumPy's own arrays again, and so are those that it takes."""

    def statistic(self, part):
        return np.asarray(super().statistic(np.array(part).view(OnDevice)))

    def each(self, part):
        return np.asarray(super().each(part))

    def gradients(self, grads, gives, own):
        return xcnn.core.tree.map(plain, super().gradients(grads, gives, own))


def plain(leaf):
    return Next(np.asarray(leaf.value)) if isinstance(leaf, Next) else np.asarray(leaf)


module.BUCKET = 1000
parallel.sums_for = lambda backend, ranks: HostNcclSums(backend, ranks, cupy, nccl)
together = xcnn.parallel.mpi(timeout=60)
found = {}
for name in ("parts", "few"):
    CURRENT.waited.clear()
    model, _ = fitted(CASES[name], together)
    if together.first:
        alone, _ = fitted(CASES[name], None)
        pairs = zip(xcnn.core.tree.leaves(model.weights), xcnn.core.tree.leaves(alone.weights), strict=True)
        found[name] = max(float(np.abs(a - b).max()) for a, b in pairs)
if together.first:
    sums = together.sums[1]
    sent = [size for stream, size in sums.comm.messages if stream == sums.stream.ptr]
    waits = len(sums.stream.waited), CURRENT.waited.count(("event of", sums.stream.ptr))
    print(json.dumps({**found, "messages": len(sent), "waits": waits}))
