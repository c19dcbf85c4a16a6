"""Run by mpiexec: a training in which something happens to one rank at a step; what came of it, as JSON from rank 0."""

import json
import os
import resource
import signal
import sys
import time

from trained_cases import X, Y, dense

import xcnn
from xcnn.parallel import ending, watch


class Happens:
    """An augmentation that changes nothing, and in one rank does something else in the third epoch."""

    def __init__(self, what, rank):
        self.what, self.mine = what, together.rank == rank

    def __call__(self, x, draws):
        if self.mine and draws.key[1] == 2:
            self.what()
        return x


class Source:
    """Samples that are read as they are needed, of which one rank can't read some."""

    shape, dtype, ndim = X.shape, X.dtype, X.ndim

    def __len__(self):
        return len(X)

    def __getitem__(self, rows):
        if together.rank == rank and rows == 40:
            raise OSError("the disk of one rank has gone")
        return X[rows]


def fail(*given):
    raise ValueError("one rank alone has failed")


def interrupt():
    signal.raise_signal(signal.SIGINT)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def no_room(model, history):
    """From the second epoch on the disk is full."""
    if len(history) == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


what, rank = sys.argv[1], int(sys.argv[2])
watch.GRACE, watch.LOOKS = 1.0, 0
ending.FIRST = 30.0  # the first ends the others, also on a busy machine
ending.PATIENCE = 0.3 if what in ("fail", "callback", "source", "full") else 1.5  # no other rank fails in the former
together = xcnn.parallel.mpi(timeout=1.5 if what in ("stall", "stop") else 60)
happening = {"fail": fail, "interrupt": interrupt, "kill": kill, "stop": stop, "stall": lambda: time.sleep(60)}
options = {"augment": [Happens(happening[what], rank)], "workers": 0} if what in happening else {}
if what == "callback":
    options["callbacks"] = [lambda model, history: fail() if len(history) == 3 else None]
if what == "full":
    options["callbacks"] = [xcnn.Checkpoint(sys.argv[3]), no_room]
rate = 1e300 if what == "diverge" else 0.1 + (together.rank if what == "differ" else 0)
model = xcnn.Model(dense(), X.shape[1:], optimizer=xcnn.SGD(rate), dtype="float64", backend="numpy")
print("begun", file=sys.stderr, flush=True)
if what == "leave" and together.rank == rank:
    sys.exit()
x = Source() if what == "source" else X
history = model.fit(x, Y, epochs=5, progress="none", parallel=together, **options)
found = together.ranks.gathered((history.stopped, model.state.step, model.state.epoch, model.state.batch))
if together.first:
    print(json.dumps(found))
