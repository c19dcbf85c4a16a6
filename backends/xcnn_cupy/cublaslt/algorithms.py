"""Products lead to algorithms: by cublasLt's guess or by measuring, and then they are kept."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from xcnn.errors import BackendError
from xcnn_cupy.answers import Answers, Refused
from xcnn_cupy.cublaslt.algorithm import Algorithm, Matrices, allowed_reductions
from xcnn_cupy.cublaslt.choices import Chosen
from xcnn_cupy.cublaslt.constants import NOT_SUPPORTED, Preference
from xcnn_cupy.cublaslt.descriptors import Descriptor
from xcnn_cupy.cublaslt.library import AlgoBytes, CublasLtError, Heuristic
from xcnn_cupy.cublaslt.product import Product
from xcnn_cupy.shared_library import Handle

MOST = 16
"""Algorithms that are asked for."""
log = logging.getLogger("xcnn")


class Algorithms(Answers[Product, Algorithm]):
    """The algorithms for one GPU. Threads may share it.

    Parameters
    ----------
    handle
        cublasLt, on this GPU
    measure, glance
        as Answers has them
    """

    def __init__(
        self,
        handle: Handle,
        measure: Callable[[Algorithm], float] | None = None,
        glance: Callable[[Algorithm], float] | None = None,
    ) -> None:
        super().__init__(measure, glance)
        self.handle, self.library = handle, handle.library
        self.chosen: dict[str, Chosen] = {}
        """By the products' keys."""

    def take(self, chosen: Mapping[str, Chosen]) -> None:
        """Take choices for products that are not answered yet."""
        with self._lock:
            self.chosen = {**chosen, **self.chosen}

    def taken(self, product: Product, compare: Callable[[Algorithm], bool]) -> bool:
        """Whether a product is computed by its algorithm, where there is another way; `compare` is asked once."""
        algorithm = self.answer(product)
        with self._lock:
            chosen = self.chosen[product.key]
            taken = chosen.taken
            if taken is None:
                taken = compare(algorithm)
                self.chosen[product.key] = replace(chosen, taken=taken)
        return taken

    def error(self, question: Product, refused: Refused) -> BackendError:
        """That there is no algorithm, and why."""
        told = refused.told() or ["cublasLt proposed no algorithm"]
        return BackendError("X305", f"cublasLt has no algorithm for this product in {question.dtype}.", *told)

    def proposed(self, question: Product, refused: Refused) -> Iterator[Algorithm]:
        """Algorithms in cublasLt's order; `refused` learns why others are left out."""
        matrices, found, count = Matrices.of(self.library, question), (Heuristic * MOST)(), ctypes.c_int()
        preference = self._preference(question)
        try:
            status = self.library.functions.cublasLtMatmulAlgoGetHeuristic(
                self.handle.address, *matrices.addresses, preference.address,
                MOST, ctypes.addressof(found), ctypes.addressof(count),
            )  # fmt: skip
            self.library.check(status, "propose algorithms", question.key)
        except CublasLtError as error:  # there are other ways to multiply, but this one should be mended
            if error.status != NOT_SUPPORTED:
                log.warning("%s", str(error))  # the error itself would keep the handle
            refused.add(f"cublasLt's answer was {error.name}")
            return
        for one in found[: count.value]:
            if one.state == 0:
                yield from self._fitting(Algorithm(self.handle, matrices, one.algo, one.workspace_size), refused)

    def kept(self, question: Product) -> Algorithm | None:
        """The algorithm that a file names, if it does, and if it still runs."""
        chosen = self.chosen.get(question.key)
        if chosen is None or (self.measure is not None and not chosen.measured):
            return None
        refused, matrices, checked = Refused(), Matrices.of(self.library, question), Heuristic()
        data = AlgoBytes.from_buffer_copy(bytes.fromhex(chosen.algorithm))
        try:
            status = self.library.functions.cublasLtMatmulAlgoCheck(
                self.handle.address, *matrices.addresses, ctypes.addressof(data), ctypes.addressof(checked)
            )
            self.library.check(status, "take an algorithm that was kept", question.key)
            found = Algorithm(self.handle, matrices, data, checked.workspace_size)
            if fitting := next(self._fitting(found, refused), None):
                return fitting
        except CublasLtError as error:
            refused.add(error.message)
        log.warning("an algorithm that was kept is chosen anew, for the %s: %s", question.key, refused.told())
        return None

    def keep(self, question: Product, answer: Algorithm) -> None:
        """Let files name this algorithm."""
        self.chosen[question.key] = Chosen(answer.choice, measured=self.measure is not None)

    def _fitting(self, found: Algorithm, refused: Refused) -> Iterator[Algorithm]:
        """The algorithm, if it does what its product asks."""
        product = found.matrices.product
        try:
            reason = found.refusal()
        except CublasLtError as error:
            refused.add(error.message)
            return
        if reason is None and found.workspace > product.workspace:
            reason = f"it wants more than {product.workspace:,} bytes of workspace"
        if reason is None:
            yield found
        else:
            refused.add(reason, found.engine_number)

    def _preference(self, product: Product) -> Descriptor:
        """What cublasLt has to keep to."""
        preference = Descriptor(self.library, "MatmulPreference")
        preference.set(Preference.MAX_WORKSPACE_BYTES, product.workspace)
        preference.set(Preference.REDUCTION_SCHEME_MASK, allowed_reductions(product))
        for matrix in "ABCD":
            preference.set(Preference[f"MIN_ALIGNMENT_{matrix}_BYTES"], product.alignment)
        return preference
