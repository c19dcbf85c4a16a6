"""`xcnn bench`: how long training steps and single correlations take on this machine, also beside PyTorch."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from xcnn.cli.backends import blas_kernels
from xcnn.cli.options import BackendName, Json, Quiet, print_json
from xcnn.errors import OptionError

if TYPE_CHECKING:
    from xcnn.backends import Backend
    from xcnn.bench.cases import StepCase
    from xcnn.bench.comparison import Result
    from xcnn.bench.timing import Times

Entry: TypeAlias = "tuple[str, dict[str, Any], Result]"
"""A row: its label in the table, what names it in JSON, and what was measured."""

KINDS = ("steps", "correlations")
BUSY = "other programs run: the times count for little, and the ratios for nothing"


def run(
    net: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:BATCH", help="Only this net's step, such as lenet:64; may be repeated."),
    ] = None,
    only: Annotated[str | None, typer.Option(help="steps or correlations.")] = None,
    against: Annotated[str | None, typer.Option(help="torch: PyTorch does the same, in turns with xcnn.")] = None,
    backend: BackendName = None,
    algorithm: Annotated[str | None, typer.Option(help="One of the backend's algorithms.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each side; all cores by default.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds to time each net, and the three maps of each correlation.")
    ] = 6.0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Time training steps, and single correlations with their adjoints, in float32.

    Times are medians, with the 10th and 90th percentile. The ratio of the best calls stands beside that of the medians:
    where they differ, the machine was busy, which slows one side more than the other. GFLOP/s count the additions and
    multiplications that correlations and matrix products have by definition. The ceiling is the machine's best matrix
    product; Fourier transforms, which need fewer operations, may pass it.
    """
    from xcnn.backends import get_backend
    from xcnn.bench import cases, comparison

    check_options(net, only, against)
    nets = [cases.picked(choice) for choice in net or cases.STEPS]
    kinds = [only] if only else ["steps"] if net else list(KINDS)
    against_torch, threads = against == "torch", threads or comparison.available_threads()
    with comparison.limited(threads, against_torch):
        chosen = comparison.bench_backend(backend or get_backend(), algorithm, threads)
        machine = about(chosen, threads, against_torch)
        with progress("a matrix product", quiet):
            ceilings = comparison.ceilings(chosen, against_torch, seconds / 4)
        ceiling = max(ceilings.values())
        if not json:
            show_machine(machine, ceilings)
        rows: dict[str, list[dict[str, Any]]] = {}
        for kind in kinds:
            entries = (
                time_steps(nets, chosen, against_torch, seconds, quiet)
                if kind == "steps"
                else time_correlations(chosen, against_torch, seconds, quiet)
            )
            if not json:
                print("\n" + header(kind, against_torch))
            rows[kind] = []
            for label, named, result in entries:
                rows[kind].append({**named, **result.to_dict(ceiling)})
                if not json:
                    print(line(kind, label, result, ceiling), flush=True)
            if against_torch and not json:
                print(last_line(kind, means(rows[kind])))
    if json:
        mean_ratios = {kind: means(rows[kind]) for kind in kinds if against_torch}
        print_json("bench", **machine, ceilings=ceilings, **rows, geometric_means=mean_ratios)


def check_options(net: list[str] | None, only: str | None, against: str | None) -> None:
    """Raise X104 where an option has a value that it can't have."""
    if only not in (None, *KINDS):
        raise OptionError("X104", f"--only takes steps or correlations; got {only!r}.")
    if against not in (None, "torch"):
        raise OptionError("X104", f"--against takes torch; got {against!r}.")
    if net and only == "correlations":
        raise OptionError("X104", "--net asks for steps, --only correlations for none.", hint="leave one of them out.")


def time_steps(
    nets: list[StepCase], backend: Backend, against_torch: bool, seconds: float, quiet: bool
) -> Iterator[Entry]:
    """A row for each net."""
    from xcnn.bench.comparison import compare_steps

    for case in nets:
        with progress(str(case), quiet):
            result, parameters = compare_steps(case, backend, against_torch, seconds)
        yield str(case), {"net": case.name, "batch": case.batch, "parameters": parameters}, result


def time_correlations(backend: Backend, against_torch: bool, seconds: float, quiet: bool) -> Iterator[Entry]:
    """Three rows for each correlation."""
    from xcnn.bench.cases import CORRELATIONS
    from xcnn.bench.comparison import compare_correlations

    for case in CORRELATIONS:
        with progress(str(case), quiet):
            results = compare_correlations(case, backend, against_torch, seconds)
        for n, (name, result) in enumerate(results.items()):
            yield f"{'' if n else case!s:42}{name}", {**vars(case), "map": name}, result


def about(backend: Backend, threads: int, against_torch: bool) -> dict[str, Any]:
    """What was timed on what, for JSON."""
    versions = {"python": platform.python_version(), **backend.versions()}
    if against_torch:
        from xcnn.bench.torch_side import torch

        versions["torch"] = torch.__version__
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


LABELS = {"steps": 15, "correlations": 58}
"""How wide the first column is."""


def header(kind: str, against_torch: bool) -> str:
    """The titles of the columns."""
    label = "net:batch" if kind == "steps" else f"{'batch x channels x image -> filters':42}map"
    rival = f"{'torch, ms':>26}{'torch / xcnn':>14}{'of bests':>10}" if against_torch else ""
    way = "  torch as" if against_torch else ""
    return f"{label:{LABELS[kind]}}{'xcnn, ms':>26}{rival}{'GFLOP/s':>9}{'of ceiling':>12}{way}"


def line(kind: str, label: str, result: Result, ceiling: float) -> str:
    """A row of the table."""
    rival = "" if result.theirs is None else f"{spread(result.theirs):>26}{result.ratio:>14.2f}"
    bests = "" if result.theirs is None else f"{result.ratio_of_bests:>10.2f}"
    speed = f"{result.gflops:>9.1f}{result.gflops / ceiling:>12.1%}"
    return f"{label:{LABELS[kind]}}{spread(result.ours):>26}{rival}{bests}{speed}  {result.way}".rstrip()


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The geometric means of the rows' ratios."""
    from xcnn.bench.timing import geometric_mean

    return {name: geometric_mean([row[name] for row in rows]) for name in ("ratio", "ratio_of_bests")}


def last_line(kind: str, mean: dict[str, float]) -> str:
    """The means under their columns."""
    return f"{'geometric mean':{LABELS[kind]}}{'':52}{mean['ratio']:>14.2f}{mean['ratio_of_bests']:>10.2f}"


def spread(times: Times) -> str:
    """The median, and the 10th and 90th percentile, in milliseconds."""
    return f"{1e3 * times.median:.3g} ({1e3 * times.quantile(0.1):.3g} .. {1e3 * times.quantile(0.9):.3g})"


@contextmanager
def progress(what: str, quiet: bool) -> Iterator[None]:
    """Tell on stderr what is being timed: on a terminal while it is, elsewhere in a line."""
    if quiet or sys.stderr is None:
        yield
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"timing {what}"):
            yield
    else:
        print(f"timing {what}", file=sys.stderr, flush=True)
        yield
