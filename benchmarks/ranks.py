"""Several processes at one net: python benchmarks/ranks.py KIND [NAME:BATCH ...].

bytes: what ranks send each other in a step and in an epoch, by net (docs/scaling.md).

scaling: images a second of two ranks with a thread each, over those of one process with one thread; and of two
processes that share nothing, each with half a batch, which is what ranks could reach at most. In turns. Wants a quiet
machine with two cores.

simulate: step times of 1 to 4 ranks as benchmarks/network.py computes them, of what one rank takes for a batch and for
a quarter of it and of this machine's MPI, beside those that were measured. Ranks beyond the cores share them.

plan: the largest sensible number of ranks by net at 10 and 100 Gb/s, of what this machine takes for an image.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

from network import Network, Work, most_ranks, step_seconds

import xcnn
from xcnn.bench.cases import picked
from xcnn.core import tree
from xcnn.layers import BatchNorm
from xcnn.parallel.launch import mpiexec
from xcnn.parallel.strangers import within

NETS = ["lenet:256", "mnist-net:64", "small-resnet:64", "resnet18-64:64", "resnet18:8", "vgg:64", "convnext:16"]
TIMED = ["mnist-net:64", "resnet18-64:64"]
LINES = {"10 Gb/s": Network(30e-6, 1.25e9), "100 Gb/s": Network(5e-6, 12.5e9)}
EPOCH = 60_000
"""Images."""


def sizes_of(choice: str) -> tuple[int, list[float], int]:
    """Parameters of a net, bytes of its gradients from the last on, and sums of statistics in a step."""
    model = picked(choice).model(xcnn.backend("numpy"))
    norms = sum(isinstance(layer, BatchNorm) for layer in within(model.net))
    leaves = tree.leaves(model.state.weights)[::-1]
    return sum(leaf.size for leaf in leaves), [float(leaf.nbytes) for leaf in leaves], 2 * norms


def bytes_table(nets: list[str]) -> None:
    print("| net, batch | parameters | MB a step and rank, 2, 4, 8 ranks | sums of statistics | GB an epoch, 4 ranks |")
    print("|---|---|---|---|---|")
    for choice in nets:
        count, sizes, sums = sizes_of(choice)
        batch = int(choice.partition(":")[2])
        each = [2 * sum(sizes) * (n - 1) / n / 1e6 for n in (2, 4, 8)]
        epoch = each[1] * EPOCH / batch / 1e3
        told = ", ".join(f"{one:.2f}" if one < 10 else f"{one:.0f}" for one in each)
        print(f"| {choice.replace(':', ', ')} | {count:,} | {told} | {sums} | {epoch:.1f} |")


# What ranks take.


def worker(choice: str, batches: int, apart: bool) -> None:
    """Train on some batches by all ranks, with a thread each; the median epoch's seconds a step, from rank 0.

    By the clock, and by the processor's time of this rank: of one that waits for nobody they are the same. `apart` is
    each process by itself, side by side.
    """
    xcnn.set_threads(1)
    together = xcnn.parallel.mpi(timeout=120)
    case = picked(choice)
    model = case.model(xcnn.backend("numpy"))
    x, t = case.data(*model.output_shape, batches=batches)
    how: dict[str, Any] = {"parallel": together} if together.size > 1 and not apart else {}
    marks = list[tuple[float, float]]()

    def mark(model: xcnn.Model, history: xcnn.History) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    together.ranks.gathered(0)  # all begin now
    model.fit(x, t, epochs=4, batch_size=case.batch, shuffle=False, progress="none", callbacks=[mark], **how)
    if together.first:
        pairs = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks)]  # without the first epoch
        print(json.dumps([statistics.median(column) / batches for column in zip(*pairs, strict=True)]))


def step_of(choice: str, ranks: int, own: bool = False, batches: int = 10, apart: bool = False) -> float:
    """Seconds of a step by so many ranks, or by so many processes `apart`; or the processor's own."""
    command = [mpiexec(), "-n", str(ranks), sys.executable, __file__, "worker", choice, "--batches", str(batches)]
    command += ["--apart"] if apart else []
    one_each = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if ranks > len(os.sched_getaffinity(0)):  # who waits leaves its core to who works
        one_each["MPIR_CVAR_POLLS_BEFORE_YIELD"] = "1"
    done = subprocess.run(command, env={**os.environ, **one_each}, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout)[own])


def scaling(nets: list[str], rounds: int, batches: int) -> None:
    for choice in nets:
        name, _, batch = choice.partition(":")
        half, times = f"{name}:{int(batch) // 2}", list[tuple[float, float, float]]()
        for _ in range(rounds):
            one, two = (step_of(choice, ranks, batches=batches) for ranks in (1, 2))
            times.append((one, two, step_of(half, 2, batches=batches, apart=True)))
        ratios = sorted(one / two for one, two, _ in times)
        most = statistics.median(one / apart for one, _, apart in times)
        one, two, apart = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{choice}: {one:.1f} ms a step with one rank, {two:.1f} with two: {statistics.median(ratios):.2f} times "
            f"as fast ({ratios[0]:.2f} to {ratios[-1]:.2f}); two that share nothing, each with half: "
            f"{apart:.1f}, {most:.2f}",
            flush=True,
        )


def measured_network() -> Network:
    """MPI between two ranks of this machine: what a sum of few numbers takes, and of 8 MB."""
    program = (
        "import time, numpy as np\nfrom mpi4py import MPI\nc = MPI.COMM_WORLD\n"
        "def seconds(cells, times):\n"
        "    x, y = np.ones(cells), np.ones(cells)\n    c.Allreduce(x, y); c.Barrier(); begun = time.perf_counter()\n"
        "    for _ in range(times): c.Allreduce(x, y)\n    return (time.perf_counter() - begun) / times\n"
        "few, many = min(seconds(8, 200) for _ in range(5)), min(seconds(10**6, 20) for _ in range(5))\n"
        "if not c.rank: print(few, many)"
    )
    done = subprocess.run(
        [mpiexec(), "-n", "2", sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    few, many = map(float, done.stdout.split())
    return Network(few / 2, 8e6 / max(many - few, 1e-9))


def work_of(choice: str) -> Work:
    """What one rank takes of the processor's time: from the steps of a batch, and of a quarter of it."""
    name, _, batch = choice.partition(":")
    whole, part = step_of(choice, 1, own=True), step_of(f"{name}:{max(int(batch) // 4, 1)}", 1, own=True)
    image = (whole - part) / (int(batch) - max(int(batch) // 4, 1))
    _, sizes, sums = sizes_of(choice)
    return Work(image, max(whole - image * int(batch), 0.0), sizes, sums)


def simulate(nets: list[str]) -> None:
    network, cores = measured_network(), len(os.sched_getaffinity(0))
    print(f"a message {1e6 * network.latency:.1f} us, {network.bandwidth / 1e9:.2f} GB/s")
    for choice in nets:
        work, batch = work_of(choice), int(choice.partition(":")[2])
        for ranks in (1, 2, 3, 4):
            shared = max(1.0, ranks / cores)
            slow = Work(work.image * shared, work.fixed * shared, work.sizes, work.statistics)
            expected, found = step_seconds(slow, network, batch, ranks, hides=False), step_of(choice, ranks)
            told = f"{1e3 * expected:.1f} ms computed, {1e3 * found:.1f} measured, {found / expected:.2f}"
            print(f"{choice}, {ranks} ranks: {told}", flush=True)


def plan(nets: list[str]) -> None:
    print("| net | ms an image | batch | " + " | ".join(f"{name}, after / beside backward" for name in LINES) + " |")
    print("|---|---|---|" + "---|" * len(LINES))
    for choice in nets:
        work = work_of(choice)
        for batch in (64, 1024):
            told = [
                f"{most_ranks(work, line, batch, False)} / {most_ranks(work, line, batch, True)}"
                for line in LINES.values()
            ]
            print(f"| {choice.partition(':')[0]} | {1e3 * work.image:.2f} | {batch} | {' | '.join(told)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["bytes", "scaling", "simulate", "plan", "worker"])
    parser.add_argument("nets", nargs="*")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--apart", action="store_true", help="of worker: each process by itself")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    match given.kind:
        case "bytes":
            bytes_table(given.nets or NETS)
        case "scaling":
            scaling(given.nets or TIMED, given.rounds, given.batches)
        case "simulate":
            simulate(given.nets or TIMED)
        case "plan":
            plan(given.nets or NETS)
        case _:
            worker(given.nets[0], given.batches, given.apart)


if __name__ == "__main__":
    main()
