"""The tables of `xcnn bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcnn.bench.timing import Times


@dataclass(frozen=True)
class Column:
    """A column: its title and width, what stands in it, and the mean that stands below, by its name in JSON."""

    title: str
    width: int
    cell: Callable[[Any, float], str]
    mean: str = ""


OURS = (Column("xcnn, ms", 26, lambda result, ceiling: spread(result.ours)),)


def beside(rival: str) -> tuple[Column, ...]:
    """The columns of the rival of this name."""
    return (
        Column(f"{rival}, ms", 26, lambda result, ceiling: spread(result.theirs)),
        Column(f"{rival} / xcnn", 14, lambda result, ceiling: f"{result.ratio:.2f}", "ratio"),
        Column("of bests", 10, lambda result, ceiling: f"{result.ratio_of_bests:.2f}", "ratio_of_bests"),
    )


RATIOS = (
    "ratio", "ratio_of_bests", "ratio_to_eager", "ratio_to_graphed",
    "ratio_to_torch", "ratio_to_onnxruntime", "ratio_to_openvino",
)  # fmt: skip
"""By their names in JSON."""


def peer(name: str) -> tuple[Column, ...]:
    """The columns of one of those that predict beside us."""
    return (
        Column(f"{name}, ms", 17, lambda result, ceiling: f"{1e3 * result.theirs[name].median:.3g}"),
        Column("/ xcnn", 8, lambda result, ceiling: two_places(result.ratio_to(name)), f"ratio_to_{name}"),
    )


BEST = (Column("best / xcnn", 13, lambda result, ceiling: two_places(result.ratio), "ratio"),)
WAYS_APART = (
    Column("eager", 8, lambda result, ceiling: two_places(result.ratio_to("eager")), "ratio_to_eager"),
    Column("graphed", 9, lambda result, ceiling: two_places(result.ratio_to("graphed")), "ratio_to_graphed"),
)
RATES = (
    Column("GFLOP/s", 9, lambda result, ceiling: f"{result.gflops:.1f}"),
    Column("of ceiling", 12, lambda result, ceiling: f"{result.gflops / ceiling:.1%}"),
)
OUR_MEMORY = Column("xcnn, MiB", 11, lambda result, ceiling: mebibytes(result, "xcnn"))
THEIR_MEMORY = Column("torch, MiB", 12, lambda result, ceiling: mebibytes(result, "torch"))


@dataclass(frozen=True)
class Table:
    """A table of steps, correlations or predictions, timed on the processor or on a GPU."""

    kind: str
    on_gpu: bool
    against: str | None
    peers: tuple[str, ...] = ()

    @property
    def labels(self) -> int:
        """How wide the first column is."""
        return 62 if self.kind == "correlations" else 18

    @property
    def columns(self) -> tuple[Column, ...]:
        """What stands in a row after the label."""
        if self.kind == "predictions":
            return OURS + tuple(column for name in self.peers for column in peer(name)) + BEST[: len(self.peers)]
        apart = WAYS_APART if self.on_gpu and self.kind == "steps" else ()
        rates = tuple(replace(column, width=column.width + 2) for column in RATES) if self.on_gpu else RATES
        memory = (OUR_MEMORY, *((THEIR_MEMORY,) if self.against else ())) if apart else ()
        return OURS + (beside(self.against) + apart if self.against else ()) + rates + memory

    def header(self) -> str:
        """The titles."""
        label = f"{'batch x channels x image -> filters':46}map" if self.kind == "correlations" else "net:batch"
        ways = ["xcnn as"] * self.on_gpu + ([f"{self.against} as"] if self.against else [])
        ways = [f"{name} as" for name in self.peers if name == "torch"] or ways
        return self.row(label, [column.title for column in self.columns], ways)

    def line(self, label: str, result: Any, ceiling: float) -> str:
        """A row for a Result or a GpuResult, and below it what could not be done."""
        ours = [result.our_way] if self.on_gpu else []
        ways = [*result.ways.values()] if self.kind == "predictions" else ours + [result.way] * bool(self.against)
        cells = [column.cell(result, ceiling) for column in self.columns]
        return "\n".join([self.row(label, cells, ways), *(notes(result) if self.on_gpu else ())])

    def last_line(self, mean: dict[str, float]) -> str:
        """The means under their columns."""
        cells = [f"{mean[column.mean]:.2f}" if column.mean in mean else "" for column in self.columns]
        return self.row("geometric mean", cells, [])

    def row(self, label: str, cells: list[str], ways: list[str]) -> str:
        """A line of these."""
        aligned = "".join(f"{cell:>{column.width}}" for cell, column in zip(cells, self.columns, strict=True))
        return f"{label:{self.labels}}{aligned}  {', '.join(ways)}".rstrip()


def notes(result: Any) -> Iterator[str]:
    """Why steps were not captured, and which of PyTorch's ways failed."""
    if result.not_captured:
        yield f"    xcnn's steps are not captured: {result.not_captured}"
    for way, why in result.failed.items():
        yield f"    torch, {way}: {why}"


def worst(rows: list[dict[str, Any]], labels: list[str]) -> Iterator[str]:
    """The least ratio, and the three nets of the least ones as they are written."""
    below = sorted(range(len(rows)), key=lambda n: rows[n]["ratio"])[:3]
    yield f"least {rows[below[0]]['ratio']:.2f}; the {len(below)} worst:"
    for n in below:
        yield f"{labels[n]:18}{rows[n]['ratio']:.2f}"
        yield wrapped(rows[n]["source"])


def wrapped(source: str) -> str:
    """A net's source in lines of a page's width, indented."""
    return fill(source, 120, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The geometric means of the rows' ratios, as far as every row has them."""
    from xcnn.bench.timing import geometric_mean

    return {
        name: geometric_mean([row[name] for row in rows])
        for name in RATIOS
        if all(row.get(name) is not None for row in rows)
    }


def two_places(ratio: float | None) -> str:
    """A ratio, where there is one."""
    return "" if ratio is None else f"{ratio:.2f}"


def mebibytes(result: Any, side: str) -> str:
    """The device memory that one side took, where it was measured."""
    return "" if result.memory is None else f"{result.memory[side] / 2**20:,.0f}"


def spread(times: Times) -> str:
    """The median, and the 10th and 90th percentile, in milliseconds."""
    return f"{1e3 * times.median:.3g} ({1e3 * times.quantile(0.1):.3g} .. {1e3 * times.quantile(0.9):.3g})"
