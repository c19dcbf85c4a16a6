"""Run by mpiexec or by one process: trains to the end of some epochs, or to a signal within one; goes on from a file.

Arguments: the file, epochs in all, the step at which a signal comes (0 is none).
"""

import json
import signal
import sys
from pathlib import Path

from trained_cases import X, Y, net

import xcnn


class Interrupts:
    """Ends training after a step, by a signal to whoever calls it."""

    def __init__(self, at):
        self.at = at

    def __call__(self, model, history):
        pass

    def step(self, model, row):
        if row["step"] == self.at:
            signal.raise_signal(signal.SIGINT)


path, epochs, at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
together = xcnn.parallel.mpi(timeout=60)
if path.exists():
    model = xcnn.Model.load(path, backend="numpy")
else:
    model = xcnn.Model(net(), X.shape[1:], optimizer=xcnn.Adam(0.01), dtype="float64", backend="numpy")
resume = path.exists()
together.of_first(bool)  # nobody writes before all have read
history = model.fit(
    X, Y, epochs=epochs, batch_size=10, progress="none", resume=resume, parallel=together, callbacks=[Interrupts(at)]
)
if together.first:
    model.save(path)
    print(json.dumps([history.stopped, model.state.step, model.state.epoch, model.state.batch]))
