"""The exercises of the course (docs/course): each answer is held to xcnn, or to a closed form, on drawn numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xcnn.article import binary_cross_entropy_prime
from xcnn.backends.planes import convolve2d, correlate2d
from xcnn.core import html
from xcnn.core.names import unknown
from xcnn.core.windows import output_size
from xcnn.errors import XcnnError, short, told_by
from xcnn.model.model import Model

CODE = re.compile("`([^`]+)`")
TRIALS = 5
"""Draws that an answer is tried on."""
CLOSE = 1e-6
"""The largest relative difference of a right answer."""


@dataclass(frozen=True)
class Verdict:
    """What `check_exercise` gives: whether an answer is right, and what was seen; it shows itself.

    Parameters
    ----------
    exercise
        its name
    right
        whether the answer is right; None is not answered yet
    told
        what was seen
    """

    exercise: str
    right: bool | None
    told: str

    def __str__(self) -> str:
        return f"{ {True: 'right', False: 'not yet right', None: 'not answered yet'}[self.right] }: {self.told}".strip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return CODE.sub(r"<code>\1</code>", html.note(str(self)))


def check_exercise(exercise: str, answer: Any) -> Verdict:
    """Whether an exercise of the course is solved; what is wrong is told, and nothing is raised for it.

    Parameters
    ----------
    exercise
        its name, as it stands in the notebook
    answer
        a function, a number or a model, as the exercise asks; `...` is none yet

    Raises
    ------
    OptionError
        X104, for an exercise that there is none of.

    Examples
    --------
    >>> xcnn.testing.check_exercise("descend", lambda w, gradient, rate: w - rate * gradient)
    right: on 5 draws
    """
    if not isinstance(exercise, str) or exercise not in EXERCISES:
        raise unknown("exercise", exercise, EXERCISES)
    if answer is ... or answer is None:
        return Verdict(exercise, None, "put your answer in place of the dots.")
    try:
        return Verdict(exercise, True, EXERCISES[exercise](answer))
    except NotImplementedError:
        return Verdict(exercise, None, "put your answer in place of `raise NotImplementedError`.")
    except _WrongError as wrong:
        return Verdict(exercise, False, str(wrong))
    except Exception as error:  # of a learner's own code, any
        return Verdict(exercise, False, f"it raised {told_by(error)}")


class _WrongError(Exception):
    """Carries what is wrong with an answer."""


Draw = Callable[[np.random.Generator], tuple[Any, ...]]


def compared(solution: Callable[..., Any], draw: Draw) -> Callable[[Callable[..., Any]], str]:
    """A check that calls the answer with drawn numbers, and compares it with the solution."""

    def check(answer: Callable[..., Any]) -> str:
        if not callable(answer):
            raise _WrongError(f"the answer is a function; got {short(answer)}.")
        rng = np.random.default_rng(0)
        for _ in range(TRIALS):
            given = draw(rng)
            expected = np.asarray(solution(*given), "float64")
            found = answer(*(np.array(each) if isinstance(each, np.ndarray) else each for each in given))
            if found is None or found is ...:
                raise NotImplementedError
            same_numbers(np.asarray(found, "float64"), expected, given)
        return f"on {TRIALS} draws"

    return check


def same_numbers(found: Any, expected: Any, given: tuple[Any, ...]) -> None:
    """Raise unless both are the same numbers, with the first that differs."""
    sizes = ", ".join(str(each.shape) if isinstance(each, np.ndarray) else short(each) for each in given)
    if found.shape != expected.shape:
        raise _WrongError(f"of {sizes} its shape is {found.shape}; it should be {expected.shape}.")
    off = np.abs(found - expected)
    if not (off <= CLOSE * max(float(np.abs(expected).max()), 1.0)).all():
        at = np.unravel_index(int(np.nanargmax(np.where(np.isnan(off), np.inf, off))), off.shape)
        where = f" at {[int(n) for n in at]}" if at else ""
        raise _WrongError(f"of {sizes} it is {found[at]:.6g}{where}; it should be {expected[at]:.6g}.")


def layer_forward(x: Any, k: Any, b: Any) -> Any:
    """The article's: Y_i = B_i + sum over j of X_j correlated with K_ij."""
    return np.stack([b[i] + sum(correlate2d(x[j], k[i, j]) for j in range(len(x))) for i in range(len(k))])


def _planes(rng: np.random.Generator) -> tuple[Any, ...]:
    h, w = rng.integers(1, 4, 2)
    return rng.normal(size=(h + rng.integers(0, 4), w + rng.integers(1, 5))), rng.normal(size=(h, w))


def _layer(rng: np.random.Generator) -> tuple[Any, ...]:
    i, j, h, w = rng.integers(1, 4, 4)
    x, k = rng.normal(size=(j, h + 3, w + 2)), rng.normal(size=(i, j, h, w))
    return x, k, rng.normal(size=(i, 4, 3))


def _way_back(rng: np.random.Generator) -> tuple[Any, ...]:
    x, k = _planes(rng)
    return x, rng.normal(size=correlate2d(x, k).shape)


def _sizes(rng: np.random.Generator) -> tuple[Any, ...]:
    n, kernel, padding, stride = (int(m) for m in rng.integers((7, 1, 0, 1), (30, 7, 3, 4)))
    return n, kernel, padding, stride


def _probabilities(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.integers(0, 2, 4).astype("float64"), rng.uniform(0.05, 0.95, 4)


def _weights(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), float(rng.uniform(0.01, 1))


def _slope(rng: np.random.Generator) -> tuple[Any, ...]:
    w = rng.normal(size=3)
    return lambda at: float(np.sum(np.asarray(at) ** 3)), w, int(rng.integers(3))


def _of_digits(answer: Any) -> str:
    """A model that tells zeros from ones, on digits that it was not trained on."""
    from xcnn.data import mnist01

    if not isinstance(answer, Model):
        raise _WrongError(f"the answer is a Model; got {short(answer)}.")
    test = mnist01().test
    accuracy = answer.evaluate(test.x[:500], test.y[:500]).get("accuracy", 0.0)
    if not accuracy >= 0.97:
        raise _WrongError(f"of 500 digits {accuracy:.1%} are told right; train until 97 % are.")
    return f"{accuracy:.1%} of 500 digits"


def _of_backends(answer: Any) -> str:
    """The name of a backend that can be used here."""
    from xcnn.backends.selector import backend

    try:
        found = backend(answer)
    except XcnnError as error:
        raise _WrongError(error.summary) from error
    return f"{found.spec} on {found.device_name}"


EXERCISES: dict[str, Callable[[Any], str]] = {
    "slide": compared(correlate2d, _planes),
    "sizes": compared(lambda n, k, p, s: output_size((n, n), (k, k), (s, s), ((p, p), (p, p)))[0], _sizes),
    "convolve": compared(lambda x, k: convolve2d(x, k, "full"), _planes),
    "forward": compared(layer_forward, _layer),
    "kernel_gradient": compared(correlate2d, _way_back),
    "input_gradient": compared(lambda dy, k: convolve2d(dy, k, "full"), _planes),
    "loss_prime": compared(binary_cross_entropy_prime, _probabilities),
    "descend": compared(lambda w, gradient, rate: w - rate * gradient, _weights),
    "difference": compared(lambda f, w, at: 3 * w[at] ** 2, _slope),
    "digits": _of_digits,
    "backend": _of_backends,
}
"""By name: what raises for a wrong answer, and tells of a right one."""
