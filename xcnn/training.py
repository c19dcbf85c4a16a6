"""The training step, the loop around it, and what may be called between epochs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xcnn import loss_scaling, random, tree
from xcnn._arrays import namespace
from xcnn._typing import Array, Backward, Weights
from xcnn.checks import check_flag, check_rate, check_whole, plain
from xcnn.errors import CheckpointError, DivergedError, DTypeError, OptionError
from xcnn.files import check_path
from xcnn.history import MEASURED, History, Row, missing_column
from xcnn.layers.layer import Layer, Run, Watch
from xcnn.losses import Loss, hits
from xcnn.optimizers import Optimizer, moments_of
from xcnn.progress import Progress
from xcnn.schedules import learning_rate

if TYPE_CHECKING:
    from xcnn.backends import Backend
    from xcnn.model import Model

FINGERPRINT_BYTES = 1 << 22

HostArray: TypeAlias = np.ndarray[Any, Any]
Callback: TypeAlias = "Callable[[Model, History], object]"
"""callback(model, history), called after each epoch; it ends training by returning True.

An object with a method `start(model)` has it called when a training begins, and one with a method
`finish(model, history)` when it is over, however it ended: `history.stopped` says how.
"""


@dataclass(frozen=True)
class Standing:
    """Where training stands: all that a step changes, replaced as a whole, so that an interrupt finds it consistent.

    `epoch` counts finished epochs, and `rows` is their history; `batch` counts the batches done since, and `loss`,
    `right` and `seen` sum over those.
    """

    weights: Weights
    state: Weights
    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a step tells: its loss, the norms of gradients and of new weights, for classifiers how much was right."""

    loss: Array
    norm: Array
    reach: Array
    right: Array | None


Step: TypeAlias = Callable[[random.Key, Weights, Weights, Array, Array], tuple[Weights, Weights, Outcome]]
Span: TypeAlias = Callable[[int, Standing, HostArray, HostArray, HostArray, int], Standing | None]


@dataclass(frozen=True)
class TrainingStep:
    """One training step. A value like its parts, so that a backend can tell that it has compiled an equal one."""

    net: Layer
    loss: Loss
    optimizer: Optimizer
    threshold: float | None
    backend: Backend

    def __call__(
        self, key: random.Key, weights: Weights, state: Weights, x: Array, t: Array
    ) -> tuple[Weights, Weights, Outcome]:
        """(weights, state, outcome) after the step."""
        y, backward = self.net(weights, x, Run(self.backend, train=True, key=key, wants_dx=False))
        value, dy, right = self.backend.judge(self.loss, self.threshold, y, t, state.get("loss_scale"))
        _, grads = backward(dy)
        weights, state, norm, reach = self.backend.update(self.optimizer, grads, state, weights)
        return weights, state, Outcome(value, norm, reach, right)


def take_step(model: Model, x: HostArray, t: HostArray) -> float:
    """Train on one batch; its loss. The standing is replaced, or kept where the loss or a gradient is not finite.

    Where only the loss's scale made a gradient infinite, the weights stay, the scale is halved, and the batch counts.

    Raises
    ------
    DivergedError
        X501, naming the first layer whose output or gradient is not finite.
    """
    at, backend, samples = model.at, model.running_backend, len(x)
    x, t = backend.asarray(x), backend.asarray(t)
    key = (model.seed, at.step)
    with backend.active():  # in which nothing raises: what is not finite is looked for below
        weights, state, outcome = model.compiled_step(key, at.weights, at.state, x, t)
        loss, norm, reach = (to_float(backend, value) for value in (outcome.loss, outcome.norm, outcome.reach))
        skipped = not isfinite(norm) and loss_scaling.loss_scale(backend, at.state) > loss_scaling.LEAST
        if not (isfinite(loss) and isfinite(reach) and (isfinite(norm) or skipped)):
            moment = lost_moment(state) if isfinite(loss) and isfinite(norm) else ""
            first = moment or culprit(model, Run(backend, True, key), x, t)
            raise diverged(model, loss, norm, first, "optimizer's moments" if moment else "weights")
    check_dtypes(at.weights, weights)
    model.at = replace(
        at,
        weights=weights,
        state={**state, "step": at.state["step"]} if skipped else state,
        step=at.step + 1,
        batch=at.batch + 1,
        loss=at.loss + loss * samples,
        right=at.right + (0 if outcome.right is None else int(backend.to_numpy(outcome.right))),
        seen=at.seen + samples,
    )
    return loss


def take_span(model: Model, x: HostArray, t: HostArray, order: HostArray, batch_size: int) -> bool:
    """Train on some of the epoch's next batches in one go, where the compiled step can; whether any was done.

    A step that a backend compiled may have a method `span(seed, standing, x, t, order, batch_size)`. It takes as many
    steps as it sees fit, and gives the standing after them; or None where the next one must be taken by itself, as one
    whose loss or gradient is not finite.
    """
    span: Span | None = getattr(model.compiled_step, "span", None)
    if span is None:
        return False
    with model.running_backend.active():
        after = span(model.seed, model.at, x, t, order, batch_size)
    if after is None:
        return False
    model.at = after
    return True


def to_float(backend: Backend, value: Any) -> float:
    """A scalar array, or a number, as a number."""
    return float(value) if isinstance(value, int | float) else float(backend.to_numpy(value))


def check_dtypes(before: Weights, after: Weights) -> None:
    """Raise X103 where a step changed the type of a weight: a loss or layer computed in another."""
    if [old.dtype for old in tree.leaves(before)] == [new.dtype for new in tree.leaves(after)]:
        return
    for (name, old), new in zip(tree.items(before), tree.leaves(after), strict=True):
        if old.dtype != new.dtype:
            raise DTypeError(
                "X103",
                f"the step would make {name!r} {new.dtype}; it is {old.dtype}.",
                hint="a loss or layer of yours gives gradients of another type than x.",
            )


def diverged(model: Model, loss: float, norm: float, first: str, lost: str = "weights") -> DivergedError:
    """The error for a loss or a gradient that is not finite; where both are, for what else was `lost`."""
    at, rate = model.at, learning_rate(model.optimizer.learning_rate, model.at.state["step"])
    what = f"loss became {loss}" if not isfinite(loss) else "a gradient became infinite or NaN"
    if isfinite(loss) and isfinite(norm):
        what = f"the {lost} became too large, infinite or NaN"
    wider = ', precision="bfloat16"' if model.precision == "float16" else ""
    smaller = (
        f"a learning rate of {rate / 10:g}{wider}, or " if lost == "weights" else ""
    )  # moments do not know the rate
    so_far = f"mean loss before it {at.loss / at.seen:.4g}, " if at.seen else ""
    return DivergedError(
        "X501",
        f"{what} at epoch {at.epoch + 1}, batch {at.batch + 1}; first non-finite value: {first}.",
        f"{so_far}gradient norm {norm:.2g}, learning rate {rate:g}",
        hint=f"try {smaller}clip_norm; the weights from before this batch are kept.",
    )


class _FoundError(Exception):
    """Carries the place of the first value that is not finite."""


def culprit(model: Model, run: Run, x: Array, t: Array) -> str:
    """Run the step once more and say where the first non-finite value stands."""

    def demand(array: Array, place: str) -> None:
        xp = namespace(array)
        if not bool(xp.all(xp.isfinite(array))):
            raise _FoundError(place)

    def look(path: tuple[str, ...], layer: Layer, y: Array, backward: Backward) -> Backward:
        name = ".".join(path)
        demand(y, f"output of {name!r}")

        def looking(dy: Array) -> tuple[Array, Weights]:
            dx, grads = backward(dy)
            for weight, gradient in tree.items(grads):
                demand(getattr(gradient, "value", gradient), f"gradient of {name!r}, {weight}")
            demand(dx, f"gradient of the input of {name!r}")
            return dx, grads

        return looking

    weights = model.at.weights
    try:
        for name, weight in tree.items(weights):
            demand(weight, f"weight {name!r}")
        demand(x, "the input x")
        y, backward = model.unfused_net(weights, x, replace(run, watch=Watch(look)))
        demand(y, "the net's output")
        value, dy = model.loss(y, t)
        demand(value, "the loss")
        demand(dy, "the loss's gradient")
        backward(dy)
    except _FoundError as found:
        return str(found)
    return "the updated weights, or the norm of the gradients"


def lost_moment(state: Weights) -> str:
    """The first of the optimizer's moments that is not finite, in words; "" where all are."""
    for path, moment in tree.items(moments_of(state)):
        if hasattr(moment, "shape") and not bool(namespace(moment).all(namespace(moment).isfinite(moment))):
            name, _, weight = path.partition("/")
            return f"the moment {name!r} of {weight!r}"
    return ""


def fit(
    model: Model,
    x: HostArray,
    t: HostArray,
    *,
    epochs: int,
    batch_size: int,
    validation: tuple[HostArray, HostArray] | None,
    callbacks: tuple[Callback, ...],
    progress: Progress,
    shuffle: bool,
    resume: bool,
) -> History:
    """`Model.fit`, on data that was checked."""
    history = model.history
    plan = {"samples": len(x), "batch_size": batch_size, "shuffle": shuffle, "data": fingerprint(x, t)}
    was = {name: model.plan.get(name, value) for name, value in plan.items()}
    if resume and model.at.batch and plan != was:
        raise CheckpointError(
            "X405",
            "training stopped within an epoch and can only be resumed as it was.",
            f"got {plan}, was {was}",
            hint="give the same data and batch size, or fit without resume=True.",
        )
    if resume and plan["data"] != was["data"]:
        raise CheckpointError(
            "X405",
            "training can only be resumed on the data that it began with; these are others.",
            f"got {plan['samples']} samples of checksum {plan['data']}, were {was['samples']} of {was['data']}",
            hint="give the same data; to go on with others, fit without resume=True.",
        )
    check_monitors(callbacks, columns(model, validation is not None))
    if not resume:
        model.at = replace(model.at, batch=0, loss=0.0, right=0, seen=0)
    model.plan = {**plan, "began": model.plan.get("began", 0) if resume else model.at.epoch}
    last = epochs if resume else model.at.epoch + epochs
    history.stopped, failures, started = "running", [], []
    try:
        for callback in callbacks:
            started.append(callback)
            getattr(callback, "start", ignore)(model)
        history.stopped = train(model, x, t, last, batch_size, validation, callbacks, progress, shuffle)
    except BaseException as error:
        failures.append(error)
    history.rows = list(model.at.rows)
    history.stopped = ended(history.stopped, failures)
    ends: list[Callable[[], object]] = [progress.close]
    ends += [partial(getattr(callback, "finish", ignore), model, history) for callback in started]
    for end in ends:
        try:
            end()
        except BaseException as error:  # the others are told too
            failures.append(error)
            history.stopped = ended(history.stopped, failures)
    failures = [error for error in failures if not isinstance(error, KeyboardInterrupt)]
    if failures:
        raise failures[0]
    return history


def fingerprint(*arrays: HostArray) -> str:
    """A checksum of the samples: of all of them up to 4 MiB, beyond that of as many, evenly spaced from first to last.

    It tells other data by their number, shape, type and values; of large ones it may miss a few changed samples.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.name} ".encode())
        size = max(array[:1].nbytes, 1)
        count = min(len(array), max(2, FINGERPRINT_BYTES // size))
        chosen = array if count == len(array) else array[np.linspace(0, len(array) - 1, count).astype(np.int64)]
        digest.update(chosen.tobytes())
    return digest.hexdigest()[:16]


def ended(stopped: str, failures: list[BaseException]) -> str:
    """What `history.stopped` is where these were raised, the first first."""
    if not failures or stopped in ("diverged", "failed"):
        return stopped
    kinds = {KeyboardInterrupt: "interrupted", DivergedError: "diverged"}
    return next((what for kind, what in kinds.items() if isinstance(failures[-1], kind)), "failed")


def train(
    model: Model,
    x: HostArray,
    t: HostArray,
    last: int,
    batch_size: int,
    validation: tuple[HostArray, HostArray] | None,
    callbacks: tuple[Callback, ...],
    progress: Progress,
    shuffle: bool,
) -> str:
    """All epochs up to the last; why it ended."""
    history = model.history
    while model.at.epoch < last:
        progress.start(model.at.epoch + 1, last, len(x))
        row = run_epoch(model, x, t, batch_size, validation, progress, shuffle)
        history.rows = list(model.at.rows)
        wishes = [callback(model, history) for callback in callbacks]
        progress.finish(row)
        if any(isinstance(wish, bool | np.bool_) and wish for wish in wishes):
            return "early"
    return "finished"


def ignore(model: Model, history: History | None = None) -> None:
    """What a callback does when training begins or is over, if it says nothing else."""


def check_callbacks(given: object) -> tuple[Callback, ...]:
    """The callbacks, one alone as well.

    Raises
    ------
    OptionError
        X104, for what can't be called as callback(model, history).
    """
    callbacks = tuple(given) if isinstance(given, Iterable) else (given,)
    for callback in callbacks:
        if isinstance(callback, type):
            name = callback.__name__
            hint = f"make one of it: {name}(...), not {name}."
            raise OptionError("X104", f"callbacks must be functions (model, history); {name} is a class.", hint=hint)
        if not callable(callback):
            raise OptionError("X104", f"callbacks must be functions (model, history); got {callback!r}.")
        try:
            signature(callback).bind(None, None)
        except ValueError:  # some that are written in C do not tell
            continue
        except TypeError as error:
            raise OptionError("X104", f"callbacks are called with (model, history): {callback!r}: {error}.") from error
    return callbacks


def columns(model: Model, validated: bool) -> tuple[str, ...]:
    """The columns of a row that `run_epoch` makes."""
    measured = ("loss",) if model.threshold is None else ("loss", "accuracy")
    tested = tuple(f"val_{name}" for name in measured) if validated else ()
    return "epoch", *measured, *tested, "learning_rate", *MEASURED


def check_monitors(callbacks: tuple[Callback, ...], known: tuple[str, ...]) -> None:
    """Raise X104 where a callback watches a column that nothing will write: a user's own before it may write any."""
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping | Checkpoint):
            return
        if callback.monitor is not None and callback.monitor not in known:
            raise OptionError(
                "X104",
                f"{type(callback).__name__} monitors {callback.monitor!r}, which this training does not measure.",
                f"it measures {', '.join(known)}",
                hint=missing_column(callback.monitor, known),
            )


def run_epoch(
    model: Model,
    x: HostArray,
    t: HostArray,
    batch_size: int,
    validation: tuple[HostArray, HostArray] | None,
    progress: Progress,
    shuffle: bool,
) -> Row:
    """The rest of the present epoch, entered into the history: its row."""
    begun, done_before = time.perf_counter(), model.at.seen
    epoch = model.at.epoch
    order = random.generator(model.seed, epoch).permutation(len(x)) if shuffle else np.arange(len(x))
    progress.advance(done_before, 0.0)
    while (seen := model.at.seen) < len(x):
        if not take_span(model, x, t, order, batch_size):
            chosen = order[model.at.batch * batch_size :][:batch_size]
            take_step(model, x[chosen], t[chosen])
        progress.advance(model.at.seen - seen, model.at.loss / model.at.seen)
    seconds = time.perf_counter() - begun

    at = model.at
    row: Row = {"epoch": epoch + 1, "loss": at.loss / at.seen}
    if model.threshold is not None:
        row["accuracy"] = at.right / (at.seen * model.places)
    if validation is not None:
        row |= {f"val_{name}": value for name, value in measure(model, *validation).items()}
        if not isfinite(row["val_loss"]):
            raise DivergedError(
                "X501",
                f"validation loss became {row['val_loss']} after epoch {epoch + 1}.",
                hint="try a smaller learning rate, or clip_norm; the weights are those after this epoch.",
            )
    row |= {
        "learning_rate": learning_rate(model.optimizer.learning_rate, max(at.state["step"] - 1, 0)),
        "images_per_second": (at.seen - done_before) / max(seconds, 1e-9),
        "seconds": seconds,
    }
    model.at = replace(at, epoch=epoch + 1, batch=0, loss=0.0, right=0, seen=0, rows=(*at.rows, row))
    return row


def measure(model: Model, x: HostArray, t: HostArray, batch_size: int = 256) -> dict[str, float]:
    """The mean loss, and for classifiers the accuracy, over all samples."""
    loss, right = 0.0, 0
    backend, weights = model.backend, model.at.weights
    for first in range(0, len(x), batch_size):
        targets = t[first : first + batch_size]
        y = model.forward(x[first : first + batch_size], weights)
        targets_there = backend.asarray(targets)
        with backend.active():
            value, _ = model.loss(y, targets_there)
            loss += to_float(backend, value) * len(targets)
            if model.threshold is not None:
                right += int(backend.to_numpy(hits(y, targets_there, model.threshold)))
    result = {"loss": loss / len(x)}
    return result if model.threshold is None else {**result, "accuracy": right / (len(x) * model.places)}


def is_better(monitor: str, new: float, best: float, by: float = 0.0) -> bool:
    """Whether a monitored value improved: accuracies upwards, all else downwards."""
    return new > best + by if monitor.endswith("accuracy") else new < best - by


def best_epoch(history: History, monitor: str, min_delta: float = 0.0, first: int = 0) -> int:
    """The index of the row, from the first on, whose monitored value is best.

    Raises
    ------
    OptionError
        X104, when the history has no such column, or one that holds no numbers.
    """
    if not history.rows or monitor not in history.rows[-1]:
        found = tuple(history.rows[-1]) if history.rows else ()
        what = f"{monitor!r} is not monitored; the last epoch has {', '.join(found) or 'nothing'}."
        raise OptionError("X104", what, hint=missing_column(monitor, found))
    best, at = (-inf if monitor.endswith("accuracy") else inf), len(history) - 1
    for n, row in enumerate(history.rows[first:], first):
        value = plain(row.get(monitor))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise OptionError("X104", f"{monitor!r} can't be monitored: it must be a number, and is {value!r}.")
        if value is not None and is_better(monitor, value, best, min_delta):
            best, at = value, n
    return at


def check_monitor(monitor: object) -> None:
    """Raise X104 unless a column's name was given."""
    if not isinstance(monitor, str):
        raise OptionError("X104", f'monitor must be the name of a column, such as "val_loss"; got {monitor!r}.')


@dataclass
class EarlyStopping:
    """Ends training when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    With `restore_best` the model ends with the weights of the best epoch, also where the epochs run out first; not
    where training was interrupted or failed, so that it can be resumed. Each training, also a resumed one, is counted
    by itself.
    """

    monitor: str = "val_loss"
    patience: int = 3
    min_delta: float = 0.0
    restore_best: bool = True

    def __post_init__(self) -> None:
        check_monitor(self.monitor)
        check_whole("patience", self.patience)
        check_rate("min_delta", self.min_delta)
        check_flag("restore_best", self.restore_best)
        self.first: int | None = None
        self.best: Weights | None = None

    def start(self, model: Model) -> None:
        """A training begins: forget what was seen of another."""
        self.first, self.best = None, None

    def __call__(self, model: Model, history: History) -> bool:
        """True when it is time to stop."""
        last = len(history) - 1
        self.first = last if self.first is None else self.first
        best = best_epoch(history, self.monitor, self.min_delta, self.first)
        if best == last and self.restore_best:
            self.best = tree.map(model.backend.to_numpy, model.at.weights)
        return last - best >= self.patience

    def finish(self, model: Model, history: History) -> None:
        """Training is over: restore the best epoch's weights."""
        if self.best is not None and history.stopped in ("finished", "early"):
            model.weights = self.best
        self.best = None


@dataclass
class Checkpoint:
    """Saves the model after every epoch, or with `monitor` ("val_accuracy", "loss", ...) after each best one.

    The best is that of the present training, what a loaded model was trained before not counted. A training that is
    resumed is the one that was left.
    """

    path: str | Path
    monitor: str | None = None

    def __post_init__(self) -> None:
        if self.monitor is not None:
            check_monitor(self.monitor)
        check_path(self.path)
        self.first = 0

    def start(self, model: Model) -> None:
        """A training begins: look where it can be saved, and count its epochs alone."""
        check_path(self.path)
        self.first = max(len(model.at.rows) - (model.at.epoch - model.plan.get("began", 0)), 0)

    def __call__(self, model: Model, history: History) -> None:
        """Save, if it is time to."""
        if self.monitor is None or best_epoch(history, self.monitor, first=self.first) == len(history) - 1:
            model.save(self.path)
