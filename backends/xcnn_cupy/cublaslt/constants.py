"""The numbers of cublasLt that are used here, under its own names less their beginnings (cublasLt.h and others)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

NOT_SUPPORTED = 15
"""The status with which cublasLt says that it has no algorithm."""


class DataType(IntEnum):
    """cudaDataType_t"""

    R_32F = 0
    R_64F = 1
    R_16F = 2
    R_16BF = 14


class ComputeType(IntEnum):
    """cublasComputeType_t"""

    COMPUTE_32F = 68
    COMPUTE_64F = 70
    COMPUTE_32F_FAST_TF32 = 77


class Operation(IntEnum):
    """cublasOperation_t"""

    OP_N = 0
    OP_T = 1


class MatmulDesc(IntEnum):
    """cublasLtMatmulDescAttributes_t"""

    TRANSA = 3
    TRANSB = 4


class Preference(IntEnum):
    """cublasLtMatmulPreferenceAttributes_t"""

    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class AlgoCap(IntEnum):
    """cublasLtMatmulAlgoCapAttributes_t"""

    NUMERICAL_IMPL_FLAGS = 15


class AlgoConfig(IntEnum):
    """cublasLtMatmulAlgoConfigAttributes_t"""

    ID = 0
    TILE_ID = 1
    SPLITK_NUM = 2
    REDUCTION_SCHEME = 3


class Reduction(IntFlag):
    """cublasLtReductionScheme_t: where the parts of a sum lie that is shared out, and in which type."""

    NONE = 0
    INPLACE = 1
    COMPUTE_TYPE = 2
    OUTPUT_TYPE = 4


class Numerical(IntFlag):
    """cublasLtNumericalImplFlags_t"""

    TENSOR_OP_MASK = 0xFE
    ACCUMULATOR_16F = 0x01 << 8
    INPUT_16F = 0x01 << 16
    INPUT_16BF = 0x02 << 16
    INPUT_TF32 = 0x04 << 16
