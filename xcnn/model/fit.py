"""`Model.fit`: epoch after epoch, each state kept in the model as it comes, and those told who watch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xcnn.data.source import Arrays, Source, digest, fingerprint
from xcnn.errors import CheckpointError, DivergedError, OptionError, counted
from xcnn.model.feeding import Fed, to_measure
from xcnn.model.held import Held
from xcnn.model.taking import Taking
from xcnn.model.weighing import Weighing, weighing
from xcnn.training import loop
from xcnn.training.callbacks import Callback, check_monitors, wants_end
from xcnn.training.history import History, Row
from xcnn.training.metrics import directions
from xcnn.training.progress import Progress, Silent
from xcnn.training.rows import Rows
from xcnn.training.schedules import is_idle, learning_rate
from xcnn.training.state import TrainingState
from xcnn.training.together import ALONE, Alone

log: logging.Logger = logging.getLogger("xcnn")


def fit(
    model: Held,
    data: Source,
    validation: Source | None,
    *,
    taking: Taking,
    epochs: int,
    batch_size: int,
    callbacks: tuple[Callback, ...],
    progress: Progress,
    shuffle: bool,
    resume: bool,
    augment: tuple[Any, ...] = (),
    workers: int = 0,
    weigh: Weighing | None = None,
    validation_weigh: Weighing | None = None,
    accumulate: int = 1,
    together: Alone = ALONE,
) -> History:
    """Train on data that was checked. However it ends, those that were told of its start are told of its end."""
    way = loop.Way(batch_size, shuffle, changing(model, augment), workers, weigh, validation_weigh)
    progress = progress if together.first else Silent()
    written = loop.columns(model.trainer, validation is not None, loop.is_fed(data, way))
    check_monitors(callbacks, written, directions(model.trainer.metrics))
    before: dict[str, Any] = {"state": model.state, "plan": model.plan, "_kept_scaling": model.taking.scaling}
    plan = plan_of(data, way, augment, accumulate)
    together.begin(model, plan, {"epochs": epochs, "resume": resume, "validated": validation is not None})
    begin(model, plan, taking, resume)
    begun, last, history = model.state, epochs if resume else model.state.epoch + epochs, model.history
    failures, started = list[BaseException](), list[Callback]()
    try:
        together.changed(model, partial(start, callbacks, model, started))
        tell_idle(model, last)
        mine, way = together.shared(data, way, augment, accumulate)
        history.stopped = train(model, mine, validation, last, callbacks, progress, way, together)
    except BaseException as error:
        failures.append(error)
        together.failed(error)
        if model.state is begun:  # not a step: an epoch that was open can still be resumed
            vars(model).update(before, trainer=model.trainer.accumulating(before["plan"].get("accumulate", 1)))
    together.end(model)
    history.rows = list(model.state.rows)
    history.stopped = ended(history.stopped, failures)
    ends: list[Callable[[], object]] = [progress.close]
    ends += [partial(getattr(callback, "finish", ignore), model, history) for callback in started]
    together.changed(model, partial(finish, ends, failures, history))
    failures = [error for error in failures if not isinstance(error, KeyboardInterrupt)]
    if failures:
        raise failures[0]
    return history


def start(callbacks: tuple[Callback, ...], model: Held, started: list[Callback]) -> None:
    """Tell callbacks that training begins, and note those that were told."""
    for callback in callbacks:
        started.append(callback)
        getattr(callback, "start", ignore)(model)


def finish(ends: list[Callable[[], object]], failures: list[BaseException], history: History) -> None:
    """Tell all of the end, whatever one of them raises."""
    for end in ends:
        try:
            end()
        except BaseException as error:  # the others are told too
            failures.append(error)
            history.stopped = ended(history.stopped, failures)


@dataclass(frozen=True)
class Parted:
    """What is trained on, and what is measured after each epoch, with what their samples weigh."""

    data: Source
    validation: Source | None
    weigh: Weighing | None
    validation_weigh: Weighing | None


def weighed(
    model: Held,
    data: Source,
    taking: Taking,
    validation: Any,
    share: float | None,
    class_weight: Any,
    sample_weight: Any,
) -> Parted:
    """Both, their weights checked. Those of classes are for training alone."""
    if sample_weight is not None and share is not None:
        hint = "split them yourself: validation_data=(x, y, sample_weight)."
        raise OptionError("X104", "sample_weight and validation_split can't be given together.", hint=hint)
    theirs = None
    if isinstance(validation, tuple | list) and len(validation) == 3:
        *validation, theirs = validation
    train, held = parted(model, data, taking, validation, share)
    of_held = None if held is None else weighing(model, held, None, theirs, "validation ", taking.classes)
    return Parted(train, held, weighing(model, train, class_weight, sample_weight, "", taking.classes), of_held)


def parted(
    model: Held, data: Source, taking: Taking, validation: Any, share: float | None
) -> tuple[Source, Source | None]:
    """What is trained on, and what is measured after each epoch: data that was given, or a share of the samples."""
    if validation is not None and share is not None:
        hint = "give one of them."
        raise OptionError("X104", "validation_data and validation_split are two ways to say the same.", hint=hint)
    if share is not None:
        return split(data, share, model.trainer.seed)
    if validation is None:
        return data, None
    if isinstance(validation, tuple | list) and len(validation) == 2:
        x, y = validation
        return data, to_measure(model, x, y, "validation ", taking)
    if isinstance(validation, tuple | list | np.ndarray):
        raise OptionError("X104", "validation_data must be a pair (x, y), or (x, y, sample_weight).")
    return data, to_measure(model, validation, None, "validation ", taking)


def split(data: Source, share: float, seed: int) -> tuple[Source, Source]:
    """Two parts: of arrays copies, of what is read as it is needed the numbers of its samples."""
    from xcnn.data.split import split as split_data

    if isinstance(data, Arrays):
        train, held = split_data(data.x, data.labels, share, seed=seed)
        return Arrays(*train), Arrays(*held)
    assert isinstance(data, Fed)
    parts = split_data(data.source, share=share, seed=seed)
    return replace(data, source=parts[0]), replace(data, source=parts[1], role="validation ")


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


def plan_of(data: Source, way: loop.Way, augment: tuple[Any, ...], accumulate: int) -> dict[str, Any]:
    """How a model is going to be trained, as checkpoints keep it."""
    weigh: Any = way.weigh
    return {
        "samples": data.samples or 0,
        "batch_size": way.batch_size,
        "shuffle": way.shuffle,
        "data": checksum(data, weigh),
        "augment": [each.__qualname__ if hasattr(each, "__qualname__") else repr(each) for each in augment],
        "class_weight": [] if weigh is None else list(weigh.classes),
        "accumulate": accumulate,
    }


def check_resumed(model: Held, plan: dict[str, Any]) -> None:
    """Raise X405 where a training is to go on that was begun on other data, or within an epoch in another way."""
    if model.state.epoch and not model.plan:
        raise CheckpointError(
            "X405",
            "the model was loaded from weights alone, without the state that its optimizer had.",
            hint="fit without resume=True begins with these weights; model.save(path) keeps the optimizer's state.",
        )
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


def begin(model: Held, plan: dict[str, Any], taking: Taking, resume: bool) -> None:
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
    if taking.classes and "classes" not in model.info:
        model.info["classes"] = list(taking.classes)
    if taking.scaling != model.taking.scaling:
        log.info("bytes 0..255 are taken as 0..1, here and from now on (model.scaling is %r)", taking.scaling)
    # One call: an interrupt finds all or none.
    vars(model).update(state=state, plan=plan, history=history, trainer=trainer, _kept_scaling=taking.scaling)


def checksum(data: Source, weigh: Weighing | None) -> str:
    """One of the data, with the weights of their samples, if they have any."""
    if weigh is None or weigh.samples is None:
        return data.fingerprint()
    if isinstance(data, Arrays):
        return fingerprint(data.x, data.labels, weigh.samples)
    return digest(data.fingerprint(), weigh.samples)


def tell_idle(model: Held, last: int) -> None:
    """Log it where the learning rate is 0 at every step of the training that begins."""
    state, plan, optimizer = model.state, model.plan, model.trainer.optimizer
    steps = (last - state.epoch) * -(-plan["samples"] // plan["batch_size"]) - state.batch
    first = state.optimizer_state["step"]
    if plan["samples"] and steps > 0 and is_idle(optimizer.learning_rate, range(first, first + steps)):
        log.warning(
            "the learning rate is 0 at every step of this training (%s), so that no weight is trained, by %r; "
            "model.learning_rate = ... gives another.",
            counted(steps, "step"),
            optimizer,
        )


def train(
    model: Held,
    data: Source,
    validation: Source | None,
    last: int,
    callbacks: tuple[Callback, ...],
    progress: Progress,
    way: loop.Way,
    together: Alone,
) -> str:
    """All epochs up to the last, by the model's plan; why it ended."""
    history = model.history
    watchers = [callback.step for callback in callbacks if callable(getattr(callback, "step", None))]  # type: ignore[attr-defined]
    way = replace(way, by_step=together.of_first(lambda: bool(watchers)))
    while (number := model.state.epoch + 1) <= last:
        progress.start(number, last, data.expected)
        progress.advance(model.state.seen, 0.0)
        model.turn.close()  # what anybody changed now, the next step would overwrite
        try:
            trainer = together.trainer(model.trainer)
            with closing(loop.epoch(trainer, model.state, data, way, validation)) as states:
                for state in states:
                    before, model.state = model.state, state
                    if (
                        state.seen
                        and way.by_step
                        and together.of_first(partial(told_of_step, watchers, model, before, state))
                    ):
                        return "early"
                    if state.seen:
                        progress.advance(state.seen - before.seen, state.loss / (state.weight or 1))
        finally:
            model.turn.close(False)
        take_row_of_first(model.state.rows[-1], together)
        enter(history, model.state.rows)
        stops = together.changed(model, partial(told_of_epoch, callbacks, model, history))
        progress.finish(model.state.rows[-1])
        if stops:
            return "early"
    return "finished"


def take_row_of_first(last: Row, together: Alone) -> None:
    """Let an epoch's row have what the first process measured: seconds are of its clock."""
    last.update(together.of_first(lambda: last))


def told_of_epoch(callbacks: tuple[Callback, ...], model: Held, history: History) -> bool:
    """Tell callbacks of an epoch that is done; whether one of them wants training to end."""
    return wants_end([callback(model, history) for callback in callbacks])  # all are told


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
    return wants_end(wishes)


def enter(history: History, rows: Rows) -> None:
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
