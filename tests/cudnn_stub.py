"""Stand-ins for what a machine without a GPU lacks: a cuDNN that notes what it is told, and NVIDIA's driver."""

import ctypes
import subprocess
from functools import cache

import numpy as np
from c_library import compiled
from library_stub import LibraryStub, numpy_type
from xcnn_cupy.cudnn.constants import Attribute, AttributeType, DescriptorType, HeurMode, PointwiseMode
from xcnn_cupy.cudnn.descriptors import ctype
from xcnn_cupy.cudnn.library import SIGNATURES

BAD_PARAM = 2000
DTYPES = {0: "float32", 1: "float64", 2: "float16", 9: "bfloat16"}
DRIVER = """
#define LOADS(function) int function(void** place) { *place = (void*)64; return 0; }
#define FAILS(function) int function(void) { return 100; }
LOADS(cuLibraryLoadData) LOADS(cuLibraryGetKernel) LOADS(cuKernelGetFunction) LOADS(cuModuleLoadData)
LOADS(cuModuleGetFunction)
FAILS(cuCtxGetCurrent) FAILS(cuCtxGetLimit) FAILS(cuCtxPopCurrent) FAILS(cuCtxPushCurrent) FAILS(cuDeviceGet)
FAILS(cuDeviceGetCount) FAILS(cuDriverGetVersion) FAILS(cuGetErrorName) FAILS(cuGetErrorString)
FAILS(cuKernelGetAttribute) FAILS(cuKernelSetAttribute) FAILS(cuLaunchCooperativeKernel) FAILS(cuLaunchKernel)
FAILS(cuLaunchKernelEx) FAILS(cuLibraryLoadFromFile) FAILS(cuLibraryUnload) FAILS(cuLinkAddData)
FAILS(cuLinkComplete) FAILS(cuLinkCreate) FAILS(cuLinkDestroy) FAILS(cuModuleUnload)
FAILS(cuOccupancyMaxPotentialClusterSize) FAILS(cuStreamGetCtx) FAILS(cuTensorMapEncodeIm2col)
FAILS(cuTensorMapEncodeTiled)
"""
"""The functions of NVIDIA's driver that cuDNN is linked with: kernels can be loaded with them, but not run."""


@cache
def driver():
    """Why cuDNN can't be loaded here for want of a driver; "" where it can, if need be on an empty one."""
    try:
        ctypes.CDLL("libcuda.so.1")
        return ""
    except OSError:
        pass
    try:
        target = compiled(DRIVER, "libcuda.so.1")
    except subprocess.CalledProcessError as error:
        return f"a stand-in for NVIDIA's driver did not compile. {error.stderr}"
    if target is None:
        return "there is neither NVIDIA's driver nor a C compiler to make a stand-in for it"
    ctypes.CDLL(str(target), mode=ctypes.RTLD_GLOBAL)
    return ""


class Made:
    """A descriptor as the stub keeps it. Its values are numbers, addresses, or what is within cuDNN: further ones."""

    def __init__(self, kind, **values):
        self.kind, self.finalized = kind, bool(values)
        self.values = {Attribute[name]: value for name, value in values.items()}
        self.types = {}

    def __getitem__(self, attribute):
        """The only value of an attribute."""
        (value,) = self.values[attribute]
        return value


class Stub(LibraryStub):
    """In cuDNN's place: it notes every call, holds the caller to the rules, and computes on host memory.

    Its functions are called through ctypes, with the types of the real ones. Broken rules are collected in `broken`,
    since an exception would not pass through C.

    Parameters
    ----------
    engines
        what the heuristics propose: (number, knobs, numerical notes, bytes of workspace) each
    """

    refusal = BAD_PARAM

    def __init__(self, *engines):
        super().__init__(SIGNATURES)
        self.engines = {row[0]: row for row in engines or [(7, {2: 5}, (), 0)]}
        self.made, self.destroyed, self.handles = {}, [], {}
        self.fallback, self.compiled = set(), set()
        """The engines that are proposed as a fallback only, and those that are compiled at run time."""
        self.lossy = set()
        """The engines whose ReLU makes a NaN 0, whatever they are told."""

    @property
    def alive(self):
        """The kinds of the descriptors that are not destroyed."""
        return sorted(one.kind.name for one in self.made.values())

    # The functions.

    def cudnnGetVersion(self):
        return 92801

    def cudnnGetErrorString(self, status):
        self._name = ctypes.create_string_buffer(f"STATUS_{status}".encode())
        return ctypes.addressof(self._name)

    def cudnnGetLastErrorString(self, place, size):
        ctypes.memmove(place, b"what the stub says", 19)

    def cudnnCreate(self, place):
        ctypes.c_void_p.from_address(place).value = address = next(self._addresses)
        self.handles[address] = 0

    def cudnnDestroy(self, handle):
        del self.handles[handle]

    def cudnnSetStream(self, handle, stream):
        assert handle in self.handles
        self.handles[handle] = stream or 0

    def cudnnBackendCreateDescriptor(self, kind, place):
        ctypes.c_void_p.from_address(place).value = address = next(self._addresses)
        self.made[address] = Made(DescriptorType(kind))

    def cudnnBackendDestroyDescriptor(self, address):
        users = [one.kind.name for one in self.made.values() if address in self.references(one)]
        assert not users, f"{self.made[address].kind.name} is destroyed before {users}"
        self.destroyed.append(self.made.pop(address).kind)

    def cudnnBackendFinalize(self, address):
        one = self.made[address]
        assert not one.finalized, "finalized twice"
        assert all(self.made[part].finalized for part in self.references(one)), "a part is not finalized"
        one.finalized = one.kind not in self.fail
        return self.fail.get(one.kind)

    def cudnnBackendSetAttribute(self, address, attribute, kind, number, place):
        one, attribute, kind = self.made[address], Attribute(attribute), AttributeType(kind)
        assert not one.finalized, "set after it was finalized"
        values = (ctype(kind) * number).from_address(place)[:]
        one.values[attribute] = [values] if isinstance(values, bytes) else values
        one.types[attribute] = kind

    def cudnnBackendGetAttribute(self, address, attribute, kind, most, found, place):
        values, kind = self.read(address, Attribute(attribute)), AttributeType(kind)
        ctypes.c_int64.from_address(found).value = len(values)
        if most and kind == AttributeType.BACKEND_DESCRIPTOR:
            for there, value in zip((ctypes.c_void_p * most).from_address(place), values, strict=False):
                source = value if isinstance(value, Made) else self.made[value]
                assert self.made[there].kind == source.kind
                self.made[there].values, self.made[there].finalized = source.values, True
        elif most:
            (ctype(kind) * most).from_address(place)[: len(values)] = values

    def cudnnBackendExecute(self, handle, plan, pack):
        plan, pack = self.made[plan], self.made[pack]
        assert plan.finalized
        assert pack.finalized
        uids, pointers = (pack.values[Attribute[f"VARIANT_PACK_{name}"]] for name in ("UNIQUE_IDS", "DATA_POINTERS"))
        addresses = dict(zip(uids, pointers, strict=True))
        self.executed.append((addresses, pack[Attribute.VARIANT_PACK_WORKSPACE], self.handles[handle]))
        engine = self.engine_of(plan)
        graph, number = (engine[Attribute[f"ENGINE_{name}"]] for name in ("OPERATION_GRAPH", "GLOBAL_INDEX"))
        Computation(self.made, addresses, number in self.lossy).run(self.made[graph])

    # What cuDNN knows.

    def references(self, one):
        """The addresses of the descriptors that a descriptor was given."""
        return [
            value
            for attribute, kind in one.types.items()
            if kind == AttributeType.BACKEND_DESCRIPTOR
            for value in one.values[attribute]
        ]

    def engine_of(self, one):
        """The engine of a plan or of an engine configuration."""
        if one.kind == DescriptorType.EXECUTION_PLAN:
            one = self.made[one[Attribute.EXECUTION_PLAN_ENGINE_CONFIG]]
        engine = one[Attribute.ENGINECFG_ENGINE]
        return engine if isinstance(engine, Made) else self.made[engine]

    def read(self, address, attribute):
        """What an attribute is read to be."""
        one = self.made[address]
        if attribute == Attribute.ENGINEHEUR_RESULTS:
            fallback = one[Attribute.ENGINEHEUR_MODE] == HeurMode.FALLBACK
            rows = [row for row in self.engines.values() if (row[0] in self.fallback) == fallback]
            return [self.config(row, one[Attribute.ENGINEHEUR_OPERATION_GRAPH]) for row in rows]
        if attribute == Attribute.EXECUTION_PLAN_WORKSPACE_SIZE:
            return [self.engines[self.engine_of(one)[Attribute.ENGINE_GLOBAL_INDEX]][3]]
        if attribute == Attribute.ENGINE_NUMERICAL_NOTE:
            return self.engines[one[Attribute.ENGINE_GLOBAL_INDEX]][2]
        if attribute == Attribute.ENGINE_BEHAVIOR_NOTE:
            return [0] if one[Attribute.ENGINE_GLOBAL_INDEX] in self.compiled else []
        return one.values.get(attribute, [])

    def config(self, row, graph):
        """An engine configuration that the heuristics propose."""
        number, knobs, _, _ = row
        engine = Made(DescriptorType.ENGINE, ENGINE_GLOBAL_INDEX=[number], ENGINE_OPERATION_GRAPH=[graph])
        choices = [
            Made(DescriptorType.KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE=[name], KNOB_CHOICE_KNOB_VALUE=[value])
            for name, value in knobs.items()
        ]
        return Made(DescriptorType.ENGINECFG, ENGINECFG_ENGINE=[engine], ENGINECFG_KNOB_CHOICES=choices)


class Computation:
    """An operation graph, read as cuDNN's header explains it, and computed on host memory in float64."""

    def __init__(self, made, addresses, loses_nan=False):
        self.made, self.addresses, self.loses_nan = made, addresses, loses_nan
        self.between = {}

    def run(self, graph):
        """All operations, in order."""
        for address in graph.values[Attribute.OPERATIONGRAPH_OPS]:
            operation = self.made[address]
            {
                DescriptorType.OPERATION_CONVOLUTION_FORWARD: self.forward,
                DescriptorType.OPERATION_CONVOLUTION_BACKWARD_DATA: self.input,
                DescriptorType.OPERATION_CONVOLUTION_BACKWARD_FILTER: self.kernel,
                DescriptorType.OPERATION_POINTWISE: self.pointwise,
            }[operation.kind](operation)

    def memory(self, address):
        """A tensor's cells: a view of memory, or for one that is nowhere, an array."""
        tensor = self.made[address]
        shape, strides = (tensor.values[Attribute[f"TENSOR_{name}"]] for name in ("DIMENSIONS", "STRIDES"))
        uid, dtype = tensor[Attribute.TENSOR_UNIQUE_ID], numpy_type(DTYPES[tensor[Attribute.TENSOR_DATA_TYPE]])
        if tensor.values.get(Attribute.TENSOR_IS_VIRTUAL) == [True]:
            assert uid not in self.addresses
            return self.between.setdefault(uid, np.full(shape, np.nan))
        place, alignment = self.addresses[uid], tensor[Attribute.TENSOR_BYTE_ALIGNMENT]
        assert place % alignment == 0
        cells = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        flat = np.frombuffer((ctypes.c_char * (cells * dtype.itemsize)).from_address(place), dtype)
        return np.lib.stride_tricks.as_strided(flat, shape, [step * dtype.itemsize for step in strides])

    def tensors(self, operation, prefix, *names):
        """The convolution, its factors checked, and its tensors."""
        factors = [operation[Attribute[f"{prefix}_{name}"]] for name in ("ALPHA", "BETA")]
        assert factors == [1, 0]
        window = self.made[operation[Attribute[f"{prefix}_CONV_DESC"]]]
        assert window[Attribute.CONVOLUTION_SPATIAL_DIMS] == 2
        assert window[Attribute.CONVOLUTION_CONV_MODE] == 1
        return window, *(self.memory(operation[Attribute[f"{prefix}_{name}"]]) for name in names)

    def taps(self, window, x, kernel, y):
        """For each cell of the kernel and each group: the places of padded x, of kernel and of y that meet."""
        before, steps, apart = (
            window.values[Attribute[f"CONVOLUTION_{name}"]] for name in ("PRE_PADDINGS", "FILTER_STRIDES", "DILATIONS")
        )
        after = window.values[Attribute.CONVOLUTION_POST_PADDINGS]
        for n, kernel_size, positions, low, high, step, d in zip(
            x.shape[2:], kernel.shape[2:], y.shape[2:], before, after, steps, apart, strict=True
        ):
            assert positions == (n + low + high - (kernel_size - 1) * d - 1) // step + 1
        filters, depth, height, width = kernel.shape
        groups = x.shape[1] // depth
        for group, u, v in np.ndindex(groups, height, width):
            channels = slice(group * depth, (group + 1) * depth)
            bank = slice(group * filters // groups, (group + 1) * filters // groups)
            rows, columns = (
                slice(start, start + step * (positions - 1) + 1, step)
                for start, step, positions in zip((u * apart[0], v * apart[1]), steps, y.shape[2:], strict=True)
            )
            yield (slice(None), channels, rows, columns), (bank, slice(None), u, v), (slice(None), bank)

    def padded(self, window, x):
        """A float64 copy of x with its padding, and the place of x in it."""
        sides = list(
            zip(
                window.values[Attribute.CONVOLUTION_PRE_PADDINGS],
                window.values[Attribute.CONVOLUTION_POST_PADDINGS],
                strict=True,
            )
        )
        (top, _), (left, _) = sides
        inner = (..., slice(top, top + x.shape[2]), slice(left, left + x.shape[3]))
        return np.pad(x.astype(float), [(0, 0), (0, 0), *sides]), inner

    def forward(self, operation):
        window, x, kernel, y = self.tensors(operation, "OPERATION_CONVOLUTION_FORWARD", "X", "W", "Y")
        wide, _ = self.padded(window, x)
        result = np.zeros(y.shape)
        for at_x, at_kernel, at_y in self.taps(window, x, kernel, y):
            result[at_y] += np.einsum("nchw,oc->nohw", wide[at_x], kernel[at_kernel].astype(float))
        y[...] = result

    def input(self, operation):
        window, x, kernel, y = self.tensors(operation, "OPERATION_CONVOLUTION_BWD_DATA", "DX", "W", "DY")
        wide, inner = self.padded(window, np.zeros(x.shape))
        for at_x, at_kernel, at_y in self.taps(window, x, kernel, y):
            wide[at_x] += np.einsum("nohw,oc->nchw", y[at_y].astype(float), kernel[at_kernel].astype(float))
        x[...] = wide[inner]

    def kernel(self, operation):
        window, x, kernel, y = self.tensors(operation, "OPERATION_CONVOLUTION_BWD_FILTER", "X", "DW", "DY")
        wide, _ = self.padded(window, x)
        for at_x, at_kernel, at_y in self.taps(window, x, kernel, y):
            kernel[at_kernel] = np.einsum("nohw,nchw->oc", y[at_y].astype(float), wide[at_x])

    def pointwise(self, operation):
        x, y = (self.memory(operation[Attribute[f"OPERATION_POINTWISE_{name}"]]) for name in ("XDESC", "YDESC"))
        how = self.made[operation[Attribute.OPERATION_POINTWISE_PW_DESCRIPTOR]]
        mode = PointwiseMode(how[Attribute.POINTWISE_MODE])
        if mode == PointwiseMode.ADD:
            y[...] = x + self.memory(operation[Attribute.OPERATION_POINTWISE_BDESC]).astype(float)
        elif mode == PointwiseMode.RELU_FWD:
            propagates = how.values.get(Attribute.POINTWISE_NAN_PROPAGATION) == [1] and not self.loses_nan
            y[...] = np.maximum(x, 0) if propagates else np.fmax(x, 0)
        else:
            raise AssertionError(f"{mode} is not asked for")
