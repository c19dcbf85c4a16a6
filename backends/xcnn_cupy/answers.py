"""Questions to NVIDIA's libraries lead to answers: found once, by a library's own guess or by measuring, then kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from xcnn.errors import BackendError, DeviceMemoryError

MOST_EXACT, TOO_SLOW = 10, 3.0
"""How many answers are measured exactly, and how many times the fastest one's time, at a glance, is too much for it."""


@dataclass
class Refused:
    """Why no answer came of some engines: for each reason their numbers."""

    reasons: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, *engines: int) -> None:
        """Note a reason; without an engine's number it holds for all."""
        numbers = self.reasons.setdefault(reason, [])
        numbers += [number for number in engines if number not in numbers]

    def told(self) -> list[str]:
        """Each reason as a line."""
        return [
            f"refused engine{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: {reason}"
            if numbers
            else reason
            for reason, numbers in self.reasons.items()
        ]


class Answer(Protocol):
    """What does what a question asks."""

    @property
    def engine_number(self) -> int:
        """The engine's, as the library counts them."""
        ...


Q = TypeVar("Q")
A = TypeVar("A", bound=Answer)


class Answers(Generic[Q, A]):
    """The answers for one GPU. Threads may share it.

    Parameters
    ----------
    measure
        gives the median of an answer's seconds; then the fastest is chosen, else the first that is proposed. One is
        passed over whose measure raises BackendError or DeviceMemoryError.
    glance
        gives an answer's seconds in less time, and not as well: only those that it finds promising are measured
    """

    def __init__(self, measure: Callable[[A], float] | None = None, glance: Callable[[A], float] | None = None) -> None:
        self.measure, self.glance = measure, glance
        self._found: dict[Q, A | Refused] = {}
        self._lock = threading.RLock()

    # What a subclass gives.

    def proposed(self, question: Q, refused: Refused) -> Iterator[A]:
        """Every answer, the library's best guess first; `refused` learns why others are left out."""
        raise NotImplementedError

    def kept(self, question: Q) -> A | None:
        """The answer that a file names, if it does, and if the library still has it."""
        raise NotImplementedError

    def keep(self, question: Q, answer: A) -> None:
        """Let files name what was chosen."""
        raise NotImplementedError

    def error(self, question: Q, refused: Refused) -> BackendError:
        """That there is no answer, and why."""
        raise NotImplementedError

    # What it does with them.

    def answer(self, question: Q) -> A:
        """The answer to a question, the same one every time.

        Raises
        ------
        BackendError
            X305, where there is none.
        """
        found = self._answer(question)
        if isinstance(found, Refused):
            raise self.error(question, found)
        return found

    def answers(self, question: Q) -> bool:
        """Whether there is one."""
        return not isinstance(self._answer(question), Refused)

    def candidates(self, question: Q) -> Iterator[A]:
        """Every answer to a question, the library's best guess first."""
        return self.proposed(question, Refused())

    def _answer(self, question: Q) -> A | Refused:
        found = self._found.get(question)
        if found is None:
            with self._lock:  # one thread finds, and measures undisturbed; the others wait for what it finds
                found = self._found.get(question)
                if found is None:
                    found = self._found[question] = self.kept(question) or self._choose(question)
        return found

    def _choose(self, question: Q) -> A | Refused:
        """The first answer, or the fastest where they are measured."""
        refused = Refused()
        candidates = self.proposed(question, refused)
        found = next(candidates, None) if self.measure is None else self._fastest(candidates, self.measure, refused)
        if found is None:
            return refused
        self.keep(question, found)
        return found

    def _fastest(self, candidates: Iterator[A], measure: Callable[[A], float], refused: Refused) -> A | None:
        """The answer of the least time; of those that are equally fast the first."""
        if self.glance is not None:
            candidates = iter(promising(list(self._timed(candidates, self.glance, refused))))
        timed = list(self._timed(candidates, measure, refused))
        return min(timed, key=lambda each: each[1])[0] if timed else None

    def _timed(
        self, candidates: Iterator[A], measure: Callable[[A], float], refused: Refused
    ) -> Iterator[tuple[A, float]]:
        """Each answer that runs, and its seconds; `refused` learns why others do not."""
        for one in candidates:
            try:
                yield one, measure(one)
            except (BackendError, DeviceMemoryError) as error:  # the others may run all the same
                refused.add(error.message, one.engine_number)


T = TypeVar("T")


def promising(timed: Sequence[tuple[T, float]]) -> list[T]:
    """Those that may be the fastest, by a glance at their seconds, in the order in which they came."""
    least = min((seconds for _, seconds in timed), default=0.0)
    near = sorted((seconds, n) for n, (_, seconds) in enumerate(timed) if seconds <= TOO_SLOW * least)
    return [timed[n][0] for n in sorted(n for _, n in near[:MOST_EXACT])]
