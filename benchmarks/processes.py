"""What nets cost in processes of their own: python benchmarks/processes.py KIND [NAME:BATCH ...].

memory: the peak of some training steps, and of some predictions, above what is resident after the imports (VmHWM less
RSS; Linux). The imports are xcnn with its backend, or PyTorch; what comes later counts: data, weights, activations.
PyTorch and JAX are taken in the order of images' axes that takes less; JAX's programs are compiled meanwhile.

summary: what `model.summary(batch_size=...)` says beside the peak of as many steps or predictions, above what is
resident once a small net has taken some and is gone, the data left out. Code that is read meanwhile counts, up to 3 MiB
that no summary tells: of nets that take less than ten times that the difference is to be read, not the ratio. Who
predicts has an optimizer without moments: those of a net that was not trained are zeros, and pages of them untouched
as it happens.

first-step: seconds from a process's start to the end of its first training step, and PyTorch's and JAX's.

load: how many times longer a training step takes while as many other processes compute as there are cores.

`plain` is NumPy alone, without the compiled library. drawn:SEED is a net that the bench draws.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from math import nan
from pathlib import Path

import numpy as np

from xcnn.bench.cases import Call, Ledger, StepCase, picked, step_call
from xcnn.bench.comparison import Result, available_threads, bench_backend, compare_steps, limited
from xcnn.bench.drawn import drawn
from xcnn.core import tree
from xcnn.model.model import Model
from xcnn.training.optimizers import SGD

LARGE = ["mnist-net:64", "resnet18:8", "resnet18-64:64", "vgg:64", "unet-256:2", "convnext:16"]
NETS = {
    "memory": LARGE,
    "summary": LARGE,
    "first-step": ["article:32", "lenet:64", "mnist-net:64", "small-resnet:64", *LARGE[1:]],
    "load": ["article:1", "lenet:64", "mnist-net:64", "resnet18-64:8"],
}
TORCH = ("NCHW", "channels_last")
JAX = {"JAX, NCHW": "NCHW", "JAX, NHWC": "NHWC"}
"""Sides, and the order of axes in which JAX has images."""
ENGINES = ("xcnn", "plain", "torch")
"""NumPy's with the compiled library and without, and PyTorch's arrays."""
TASKS = ("training", "prediction")
COUNT = 5
"""Steps, or predictions: peaks of 20 were the same."""


def case_of(choice: str) -> StepCase:
    """A net that is known by name, at a batch, or one that is drawn."""
    name, _, number = choice.partition(":")
    return drawn(int(number)) if name == "drawn" else picked(choice)


# In a process of its own.


def imported(side: str) -> Callable[[StepCase, str], Call]:
    """Import what a side is made of; what makes its step, or its prediction."""
    if side in JAX:
        from xcnn.bench import jax_side

        layout = next(layout for layout in jax_side.LAYOUTS if layout.images == JAX[side])

        def compiled(case: StepCase, task: str) -> Call:
            planned = Ledger(case.net, case.input_shape)
            x, t = case.data(*planned.output_shape)
            weights = tree.map(np.asarray, planned.weights)
            if task == "training":
                return jax_side.Training(case, weights, x, t, layout).step
            return jax_side.prediction(case, weights, x, layout)

        return compiled
    if side in TORCH:
        from xcnn.bench import torch_side

        def theirs(case: StepCase, task: str) -> Call:
            planned = Ledger(case.net, case.input_shape)  # weights of their own: PyTorch's
            x, t = case.data(*planned.output_shape)
            twin = torch_side.module(case.net, planned.weights)
            if task == "training":
                return torch_side.step_call(twin, case.loss, case.optimizer, x, t, side, "fused")
            return torch_side.prediction(twin.eval(), x, side)

        return theirs
    backend = bench_backend("numpy", None, available_threads())

    def ours(case: StepCase, task: str) -> Call:
        model = case.model(backend)
        x, t = case.data(*model.output_shape)
        return step_call(model, x, t) if task == "training" else partial(model.predict, x, batch_size=case.batch)

    return ours


def child(kind: str, side: str, choice: str, task: str) -> None:
    """Print MiB above those after the imports, or take one step."""
    if kind == "summary":
        print(json.dumps(told_and_measured(side, case_of(choice), task)))
        return
    make, case = imported(side), case_of(choice)
    if kind == "first-step":
        make(case, task)()
        return
    print(json.dumps(peak(lambda: make(case, task))))


def peak(made: Callable[[], Call]) -> float:
    """MiB that are resident at most while a call is made and called some times, beyond those before."""
    most = os.open("/proc/self/clear_refs", os.O_WRONLY)
    os.write(most, b"5")  # it begins anew
    os.close(most)
    before, call = resident("VmRSS"), made()
    for _ in range(COUNT):
        call()
    return resident("VmHWM") - before


def told_and_measured(side: str, case: StepCase, task: str) -> tuple[float, float]:
    """MiB that a summary tells, and the peak."""
    from xcnn_host.buffers import recycler

    backend = bench_backend("torch" if side == "torch" else "numpy", None, available_threads())
    models: list[Model] = []

    def made(case: StepCase) -> Call:
        model = case.model(backend)
        models.append(model)
        x, t = case.data(*model.output_shape)
        if task == "training":  # on a batch that is cut from the data, as `fit` does
            return lambda: step_call(model, x.copy(), t.copy())()
        return partial(model.predict, x, batch_size=case.batch)

    small = made(picked("lenet:8"))
    for _ in range(COUNT):
        small()
    del small
    models.clear()
    gc.collect()
    recycler.give_back()  # else the net would be given what the small one had
    if task == "prediction":
        case = replace(case, optimizer=SGD(0.1))
    measured = peak(lambda: made(case))
    summary = models[-1].summary(case.batch)
    told = summary.step_bytes if task == "training" else summary.prediction_bytes or 0
    return told / 2**20, measured - sum(a.nbytes for a in case.data(*models[-1].output_shape)) / 2**20


def resident(what: str) -> float:
    """MiB of this process, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


# In the process that starts them.


def started(kind: str, side: str, choice: str, task: str = "training") -> tuple[str, float]:
    """What a child prints, and how many seconds it takes."""
    environment = {**os.environ, "XCNN_NATIVE": "0"} if side == "plain" else os.environ
    begin = time.perf_counter()
    command = [sys.executable, __file__, kind, choice, "--child", side, task]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return done.stdout, time.perf_counter() - begin


def memory(choices: list[str]) -> Iterator[list[str]]:
    """Rows of a table."""
    yield ["task", "net:batch", "xcnn, MiB", "plain", "torch", "jax", "xcnn / torch", "plain / torch", "xcnn / jax"]

    def least(sides: Iterable[str], choice: str, task: str) -> float:
        return min(json.loads(started("memory", side, choice, task)[0]) for side in sides)

    for task in TASKS:
        for choice in choices:
            ours, plain, torch = (least(sides, choice, task) for sides in (["xcnn"], ["plain"], TORCH))
            jax = least(JAX, choice, task) if find_spec("jax") else nan
            ratios = ours / torch, plain / torch, ours / jax
            taken = [f"{mebibytes:.0f}" for mebibytes in (ours, plain, torch, jax)]
            yield [task, str(case_of(choice)), *taken, *(f"{ratio:.2f}" for ratio in ratios)]


def summary(choices: list[str]) -> Iterator[list[str]]:
    """Rows of a table."""
    yield ["task", "net:batch", *(f"{side}: {what}" for side in ENGINES for what in ("told, MiB", "measured", "ratio"))]
    for task in TASKS:
        for choice in choices:
            row = [task, str(case_of(choice))]
            for side in ENGINES:
                told, measured = json.loads(started("summary", side, choice, task)[0])
                row += [f"{told:.0f}", f"{measured:.0f}", f"{told / measured:.2f}"]
            yield row


def first_step(choices: list[str]) -> Iterator[list[str]]:
    """Rows of a table."""
    sides = {"xcnn, s": "xcnn", "plain": "plain", "torch": "channels_last"}
    sides |= {"jax": "JAX, NHWC"} if find_spec("jax") else {}
    yield ["net:batch", *sides]
    for choice in choices:
        times = [started("first-step", side, choice)[1] for side in sides.values()]
        yield [str(case_of(choice)), *(f"{seconds:.1f}" for seconds in times)]


def load(choices: list[str], seconds: float) -> Iterator[list[str]]:
    """Rows of a table."""
    yield [
        "net:batch",
        "xcnn, ms",
        "torch, ms",
        "xcnn under load",
        "torch under load",
        "xcnn slows by",
        "torch slows by",
    ]
    threads = available_threads()
    with limited(threads, "torch"):
        for choice in choices:
            case, backend = case_of(choice), bench_backend("numpy", None, threads)
            quiet, _ = compare_steps(case, backend, "torch", seconds)
            with busy(threads):
                loaded, _ = compare_steps(case, backend, "torch", seconds)
            medians = [*medians_of(quiet), *medians_of(loaded)]
            slower = [medians[n + 2] / medians[n] for n in range(2)]
            yield [str(case), *(f"{1e3 * median:.3g}" for median in medians), *(f"{ratio:.2f}" for ratio in slower)]


def medians_of(result: Result) -> tuple[float, float]:
    """Ours and PyTorch's."""
    assert result.theirs
    return result.ours.median, result.theirs.median


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other processes that compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Print a table in Markdown; a child does its part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=NETS)
    parser.add_argument("nets", nargs="*", metavar="NAME:BATCH")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each net, of load, quiet and under load")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    choices = options.nets or NETS[options.kind]
    if options.child:
        child(options.kind, options.child[0], choices[0], options.child[1])
        return
    tables = {
        "memory": memory,
        "summary": summary,
        "first-step": first_step,
        "load": partial(load, seconds=options.seconds),
    }
    for n, row in enumerate(tables[options.kind](choices)):
        print("|", " | ".join(row), "|", flush=True)
        if not n:
            print("|---" * len(row) + "|")


if __name__ == "__main__":
    main()
