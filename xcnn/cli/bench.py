"""`xcnn bench`: how long training steps and single correlations take on this machine, also beside other libraries."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from xcnn.cli.backends import blas_kernels
from xcnn.cli.bench_table import Table, means, worst, wrapped
from xcnn.cli.options import BackendName, Json, Quiet, finite, print_json
from xcnn.errors import OptionError, short

if TYPE_CHECKING:
    from xcnn.backends.contract import Backend
    from xcnn.bench.cases import StepCase
    from xcnn.bench.comparison import Result
    from xcnn.bench.prediction import PredictionResult

Entry: TypeAlias = "tuple[str, dict[str, Any], Result | PredictionResult]"
"""A row: its label in the table, what names it in JSON, and what was measured."""

KINDS = ("steps", "correlations")
LISTS = ("zoo", "drawn")
RIVALS_PRECISIONS = ("float32", "float64")
BUSY = "other programs run: the times count for little, and the ratios for nothing"


def run(
    net: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:BATCH", help="Only this net, such as lenet:64; may be repeated."),
    ] = None,
    nets: Annotated[
        str | None, typer.Option(help="zoo: all nets that are known by name; drawn: nets that are drawn from the seed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first net that is drawn; the next has the next.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many nets are drawn.")] = 30,
    only: Annotated[str | None, typer.Option(help="steps or correlations.")] = None,
    predict: Annotated[
        bool, typer.Option("--predict", help="Predictions, beside PyTorch, ONNX Runtime and OpenVINO as installed.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="torch or jax: PyTorch or JAX does the same, in turns with xcnn; one peer with --predict."),
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
    """Time training steps, and correlations with their adjoints. By default in float32.

    Times are medians, with the 10th and 90th percentile. The ratio of the best calls stands beside that of the medians:
    where they differ, the machine was busy, which slows one side more than the other. GFLOP/s count the additions and
    multiplications that correlations and matrix products have by definition. The ceiling is the machine's best matrix
    product; Fourier transforms, which need fewer operations, may pass it.

    Nets that are drawn are random but sensible, the same for a seed everywhere; each is printed as it is written in
    Python. Before both sides are timed, their outputs and gradients are compared: the exit code is 1 where they differ.
    Predictions are of batches of 1, 8 and 64, unless --net names others.

    On a GPU steps are timed over whole epochs, one by one and captured as CUDA graphs, PyTorch's too; MiB are what they
    take of its memory.
    """
    from xcnn.backends.selector import get_backend
    from xcnn.bench import comparison, gpu, prediction

    check_options(net, nets, only, predict, None if predict else against, precision)
    picked = chosen_cases(net, nets, seed, count, predict)
    kinds = ["predictions"] if predict else [only] if only else ["steps"] if picked else list(KINDS)
    threads = threads or comparison.available_threads()
    peers = prediction.present(against) if predict else ()
    if predict and not against and not quiet:
        tell_missing({peer: prediction.missing(peer) for peer in prediction.PEERS if peer not in peers})
    against = None if predict else against
    with comparison.limited(threads, "torch" if peers else against):
        chosen = comparison.bench_backend(backend or get_backend(), algorithm, threads)
        work = Work(chosen, gpu.captures(chosen), against, peers, seconds, precision, threads, quiet)
        work.check_rival()
        machine = about(chosen, threads, against, peers)
        with progress("a matrix product", quiet):
            ceilings = work.ceilings()
        ceiling = max(ceilings.values())
        if not json:
            show_machine(machine, ceilings)
        rows: dict[str, list[dict[str, Any]]] = {}
        for kind in kinds:
            table = Table(kind, work.on_gpu, against, peers)
            if not json:
                print("\n" + table.header())
            rows[kind], labels = [], []
            for label, named, result in work.entries(kind, picked):
                row = {**named, **result.to_dict(ceiling)}
                rows[kind].append(row)
                labels.append(label)
                if not json:
                    print(table.line(label, result, ceiling), flush=True)
                    tell(row, drawn=nets == "drawn")
            if (against or peers) and not json:
                print(table.last_line(means(rows[kind])))
                if nets:
                    print(*worst(rows[kind], labels), sep="\n")
    if json:
        mean_ratios = {kind: means(rows[kind]) for kind in kinds if against or peers}
        named_precision = {"precision": precision or "float32"}
        print_json("bench", **machine, **named_precision, ceilings=ceilings, **rows, geometric_means=mean_ratios)
    if any(row.get("differs") for kind in kinds for row in rows[kind]):
        raise typer.Exit(1)


def check_options(
    net: list[str] | None, nets: str | None, only: str | None, predict: bool, against: str | None, precision: str | None
) -> None:
    """Raise X104 where an option has a value that it can't have."""
    from xcnn.bench.rivals import RIVALS
    from xcnn.training.precision import PRECISIONS

    if only not in (None, *KINDS):
        raise OptionError("X104", f"--only takes steps or correlations; got {short(only)}.")
    if nets not in (None, *LISTS):
        raise OptionError("X104", f"--nets takes {' or '.join(LISTS)}; got {short(nets)}.")
    if against not in (None, *RIVALS):
        raise OptionError("X104", f"--against takes {' or '.join(RIVALS)}; got {short(against)}.")
    if net and nets:
        raise OptionError("X104", "--net names nets, and --nets too.", hint="leave one of them out.")
    if (net or nets) and only == "correlations":
        asked = "--net" if net else "--nets"
        raise OptionError(
            "X104", f"{asked} asks for steps, --only correlations for none.", hint="leave one of them out."
        )
    if predict and only:
        raise OptionError("X104", f"--predict asks for predictions, --only {only} for none.", hint="leave one out.")
    if precision not in (None, *PRECISIONS):
        raise OptionError("X104", f"--precision takes {', '.join(PRECISIONS)}; got {short(precision)}.")
    if predict and precision not in (None, "float32"):
        raise OptionError("X104", f"--predict compares in float32; got {precision!r}.", hint="leave --precision out.")


def chosen_cases(net: list[str] | None, nets: str | None, seed: int, count: int, predict: bool) -> list[StepCase]:
    """The nets and batches that were asked for; none where it is left to the kind."""
    from xcnn.bench import cases, prediction
    from xcnn.bench.drawn import drawn
    from xcnn.bench.zoo import ZOO

    if nets == "drawn":
        picked = [drawn(seed + n) for n in range(count)]
    else:
        picked = [cases.picked(choice) for choice in net or (ZOO if nets else cases.STEPS if predict else ())]
    return prediction.with_batches(picked) if predict and not net else picked


def tell_missing(packages: dict[str, list[str]]) -> None:
    """On stderr, which peers are not timed, since packages that they need are not installed."""
    for peer, lacking in packages.items():
        print(f"not timed beside {peer}: pip install {' '.join(lacking)}", file=sys.stderr)


def tell(row: dict[str, Any], drawn: bool) -> None:
    """Below a row: the net, where it was drawn, and what differs."""
    if drawn:
        print(wrapped(row["source"]), flush=True)
    if row.get("differs"):
        print(f"    both sides differ: {row['differs']}", flush=True)


@dataclass(frozen=True)
class Work:
    """What is timed how: on the processor, or on a GPU, where steps are captured."""

    backend: Backend
    on_gpu: bool
    against: str | None
    peers: tuple[str, ...]
    seconds: float
    precision: str | None
    threads: int
    quiet: bool

    def check_rival(self) -> None:
        """Raise X104 where the rival would not do the same work."""
        if self.on_gpu and self.peers:
            raise OptionError("X104", f"--predict compares on the processor; {short(self.backend)} computes on a GPU.")
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

    def entries(self, kind: str, picked: list[StepCase]) -> Iterator[Entry]:
        """The rows of a table of this kind."""
        return self.correlations() if kind == "correlations" else getattr(self, kind)(picked)

    def steps(self, picked: list[StepCase]) -> Iterator[Entry]:
        """A row for each net."""
        from xcnn.bench import agreement, cases

        usual = cases.GPU_STEPS if self.on_gpu else cases.STEPS
        for case in picked or map(cases.picked, usual):
            differs = {}
            with progress(str(case), self.quiet):
                if self.against == "torch" and not self.on_gpu and agreement.alike(case.net):
                    found = agreement.agreement(case, self.backend, self.precision or "float32")
                    differs = {"differs": "" if found.holds else str(found)}
                result, parameters = self.bench.compare_steps(case, *self.how)
            yield str(case), {**described(case, parameters), **differs}, result

    def predictions(self, picked: list[StepCase]) -> Iterator[Entry]:
        """A row for each net and batch."""
        from xcnn.bench.prediction import compare_predictions

        for case in picked:
            with progress(str(case), self.quiet):
                result, parameters = compare_predictions(case, self.backend, self.peers, self.seconds, self.threads)
            yield str(case), described(case, parameters), result

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


def described(case: StepCase, parameters: int) -> dict[str, Any]:
    """What names a net's row in JSON."""
    return {"net": case.name, "batch": case.batch, "parameters": parameters, "source": case.source}


def about(backend: Backend, threads: int, against: str | None, peers: tuple[str, ...]) -> dict[str, Any]:
    """What was timed on what, for JSON."""
    from xcnn.bench.prediction import versions as versions_of

    versions = {"python": platform.python_version(), **backend.versions(), **versions_of(peers)}
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
