"""`xcnn predict MODEL FOLDER --dask local`: pictures classified by the workers of Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xcnn.errors import DataError, MissingDependency, XcnnError

if TYPE_CHECKING:
    from xcnn.model.model import Model

Dask = Annotated[
    str | None, typer.Option("--dask", help="local, or the address of Dask's scheduler: its workers classify.")
]
Into = Annotated[
    Path | None, typer.Option("--into", help="With --dask: a folder of their outputs, from which a run goes on.")
]


@contextmanager
def workers(address: str) -> Iterator[Any]:
    """Dask's client: of workers of this machine, one for each processor, or of a scheduler.

    Raises
    ------
    MissingDependency
        X601, without Dask.
    DataError
        X210, where no scheduler answers.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        hint = 'pip install "xcnn[parallel]"'
        raise MissingDependency("X601", "--dask needs Dask's distributed.", hint=hint) from error
    here = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
    try:
        client = distributed.Client(**here) if address == "local" else distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        told = f"no scheduler of Dask's answers at {address}."
        raise DataError("X210", told, hint="dask scheduler begins one and says where; local needs none.") from error
    with client:
        yield client


def answers(
    model: Model,
    names: list[str],
    files: Sequence[Path],
    limits: dict[str, Any],
    dask: str,
    into: Path | None,
    one: Callable[[Path], tuple[dict[str, Any], Any]],
) -> Iterator[tuple[Path, dict[str, Any] | Exception]]:
    """Each file with its answer, or what is wrong with it: files of shards that failed are looked at one by one."""
    from xcnn.model.predict import as_probabilities
    from xcnn.parallel import predict
    from xcnn.parallel.shards import written
    from xcnn.serving.files import Pictures
    from xcnn.serving.pictures import answer

    with workers(dask) as client:
        shards = predict(model, Pictures(model, files, limits), client, into=into)
    how = "x".join(map(str, model.input_shape[1:]))
    for number, size in enumerate(shards.sizes):
        first, end = shards.range(number)
        outputs = None if number in shards.failed else written(shards.path(number), size)
        if outputs is not None:
            for path, p in zip(files[first:end], as_probabilities(model.loss, outputs), strict=True):
                yield path, answer(model, names, p, how, path.name)
            continue
        for path in files[first:end]:
            try:
                yield path, one(path)[0]
            except (XcnnError, OSError) as error:
                yield path, error
