"""Who trains a model: one process alone, or several that share each batch (xcnn/parallel); what `fit` asks of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from xcnn.data.source import Source
from xcnn.errors import OptionError, short
from xcnn.training.loop import Way
from xcnn.training.trainer import Trainer

Told = TypeVar("Told")


class Alone:
    """One process alone. Of several, each is asked the same at the same time."""

    first: bool = True
    """Whether it is the one that calls callbacks, shows progress and writes files."""

    def guard(self) -> AbstractContextManager[object]:
        """A block around all of a training, in which processes that fail, stall or are told to end are found."""
        return nullcontext()

    def begin(self, model: Any, plan: dict[str, Any], how: dict[str, Any]) -> None:
        """A training begins, by this plan and these options: all begin with the weights of the first.

        Raises
        ------
        OptionError
            X104, where they would not train in the same way, or what they train can't be shared.
        """

    def failed(self, error: BaseException) -> None:
        """An error was raised here: go on to raise it where all have one, else end all of them."""

    def end(self, model: Any) -> None:
        """A training is over, however it ended: what the model has is this process's alone."""

    def trainer(self, trainer: Trainer) -> Trainer:
        """The trainer whose steps are those of all."""
        return trainer

    def shared(self, data: Source, way: Way, augment: tuple[Any, ...], accumulate: int) -> tuple[Source, Way]:
        """The data of this process, a part of each batch, and how it goes through them."""
        return data, way

    def of_first(self, answer: Callable[[], Told]) -> Told:
        """What the first process answers, who alone is asked."""
        return answer()

    def changed(self, model: Any, call: Callable[[], Told]) -> Told:
        """The same of a call that may change the model: all are then as the first's is."""
        return call()


ALONE = Alone()


def check_together(given: Any) -> Alone:
    """Who trains; raise X104 unless it is None, for this process alone, or what xcnn.parallel makes."""
    if given is None:
        return ALONE
    if not isinstance(given, Alone):
        hint = "parallel=xcnn.parallel.mpi()"
        raise OptionError("X104", f"parallel must be what xcnn.parallel makes; got {short(given)}.", hint=hint)
    return given
