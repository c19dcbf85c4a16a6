"""Questions lead to plans: found once, by cuDNN's guess or by measuring, and then kept.

What was chosen can be written to a file, so that the next run takes the same engines, and adds up in the same order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xcnn.errors import BackendError, DeviceMemoryError
from xcnn_cupy.cudnn.choices import Chosen, read, write
from xcnn_cupy.cudnn.constants import NOT_SUPPORTED, HeurMode
from xcnn_cupy.cudnn.engines import Choice, Engine, heuristics, rebuilt
from xcnn_cupy.cudnn.graph import graph_of
from xcnn_cupy.cudnn.library import CudnnError, Library
from xcnn_cupy.cudnn.plan import Plan
from xcnn_cupy.cudnn.question import Question
from xcnn_cupy.cudnn.target import Target

MOST_EXACT, TOO_SLOW = 10, 3.0
"""How many plans are measured exactly, and how many times the fastest one's time, at a glance, is too much for it."""
log = logging.getLogger("xcnn")


@dataclass
class Refused:
    """Why no plan came of some engines: for each reason their numbers."""

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

    def error(self, question: Question) -> BackendError:
        """That there is no plan, and why."""
        told = self.told()
        return BackendError(
            "X305",
            f"cuDNN has no plan for this {question.map} map in {question.dtype}.",
            question.key,
            *(told or ["cuDNN proposed no engine"]),
            hint='use algorithm "gemm"' + (", or allow what was refused." if told else "."),
        )


class Plans:
    """The plans for one GPU. Threads may share it.

    Parameters
    ----------
    library
        cuDNN
    target
        the GPU
    measure
        gives the median of a plan's seconds; then the fastest plan is chosen, else the first that cuDNN proposes. A
        plan is passed over whose measure raises CudnnError or DeviceMemoryError.
    glance
        gives a plan's seconds in less time, and not as well: only plans that it finds promising are measured
    """

    def __init__(
        self,
        library: Library,
        target: Target,
        measure: Callable[[Plan], float] | None = None,
        glance: Callable[[Plan], float] | None = None,
    ) -> None:
        self.library, self.target, self.measure, self.glance = library, target, measure, glance
        self._plans: dict[Question, Plan | Refused] = {}
        self._chosen: dict[str, Chosen] = {}
        self._lock = threading.RLock()
        self._properties = target.properties(library)

    def plan(self, question: Question) -> Plan:
        """The plan for a question, the same one every time.

        Raises
        ------
        BackendError
            X305, where cuDNN has none.
        """
        found = self._answer(question)
        if isinstance(found, Refused):
            raise found.error(question)
        return found

    def answers(self, question: Question) -> bool:
        """Whether there is a plan for it."""
        return isinstance(self._answer(question), Plan)

    def candidates(self, question: Question) -> Iterator[Plan]:
        """Every plan that does what the question asks, cuDNN's best guess first."""
        return self._candidates(question, Refused())

    def save(self, path: str | Path) -> None:
        """Write what was chosen to a file."""
        with self._lock:
            write(path, self.library.version, self.target.name, self._chosen)

    def load(self, path: str | Path) -> None:
        """Take the choices of a file for questions that are not answered yet.

        A file for another version of cuDNN, or another GPU, is passed over.

        Raises
        ------
        BackendError
            X307, for a damaged file.
        """
        chosen = read(path, self.library.version, self.target.name)
        with self._lock:
            self._chosen = chosen | self._chosen

    def _answer(self, question: Question) -> Plan | Refused:
        found = self._plans.get(question)
        if found is None:
            with self._lock:  # one thread finds, and measures undisturbed; the others wait for what it finds
                found = self._plans.get(question)
                if found is None:
                    found = self._plans[question] = self._chosen_before(question) or self._choose(question)
        return found

    def _chosen_before(self, question: Question) -> Plan | None:
        """The plan that a file names, if it does, and if cuDNN still makes it."""
        chosen = self._chosen.get(question.key)
        if chosen is None or (self.measure is not None and not chosen.measured):
            return None
        refused = Refused()
        try:
            handle = self.target.handle()
            graph = graph_of(self.library, question, handle)
            config = rebuilt(self.library, graph, chosen.choice, self._properties)
            plan = self._made(question, Engine.of(config), refused)
        except CudnnError as error:
            refused.add(error.message, chosen.choice.engine)
            plan = None
        if plan is None:
            log.warning("a plan that was kept is chosen anew, for the %s: %s", question.key, "; ".join(refused.told()))
        return plan

    def _choose(self, question: Question) -> Plan | Refused:
        """The first plan, or the fastest where they are measured."""
        refused = Refused()
        candidates = self._candidates(question, refused)
        plan = next(candidates, None) if self.measure is None else self._fastest(candidates, self.measure, refused)
        if plan is None:
            return refused
        self._chosen[question.key] = Chosen(plan.choice, measured=self.measure is not None)
        return plan

    def _fastest(self, candidates: Iterator[Plan], measure: Callable[[Plan], float], refused: Refused) -> Plan | None:
        """The plan of the least time; of plans that are equally fast the first."""
        if self.glance is not None:
            candidates = iter(promising(list(self._timed(candidates, self.glance, refused))))
        timed = list(self._timed(candidates, measure, refused))
        return min(timed, key=lambda each: each[1])[0] if timed else None

    def _timed(
        self, candidates: Iterator[Plan], measure: Callable[[Plan], float], refused: Refused
    ) -> Iterator[tuple[Plan, float]]:
        """Each plan that runs, and its seconds; `refused` learns why others do not."""
        for plan in candidates:
            try:
                yield plan, measure(plan)
            except (CudnnError, DeviceMemoryError) as error:  # the others may run all the same
                refused.add(error.message, plan.choice.engine)

    def _candidates(self, question: Question, refused: Refused) -> Iterator[Plan]:
        """Plans in cuDNN's order; `refused` learns why the other engines are left out."""
        seen: set[Choice] = set()
        found = False
        for mode in (HeurMode.A, HeurMode.FALLBACK):
            for engine in self._proposed(question, mode, refused):
                too_long = found and mode == HeurMode.FALLBACK and engine.is_compiled
                if engine.choice in seen or too_long:  # to compile one takes seconds, and others will do
                    continue
                seen.add(engine.choice)
                plan = self._made(question, engine, refused)
                if plan is not None:
                    found = True
                    yield plan

    def _proposed(self, question: Question, mode: HeurMode, refused: Refused) -> Iterator[Engine]:
        """The engines that cuDNN proposes for a question."""
        try:
            graph = graph_of(self.library, question, self.target.handle())
            for config in heuristics(self.library, graph, mode, self._properties):
                yield Engine.of(config)
        except CudnnError as error:
            if error.status not in NOT_SUPPORTED:
                raise
            refused.add(f"cuDNN's answer was {error.name}")

    def _made(self, question: Question, engine: Engine, refused: Refused) -> Plan | None:
        """The plan of an engine, unless it does not do what the question asks."""
        reason, plan = engine.refusal(question), None
        if reason is None:
            try:
                plan = Plan(self.library, question, engine, self.target.handle(), self._properties)
            except CudnnError as error:
                reason = f"cuDNN's answer was {error.name}"
        if plan is not None and plan.workspace > question.workspace:
            reason = f"it wants more than {question.workspace:,} bytes of workspace"
        if reason is not None:
            refused.add(reason, engine.choice.engine)
            return None
        return plan


def promising(timed: list[tuple[Plan, float]]) -> list[Plan]:
    """The plans that may be the fastest, by a glance at their seconds, in the order in which they came."""
    least = min((seconds for _, seconds in timed), default=0.0)
    near = sorted((seconds, n) for n, (_, seconds) in enumerate(timed) if seconds <= TOO_SLOW * least)
    return [timed[n][0] for n in sorted(n for _, n in near[:MOST_EXACT])]
