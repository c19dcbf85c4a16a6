"""Products of matrices on CUDA."""

from __future__ import annotations

from xcnn_strided import Gemm


def products(workspace: int) -> Gemm:
    """The algorithm, for so many bytes of workspace."""
    return Gemm(workspace // 4)
