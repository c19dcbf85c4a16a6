"""An algorithm of cublasLt's, ready to compute one product again and again."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

from xcnn.errors import OptionError
from xcnn_cupy.cublaslt.constants import (
    AlgoCap,
    AlgoConfig,
    ComputeType,
    DataType,
    MatmulDesc,
    Numerical,
    Operation,
    Reduction,
)
from xcnn_cupy.cublaslt.descriptors import Descriptor
from xcnn_cupy.cublaslt.library import AlgoBytes
from xcnn_cupy.cublaslt.product import Product
from xcnn_cupy.shared_library import Handle, Library

DATA_TYPES = {
    "float32": DataType.R_32F,
    "float64": DataType.R_64F,
    "float16": DataType.R_16F,
    "bfloat16": DataType.R_16BF,
}
FACTORS = {name: (ctypes.c_double if name == "float64" else ctypes.c_float) for name in DATA_TYPES}
"""The types of alpha and beta, C = alpha A B + beta C: those of the sums."""


@dataclass(frozen=True)
class Matrices:
    """The descriptors of a product.

    What lies row by row is the transpose to cublasLt, which counts column by column. So it is asked for Cᵀ = Bᵀ Aᵀ, and
    its first matrix is B.
    """

    product: Product
    operation: Descriptor
    first: Descriptor
    second: Descriptor
    result: Descriptor

    @staticmethod
    def of(library: Library, product: Product) -> Matrices:
        """Made by the library."""
        kind = DATA_TYPES[product.dtype]
        scale = DataType.R_64F if product.dtype == "float64" else DataType.R_32F
        operation = Descriptor(library, "MatmulDesc", compute_type(product), scale)
        operation.set(MatmulDesc.TRANSA, Operation.OP_T if product.b_turned else Operation.OP_N)
        operation.set(MatmulDesc.TRANSB, Operation.OP_T if product.a_turned else Operation.OP_N)

        def layout(rows: int, columns: int, turned: bool = False) -> Descriptor:
            if turned:
                rows, columns = columns, rows
            return Descriptor(library, "MatrixLayout", kind, columns, rows, columns)

        return Matrices(
            product,
            operation,
            layout(product.inner, product.columns, product.b_turned),
            layout(product.rows, product.inner, product.a_turned),
            layout(product.rows, product.columns),
        )

    @property
    def addresses(self) -> tuple[int, ...]:
        """As cublasLt's functions take them: the operation, A, B, C and D."""
        return tuple(one.address for one in (self.operation, self.first, self.second, self.result, self.result))


def compute_type(product: Product) -> ComputeType:
    """What products are summed in, and whether float32 may be rounded before."""
    if product.dtype == "float64":
        return ComputeType.COMPUTE_64F
    is_tf32 = product.dtype == "float32" and product.math == "tf32"
    return ComputeType.COMPUTE_32F_FAST_TF32 if is_tf32 else ComputeType.COMPUTE_32F


class Algorithm:
    """A configured algorithm.

    `workspace` is how many bytes it wants beside the matrices.
    """

    def __init__(self, handle: Handle, matrices: Matrices, data: AlgoBytes, workspace: int) -> None:
        self.handle, self.matrices, self.workspace = handle, matrices, workspace
        self.data = AlgoBytes.from_buffer_copy(data)
        factor = FACTORS[matrices.product.dtype]
        self.one, self.zero = factor(1.0), factor(0.0)

    @property
    def choice(self) -> str:
        """The algorithm as 128 hexadecimal digits: enough to have the very same one again."""
        return bytes(self.data).hex()

    @property
    def engine_number(self) -> int:
        """Its number, as cublasLt counts them."""
        return self.config(AlgoConfig.ID)

    @property
    def parts(self) -> int:
        """Into how many parts the sums are cut that run side by side."""
        return max(self.config(AlgoConfig.SPLITK_NUM), 1)

    def config(self, attribute: AlgoConfig) -> int:
        """One of the algorithm's settings."""
        cell = ctypes.c_int32()
        self._read("Config", attribute, cell)
        return cell.value

    def refusal(self) -> str | None:
        """Why its numbers are not what the product asks for; None if they are."""
        product, cell = self.matrices.product, ctypes.c_uint64()
        self._read("Cap", AlgoCap.NUMERICAL_IMPL_FLAGS, cell)
        flags, scheme = Numerical(cell.value), Reduction(self.config(AlgoConfig.REDUCTION_SCHEME))
        if Numerical.ACCUMULATOR_16F in flags:
            return "it sums in less than float32"
        if scheme and scheme not in allowed_reductions(product):
            return "it adds parts up in another order each time, or in less than float32"
        if product.dtype == "float32" and product.math == "float32":
            if flags & (Numerical.INPUT_TF32 | Numerical.INPUT_16F | Numerical.INPUT_16BF):
                return "it rounds float32 to fewer bits"
            if flags & Numerical.TENSOR_OP_MASK:
                return "it multiplies float32 on tensor cores"
        return None

    def execute(self, stream: int, arrays: Mapping[str, int], workspace: int = 0) -> None:
        """Put the product in line on a stream.

        Parameters
        ----------
        stream
            of the handle's GPU
        arrays
            the addresses of "a", "b" and "c"
        workspace
            the address of as many bytes as the algorithm wants

        Raises
        ------
        OptionError
            X104, for an address that is not a multiple of the product's alignment.
        CublasLtError
            X306
        """
        product = self.matrices.product
        for address in arrays.values():
            if address % product.alignment:
                raise OptionError("X104", f"a matrix at {address:#x} is not aligned to {product.alignment} bytes.")
        operation, first, second, result, _ = self.matrices.addresses
        status = self.library.functions.cublasLtMatmul(
            self.handle.address, operation,
            ctypes.addressof(self.one), arrays["b"], first, arrays["a"], second,
            ctypes.addressof(self.zero), arrays["c"], result, arrays["c"], result,
            ctypes.addressof(self.data), workspace, self.workspace, stream,
        )  # fmt: skip
        if status:
            self.library.check(status, f"run algorithm {self.engine_number}", product.key)

    @property
    def library(self) -> Library:
        """The functions."""
        return self.handle.library

    def _read(self, kind: str, attribute: AlgoCap | AlgoConfig, cell: ctypes._SimpleCData[int]) -> None:
        function, written = getattr(self.library.functions, f"cublasLtMatmulAlgo{kind}GetAttribute"), ctypes.c_size_t()
        status = function(
            ctypes.addressof(self.data), attribute, ctypes.addressof(cell), ctypes.sizeof(cell),
            ctypes.addressof(written),
        )  # fmt: skip
        self.library.check(status, f"read {attribute.name} of an algorithm")


def allowed_reductions(product: Product) -> Reduction:
    """How parts of sums may be added up: of halves in float32, and always in the same order where that is asked."""
    if product.dtype in ("float16", "bfloat16"):
        return Reduction.COMPUTE_TYPE
    in_order = Reduction.COMPUTE_TYPE | Reduction.OUTPUT_TYPE
    return in_order if product.deterministic else in_order | Reduction.INPLACE
