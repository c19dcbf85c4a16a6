"""Dask gives out trainings with several learning rates to processes of this machine, or to those of a cluster.

It prints each rate's accuracy on the digits 0 and 1 of MNIST, the best last. `python tune_dask.py tcp://host:8786`
takes a scheduler's workers, each of which has xcnn. Needs `pip install distributed`.
"""

import sys

from distributed import Client

import xcnn


def accuracy(rate: float) -> float:
    """What a process does: a whole training, on one thread, since its neighbours train too."""
    xcnn.set_threads(1)
    (x, y), (x_test, y_test) = xcnn.datasets.mnist01()
    net = xcnn.Sequential(xcnn.Conv2D(4, 3, stride=2), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 28, 28), optimizer=xcnn.Adam(rate), backend="numpy", seed=0)
    model.fit(x[:600], y[:600], epochs=2, progress="none")
    return float(model.evaluate(x_test, y_test)["accuracy"])


if __name__ == "__main__":
    rates = [1e-5, 1e-4, 1e-3, 1e-2]
    here = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
    with Client(sys.argv[1]) if len(sys.argv) > 1 else Client(**here) as client:
        found = dict(zip(rates, client.gather(client.map(accuracy, rates)), strict=True))
    for rate, right in sorted(found.items(), key=lambda pair: pair[1]):
        print(f"rate {rate:g}: {right:.2%}")
