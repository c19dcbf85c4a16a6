"""How time grows with batch, channels, image size and threads: python benchmarks/growth.py [--step] [--plot FILE].

One of the four changes at a time. By default a correlation with its two adjoints is timed, with --step a training step
of a net of two such convolutions; PyTorch does the same in turns, unless --alone. Times are those of the best calls.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from xcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential
from xcnn.bench.cases import CorrelationCase, StepCase
from xcnn.bench.comparison import (
    Result,
    available_threads,
    bench_backend,
    compare_correlations,
    compare_steps,
    limited,
)
from xcnn.errors import MissingDependency

SWEEPS = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "channels": (4, 8, 16, 32, 64, 128),
    "image": (8, 16, 32, 64, 128),
    "threads": tuple(range(1, available_threads() + 1)),
}


@dataclass(frozen=True)
class Setting:
    """One point: images a batch, channels in and out of a convolution, height and width, threads of each side."""

    batch: int = 16
    channels: int = 32
    image: int = 32
    threads: int = available_threads()

    def correlation(self) -> CorrelationCase:
        """A 3x3 correlation of as many channels as filters."""
        return CorrelationCase(self.batch, self.channels, self.image, self.channels, 3)

    def step(self) -> StepCase:
        """A training step of two 3x3 convolutions and a dense layer."""
        net = Sequential(
            Conv2D(self.channels, 3), ReLU(), Conv2D(self.channels, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)
        )
        optimizer = SGD(0.01, momentum=0.9)
        return StepCase("two convolutions", net, (3, self.image, self.image), self.batch, "cross_entropy", optimizer)


@dataclass(frozen=True)
class Point:
    """Milliseconds of both sides where one of the settings had this value, and 1e9 operations a second of ours."""

    value: int
    ours: float
    theirs: float | None
    gflops: float


def measure(setting: Setting, value: int, options: argparse.Namespace) -> Point:
    """Time one point."""
    against = None if options.alone else "torch"
    with limited(setting.threads, against):
        backend = bench_backend(options.backend, options.algorithm, setting.threads)
        how = backend, against, options.seconds
        results: list[Result] = (
            [compare_steps(setting.step(), *how)[0]]
            if options.step
            else [*compare_correlations(setting.correlation(), *how).values()]
        )
    ours = sum(result.ours.best for result in results)
    theirs = None if options.alone else 1e3 * sum(result.theirs.best for result in results if result.theirs)
    return Point(value, 1e3 * ours, theirs, sum(result.flop for result in results) / ours / 1e9)


def plot(sweeps: dict[str, list[Point]], path: Path) -> None:
    """One panel for each sweep, both axes logarithmic.

    Raises
    ------
    MissingDependency
        X601, without matplotlib.
    """
    try:
        from matplotlib.ticker import NullFormatter

        from xcnn.core.figure import Figure
    except ImportError as error:
        raise MissingDependency("X601", "--plot needs matplotlib.", hint='pip install "xcnn[plot]"') from error
    figure = Figure(figsize=(3.2 * len(sweeps), 3.2), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(sweeps), squeeze=False)[0], sweeps.items(), strict=True):
        values = [point.value for point in points]
        axes.loglog(values, [point.ours for point in points], marker="o", markersize=3, label="xcnn")
        if points[0].theirs is not None:
            axes.loglog(values, [point.theirs for point in points], marker="s", markersize=3, label="PyTorch")
        axes.set_xticks(values, labels=map(str, values))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=name, ylabel="ms")
        axes.legend()
    figure.write(path)


def main() -> None:
    """Print a table in Markdown, and draw it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", action="store_true", help="training steps instead of correlations")
    parser.add_argument("--alone", action="store_true", help="without PyTorch")
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--algorithm")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each point")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    print("| | | xcnn, ms | torch, ms | torch / xcnn | xcnn, GFLOP/s |")
    print("|---" * 6 + "|")
    sweeps: dict[str, list[Point]] = {}
    for name in options.sweeps:
        sweeps[name] = []
        for value in SWEEPS[name]:
            point = measure(replace(Setting(), **{name: value}), value, options)
            sweeps[name].append(point)
            rival = "| | " if point.theirs is None else f"| {point.theirs:.3g} | {point.theirs / point.ours:.2f} "
            print(f"| {name} | {value} | {point.ours:.3g} {rival}| {point.gflops:.1f} |", flush=True)
    if options.plot:
        plot(sweeps, options.plot)


if __name__ == "__main__":
    main()
