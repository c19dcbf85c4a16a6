"""`Model.fit`: epoch after epoch, each state kept in the model as it comes, and those told who watch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xcnn.errors import CheckpointError, DivergedError, OptionError, counted
from xcnn.model.held import Held
from xcnn.model.host_data import samples_of
from xcnn.model.weighing import Weighing, weighing
from xcnn.training import loop
from xcnn.training.callbacks import Callback, check_monitors
from xcnn.training.history import History, Row
from xcnn.training.metrics import directions
from xcnn.training.progress import Progress
from xcnn.training.schedules import is_idle, learning_rate
from xcnn.training.state import HostArray, TrainingState

Data = tuple[HostArray, HostArray]
log = logging.getLogger("xcnn")


def fit(
    model: Held,
    data: Data,
    validation: Data | None,
    *,
    epochs: int,
    batch_size: int,
    callbacks: tuple[Callback, ...],
    progress: Progress,
    shuffle: bool,
    resume: bool,
    augment: tuple[Any, ...] = (),
    weigh: Weighing | None = None,
    validation_weigh: Weighing | None = None,
    accumulate: int = 1,
) -> History:
    """Train on data that was checked. However it ends, those that were told of its start are told of its end."""
    check_monitors(callbacks, loop.columns(model.trainer, validation is not None), directions(model.trainer.metrics))
    before: dict[str, Any] = {"state": model.state, "plan": model.plan}
    begin(model, plan_of(data, batch_size, shuffle, augment, weigh, accumulate), resume)
    how = Batches(changing(model, augment), weigh, validation_weigh)
    begun, last, history = model.state, epochs if resume else model.state.epoch + epochs, model.history
    failures, started = list[BaseException](), list[Callback]()
    try:
        for callback in callbacks:
            started.append(callback)
            getattr(callback, "start", ignore)(model)
        tell_idle(model, last)
        history.stopped = train(model, data, validation, last, callbacks, progress, how)
    except BaseException as error:
        failures.append(error)
        if model.state is begun:  # not a step: an epoch that was open can still be resumed
            vars(model).update(before, trainer=model.trainer.accumulating(before["plan"].get("accumulate", 1)))
    history.rows = list(model.state.rows)
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


@dataclass(frozen=True)
class Batches:
    """What is made of each batch: by augmentations, and what its samples weigh, as those of validation data do."""

    change: loop.Change | None
    weigh: Weighing | None
    validation_weigh: Weighing | None


@dataclass(frozen=True)
class Parted:
    """What is trained on, and what is measured after each epoch, with what their samples weigh."""

    data: Data
    validation: Data | None
    weigh: Weighing | None
    validation_weigh: Weighing | None


def weighed(
    model: Held, data: Data, validation: Any, share: float | None, class_weight: Any, sample_weight: Any
) -> Parted:
    """Both, their weights checked. Those of classes are for training alone."""
    if sample_weight is not None and share is not None:
        hint = "split them yourself: validation_data=(x, y, sample_weight)."
        raise OptionError("X104", "sample_weight and validation_split can't be given together.", hint=hint)
    theirs = None
    if isinstance(validation, tuple | list) and len(validation) == 3:
        *validation, theirs = validation
    train, held = parted(model, data, validation, share)
    of_held = None if held is None else weighing(model, held[1], None, theirs, role="validation ")
    return Parted(train, held, weighing(model, train[1], class_weight, sample_weight), of_held)


def parted(model: Held, data: Data, validation: Any, share: float | None) -> tuple[Data, Data | None]:
    """What is trained on, and what is measured after each epoch: data that was given, or a share of the samples."""
    if validation is not None and share is not None:
        hint = "give one of them."
        raise OptionError("X104", "validation_data and validation_split are two ways to say the same.", hint=hint)
    if share is not None:
        from xcnn.data.split import split

        train, held = split(*data, share, seed=model.trainer.seed)
        return tuple(train), tuple(held)  # type: ignore[return-value]
    if validation is None:
        return data, None
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise OptionError("X104", "validation_data must be a pair (x, y), or (x, y, sample_weight).")
    x, y = validation
    return data, samples_of(model, x, y, role="validation ")


def augmentations(given: Any) -> tuple[Any, ...]:
    """What `fit` was given as `augment`, as a tuple."""
    if given is None or (isinstance(given, tuple | list) and not given):
        return ()
    from xcnn.data.augment import check_augment

    return check_augment(given)


def changing(model: Held, augment: tuple[Any, ...]) -> loop.Change | None:
    """What augmentations make of each batch."""
    if not augment:
        return None
    from xcnn.data.augment import augmented

    return partial(augmented, augment, output_shape=model.output_shape)


def plan_of(
    data: Data, batch_size: int, shuffle: bool, augment: tuple[Any, ...], weigh: Weighing | None, accumulate: int
) -> dict[str, Any]:
    """How a model is going to be trained, as checkpoints keep it."""
    return {
        "samples": len(data[0]),
        "batch_size": batch_size,
        "shuffle": shuffle,
        "data": loop.fingerprint(*data, *samples_weights(weigh)),
        "augment": [each.__qualname__ if hasattr(each, "__qualname__") else repr(each) for each in augment],
        "class_weight": [] if weigh is None else list(weigh.classes),
        "accumulate": accumulate,
    }


def check_resumed(model: Held, plan: dict[str, Any]) -> None:
    """Raise X405 where a training is to go on that was begun on other data, or within an epoch in another way."""
    was = {name: model.plan.get(name, value) for name, value in plan.items()}
    if model.state.batch and plan != was:
        raise CheckpointError(
            "X405",
            "training stopped within an epoch and can only be resumed as it was.",
            f"got {plan}, was {was}",
            hint="give the same data and batch size, or fit without resume=True.",
        )
    if plan["data"] != was["data"]:
        raise CheckpointError(
            "X405",
            "training can only be resumed on the data that it began with; these are others.",
            f"got {plan['samples']} samples of checksum {plan['data']}, were {was['samples']} of {was['data']}",
            hint="give the same data; to go on with others, fit without resume=True.",
        )


def begin(model: Held, plan: dict[str, Any], resume: bool) -> None:
    """Enter into the model how it is going to be trained.

    Raises
    ------
    CheckpointError
        X405, as `check_resumed`.
    """
    state = model.state
    if resume:
        check_resumed(model, plan)
    plan["callbacks"] = model.plan.get("callbacks", {}) if resume else {}
    plan["began"] = model.plan.get("began", 0) if resume else state.epoch
    state = (state if resume else state.without_epoch()).with_rows_of_its_own()
    history, trainer = History([*state.rows], stopped="running"), model.trainer.accumulating(plan["accumulate"])
    # One call: an interrupt finds all or none.
    vars(model).update(state=state, plan=plan, history=history, trainer=trainer)


def samples_weights(weigh: Weighing | None) -> tuple[HostArray, ...]:
    """Those of a training's samples, if they have any."""
    return () if weigh is None or weigh.samples is None else (weigh.samples,)


def tell_idle(model: Held, last: int) -> None:
    """Log it where the learning rate is 0 at every step of the training that begins."""
    state, plan, optimizer = model.state, model.plan, model.trainer.optimizer
    steps = (last - state.epoch) * -(-plan["samples"] // plan["batch_size"]) - state.batch
    first = state.optimizer_state["step"]
    if steps > 0 and is_idle(optimizer.learning_rate, range(first, first + steps)):
        log.warning(
            "the learning rate is 0 at every step of this training (%s), so that no weight is trained, by %r; "
            "model.learning_rate = ... gives another.",
            counted(steps, "step"),
            optimizer,
        )


def train(
    model: Held,
    data: Data,
    validation: Data | None,
    last: int,
    callbacks: tuple[Callback, ...],
    progress: Progress,
    batches: Batches,
) -> str:
    """All epochs up to the last, by the model's plan; why it ended."""
    history, how = model.history, (model.plan["batch_size"], model.plan["shuffle"])
    watchers = [callback.step for callback in callbacks if callable(getattr(callback, "step", None))]  # type: ignore[attr-defined]
    made: Any = batches.change, batches.weigh, batches.validation_weigh, bool(watchers)
    while (number := model.state.epoch + 1) <= last:
        progress.start(number, last, len(data[0]))
        progress.advance(model.state.seen, 0.0)
        model.turn.close()  # what anybody changed now, the next step would overwrite
        try:
            for state in loop.epoch(model.trainer, model.state, *data, *how, validation, *made):
                before, model.state = model.state, state
                if state.seen and told_of_step(watchers, model, before, state):
                    return "early"
                if state.seen:
                    progress.advance(state.seen - before.seen, state.loss / (state.weight or 1))
        finally:
            model.turn.close(False)
        enter(history, model.state.rows)
        wishes = [callback(model, history) for callback in callbacks]
        progress.finish(model.state.rows[-1])
        if any(isinstance(wish, bool | np.bool_) and wish for wish in wishes):
            return "early"
    return "finished"


def told_of_step(
    watchers: list[Callable[[Held, Row], object]], model: Held, before: TrainingState, state: TrainingState
) -> bool:
    """Tell callbacks of a step that is done; whether one of them wants training to end."""
    if not watchers:
        return False
    loss = (state.loss - before.loss) / ((state.weight - before.weight) or 1)
    rate = learning_rate(model.trainer.optimizer.learning_rate, before.optimizer_state["step"])
    row = {"step": state.step, "epoch": state.epoch + 1, "loss": loss, "learning_rate": rate}
    wishes = [watch(model, dict(row)) for watch in watchers]  # all are told
    return any(isinstance(wish, bool | np.bool_) and bool(wish) for wish in wishes)


def enter(history: History, rows: tuple[Row, ...]) -> None:
    """Let the history have these rows: of one that has them but for the last, that alone is entered."""
    if len(history.rows) == len(rows) - 1:
        history.rows.append(rows[-1])
    else:
        history.rows = list(rows)


def ignore(model: Held, history: History | None = None) -> None:
    """What a callback does when training begins or is over, if it says nothing else."""


def ended(stopped: str, failures: list[BaseException]) -> str:
    """What `history.stopped` is where these were raised, the first first."""
    if not failures or stopped in ("diverged", "failed"):
        return stopped
    kinds = {KeyboardInterrupt: "interrupted", DivergedError: "diverged"}
    return next((what for kind, what in kinds.items() if isinstance(failures[-1], kind)), "failed")
