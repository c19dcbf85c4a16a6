"""Learning rates that change: a schedule is a value that maps the number of steps taken to a learning rate.

A factor may be above 1, so that rates grow until training diverges, as in a search for the largest good one.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import cos, inf, pi
from typing import TYPE_CHECKING, Any

from xcnn.core.checks import check_between, check_rate, check_whole, is_number, plain
from xcnn.core.names import absent
from xcnn.core.options import checked
from xcnn.errors import OptionError, short


class Schedule:
    """schedule(step) -> learning rate, step counting from 0.

    Examples
    --------
    >>> class Hyperbola(xcnn.schedules.Schedule):
    ...     def __call__(self, step):
    ...         return 0.1 / (1 + step)
    >>> xcnn.SGD(Hyperbola()).learning_rate(9)
    0.01
    """

    @property
    def is_given(self) -> bool:
        """Whether it gives what a compiled step is given: an array, or what stands for it in a tracer."""
        return False

    def __call__(self, step: int) -> float:
        """The learning rate of this step."""
        raise NotImplementedError


@checked
@dataclass(frozen=True)
class Constant(Schedule):
    """The same `rate` at every step, the default of a plain number.

    Parameters
    ----------
    rate
        at least 0

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.schedules.Constant(0.1)(1000)
    0.1
    """

    rate: float

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)

    def __call__(self, step: int) -> float:
        step = check_whole("step", step, least=0)
        return self.rate


@checked
@dataclass(frozen=True)
class Step(Schedule):
    """rate · factor^(step // every).

    Parameters
    ----------
    rate
        of the first steps
    every
        steps from a change to the next
    factor
        what the rate is multiplied by then

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> [xcnn.schedules.Step(1.0, every=100)(step) for step in (0, 99, 100)]
    [1.0, 1.0, 0.1]
    """

    rate: float
    every: int
    _: KW_ONLY
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)
        check_whole("every", self.every)
        check_rate("factor", self.factor)

    def __call__(self, step: int) -> float:
        step = check_whole("step", step, least=0)
        return self.rate and self.rate * power(self.factor, step // self.every)  # 0 times infinity is no number


@checked
@dataclass(frozen=True)
class Exponential(Schedule):
    """rate · factor^(step / every).

    Parameters
    ----------
    rate
        of step 0
    every
        steps in which it changes by the factor
    factor
        what the rate is multiplied by in so many

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> [round(xcnn.schedules.Exponential(0.1, every=100, factor=0.5)(step), 4) for step in (0, 50, 100)]
    [0.1, 0.0707, 0.05]
    """

    rate: float
    every: int
    _: KW_ONLY
    factor: float = 0.96

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)
        check_whole("every", self.every)
        check_rate("factor", self.factor)

    def __call__(self, step: int) -> float:
        step = check_whole("step", step, least=0)
        return self.rate and self.rate * power(self.factor, step / self.every)


@checked
@dataclass(frozen=True)
class Cosine(Schedule):
    """From `rate` to `final` in half a cosine over `steps`, then constant: Loshchilov and Hutter 2017, equation 5.

    Parameters
    ----------
    rate
        of step 0
    steps
        from `rate` to `final`
    final
        the rate afterwards

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> [round(xcnn.schedules.Cosine(0.1, steps=100)(step), 4) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    rate: float
    steps: int
    _: KW_ONLY
    final: float = 0.0

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)
        check_rate("final", self.final)
        check_whole("steps", self.steps)

    def __call__(self, step: int) -> float:
        step = check_whole("step", step, least=0)
        done = min(step / self.steps, 1.0)
        return self.final + (self.rate - self.final) * (1 + cos(pi * done)) / 2


@checked
@dataclass(frozen=True)
class WarmUp(Schedule):
    """Up to the first rate of `then` in equal steps, from 1 / steps of it on; after that `then` from its start.

    Parameters
    ----------
    steps
        of the rise
    then
        the schedule after it, or a rate

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> [xcnn.schedules.WarmUp(4, 0.1)(step) for step in (0, 3, 4)]
    [0.025, 0.1, 0.1]
    """

    steps: int
    then: Schedule | float

    def __post_init__(self) -> None:
        if not isinstance(self.then, Schedule):
            check_rate("then", self.then)
        check_whole("steps", self.steps)

    def __call__(self, step: int) -> float:
        step = check_whole("step", step, least=0)
        if step < self.steps:
            return learning_rate(self.then, 0) * (step + 1) / self.steps
        return learning_rate(self.then, step - self.steps)


@checked
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from rate / 25 to `rate` and down to rate / 250000, each in half a cosine: Smith and Topin 2018.

    `steps` in all, the first `rise` of them upwards; start = rate / `start`, end = start / `end`, as PyTorch has it.

    Parameters
    ----------
    rate
        the largest
    steps
        in all
    rise
        the share of the steps that go up, between 0 and 1
    start
        `rate` by the first rate
    end
        the first rate by the last

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> [round(xcnn.schedules.OneCycle(0.1, steps=100)(step), 4) for step in (0, 30, 100)]
    [0.004, 0.0999, 0.0]
    """

    rate: float
    steps: int
    _: KW_ONLY
    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)
        check_whole("steps", self.steps, least=2)
        check_between("rise", self.rise, 0, 1)
        check_between("start", self.start, 1, inf)  # both divide the rate
        check_between("end", self.end, 1, inf)

    def __call__(self, step: int) -> float:
        step = check_whole("step", step, least=0)
        first, top = self.rate / self.start, self.rise * self.steps - 1
        last = first / self.end
        if step <= top and top > 0:
            return first + (self.rate - first) * (1 - cos(pi * step / top)) / 2
        down = min((step - top) / (self.steps - 1 - top), 1.0)
        return last + (self.rate - last) * (1 + cos(pi * down)) / 2


@checked
@dataclass(frozen=True)
class Scaled(Schedule):
    """factor · then, and at least `least`, but not above `then` itself.

    Parameters
    ----------
    then
        a schedule, or a rate
    factor
        what it is multiplied by
    least
        the smallest rate

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.schedules.Scaled(xcnn.schedules.Step(1.0, every=100), 0.5)(100)
    0.05
    """

    then: Schedule | float
    factor: float
    _: KW_ONLY
    least: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.then, Schedule):
            check_rate("then", self.then)
        check_rate("factor", self.factor)
        check_rate("least", self.least)

    @property
    def is_given(self) -> bool:
        return isinstance(self.then, Schedule) and self.then.is_given

    def __call__(self, step: int) -> float:
        rate = learning_rate(self.then, step)
        return rate * self.factor if not self.least else max(rate * self.factor, min(self.least, rate))


@dataclass(frozen=True)
class Shifted(Schedule):
    """A schedule that began with another step than the optimizer's first, as a Model knows (TrainingState).

    Parameters
    ----------
    schedule
        whose steps are counted otherwise
    offset
        its step less the optimizer's
    """

    schedule: Schedule
    offset: int

    def __call__(self, step: int) -> float:
        return learning_rate(self.schedule, max(step + self.offset, 0))


@dataclass(frozen=True)
class Given(Schedule):
    """The rate that a compiled step is given with its other arguments: an array, or what stands for it in a tracer.

    Parameters
    ----------
    rate
        an array without axes
    """

    rate: Any

    @property
    def is_given(self) -> bool:
        return True

    def __call__(self, step: int) -> Any:
        return self.rate


SCHEDULES = {cls.__name__: cls for cls in (Constant, Cosine, Exponential, OneCycle, Scaled, Step, WarmUp)}


def cosine_by_epochs(
    rate: float, *, epochs: int, samples: int, batch_size: int, warm_up: float = 0.0, final: float = 0.0
) -> Schedule:
    """Up to `rate` in the epochs of `warm_up`, in equal steps, then in half a cosine to `final` as the last one ends.

    Parameters
    ----------
    rate
        the largest
    epochs
        in all
    samples, batch_size
        of which an epoch has samples / batch_size steps, rounded up
    warm_up
        epochs of the rise, also parts of one
    final
        the rate afterwards

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> schedule = xcnn.schedules.cosine_by_epochs(0.1, epochs=30, samples=60000, batch_size=128, warm_up=3)
    >>> schedule(469 * 3 - 1), schedule(469 * 30)
    (0.1, 0.0)
    """
    check_whole("epochs", epochs)
    check_whole("samples", samples)
    check_whole("batch_size", batch_size)
    check_between("warm_up", warm_up, 0, epochs)
    each = -(-samples // batch_size)
    rise = round(warm_up * each)
    cosine = Cosine(rate, max(epochs * each - rise, 1), final=final)
    return WarmUp(rise, cosine) if rise else cosine


def learning_rate(rate: Schedule | float, step: int) -> float:
    """The learning rate of this step.

    Parameters
    ----------
    rate
        a schedule, or a number
    step
        counted from 0

    Raises
    ------
    OptionError
        X104, where a schedule gives something else than a finite number of at least 0.

    Examples
    --------
    >>> xcnn.schedules.learning_rate(0.1, 7), xcnn.schedules.learning_rate(xcnn.schedules.Step(1.0, 5), 7)
    (0.1, 0.1)
    """
    if not isinstance(rate, Schedule):
        return float(rate)
    value = rate(step)
    if rate.is_given:
        return value
    number: Any = plain(value)
    if not is_number(number) or not 0 <= number < inf:
        raise OptionError(
            "X104",
            f"{type(rate).__name__}: the learning rate of step {step} is {short(value)}; "
            "it must be a finite number of at least 0.",
            f"by {short(rate)}",
        )
    return float(number)


def is_idle(rate: Schedule | float, steps: range) -> bool:
    """Whether the learning rate of each of these steps is 0."""
    return all(learning_rate(rate, step) == 0 for step in (steps if isinstance(rate, Schedule) else steps[:1]))


def power(factor: float, exponent: float) -> float:
    """factor^exponent, infinite where it is beyond all numbers."""
    try:
        return float(factor**exponent)
    except OverflowError:
        return inf


__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Exponential",
    "OneCycle",
    "Scaled",
    "Schedule",
    "Step",
    "WarmUp",
    "cosine_by_epochs",
    "learning_rate",
]

if not TYPE_CHECKING:
    __getattr__ = absent("xcnn.schedules", "schedule", __all__)
