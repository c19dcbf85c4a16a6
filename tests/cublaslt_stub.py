"""In cublasLt's place: it notes what it is told, holds the caller to the rules, and multiplies on host memory."""

import ctypes

import numpy as np
from library_stub import LibraryStub, numpy_type
from xcnn_cupy.cublaslt.constants import AlgoCap, AlgoConfig, ComputeType, DataType, MatmulDesc, Preference
from xcnn_cupy.cublaslt.library import SIGNATURES, AlgoBytes, Heuristic

INVALID_VALUE, NOT_SUPPORTED = 7, 15
DTYPES = {
    DataType.R_32F: "float32", DataType.R_64F: "float64", DataType.R_16F: "float16", DataType.R_16BF: "bfloat16",
}  # fmt: skip
SUMS = {ComputeType.COMPUTE_32F: DataType.R_32F, ComputeType.COMPUTE_64F: DataType.R_64F}
SIZES = {MatmulDesc.TRANSA: 4, MatmulDesc.TRANSB: 4, Preference.MAX_WORKSPACE_BYTES: 8}


class Stub(LibraryStub):
    """CublasLt, as far as it is used here.

    Parameters
    ----------
    algorithms
        what is proposed: (number, parts of the sum, reduction scheme, numerical flags, bytes of workspace) each
    """

    refusal = INVALID_VALUE

    def __init__(self, *algorithms):
        super().__init__(SIGNATURES)
        self.algorithms = {row[0]: row for row in algorithms or [(7, 1, 0, 1, 0)]}
        self.made, self.handles, self.preferences = {}, set(), []

    def cublasLtGetVersion(self):
        return 130200

    def cublasLtGetStatusName(self, status):
        self._name = ctypes.create_string_buffer(f"STATUS_{status}".encode())
        return ctypes.addressof(self._name)

    def cublasLtGetStatusString(self, status):
        self._said = ctypes.create_string_buffer(b"what the stub says")
        return ctypes.addressof(self._said)

    def cublasLtCreate(self, place):
        self.handles.add(self._new(place))

    def cublasLtDestroy(self, handle):
        self.handles.remove(handle)

    def _new(self, place, **values):
        ctypes.c_void_p.from_address(place).value = address = next(self._addresses)
        self.made[address] = values
        return address

    def _destroy(self, address):
        del self.made[address]

    def _set(self, address, attribute, place, size):
        assert size == SIZES.get(attribute, 4), "a value of another size"
        self.made[address][attribute] = int.from_bytes(ctypes.string_at(place, size), "little")

    def cublasLtMatmulDescCreate(self, place, compute, scale):
        self._new(place, compute=ComputeType(compute), scale=DataType(scale))

    def cublasLtMatrixLayoutCreate(self, place, kind, rows, columns, step):
        assert step >= rows > 0 < columns, "columns overlap"
        self._new(place, dtype=DTYPES[kind], shape=(rows, columns), step=step)

    def cublasLtMatmulPreferenceCreate(self, place):
        self._new(place)

    def cublasLtMatmulDescSetAttribute(self, address, attribute, place, size):
        self._set(address, MatmulDesc(attribute), place, size)

    def cublasLtMatmulPreferenceSetAttribute(self, address, attribute, place, size):
        self._set(address, Preference(attribute), place, size)

    cublasLtMatmulDescDestroy = cublasLtMatrixLayoutDestroy = cublasLtMatmulPreferenceDestroy = _destroy

    def cublasLtMatmulAlgoGetHeuristic(self, handle, operation, a, b, c, d, preference, most, found, number):
        assert handle in self.handles
        self.shapes(operation, a, b, c, d)
        asked = self.made[preference]
        self.preferences.append(dict(asked))
        rows = [row for row in self.algorithms.values() if row[4] <= asked[Preference.MAX_WORKSPACE_BYTES]][:most]
        if not rows:
            return NOT_SUPPORTED
        ctypes.c_int.from_address(number).value = len(rows)
        for place, row in zip((Heuristic * most).from_address(found), rows, strict=False):
            place.algo.data[0], place.algo.data[7] = row[0], 99
            place.workspace_size, place.state = row[4], 0
        return 0

    def cublasLtMatmulAlgoCheck(self, handle, operation, a, b, c, d, algo, result):
        row = self.row_of(algo)
        if row is None:
            return NOT_SUPPORTED
        Heuristic.from_address(result).workspace_size = row[4]
        return 0

    def row_of(self, algo):
        """The algorithm behind 64 bytes."""
        data = AlgoBytes.from_address(algo).data
        assert data[7] == 99, "these are no algorithm's bytes"
        return self.algorithms.get(data[0])

    def cublasLtMatmulAlgoCapGetAttribute(self, algo, attribute, place, size, written):
        assert (AlgoCap(attribute), size) == (AlgoCap.NUMERICAL_IMPL_FLAGS, 8)
        ctypes.c_uint64.from_address(place).value = self.row_of(algo)[3]

    def cublasLtMatmulAlgoConfigGetAttribute(self, algo, attribute, place, size, written):
        assert size == 4
        at = {AlgoConfig.ID: 0, AlgoConfig.SPLITK_NUM: 1, AlgoConfig.REDUCTION_SCHEME: 2}[AlgoConfig(attribute)]
        ctypes.c_int32.from_address(place).value = self.row_of(algo)[at]

    def cublasLtMatmul(
        self, handle, operation, alpha, a, of_a, b, of_b, beta, c, of_c, d, of_d, algo, workspace, size, stream
    ):  # fmt: skip
        assert handle in self.handles
        scale = ctypes.c_double if self.made[operation]["scale"] == DataType.R_64F else ctypes.c_float
        assert (scale.from_address(alpha).value, scale.from_address(beta).value) == (1, 0)
        assert (c, of_c) == (d, of_d)
        row = self.row_of(algo)
        assert size >= row[4], "the workspace is too small"
        assert bool(workspace) == bool(row[4])
        self.shapes(operation, of_a, of_b, of_c, of_d)
        self.executed.append((row[0], workspace, stream))
        one, other = (
            self.matrix(place, layout).astype("float64").T if self.made[operation].get(turned) else
            self.matrix(place, layout).astype("float64")
            for place, layout, turned in ((a, of_a, MatmulDesc.TRANSA), (b, of_b, MatmulDesc.TRANSB))
        )  # fmt: skip
        self.matrix(d, of_d)[...] = one @ other

    def shapes(self, operation, a, b, c, d):
        """Sizes that belong together, and types."""
        made = self.made[operation]
        shapes = [self.made[one]["shape"] for one in (a, b, c, d)]
        for n, turned in enumerate((MatmulDesc.TRANSA, MatmulDesc.TRANSB)):
            shapes[n] = shapes[n][::-1] if made.get(turned) else shapes[n]
        (m, k), (k_too, n), *results = shapes
        assert k == k_too
        assert results == [(m, n)] * 2
        kinds = {self.made[one]["dtype"] for one in (a, b, c, d)}
        assert len(kinds) == 1
        assert (kinds == {"float64"}) == (made["compute"] == ComputeType.COMPUTE_64F)
        assert made["scale"] == SUMS.get(made["compute"], DataType.R_32F)

    def matrix(self, place, layout):
        """Host memory, column by column."""
        made = self.made[layout]
        dtype, (rows, columns), step = numpy_type(made["dtype"]), made["shape"], made["step"]
        size = ((columns - 1) * step + rows) * dtype.itemsize
        flat = np.frombuffer((ctypes.c_char * size).from_address(place), dtype)
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), (dtype.itemsize, step * dtype.itemsize))
