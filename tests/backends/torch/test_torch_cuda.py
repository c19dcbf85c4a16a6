"""What PyTorch's backend does on CUDA alone, without CUDA: tensors there have a device, a type and a shape, no numbers.

Code that asks whether a tensor is the host's goes the way of CUDA's with them. Asking one for a number raises, and so
does a mask as an index; what else a graph can't hold is noted: tensors of two devices in one operation, copies between
the host and the device, factorisations that report to the host. The tables here are those of docs/backends.md.
"""

import ctypes
from contextlib import nullcontext
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

import xcnn
from xcnn import nets
from xcnn.bench.zoo import NETS
from xcnn.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from xcnn.training.losses import LOSSES, OF_LABELS, OF_ONE_CLASS, loss_name
from xcnn.training.optimizers import OPTIMIZERS

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch._subclasses import fake_tensor  # noqa: E402
from torch.utils import _pytree  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from xcnn_torch import TorchBackend, memory  # noqa: E402

BY_CLASS = (*OF_ONE_CLASS, *OF_LABELS, "focal", "hinge", "squared_hinge")
ENDS = {"nll": xcnn.LogSoftmax, "binary_cross_entropy": xcnn.Sigmoid, "kl_divergence": xcnn.Sigmoid}
HOW = (*({"precision": name} for name in ("float32", "tf32", "bfloat16", "float16")), {"dtype": "float64"})
NORMS = ("vector_norm", "matrix_norm", "cross", "vecdot")
"""What PyTorch calls linear algebra and computes by kernels of its own."""
TWICE = ("resnet18-64", "unet-256")  # the same nets, of other images
READY = {name: getattr(nets, name) for name in ("fashion", "fast", "photos", "unet")}
CUDA, META = 1, 14
GUARDS = "_ZN3c104impl26device_guard_impl_registryE"


@pytest.fixture(scope="module", autouse=True)
def guarded():
    """PyTorch without CUDA has nothing that makes a CUDA device the current one: it is given what does nothing."""
    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    if not library.is_file():
        pytest.skip("PyTorch's list of devices is found by name in Linux's libc10.so alone")
    guards = (ctypes.c_void_p * (META + 1)).in_dll(ctypes.CDLL(str(library)), GUARDS)
    before = guards[CUDA]
    guards[CUDA] = before or guards[META]
    yield
    guards[CUDA] = before


@pytest.fixture(autouse=True)
def without_numbers():
    """Tensors without numbers, which kernels take as they take PyTorch's own."""
    memory.PLAIN.add(fake_tensor.FakeTensor)
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        yield
    memory.PLAIN.remove(fake_tensor.FakeTensor)


@xcnn.pure
class OnCuda(TorchBackend):
    """CUDA's, whose contexts are not entered."""

    def active(self):
        return nullcontext()


class Watch(TorchDispatchMode):
    """Notes what a graph can't hold."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name, options = str(function), options or {}
        fused = name.startswith("aten._fused_")  # these work in place, and know no tensors without numbers
        found = None if fused else function(*arguments, **options)
        places = {str(a.device) for a in _pytree.tree_leaves((arguments, options, found)) if torch.is_tensor(a)}
        if len(places) > 1:
            self.seen.append(f"{name} on {' and '.join(sorted(places))}")
        if "linalg_" in name and not name.split("linalg_")[1].startswith(NORMS):
            self.seen.append(name)
        return found


class Graphs:
    """Captures nothing, and refuses what a graph can't hold."""

    def free_memory(self):
        return 2**40

    def capture(self, work):
        with Watch() as watch:
            work()  # without the runs that a capture has before it: nothing may be left to them either
        if watch.seen:
            raise RuntimeError(f"{watch.seen} is not permitted when stream is capturing")


def net(*last):
    return Sequential(Conv2D(4, 3), BatchNorm(), ReLU(), Flatten(), Dense(3), *last)


def reason(layers, shape=(2, 8, 9), loss="cross_entropy", **options):
    """Why a step is not captured; "" where it is."""
    model = xcnn.Model(layers, shape, backend=OnCuda("cuda:0"), loss=loss, **options)
    step, backend, state = model.compiled_step, model.trainer.backend, model.state
    step.graphs = Graphs()
    x = backend.asarray(np.ones((4, *shape), model.dtype))
    by_class = loss_name(model.loss) in BY_CLASS
    t = (
        np.zeros((4, *model.output_shape[1:]), int)
        if by_class
        else np.full((4, *model.output_shape), 0.25, model.dtype)
    )
    captured = step.found(model.seed, state.weights, state.optimizer_state, x, backend.asarray(t))
    assert x.device.type == "cuda"
    assert (captured is None) == bool(step.reason)
    return step.reason


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_captured(name):
    last = [ENDS[name]()] if name in ENDS else []
    for how in HOW:
        assert reason(Sequential(Flatten(), Dense(3), *last), loss=name, **how) == "", how


@pytest.mark.parametrize("how", HOW, ids=str)
def test_precisions_are_captured(how):
    layers = net(ReLU(), Dropout(0.3), Dense(3))
    assert reason(Sequential(*layers[:3], MaxPool2D(3, stride=2, padding=1), *layers[3:]), **how) == ""


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"ignore_index": 1}], ids=str)
def test_options_of_a_loss_are_captured(options):
    assert reason(net(), loss=partial(LOSSES["cross_entropy"], **options)) == ""


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_are_captured(name):
    for how in HOW:
        assert reason(net(), optimizer=OPTIMIZERS[name](clip_norm=1.0), **how) == "", how
    scheduled = OPTIMIZERS[name](xcnn.schedules.WarmUp(4, xcnn.schedules.Cosine(0.1, 6)))
    assert reason(net(), optimizer=scheduled) == ""


@pytest.mark.parametrize(
    ("name", "how"), list(zip([name for name in NETS if name not in TWICE], cycle(HOW), strict=False)), ids=str
)
def test_nets_of_the_zoo_are_captured(name, how):
    known = NETS[name]
    assert reason(known.net(known.classes), known.input_shape, known.loss, **how) == ""


@pytest.mark.parametrize(("name", "how"), list(zip(READY, cycle(HOW), strict=False)), ids=str)
def test_nets_that_are_ready_are_captured(name, how):
    assert reason(READY[name](4), (1, 28, 28) if name in nets.RECIPES else (3, 32, 32), **how) == ""


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda one: repr(one)[:60])
def test_layers_are_captured(layer, shape):
    first = [Conv2D(shape[0], 1)] if len(shape) == 3 else []
    assert reason(Sequential(*first, layer, Flatten(), Dense(2)), shape, loss="mse") == ""


def test_what_a_graph_can_not_hold_is_refused():
    x = torch.ones(3, 3, device="cuda:0")
    for work in (
        lambda: torch.maximum(x, torch.tensor(0.5)), lambda: float(x[0, 0]), lambda: bool(x.sum() > 0),
        lambda: x[x > 0], lambda: torch.nonzero(x), lambda: x.tolist(), lambda: x.cpu(), lambda: x + torch.ones(3),
        lambda: x.copy_(torch.ones(3)), lambda: torch.ones(3).to(x.device), lambda: torch.linalg.inv(x),
        lambda: torch.tensor(1.0, device=x.device),
    ):  # fmt: skip
        with pytest.raises(RuntimeError):
            Graphs().capture(work)
    Graphs().capture(lambda: torch.linalg.vector_norm(x[:2] * 2 + torch.where(x[:2] > 0, x[1:], 0.5)))
