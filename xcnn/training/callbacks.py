"""What may be called between epochs: early stopping, checkpoints, functions of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from math import inf, prod
from pathlib import Path
from typing import Any, Protocol, TypeAlias, get_args

from xcnn.core import tree
from xcnn.core.checks import check_call, check_rate, check_whole, plain
from xcnn.core.files import check_path
from xcnn.core.options import checked
from xcnn.core.primitives import HostPort
from xcnn.core.types import Better, Weights
from xcnn.errors import OptionError, short
from xcnn.training.history import History, missing_column
from xcnn.training.metrics import METRICS, Metric, directions
from xcnn.training.optimizers import Optimizer
from xcnn.training.state import TrainingState
from xcnn.training.trainer import Trainer

Callback: TypeAlias = Callable[[Any, History], object]
"""callback(model, history), called after each epoch; it ends training by returning True, or an array of one True.

An object with a method `start(model)` has it called when a training begins, and one with a method
`finish(model, history)` when it is over, however it ended: `history.stopped` says how. One with a method
`step(model, row)` has it called after each training step, with a dict of its number, its epoch, the batch's loss and
the learning rate; True ends training there. Steps are then taken one by one, where a backend would take many in one go.
"""


def wants_end(wishes: Iterable[object]) -> bool:
    """Whether one of the callbacks' answers is True: Python's, NumPy's, or the one cell of any library's array.

    Other answers mean nothing, numbers too: of `lambda model, history: rows.append(history)` nobody wants to end.

    Raises
    ------
    OptionError
        X104, for an array of several bools.
    """
    return any(map(wants_one, wishes))


def wants_one(wish: Any) -> bool:
    """Whether one answer is True."""
    if isinstance(wish, bool):
        return wish
    if not str(getattr(wish, "dtype", "")).rpartition(".")[2].startswith("bool"):
        return False
    if prod(wish.shape) != 1:
        told = f"a callback ends training by one True; it gave {tuple(wish.shape)} of them."
        raise OptionError("X104", told, hint="end it with .any() or .all().")
    return bool(wish)


class Trained(Protocol):
    """What these ask of the model that is trained."""

    state: TrainingState
    plan: dict[str, Any]
    weights: Weights
    learning_rate: Any

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        ...

    @property
    def trainer(self) -> Trainer:
        """What is trained and how."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured beside the loss."""
        ...

    @property
    def backend(self) -> HostPort:
        """Where the weights are."""
        ...

    def save(self, path: str | Path) -> None:
        """Write a checkpoint."""
        ...

    def check_save(self) -> None:
        """Raise what `save` would raise."""
        ...


def check_callbacks(given: object) -> tuple[Callback, ...]:
    """The callbacks, one alone as well.

    Raises
    ------
    OptionError
        X104, for what can't be called as callback(model, history).
    """
    if given is None:
        return ()
    callbacks = tuple(given) if isinstance(given, Iterable) else (given,)
    for callback in callbacks:
        check_call(callback, 2, "callbacks", "(model, history)")
    return callbacks


def check_monitors(
    callbacks: tuple[Callback, ...], known: tuple[str, ...], ways: Mapping[str, str] | None = None
) -> None:
    """Raise X104 where a callback watches a column that nothing will write: a user's own before it may write any.

    So too where it is not known which way that column is better; `ways` has those of metrics.
    """
    others = False
    for callback in callbacks:
        if not isinstance(callback, Monitoring):
            others = True
        elif callback.monitor is not None:
            if not others and callback.monitor not in known:
                raise OptionError(
                    "X104",
                    f"{type(callback).__name__} monitors {callback.monitor!r}, which this training does not measure.",
                    f"it measures {', '.join(known)}",
                    hint=missing_column(callback.monitor, known, METRICS),
                )
            direction(callback.monitor, callback.mode, ways)


DIRECTIONS = {"loss": "min", "accuracy": "max", "images_per_second": "max", "seconds": "min"}
"""Which way the columns of xcnn's own are better, and those whose names end in theirs."""


def direction(monitor: str, mode: str | None = None, ways: Mapping[str, str] | None = None) -> str:
    """The mode that was given, or that a metric knows, or that the column's name tells: "min" or "max".

    Raises
    ------
    OptionError
        X104, for a name that does not tell it.
    """
    found = (
        mode
        or (ways or {}).get(monitor)
        or next((way for name, way in DIRECTIONS.items() if monitor.endswith(name)), None)
    )
    if found is None:
        raise OptionError(
            "X104",
            f"the name of the column {short(monitor)} does not tell whether more of it is better, or less.",
            hint='give mode="max" or mode="min".',
        )
    return found


def way_of(model: Trained, monitor: str, mode: str | None) -> str | None:
    """The mode that was given, or that a metric of the model's knows; None where its name alone may tell it."""
    return mode or directions(getattr(model, "metrics", ())).get(monitor)


def check_mode(mode: object) -> None:
    """Raise X104 unless it is "min", "max" or None."""
    if mode not in (*get_args(Better), None):
        raise OptionError("X104", f'mode must be "min", "max" or None; got {short(mode)}.')


def is_better(way: str, new: float, best: float, by: float = 0.0) -> bool:
    """Whether a monitored value improved: upwards for "max", downwards for "min"."""
    return new > best + by if way == "max" else new < best - by


def value_of(row: Mapping[str, Any], monitor: str) -> float | None:
    """What a row has in a monitored column; None where it has none.

    Raises
    ------
    OptionError
        X104, for what is no number.
    """
    value: Any = plain(row.get(monitor))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise OptionError("X104", f"{short(monitor)} can't be monitored: it must be a number, and is {short(value)}.")
    return None if value is None else float(value)


class Best:
    """The best value of a column as its rows come: each is looked at once.

    Parameters
    ----------
    monitor
        the column
    min_delta
        by how much a value must be better to count
    first
        the index of the first row that counts
    mode
        "min" or "max", the better way; None takes it from the name
    """

    monitor: str
    min_delta: float
    mode: str | None
    next: int
    """The row that is looked at next."""

    def __init__(self, monitor: str, min_delta: float = 0.0, first: int = 0, mode: str | None = None) -> None:
        self.monitor, self.min_delta, self.mode = monitor, min_delta, mode
        self.next = first
        self.at: int | None = None
        self.value: float | None = None

    def of(self, history: History) -> int:
        """The index of the row whose value is best; of the last one where none is a number.

        Raises
        ------
        OptionError
            X104, when the history has no such column, or one that holds no numbers.
        """
        if not history.rows or self.monitor not in history.rows[-1]:
            found = tuple(history.rows[-1]) if history.rows else ()
            what = f"{self.monitor!r} is not monitored; the last epoch has {', '.join(found) or 'nothing'}."
            raise OptionError("X104", what, hint=missing_column(self.monitor, found, METRICS))
        way = direction(self.monitor, self.mode)
        best = (-inf if way == "max" else inf) if self.value is None else self.value
        for n in range(self.next, len(history)):
            value = value_of(history.rows[n], self.monitor)
            if value is not None and is_better(way, value, best, self.min_delta):
                best = self.value = value
                self.at = n
            self.next = n + 1
        return len(history) - 1 if self.at is None else self.at


def best_epoch(history: History, monitor: str, min_delta: float = 0.0, first: int = 0, mode: str | None = None) -> int:
    """The index of the row, from the first on, whose monitored value is best; errors as of `Best.of`."""
    return Best(monitor, min_delta, first, mode).of(history)


class Monitoring:
    """What looks at a column of the history: `fit` refuses to begin where there will be none."""

    monitor: str | None
    mode: str | None


@checked
@dataclass
class EarlyStopping(Monitoring):
    """Ends training when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    With `restore_best` the model ends with the weights of the best epoch, or their average where that is measured
    (EMA), also where the epochs run out first; not where training was interrupted or failed, so that it can be resumed.
    Each training, also a resumed one, is counted by itself. `mode`, "min" or "max", says which way is better; metrics
    know it, losses and accuracies tell it by their names, and where neither does, `fit` refuses to begin.

    Parameters
    ----------
    monitor
        a column of the history
    patience
        epochs without a better value, at least 1
    min_delta
        by how much a value must be better to count, in units of the column
    restore_best
        whether the best epoch's weights stay
    mode
        "min" or "max", the better way; None takes it from the name

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> model, x = xcnn.Model(xcnn.Dense(2), (3,)), np.eye(8, 3, dtype="float32")
    >>> y = np.arange(8) % 2
    >>> stop = xcnn.EarlyStopping("val_loss", patience=1, min_delta=9.0)
    >>> model.fit(x, y, epochs=9, validation_split=0.5, callbacks=stop, progress="none").stopped
    'early'
    """

    monitor: str = "val_loss"
    patience: int = 3
    _: KW_ONLY
    min_delta: float = 0.0
    restore_best: bool = True
    mode: Better | None = None

    def __post_init__(self) -> None:
        check_whole("patience", self.patience)
        check_rate("min_delta", self.min_delta)
        check_mode(self.mode)
        self.seen: Best | None = None
        self.best: Weights | None = None

    def start(self, model: Trained) -> None:
        """A training begins: forget what was seen of another."""
        self.seen, self.best = None, None

    def __call__(self, model: Trained, history: History) -> bool:
        """True when it is time to stop."""
        last = len(history) - 1
        if self.seen is None:
            self.seen = Best(self.monitor, self.min_delta, max(last, 0), way_of(model, self.monitor, self.mode))
        best = self.seen.of(history)
        if best == last and self.restore_best:
            self.best = tree.map(model.backend.to_numpy, model.trainer.asked(model.state))
        return last - best >= self.patience

    def finish(self, model: Trained, history: History) -> None:
        """Training is over: restore the best epoch's weights."""
        if self.best is not None and history.stopped in ("finished", "early"):
            model.weights = self.best
        self.best = None


@checked
@dataclass
class Checkpoint(Monitoring):
    """Saves the model after every epoch, or with `monitor` ("val_accuracy", "loss", ...) after each best one.

    The best is that of the present training, what a loaded model was trained before not counted. A training that is
    resumed is the one that was left. `mode` is as in EarlyStopping.

    Each time the whole file is written: weights, the optimizer's moments, and about 200 bytes for each epoch of the
    history. Of that only the new epoch is looked at to tell whether it is the best.

    Parameters
    ----------
    path
        the file, replaced whole each time
    monitor
        a column of the history; None saves each epoch
    mode
        "min" or "max", the better way; None takes it from the name

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> model, x = xcnn.Model(xcnn.Dense(2), (3,)), np.eye(8, 3, dtype="float32")
    >>> y = np.arange(8) % 2
    >>> best = xcnn.Checkpoint("best.xcnn", "val_loss")
    >>> history = model.fit(x, y, epochs=2, validation_split=0.5, callbacks=best, progress="none")
    >>> xcnn.Model.load("best.xcnn").net
    Dense(units=2, bias=True, kernel_initializer='glorot_uniform')
    """

    path: str | Path
    monitor: str | None = None
    _: KW_ONLY
    mode: Better | None = None

    def __post_init__(self) -> None:
        check_mode(self.mode)
        check_path(self.path)
        self.seen: Best | None = None

    def start(self, model: Trained) -> None:
        """A training begins: look whether and where it can be saved, and count its epochs alone."""
        check_path(self.path)
        model.check_save()
        first = max(len(model.state.rows) - (model.state.epoch - model.plan.get("began", 0)), 0)
        self.seen = (
            None
            if self.monitor is None
            else Best(self.monitor, first=first, mode=way_of(model, self.monitor, self.mode))
        )

    def __call__(self, model: Trained, history: History) -> None:
        """Save, if it is time to."""
        if self.monitor is not None and self.seen is None:
            self.seen = Best(self.monitor, mode=way_of(model, self.monitor, self.mode))
        if self.seen is None or self.seen.of(history) == len(history) - 1:
            model.save(self.path)
