"""Questions lead to plans: found once, by cuDNN's guess or by measuring, and then kept.

What was chosen can be written to a file, so that the next run takes the same engines, and adds up in the same order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xcnn.errors import BackendError, DeviceMemoryError
from xcnn_cupy.answers import Answers, Refused
from xcnn_cupy.cudnn.choices import Chosen, read, write
from xcnn_cupy.cudnn.constants import NOT_SUPPORTED, HeurMode
from xcnn_cupy.cudnn.engines import Choice, Engine, heuristics, rebuilt
from xcnn_cupy.cudnn.graph import graph_of
from xcnn_cupy.cudnn.library import CudnnError, Library
from xcnn_cupy.cudnn.plan import Plan
from xcnn_cupy.cudnn.question import Question
from xcnn_cupy.cudnn.target import Target

log = logging.getLogger("xcnn")


class Plans(Answers[Question, Plan]):
    """The plans for one GPU. Threads may share it.

    Parameters
    ----------
    library
        cuDNN
    target
        the GPU
    measure, glance
        as Answers has them
    keeps_nan
        tells of a plan that ends in an activation whether a NaN passes through it, by running it: one that loses it is
        refused. Without this function all are taken
    """

    def __init__(
        self,
        library: Library,
        target: Target,
        measure: Callable[[Plan], float] | None = None,
        glance: Callable[[Plan], float] | None = None,
        keeps_nan: Callable[[Plan], bool] | None = None,
    ) -> None:
        super().__init__(measure, glance)
        self.library, self.target, self.keeps_nan = library, target, keeps_nan
        self._chosen: dict[str, Chosen] = {}
        self._properties = target.properties(library)

    def plan(self, question: Question) -> Plan:
        """The plan for a question, the same one every time.

        Raises
        ------
        BackendError
            X305, where cuDNN has none.
        """
        return self.answer(question)

    def error(self, question: Question, refused: Refused) -> BackendError:
        """That there is no plan, and why."""
        told = refused.told()
        return BackendError(
            "X305",
            f"cuDNN has no plan for this {question.map} map in {question.dtype}.",
            question.key,
            *(told or ["cuDNN proposed no engine"]),
            hint='use algorithm "gemm"' + (", or allow what was refused." if told else "."),
        )

    def save(self, path: str | Path, products: Mapping[str, Any] | None = None) -> None:
        """Write what was chosen to a file, with what was chosen of cublasLt."""
        with self._lock:
            write(path, self.library.version, self.target.name, self._chosen, products)

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

    def kept(self, question: Question) -> Plan | None:
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

    def keep(self, question: Question, answer: Plan) -> None:
        """Let files name this plan."""
        self._chosen[question.key] = Chosen(answer.choice, measured=self.measure is not None)

    def proposed(self, question: Question, refused: Refused) -> Iterator[Plan]:
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
                if plan is None:
                    continue
                if self._loses_nan(plan, refused):  # its kin do as it does, and there is another way: our own kernel
                    return
                found = True
                yield plan

    def _loses_nan(self, plan: Plan, refused: Refused) -> bool:
        """Whether a NaN does not pass through a plan that ends in an activation, as far as that can be asked."""
        if plan.question.activation is None or self.keeps_nan is None:
            return False
        try:
            lost, reason = not self.keeps_nan(plan), "a NaN does not pass through it"
        except (BackendError, DeviceMemoryError) as error:
            lost, reason = True, error.message
        if lost:
            refused.add(reason, plan.engine_number)
        return lost

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
