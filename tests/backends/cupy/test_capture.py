"""What a CUDA graph can hold: each net, layer, optimizer, loss and precision, captured on arrays that refuse the rest.

The tables here are those of docs/backends.md. What is not captured runs launch by launch, to the same numbers.
"""

from functools import partial
from itertools import cycle

import numpy as np
import pytest
from array_api_compat.common import _aliases
from cases import CASES
from cuda_on_host.capturing import HollowGpu, RecordedGpu, namespace_of, reason
from cuda_on_host.emulator import needs_compiler

import xcnn
from xcnn import nets
from xcnn.bench.zoo import NETS
from xcnn.core import arrays, tree
from xcnn.training.losses import LOSSES, OF_LABELS
from xcnn.training.optimizers import OPTIMIZERS

pytestmark = needs_compiler
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
CUBLAS = "RuntimeError: matmul (cuBLAS) is not permitted when stream is capturing"
NO_KERNEL = "has no kernel that updates these weights in place."
TWICE = ("resnet18-64", "unet-256")  # the same nets, of other images
READY = {name: getattr(nets, name) for name in ("fashion", "fast", "photos", "mobilenet_v2", "efficientnet_b0", "unet")}
PRODUCTS = ("AdaptiveAveragePool2D", "Resize", "UpSampling1D(size=2, interpolation='b", "UpSampling2D(size=(2, 3)")
"""Layers that multiply by matrices of their own, as they are written."""
ALONE = ("Add(dense1", "Concatenate(wide", "Multiply(dense1", "UpSampling2D(size=(5, 2)")
"""Such as are a branch by themselves, where no run of layers is fused; and one more of PRODUCTS."""


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """Arrays of the device have a namespace of their own."""
    found = namespace_of(arrays.array_namespace)
    monkeypatch.setattr(arrays, "array_namespace", found)
    monkeypatch.setattr(_aliases, "array_namespace", found)


def small(*last):
    return xcnn.Sequential(
        xcnn.Conv2D(4, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dropout(0.5),
        xcnn.Dense(3), *last,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "precision"), list(zip([name for name in NETS if name not in TWICE], cycle(PRECISIONS), strict=False))
)
def test_nets_of_the_zoo_are_captured(name, precision):
    known = NETS[name]
    shape = (3, 64, 64) if max(known.input_shape) > 64 else known.input_shape
    net = known.net(10 if known.classes == 1000 else known.classes)
    assert reason(net, shape, samples=2, loss=known.loss, precision=precision) == ""


@pytest.mark.parametrize(("name", "precision"), list(zip(READY, cycle(PRECISIONS), strict=False)))
def test_nets_that_are_ready_are_captured(name, precision):
    shape = (1, 28, 28) if name in nets.RECIPES else (3, 32, 32)
    assert reason(READY[name](4), shape, samples=2, loss="cross_entropy", precision=precision) == ""


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_that_have_a_kernel_are_captured(name):
    expected = "" if name in ("Adam", "AdamW", "RMSprop", "SGD") else f"{name} {NO_KERNEL}"
    for options in ({"precision": "float32"}, {"precision": "float16"}, {"dtype": "float64"}):
        assert reason(small(), optimizer=OPTIMIZERS[name](), **options) == expected
    assert reason(small(), optimizer=OPTIMIZERS[name](clip_norm=1.0)) == expected


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_captured_but_for_those_of_products(name):
    ends = {"nll": xcnn.LogSoftmax, "binary_cross_entropy": xcnn.Sigmoid, "kl_divergence": xcnn.Sigmoid}
    last = [ends[name]()] if name in ends else []
    for options in ({"precision": "float32"}, {"precision": "float16"}, {"dtype": "float64"}):
        assert reason(small(*last), loss=name, **options) == (CUBLAS if name in OF_LABELS else "")


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"ignore_index": 1}], ids=str)
def test_options_of_a_loss_are_captured(options):
    assert reason(small(), loss=partial(LOSSES["cross_entropy"], **options)) == ""


def test_algorithms_are_captured_but_for_the_literal_one():
    for algorithm in ("cudnn", "gemm"):
        for precision in PRECISIONS:
            assert reason(small(), backend=HollowGpu(algorithm=algorithm), precision=precision) == ""
    assert "an array of the host" in reason(small(), backend=HollowGpu(algorithm="literal"))


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda one: repr(one)[:60])
def test_layers_are_captured_but_for_those_of_products(layer, shape):
    first = [xcnn.Conv2D(shape[0], 1)] if len(shape) == 3 else []
    net = xcnn.Sequential(*first, layer, xcnn.Flatten(), xcnn.Dense(2))
    assert reason(net, shape, loss="mse") == (CUBLAS if repr(layer).startswith((*PRODUCTS, *ALONE)) else "")


def layers_without_kernels():
    return xcnn.Sequential(
        xcnn.Conv2D(4, 3), xcnn.LayerNorm(axis=1), xcnn.GELU(), xcnn.PReLU(), xcnn.GroupNorm(2), xcnn.Softplus(),
        xcnn.Conv2DTranspose(3, 2, stride=2), xcnn.Padding2D(1, mode="reflect"), xcnn.GlobalAveragePool2D(),
        xcnn.Dropout(0.25), xcnn.Dense(2),
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["huber", "mse", "cross_entropy"])
def test_what_is_recorded_of_the_librarys_own_operations_is_right_when_it_is_replayed(rng, loss):
    """Two epochs of replays beside NumPy's steps; every cell that is not written anew by a replay is NaN."""
    x = rng.standard_normal((10, 2, 6, 7))
    t = rng.integers(0, 2, 10) if loss == "cross_entropy" else rng.standard_normal((10, 2))
    oracle = xcnn.backend("numpy", algorithm="gemm", fuse=False)
    found = []
    for backend in (RecordedGpu(), oracle):
        model = xcnn.Model(
            layers_without_kernels(), (2, 6, 7), loss=loss, optimizer=xcnn.SGD(0.1, momentum=0.9), dtype="float64",
            backend=backend, seed=3,
        )  # fmt: skip
        rows = model.fit(x, t, epochs=2, batch_size=4, progress="none").rows
        found.append(([row["loss"] for row in rows], dict(tree.items(model.weights))))
        if backend is not oracle:
            assert model.compiled_step.reason == ""
            assert len(model.compiled_step.graphs) == 2
    (losses, weights), (expected_losses, expected) = found
    assert losses == pytest.approx(expected_losses, rel=1e-9)
    for path, w in expected.items():
        np.testing.assert_allclose(np.asarray(weights[path]), w, rtol=1e-8, atol=1e-10, err_msg=path)
