"""Arrays that a rehearsed graph records, and refuses as CUDA would: what waits, what comes from the host, cuBLAS.

While a graph is recorded, an operation on a `There` is put into it, and its result is NaN until the graph is replayed.
What CuPy can't do during a capture raises RuntimeError with the operation's name: a number that is asked of an array, a
host's array beside one of the device, a mask as an index (it waits for how many cells there are), sorting, and products
of matrices, which cuBLAS computes with a workspace of its own. Results lie in memory that the graph keeps.
"""

import numpy as np
from array_api_compat._internal import get_xp
from array_api_compat.common import _aliases
from cuda_on_host.rehearsal import RehearsedDevice, RehearsedGpu
from xcnn_cupy.capture import NotCaptured

import xcnn
from xcnn.training.losses import OF_LABELS, OF_ONE_CLASS, loss_name

REFUSED = {
    "matmul": "cuBLAS", "dot": "cuBLAS", "vdot": "cuBLAS", "inner": "cuBLAS", "tensordot": "cuBLAS", "einsum": "cuBLAS",
    "vecdot": "cuBLAS", "sort": "sorting waits", "argsort": "sorting waits", "lexsort": "sorting waits",
    "unique": "it waits", "nonzero": "it waits", "flatnonzero": "it waits", "argwhere": "it waits",
    "median": "sorting waits", "searchsorted": "",
}  # fmt: skip
"""What CuPy has no kernel of its own for, and why; "" where it has."""
READS = ("__float__", "__int__", "__bool__", "__index__", "__complex__", "item", "tolist", "tobytes")
METHODS = ("astype", "copy", "take", "argmax", "argmin", "clip", "flatten", "ravel", "reshape", "repeat", "round")
OF_LABELS_ALONE = (*OF_ONE_CLASS, *OF_LABELS, "focal", "hinge", "squared_hinge")
DEVICES = []
"""That are recording."""


def refuse(what):
    """As CuPy and CUDA do."""
    raise RuntimeError(f"{what} is not permitted when stream is capturing")


class There(np.ndarray):
    """An array of the device."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return computed(getattr(ufunc, method), inputs, options, ufunc.__name__)

    def __array_function__(self, function, types, arguments, options):
        return computed(function, arguments, options)

    def __getitem__(self, at):
        return computed(np.ndarray.__getitem__, (self, at), {})

    def __setitem__(self, at, value):
        computed(np.ndarray.__setitem__, (self, at, value), {})


def reads(name):
    def read(self, *arguments):
        if DEVICES:
            refuse(f"{name} of an array")
        return getattr(np.ndarray, name)(self.view(np.ndarray), *arguments)

    return read


def method(name):
    return lambda self, *arguments, **options: computed(getattr(np.ndarray, name), (self, *arguments), options)


for name in READS:
    setattr(There, name, reads(name))
for name in METHODS:
    setattr(There, name, method(name))


def mapped(change, value):
    """A value with its arrays changed, in lists, tuples and dicts too."""
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(change, one) for one in value)
    if isinstance(value, dict):
        return {key: mapped(change, one) for key, one in value.items()}
    return change(value)


def arrays_in(*values):
    """All arrays within."""
    found = []
    mapped(lambda one: found.append(one) if isinstance(one, np.ndarray) else None, values)
    return found


def bare(value):
    """NumPy's own view of an array."""
    return value.view(np.ndarray) if type(value) is There else value


def there(value):
    """An array as one of the device."""
    return np.asarray(value).view(There) if isinstance(value, (np.ndarray, np.generic)) else value


def computed(function, arguments, options, name=None):
    """The result of NumPy's function: now, or when the graph is replayed."""
    name = name or function.__name__
    inputs, given = mapped(bare, (tuple(arguments), options))
    if not DEVICES:
        return mapped(there, function(*inputs, **given))
    known = arrays_in(arguments, options)
    if REFUSED.get(name):
        refuse(f"{name} ({REFUSED[name]})")
    if any(type(one) is not There for one in known):
        refuse(f"{name} with an array of the host")
    if any(one.dtype == bool for one in arrays_in(arguments[1:2])) and name in ("__getitem__", "__setitem__"):
        refuse("a mask as an index")
    if name in ("array", "asarray", "asanyarray", "ascontiguousarray") and not known:
        refuse("a copy from the host")
    if name == "where" and len(arguments) == 1:
        refuse("where (it waits)")
    device, out = DEVICES[-1], given.get("out")
    if name == "__setitem__" or out is not None:
        device.do(lambda: function(*inputs, **given))
        return mapped(there, out[0] if isinstance(out, tuple) and len(out) == 1 else out)
    with np.errstate(all="ignore"):
        result = function(*inputs, **given)
    return mapped(lambda one: entered(device, one, known, lambda: function(*inputs, **given)), result)


def entered(device, result, known, again):
    """A result that is a view of what was given; or else new memory, which is written when the graph is replayed."""
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    if isinstance(result, np.ndarray) and any(np.may_share_memory(result, bare(one)) for one in known):
        return there(result)
    new = np.array(result)
    poison(new)
    device.kept.append(new)

    def write():
        new[...] = again()

    device.do(write)
    return there(new)


def poison(x):
    """Let no cell be what it was."""
    x.reshape(-1).view(np.uint8)[...] = 0xFF if x.dtype != bool else 1


class Raw:
    """NumPy in CuPy's place, beneath array-api-compat's wrappers."""

    __name__ = "rehearsed"

    def __getattr__(self, name):
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type) or name in ("finfo", "iinfo", "result_type", "isdtype"):
            return found
        return lambda *arguments, **options: computed(found, arguments, options, name)

    def broadcast_shapes(self, *shapes):
        return np.broadcast_shapes(*shapes)


RAW = Raw()


class Namespace:
    """The array API on it, as array_api_compat.cupy makes it of CuPy: by the functions that it takes from `common`."""

    __name__ = "rehearsed"

    def __init__(self):
        for name in _aliases.__all__:
            if name not in ("finfo", "iinfo", "isdtype", "vecdot", "unstack", "sign"):
                setattr(self, name, get_xp(RAW)(getattr(_aliases, name)))

    def __getattr__(self, name):
        return getattr(RAW, name)

    def asarray(self, obj, /, *, dtype=None, device=None, copy=None):
        return RAW.array(obj, dtype=dtype, copy=copy)

    def astype(self, x, dtype, /, *, copy=True, device=None):
        return x.astype(dtype, copy=copy)

    def take_along_axis(self, x, indices, /, *, axis=-1):
        return RAW.take_along_axis(x, indices, axis=axis)


NAMESPACE = Namespace()


def namespace_of(known):
    """What finds namespaces: `known`, but for arrays of this device, which nobody else's may meet."""

    def found(*arrays, **options):
        kinds = {type(one) for one in arrays if not isinstance(one, (int, float, complex, type(None)))}
        if There not in kinds:
            return known(*arrays, **options)
        if kinds != {There}:
            raise TypeError(f"arrays of {kinds} meet")
        return NAMESPACE

    return found


class Recorder(RehearsedDevice):
    """A RehearsedDevice whose arrays are recorded.

    Parameters
    ----------
    computes
        whether kernels and cuDNN's plans are run; else what they would write stays as it is, and large nets are quick
    """

    def __init__(self, computes=True):
        super().__init__()
        self.computes = computes

    def empty(self, shape, dtype, channels_last=False):
        return there(super().empty(shape, dtype, channels_last))

    def get(self, where):
        return np.array(bare(super().get(where)))

    def launch(self, kernel, blocks, threads, *arguments):
        if self.computes:
            super().launch(kernel, blocks, threads, *map(bare, arguments))
        else:
            self.launched.append(kernel.expression)

    def convolve(self, question, x, kernel, y, bias=None):
        if self.computes:
            super().convolve(question, *map(bare, (x, kernel, y, bias)))
        else:
            self.asked.append(question)

    def multiply(self, product, a, b, c):
        if self.computes:
            super().multiply(product, *map(bare, (a, b, c)))
        else:
            self.multiplied.append(product)

    def capture(self, work):
        """What is done within, after two runs that are not recorded."""

        def recorded():
            if self.recorded is None:
                return work()
            DEVICES.append(self)
            try:
                return work()
            finally:
                DEVICES.pop()

        return super().capture(recorded)


RECORDERS = {computes: Recorder(computes) for computes in (False, True)}


@xcnn.pure
class RecordedGpu(RehearsedGpu):
    """CuPy's backend on arrays that are recorded."""

    name = "recorded"
    computes = True

    @property
    def xp(self):
        return NAMESPACE

    @property
    def gpu(self):
        return RECORDERS[self.computes]

    def holds(self, x):
        return type(x) is There

    def asarray(self, x, dtype=None):
        if DEVICES and type(x) is not There:
            refuse("a copy from the host")
        return x.astype(dtype or x.dtype, copy=False) if type(x) is There else there(np.array(x, dtype=dtype))

    def to_numpy(self, x):
        if DEVICES:
            refuse("a copy to the host")
        return np.array(bare(x))


@xcnn.pure
class HollowGpu(RecordedGpu):
    """The same, whose kernels are not run."""

    computes = False


def reason(net, shape=(1, 8, 8), samples=4, backend=None, **options):
    """Why a step of this net is not captured; "" where it is."""
    model = xcnn.Model(net, shape, backend=backend or HollowGpu(), **options)
    loss, outputs = loss_name(model.loss), model.output_shape
    x = np.ones((samples, *shape), model.dtype)
    t = np.arange(samples) % 2 if loss in OF_LABELS_ALONE else np.ones((samples, *outputs), model.dtype)
    if loss == "cross_entropy":
        t = np.zeros((samples, *outputs[1:]), "int64")
    step = model.compiled_step
    try:
        with model.trainer.backend.active():
            data = step.brought(x, t, np.arange(samples, dtype="int64"))
            step.take_over(model.state)
            step.captured(model.seed, model.state, data, samples)
    except NotCaptured as why:
        return str(why)
    return ""
