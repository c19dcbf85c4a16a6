"""How time grows with batch, image, channels, depth, ...: python benchmarks/sweeps.py [--step] [--plot FILE].

One of these changes at a time. Below each sweep stand the exponent with which its second half grows, the least ratio,
and the points that take more than 1.5 times what their neighbours suggest. By default a correlation with its two
adjoints is timed, with --step a training step of a net of such convolutions; PyTorch does the same in turns, unless
--alone. Times are those of the best calls.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

from xcnn import SGD, Conv2D, Dense, Flatten, GlobalAveragePool2D, MaxPool2D, ReLU, Sequential
from xcnn.bench.cases import CorrelationCase, StepCase
from xcnn.bench.comparison import (
    Result,
    available_threads,
    bench_backend,
    compare_correlations,
    compare_steps,
    limited,
)
from xcnn.core.plots import new_figure

SWEEPS = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "channels": (4, 8, 16, 32, 64, 128),
    "image": (8, 16, 32, 64, 128),
    "side": (16, 32, 64, 128, 192, 256, 384, 512, 640, 1024, 2048),
    "kernel": (1, 3, 5, 7, 9, 13),
    "depth": (1, 2, 4, 8, 16, 32),
    "classes": (10, 100, 1000, 5000),
    "threads": tuple(range(1, available_threads() + 1)),
}


OF_STEPS = ("depth", "classes")
"""A single correlation has none."""


@dataclass(frozen=True)
class Setting:
    """One point: images a batch, channels in and out of a convolution, height and width, a kernel's rows, and so on.

    `depth` and `classes` change steps alone; `threads` are those of each side.
    """

    batch: int = 16
    channels: int = 32
    image: int = 32
    kernel: int = 3
    depth: int = 2
    classes: int = 10
    means: bool = False
    """Whether a step's net ends in the means of its planes, and not in a product with all their cells."""
    threads: int = available_threads()

    def correlation(self) -> CorrelationCase:
        """A correlation of as many channels as filters."""
        return CorrelationCase(
            self.batch, self.channels, self.image, self.channels, self.kernel, padding=self.kernel // 2
        )

    def step(self) -> StepCase:
        """A training step of convolutions, by default two, and a dense layer."""
        convolutions = (
            layer
            for _ in range(self.depth)
            for layer in (Conv2D(self.channels, self.kernel, padding=self.kernel // 2), ReLU())
        )
        end = (GlobalAveragePool2D(),) if self.means else (Flatten(),)
        net = Sequential(*convolutions, MaxPool2D(2), *end, Dense(self.classes))
        optimizer = SGD(0.01, momentum=0.9)
        return StepCase("convolutions", net, (3, self.image, self.image), self.batch, "cross_entropy", optimizer)


def setting(name: str, value: int) -> Setting:
    """A point of a sweep; those of the `side` are single images of few channels, whose sides may be long."""
    if name == "side":
        return Setting(batch=1, channels=8, image=value, means=True)
    return replace(Setting(), **{name: value})


@dataclass(frozen=True)
class Point:
    """Milliseconds of both sides where one of the settings had this value, and 1e9 operations a second of ours."""

    value: int
    ours: float
    theirs: float | None
    gflops: float


def measure(at: Setting, value: int, options: argparse.Namespace) -> Point:
    """Time one point."""
    against = None if options.alone else "torch"
    with limited(at.threads, against):
        backend = bench_backend(options.backend, options.algorithm, at.threads)
        how = backend, against, options.seconds
        results: list[Result] = (
            [compare_steps(at.step(), *how)[0]]
            if options.step
            else [*compare_correlations(at.correlation(), *how).values()]
        )
    ours = sum(result.ours.best for result in results)
    theirs = None if options.alone else 1e3 * sum(result.theirs.best for result in results if result.theirs)
    return Point(value, 1e3 * ours, theirs, sum(result.flop for result in results) / ours / 1e9)


STEEP = 1.5
"""Times what its neighbours suggest: from here on a point is named."""


def told(points: list[Point]) -> str:
    """The exponent of the second half, the least ratio, and the points that stand out."""
    first, last = points[len(points) // 2 - 1], points[-1]
    exponent = log(last.ours / first.ours) / log(last.value / first.value) if last.value > first.value else 0.0
    ratios = {point.value: point.theirs / point.ours for point in points if point.theirs}
    least = min(ratios, key=lambda value: ratios[value], default=0)
    found = [f"exponent {exponent:.2f}", *([f"least ratio {ratios[least]:.2f} at {least}"] if ratios else [])]
    return "; ".join([*found, *(f"{point.value} takes {times:.1f} times as long" for point, times in steep(points))])


def steep(points: list[Point]) -> list[tuple[Point, float]]:
    """Points that take more than STEEP times what lies on the line between their neighbours, both axes logarithmic."""
    found = []
    for before, point, after in zip(points, points[1:], points[2:], strict=False):
        share = log(point.value / before.value) / log(after.value / before.value)
        times = point.ours / (before.ours ** (1 - share) * after.ours**share)
        if times > STEEP:
            found.append((point, times))
    return found


def plot(sweeps: dict[str, list[Point]], path: Path) -> None:
    """One panel for each sweep, both axes logarithmic.

    Raises
    ------
    MissingDependency
        X601, without matplotlib.
    """
    figure = new_figure(3.2 * len(sweeps), 3.2, "--plot needs")
    from matplotlib.ticker import NullFormatter

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
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--algorithm")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each point")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    print("| | | xcnn, ms | torch, ms | torch / xcnn | xcnn, GFLOP/s |")
    print("|---" * 6 + "|")
    sweeps: dict[str, list[Point]] = {}
    of_both = [name for name in SWEEPS if options.step or name not in OF_STEPS]
    for name in options.sweeps or of_both:
        sweeps[name] = []
        for value in SWEEPS[name]:
            point = measure(setting(name, value), value, options)
            sweeps[name].append(point)
            rival = "| | " if point.theirs is None else f"| {point.theirs:.3g} | {point.theirs / point.ours:.2f} "
            print(f"| {name} | {value} | {point.ours:.3g} {rival}| {point.gflops:.1f} |", flush=True)
        print(f"\n{name}: {told(sweeps[name])}\n", flush=True)
    if options.plot:
        plot(sweeps, options.plot)


if __name__ == "__main__":
    main()
