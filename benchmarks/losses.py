"""What is left where processes are lost: python benchmarks/losses.py ranks|workers|poison.

ranks: a job of ranks one of which is killed, at so many random times, each rank in its turn, until it is done; then its
weights beside those of an undisturbed one.

workers: four workers of Dask, two of which are killed during 200 shards; their memory on the way.

poison: a shard that ends each process which computes it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import xcnn
from xcnn.bench.cases import picked
from xcnn.core import tree


def ranks_of(folder: Path) -> list[int]:
    """The processes that train in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            given = (entry / "cmdline").read_bytes().split(b"\0")
            if b"--parallel" in given and b"-n" not in given and (entry / "cwd").resolve() == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def lost_ranks(kills: int, ranks: int, seed: int, epochs: int, seconds: list[float]) -> None:
    options = ["--epochs", str(epochs), "--batch-size", "1024", "--backend", "numpy", "--quiet"]
    train = [sys.executable, "-m", "xcnn", "train", *options, "--processes", str(ranks)]
    root = Path(__file__).parents[1]
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")])}
    with TemporaryDirectory() as name:
        folder, rng, endings = Path(name).resolve(), random.Random(seed), list[float]()
        subprocess.run([*train, "-o", "whole.xcnn"], cwd=folder, env=known, check=True)
        command = [*train, "--max-restarts", str(kills), "-o", "killed.xcnn"]
        with subprocess.Popen(command, cwd=folder, env=known) as job:
            while len(endings) < kills and job.poll() is None:
                time.sleep(rng.uniform(*seconds))
                running = ranks_of(folder)
                if len(running) < ranks:
                    continue
                os.kill(running[len(endings) % ranks], signal.SIGKILL)
                begun = time.monotonic()
                while {*ranks_of(folder)} & {*running} and time.monotonic() - begun < 60:
                    time.sleep(0.02)
                endings.append(time.monotonic() - begun)
            code = job.wait()
        whole, killed = (xcnn.Model.load(folder / each, backend="numpy") for each in ("whole.xcnn", "killed.xcnn"))
        pairs = zip(tree.leaves(whole.weights), tree.leaves(killed.weights), strict=True)
        same = all(bool((a == b).all()) for a, b in pairs)
        print(f"{len(endings)} kills: all ended within {max(endings, default=0):.2f} s; exit code {code}")
        told = "the same bits as" if same else "NOT those of"
        print(f"epochs {whole.state.epoch} and {killed.state.epoch}, weights {told} an undisturbed run", flush=True)


# Workers of Dask.

UNDER_WAY = 16
"""Shards that are given out at a time."""


@contextmanager
def four() -> Iterator[Any]:
    """The client of four workers."""
    from distributed import Client, LocalCluster

    here = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=4, **here) as cluster, Client(cluster) as client:
        yield client


def slowly(shard: Any) -> Any:
    """A shard, after a while in which its worker may be killed."""
    time.sleep(0.05)
    return shard()


def peak() -> tuple[int, float]:
    """The number of a worker, and the most memory that it ever had, in MB."""
    told = Path("/proc/self/status").read_text()  # getrusage tells of whoever began it, too
    return os.getpid(), int(told.partition("VmHWM:")[2].split()[0]) / 1024


@dataclass
class Killing:
    """A client's executor: kills a worker at the 60th shard and at the 120th, and notes their memory after 20."""

    client: Any
    given: int = 0

    def get_executor(self, **options: Any) -> Any:
        self.pool = self.client.get_executor(**options)
        return self

    def submit(self, shard: Any) -> Any:
        self.given += 1
        if self.given == 20 + UNDER_WAY:
            self.early = dict(self.client.run(peak).values())
        if self.given in (60, 120):
            os.kill([*self.early][self.given == 120], signal.SIGKILL)
        return self.pool.submit(slowly, shard)


def lost_workers() -> None:
    model = picked("lenet:64").model(xcnn.backend("numpy", threads=1))
    x = np.random.default_rng(0).random((200 * 256, *model.input_shape), dtype="float32")
    with four() as client:
        begun, killing = time.monotonic(), Killing(client)
        shards = xcnn.parallel.predict(model, x, killing, shard_size=256, under_way=UNDER_WAY)
        seconds = time.monotonic() - begun
        late = dict(client.run(peak, on_error="ignore").values())
    exact = not shards.failed and bool((shards.outputs() == model.predict(x)).all())
    print(f"{len(shards)} shards, 2 of 4 workers killed: {'exact' if exact else shards.failed}, {seconds:.1f} s")
    stayed = {n: (killing.early[n], late[n]) for n in late.keys() & killing.early.keys()}
    told = "; ".join(f"{early:.0f} MB after 20 shards, {end:.0f} at the end" for early, end in stayed.values())
    print(f"most memory of the workers that stayed: {told}; of all {max(late.values()):.0f}")


@xcnn.pure
@dataclass(frozen=True)
class Deadly:
    """Ends the process that meets a number above 100 in it."""

    parent: int

    def init(self, rng: Any, input_shape: Any) -> Any:
        return {}, input_shape

    def __call__(self, weights: Any, x: Any, run: Any) -> Any:
        if os.getpid() != self.parent and float(x.max()) > 100:
            os._exit(1)
        return x, lambda dy: (dy, {})


def poisoned() -> None:
    net = xcnn.Sequential(Deadly(os.getpid()), xcnn.Conv2D(3, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(4))
    model = xcnn.Model(net, (1, 12, 12), backend="numpy")
    x = np.random.default_rng(0).random((40 * 256, 1, 12, 12), dtype="float32")
    x[7 * 256 + 3] = 1000
    with four() as client:
        begun = time.monotonic()
        shards = xcnn.parallel.predict(model, x, client, shard_size=256)
        seconds = time.monotonic() - begun
    there = [n for n in range(len(shards)) if n not in shards.failed]
    expected = model.predict(x)
    exact = all((np.load(shards.path(n)) == expected[slice(*shards.range(n))]).all() for n in there)
    print(f"{len(there)} of {len(shards)} shards {'exact' if exact else 'NOT exact'} after {seconds:.1f} s; failed:")
    for number, why in shards.failed.items():
        print(f"  shard {number}, samples {shards.range(number)}: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["ranks", "workers", "poison"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seconds", type=float, nargs=2, default=[2, 8], help="of ranks: from a kill to the next")
    given = parser.parse_args()
    if given.kind == "ranks":
        lost_ranks(given.kills, given.ranks, given.seed, given.epochs, given.seconds)
    elif given.kind == "workers":
        lost_workers()
    else:
        poisoned()


if __name__ == "__main__":
    main()
