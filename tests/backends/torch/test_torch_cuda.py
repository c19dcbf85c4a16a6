"""What PyTorch's backend does on CUDA alone, without CUDA: tensors there have a device, a type and a shape, no numbers.

Code that asks whether a tensor is the host's takes the other way with them. Asking one for its number raises, and so
does a mask as an index, and two devices that meet; what comes from the host is noted. A graph can hold what is left.
"""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from cases import CASES

import xcnn
from xcnn.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from xcnn.training.losses import LOSSES, OF_LABELS, OF_ONE_CLASS
from xcnn.training.optimizers import OPTIMIZERS

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from xcnn_torch import TorchBackend, update  # noqa: E402

BY_CLASS = (*OF_ONE_CLASS, *OF_LABELS, "focal", "hinge", "squared_hinge")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


class OnCuda(TorchBackend):
    """CUDA's, whose contexts are not entered."""

    def active(self):
        return nullcontext()


class Watch(TorchDispatchMode):
    """Notes what comes from the host or goes there. Fused updates, which work in place, are left out."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name, options = str(function), options or {}
        if name.startswith("aten._fused_"):
            return None
        if name == "aten.lift_fresh.default":
            self.seen.append(name)
        found = function(*arguments, **options)
        if name in ("aten._to_copy.default", "aten.copy_.default"):
            source = arguments[1] if name == "aten.copy_.default" else arguments[0]
            if source.device != found.device:
                self.seen.append(f"{name} from {source.device} to {found.device}")
        return found


class Graphs:
    """Captures nothing, and refuses what a graph can't hold."""

    def free_memory(self):
        return 2**40

    def capture(self, work):
        work()
        with Watch() as watch:
            work()
        if watch.seen:
            raise RuntimeError(f"{watch.seen} is not permitted when stream is capturing")


@pytest.fixture(autouse=True)
def no_numbers(monkeypatch):
    """Tensors without numbers, which the kernels take as they take PyTorch's own."""
    monkeypatch.setattr(update, "TAKEN", {FakeTensor})
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def net(*last):
    return Sequential(
        Conv2D(4, 3), BatchNorm(), ReLU(), MaxPool2D(3, stride=2, padding=1), Dropout(0.3), Flatten(), Dense(8), ReLU(),
        Dense(3), *last,
    )  # fmt: skip


def reason(layers, shape=(2, 8, 9), loss="cross_entropy", **options):
    """Why a step is not captured; "" where it is."""
    model = xcnn.Model(layers, shape, backend=OnCuda("cuda:0"), loss=loss, **options)
    step, backend, state = model.compiled_step, model.trainer.backend, model.state
    assert backend.place.type == "cuda"
    step.graphs = Graphs()
    x = backend.asarray(np.ones((4, *shape), model.dtype))
    name = xcnn.training.losses.loss_name(model.loss)
    t = np.arange(4) % 2 if name in BY_CLASS else np.full((4, *model.output_shape), 0.25, model.dtype)
    step.found(model.seed, state.weights, state.optimizer_state, x, backend.asarray(t))
    return step.reason


@pytest.mark.parametrize("precision", [*PRECISIONS, "float64"])
def test_losses(precision):
    last = {"nll": xcnn.LogSoftmax, "binary_cross_entropy": xcnn.Sigmoid, "kl_divergence": xcnn.Sigmoid}
    how = {"dtype": "float64"} if precision == "float64" else {"precision": precision}
    for name in LOSSES:
        layers = net(*([last[name]()] if name in last else []))
        assert reason(layers, loss=name, **how) == "", name


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers(name):
    for options in ({"precision": "float32"}, {"precision": "float16"}, {"dtype": "float64"}):
        assert reason(net(), optimizer=OPTIMIZERS[name](clip_norm=1.0), **options) == ""
    scheduled = OPTIMIZERS[name](xcnn.schedules.WarmUp(4, xcnn.schedules.Cosine(0.1, 6)))
    assert reason(net(), optimizer=scheduled) == ""


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"ignore_index": 1}], ids=str)
def test_options_of_a_loss(options):
    assert reason(net(), loss=partial(LOSSES["cross_entropy"], **options)) == ""


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda one: repr(one)[:60])
def test_layers(layer, shape):
    first = [xcnn.Conv2D(shape[0], 1)] if len(shape) == 3 else []
    assert reason(Sequential(*first, layer, Flatten(), Dense(2)), shape, loss="mse") == ""


def test_what_a_graph_can_not_hold_is_refused():
    x = torch.ones(3, device="cuda:0")
    for work in (
        lambda: torch.maximum(x, torch.tensor(0.5)), lambda: float(x[0]), lambda: x[x > 0], lambda: torch.nonzero(x),
        lambda: x.to("cpu"), lambda: x + torch.ones(3), lambda: torch.ones(3).to(x.device),
    ):  # fmt: skip
        with pytest.raises((RuntimeError, torch._subclasses.fake_tensor.DataDependentOutputException)):
            Graphs().capture(work)
