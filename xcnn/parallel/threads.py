"""Threads of ranks that share a machine: each rank's are for its share of the processors."""

from __future__ import annotations

import os
import sys

from xcnn.core import blas, process


def leave_room(ranks: int) -> None:
    """Let this process use its share of the processors, being one of so many ranks, unless it was told a number.

    NumPy's engine, reading and BLAS are told, PyTorch if it is there, and by the environment what is imported later.
    """
    if ranks < 2 or process.wanted() is not None:
        return
    number = max(1, process.processors() // ranks)
    process.set_threads(number)
    for library in blas.libraries()[0]:
        blas.set_threads(library, min(number, library.get_num_threads()))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(number))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(number)
