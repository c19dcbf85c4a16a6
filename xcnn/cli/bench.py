"""`xcnn bench`: how long training steps and single correlations take on this machine, also beside other libraries."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from xcnn.cli.backends import blas_kernels
from xcnn.cli.options import BackendName, Json, Quiet, finite, print_json
from xcnn.errors import OptionError, short

if TYPE_CHECKING:
    from xcnn.backends.contract import Backend
    from xcnn.bench.cases import StepCase
    from xcnn.bench.comparison import Result
    from xcnn.bench.timing import Times

Entry: TypeAlias = "tuple[str, dict[str, Any], Result]"
"""A row: its label in the table, what names it in JSON, and what was measured."""

KINDS = ("steps", "correlations")
RIVALS_PRECISIONS = ("float32", "float64")
BUSY = "other programs run: the times count for little, and the ratios for nothing"


def run(
    net: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:BATCH", help="Only this net's step, such as lenet:64; may be repeated."),
    ] = None,
    only: Annotated[str | None, typer.Option(help="steps or correlations.")] = None,
    against: Annotated[
        str | None, typer.Option(help="torch or jax: PyTorch or JAX does the same, in turns with xcnn.")
    ] = None,
    backend: BackendName = None,
    algorithm: Annotated[str | None, typer.Option(help="One of the backend's algorithms.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, tf32, bfloat16, float16 or float64, as far as the backend has it.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each side; all cores by default.")] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.0, callback=finite, help="Seconds to time each net, and the three maps of each correlation."
        ),
    ] = 6.0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Time training steps, and single correlations with their adjoints, by default in float32.

    Times are medians, with the 10th and 90th percentile. The ratio of the best calls stands beside that of the medians:
    where they differ, the machine was busy, which slows one side more than the other. GFLOP/s count the additions and
    multiplications that correlations and matrix products have by definition. The ceiling is the machine's best matrix
    product; Fourier transforms, which need fewer operations, may pass it.

    On a GPU steps are timed over whole epochs, one by one and captured as CUDA graphs, PyTorch's too; MiB are what they
    take of its memory.
    """
    from xcnn.backends.selector import get_backend
    from xcnn.bench import cases, comparison, gpu

    check_options(net, only, against, precision)
    picked = [cases.picked(choice) for choice in net or ()]
    kinds = [only] if only else ["steps"] if net else list(KINDS)
    threads = threads or comparison.available_threads()
    with comparison.limited(threads, against):
        chosen = comparison.bench_backend(backend or get_backend(), algorithm, threads)
        work = Work(chosen, gpu.captures(chosen), against, seconds, precision, quiet)
        work.check_rival()
        machine = about(chosen, threads, against)
        with progress("a matrix product", quiet):
            ceilings = work.ceilings()
        ceiling = max(ceilings.values())
        if not json:
            show_machine(machine, ceilings)
        rows: dict[str, list[dict[str, Any]]] = {}
        for kind in kinds:
            table = Table(kind, work.on_gpu, against)
            if not json:
                print("\n" + table.header())
            rows[kind] = []
            for label, named, result in work.steps(picked) if kind == "steps" else work.correlations():
                rows[kind].append({**named, **result.to_dict(ceiling)})
                if not json:
                    print(table.line(label, result, ceiling), flush=True)
            if against and not json:
                print(table.last_line(means(rows[kind])))
    if json:
        mean_ratios = {kind: means(rows[kind]) for kind in kinds if against}
        named_precision = {"precision": precision or "float32"}
        print_json("bench", **machine, **named_precision, ceilings=ceilings, **rows, geometric_means=mean_ratios)


def check_options(net: list[str] | None, only: str | None, against: str | None, precision: str | None) -> None:
    """Raise X104 where an option has a value that it can't have."""
    from xcnn.bench.rivals import RIVALS
    from xcnn.training.precision import PRECISIONS

    if only not in (None, *KINDS):
        raise OptionError("X104", f"--only takes steps or correlations; got {short(only)}.")
    if against not in (None, *RIVALS):
        raise OptionError("X104", f"--against takes {' or '.join(RIVALS)}; got {short(against)}.")
    if net and only == "correlations":
        raise OptionError("X104", "--net asks for steps, --only correlations for none.", hint="leave one of them out.")
    if precision not in (None, *PRECISIONS):
        raise OptionError("X104", f"--precision takes {', '.join(PRECISIONS)}; got {short(precision)}.")


@dataclass(frozen=True)
class Work:
    """What is timed how: on the processor, or on a GPU, where steps are captured."""

    backend: Backend
    on_gpu: bool
    against: str | None
    seconds: float
    precision: str | None
    quiet: bool

    def check_rival(self) -> None:
        """Raise X104 where the rival would not do the same work."""
        if self.on_gpu and self.against not in (None, "torch"):
            raise OptionError(
                "X104",
                f"--against {self.against} compares on the processor; {short(self.backend)} computes on a GPU.",
                hint="use --against torch, or a backend on the processor.",
            )
        if self.against and not self.on_gpu and self.precision not in (None, *RIVALS_PRECISIONS):
            raise OptionError(
                "X104",
                f"--against compares in {' and '.join(RIVALS_PRECISIONS)} on the processor; got {self.precision!r}.",
                hint="leave --against out to time xcnn alone.",
            )

    @property
    def bench(self) -> Any:
        """The module that times it."""
        from xcnn.bench import comparison, gpu

        return gpu if self.on_gpu else comparison

    def steps(self, picked: list[StepCase]) -> Iterator[Entry]:
        """A row for each net."""
        from xcnn.bench import cases

        usual = cases.GPU_STEPS if self.on_gpu else cases.STEPS
        for case in picked or map(cases.picked, usual):
            with progress(str(case), self.quiet):
                result, parameters = self.bench.compare_steps(case, *self.how)
            yield str(case), {"net": case.name, "batch": case.batch, "parameters": parameters}, result

    def correlations(self) -> Iterator[Entry]:
        """Three rows for each correlation."""
        from xcnn.bench import cases

        for case in cases.RESNET18 if self.on_gpu else cases.CORRELATIONS:
            with progress(str(case), self.quiet):
                results = self.bench.compare_correlations(case, *self.how)
            for n, (name, result) in enumerate(results.items()):
                yield f"{'' if n else case!s:46}{name}", {**vars(case), "map": name}, result

    def ceilings(self) -> dict[str, float]:
        """GFLOP/s of a matrix product, by library."""
        found: dict[str, float] = self.bench.ceilings(self.backend, self.rival, self.seconds / 4, self.precision)
        return found

    @property
    def how(self) -> tuple[Backend, str | bool | None, float, str | None]:
        """What both take after the case."""
        return self.backend, self.rival, self.seconds, self.precision

    @property
    def rival(self) -> str | bool | None:
        """Which there is; on a GPU only whether there is one, which is PyTorch."""
        return self.against is not None if self.on_gpu else self.against


def about(backend: Backend, threads: int, against: str | None) -> dict[str, Any]:
    """What was timed on what, for JSON."""
    versions = {"python": platform.python_version(), **backend.versions()}
    if against:
        from xcnn.bench.rivals import rival

        versions[against] = rival(against).version()
    return {
        "backend": repr(backend),
        "device": backend.device_name(),
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "blas": blas_kernels(),
    }


def show_machine(machine: dict[str, Any], ceilings: dict[str, float]) -> None:
    """What was timed on what, and the ceiling."""
    print(f"{machine['backend']} on {machine['device']}, threads: {machine['threads']}")
    load = machine["load_average"] or 0.0
    print(f"load average before: {load:.1f}" + (f", {BUSY}" if load > 0.5 else ""))
    print(", ".join(f"{library} {version}" for library, version in machine["versions"].items()))
    kernels = sorted({f"{library['name']} {library['kernels']}" for library in machine["blas"]})
    products = ", ".join(f"{library} {gflops:,.0f}" for library, gflops in ceilings.items())
    print(f"matrix product, GFLOP/s: {products} (kernels: {', '.join(kernels)})")


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


RATIOS = ("ratio", "ratio_of_bests", "ratio_to_eager", "ratio_to_graphed")
"""By their names in JSON."""
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
    """A table of steps or correlations, timed on the processor or on a GPU."""

    kind: str
    on_gpu: bool
    against: str | None

    @property
    def labels(self) -> int:
        """How wide the first column is."""
        return 15 if self.kind == "steps" else 62

    @property
    def columns(self) -> tuple[Column, ...]:
        """What stands in a row after the label."""
        apart = WAYS_APART if self.on_gpu and self.kind == "steps" else ()
        rates = tuple(replace(column, width=column.width + 2) for column in RATES) if self.on_gpu else RATES
        memory = (OUR_MEMORY, *((THEIR_MEMORY,) if self.against else ())) if apart else ()
        return OURS + (beside(self.against) + apart if self.against else ()) + rates + memory

    def header(self) -> str:
        """The titles."""
        label = "net:batch" if self.kind == "steps" else f"{'batch x channels x image -> filters':46}map"
        ways = ["xcnn as"] * self.on_gpu + ([f"{self.against} as"] if self.against else [])
        return self.row(label, [column.title for column in self.columns], ways)

    def line(self, label: str, result: Any, ceiling: float) -> str:
        """A row for a Result or a GpuResult, and below it what could not be done."""
        ours = [result.our_way] if self.on_gpu else []
        ways = ours + ([result.way] if self.against else [])
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


@contextmanager
def progress(what: str, quiet: bool) -> Iterator[None]:
    """Tell on stderr what is being timed: on a terminal while it is, elsewhere in a line."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"timing {what}"):
            yield
    else:
        print(f"timing {what}", file=sys.stderr, flush=True)
        yield
