"""Predictions of many samples by many processes: shards that an executor gives out, Dask's or any other."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.core import tree
from xcnn.core.checks import check_whole
from xcnn.core.files import write_whole
from xcnn.data.source import Numbered, Source, digest
from xcnn.errors import CheckpointError, OptionError, XcnnError, short, told_by
from xcnn.model.feeding import Fed, to_ask
from xcnn.model.model import Model
from xcnn.parallel.shards import Done, Loading, Shard, Shards, written
from xcnn.parallel.strangers import strangers
from xcnn.training.losses import loss_name
from xcnn.training.output_losses import OutputLosses

SAMPLES = 1024
"""Samples of a shard, about."""
UNDER_WAY = 64
"""Shards that are given out at a time: with the samples of those that are no files on disk."""
RETRIES = 3
"""Times that Dask gives a shard out again which raised an error that is none of xcnn's."""
LOST = "KilledWorker"
"""The error of Dask's for a task each of whose processes ended."""
MANIFEST = "predictions.json"

log: logging.Logger = logging.getLogger("xcnn")


def predict(
    model: Model | str | Path,
    source: Any,
    client: Any,
    *,
    into: str | Path | None = None,
    shard_size: int | None = None,
    under_way: int = UNDER_WAY,
) -> Shards:
    """The outputs of all samples, computed in shards by the processes of an executor; to the bit those of one process.

    Each process loads the model once, and writes each of its shards as a file, whole or not at all. A process that is
    lost costs the time of its shards; a shard whose samples can't be used fails alone, and so does one that ends each
    process of Dask's that has it. The same call goes on where another was left: shards that are there already are not
    computed again.

    Parameters
    ----------
    model
        the model, or the file of one
    source
        samples as `Model.predict` takes them, which have numbers: an array, `xcnn.data.folder`, ...
    client
        Dask's `Client`, or any `concurrent.futures.Executor`
    into
        a folder that all processes share; None is one that is gone with the shards' last use
    shard_size
        samples of a shard, a multiple of those that are computed at once; None is about a thousand
    under_way
        shards that are given out at a time

    Raises
    ------
    OptionError
        X104, for what is no executor, a source whose samples have no numbers, or sizes that can't be.
    CheckpointError
        X405, where the folder has shards of another model or of other samples.

    Returns
    -------
    Shards
        `outputs()` is one array; `failed` names the shards that failed, and why

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
    >>> x = np.ones((300, 1, 4, 4), "float32")
    >>> with ThreadPoolExecutor(2) as pool:
    ...     shards = xcnn.parallel.predict(model, x, pool, shard_size=256)
    >>> len(shards), bool((shards.outputs() == model.predict(x)).all())
    (2, True)
    """
    pool, under_way = executor(client), check_whole("under_way", under_way)
    loaded = model if isinstance(model, Model) else Model.load(model)
    data = numbered(loaded, source)
    at_once = loaded.trainer.at_once
    size = shard_size_of(shard_size, at_once)
    count = len(data)
    folder = made(into)
    shards = Shards(folder, [min(size, count - first) for first in range(0, count, size)])
    shards.kept_by = Temporary(folder) if into is None else None
    loading = placed(loaded, folder, data.fingerprint(), size)
    todo = [n for n, each in enumerate(shards.sizes) if written(shards.path(n), each) is None]
    suspects = run(pool, given_out(shards, todo, data, at_once, loading), under_way, shards)
    run(pool, given_out(shards, suspects, data, at_once, loading), 1, shards)
    return shards


def numbered(model: Model, source: Any) -> Numbered:
    """Samples whose numbers can be asked for."""
    asked = to_ask(model, source)
    found: Source = asked.source if isinstance(asked, Fed) else asked
    if not isinstance(found, Numbered):
        hint = "give an array, or a folder."
        raise OptionError("X104", "samples that come one after another can't be given out in shards.", hint=hint)
    return found


def shard_size_of(given: int | None, at_once: int) -> int:
    """Samples of a shard: whole batches, so that each is computed with those that one process puts beside it."""
    if given is None:
        return max(1, SAMPLES // at_once) * at_once
    if check_whole("shard_size", given) % at_once:
        hint = f"shard_size={-(-given // at_once) * at_once}"
        told = f"shard_size must be a multiple of {at_once}, the samples that are computed at once; got {given}."
        raise OptionError("X104", told, hint=hint)
    return given


class Temporary:
    """A folder that is gone with this object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __del__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def made(into: str | Path | None) -> Path:
    """The folder."""
    folder = Path(tempfile.mkdtemp(prefix="xcnn-predictions-") if into is None else into).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def placed(model: Model, folder: Path, of_samples: str, size: int) -> Loading:
    """Put the model into the folder, and say what its shards are of; raise X405 where they are of something else."""
    weights = (np.asarray(model.backend.to_numpy(w)) for w in leaves(model))
    of_model = digest(repr(model.net), str(model.scaling), model.precision, *weights)
    told = {"schema": "xcnn.predictions.1", "model": of_model, "samples": of_samples, "shard_size": size}
    path = folder / MANIFEST
    if path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError:
            found = None
        if found != told:
            other = next((n for n, value in told.items() if not isinstance(found, dict) or found.get(n) != value), "")
            raise CheckpointError(
                "X405",
                f"{folder} has shards of another {other}.",
                f"got {short(told[other])}, was {short(found.get(other) if isinstance(found, dict) else found)}",
                hint="give another folder.",
            )
    model.save(folder / "model.xcnn")
    write_whole(path, json.dumps(told).encode())
    known = loss_name(model.loss) or isinstance(model.loss, OutputLosses)
    return Loading(
        folder / "model.xcnn",
        of_model,
        model.backend,
        tuple(strangers(model.net).items()),
        None if known else model.loss,
    )


def leaves(model: Model) -> list[Any]:
    """The arrays of the weights that predictions are made with."""
    return tree.leaves(model.trainer.asked(model.state))


def executor(client: Any) -> Any:
    """What shards are submitted to."""
    if hasattr(client, "get_executor"):
        return client.get_executor(pure=False, retries=RETRIES)
    if not callable(getattr(client, "submit", None)):
        hint = "give Dask's Client, or an executor of concurrent.futures."
        raise OptionError("X104", f"client must be an executor; got {short(client)}.", hint=hint)
    return client


def given_out(shards: Shards, todo: list[int], data: Numbered, at_once: int, model: Loading) -> Iterator[Shard | Done]:
    """The shards to compute; one whose samples can't be read is done."""
    for number in todo:
        numbers = np.arange(*shards.range(number))
        try:
            x = data.part(numbers) if data.travels else data.batch(numbers).x
        except XcnnError as error:
            yield Done(number, f"{type(error).__name__}{error}")
            continue
        yield Shard(number, len(numbers), x, at_once, model, shards.path(number))


def run(pool: Any, work: Iterator[Shard | Done], under_way: int, shards: Shards) -> list[int]:
    """Give out shards, so many at a time, and note those that fail.

    Those that Dask gave up because their processes ended are told: where several are under way, any of them may have
    been what ended a process that others were waiting for too. One that is under way by itself has failed.
    """
    waiting: dict[Future[Done], int] = {}
    suspects: list[int] = []
    with giving_up(waiting):
        for shard in work:
            if isinstance(shard, Done):
                note(shards, shard)
                continue
            while len(waiting) >= under_way:
                suspects += taken(waiting, shards, under_way > 1)
            try:
                waiting[pool.submit(shard)] = shard.number
            except BrokenExecutor as error:  # a pool that lost a process takes no more
                note(shards, Done(shard.number, told_by(error)))
        while waiting:
            suspects += taken(waiting, shards, under_way > 1)
    return sorted(suspects)


@contextmanager
def giving_up(waiting: dict[Future[Done], int]) -> Iterator[None]:
    """For a `with` block that may be left early: what nobody has begun is not begun."""
    try:
        yield
    finally:
        for future in waiting:
            future.cancel()


def taken(waiting: dict[Future[Done], int], shards: Shards, several: bool) -> list[int]:
    """Note what came of shards that are done; those are left of which, where there are several, nobody knows."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    left = []
    for future in done:
        number = waiting.pop(future)
        try:
            note(shards, future.result())
        except Exception as error:  # of the process, or of code of the user's
            if written(shards.path(number), shards.sizes[number]) is not None:
                continue  # it was computed: what was lost after that is the word of it
            if several and type(error).__name__ == LOST:
                left.append(number)
            else:
                note(shards, Done(number, told_by(error)))
    return left


def note(shards: Shards, done: Done) -> None:
    """Note an error."""
    if done.error:
        failed = sorted({**shards.failed, done.number: done.error}.items())  # they end in any order
        shards.failed.clear()
        shards.failed.update(failed)
        first, end = shards.range(done.number)
        log.warning("shard %d, samples %d to %d, failed: %s", done.number, first, end - 1, done.error)
