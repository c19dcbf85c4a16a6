"""Kernels of layer, group and instance normalisation, run on the host: against PyTorch in float64, forward and back.

Threads and blocks run forwards and in reverse. Memory that a kernel does not write is NaN.
"""

import numpy as np
import pytest
from cuda_on_host.device import HostDevice
from cuda_on_host.emulator import DTYPES, needs_compiler
from cuda_on_host.rehearsal import RehearsedGpu
from xcnn_cupy.fused.groups import Standardised
from xcnn_cupy.groups import feature_sums, rows_of_axes, rows_of_groups, standardise, standardise_backward

import xcnn
from xcnn.core import tree

pytestmark = needs_compiler
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}
CASES = {
    "groups of an image": ((3, 6, 4, 5), 2),
    "groups of many cells": ((2, 16, 9, 8), 4),
    "one group": ((2, 4, 3, 3), 1),
    "instances": ((2, 3, 7, 5), 3),
    "groups of a signal": ((3, 4, 11), 2),
    "groups of features": ((5, 12), 3),
    "samples": ((3, 4, 5, 6), None),
    "features": ((4, 300), None),
    "channels at each place": ((2, 24, 5, 7), (1,)),
    "channels of a signal": ((2, 7, 40), (1,)),
    "columns": ((2, 3, 4, 10), (3,)),
}
"""Shapes, and how many groups there are, or along which axes; None is all but the batch's."""


def cut(x, how):
    """The rows of x."""
    if isinstance(how, int):
        return rows_of_groups(x, how)
    return rows_of_axes(x, how or tuple(range(1, x.ndim)))


def as_features(x, how):
    """The shape of scale and bias: that of features as they are indexed."""
    if isinstance(how, int):
        return x.shape[1:2]
    return tuple(x.shape[axis] for axis in how or range(1, x.ndim))


def by_torch(torch, x, scale, bias, how, dy):
    """Y, dx, dscale and dbias."""
    x, scale, bias = (torch.tensor(one.astype("float64"), requires_grad=True) for one in (x, scale, bias))
    if isinstance(how, int):
        y = torch.nn.functional.group_norm(x, how, scale, bias, 1e-3)
    else:
        axes = how or tuple(range(1, x.ndim))
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        wide = [n if axis in axes else 1 for axis, n in enumerate(x.shape)]
        y = (x - mean) / torch.sqrt(variance + 1e-3) * scale.reshape(wide) + bias.reshape(wide)
    grads = torch.autograd.grad(y, (x, scale, bias), torch.tensor(dy.astype("float64")))
    return y.detach().numpy(), *(g.numpy() for g in grads)


@pytest.mark.parametrize("last", [False, True], ids=["as indexed", "channels last"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("setting", ["float32", "float32 backwards", "float64", "float16 backwards", "bfloat16"])
def test_rows_are_standardised(rng, setting, case, last):
    torch = pytest.importorskip("torch")
    shape, how = CASES[case]
    if last and (len(shape) < 4 or case == "columns"):
        pytest.skip("such arrays lie in one order alone")
    kind, _, backwards = setting.partition(" ")
    device, dtype = HostDevice(bool(backwards)), DTYPES.get(kind, kind)

    def ordered(x):
        return x if not last else np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    x, dy = (ordered(rng.normal(3, 2, shape).astype(dtype)) for _ in range(2))
    sums = "float64" if kind == "float64" else "float32"
    scale, bias = (rng.standard_normal(as_features(x, how)).astype(sums) for _ in range(2))
    in_memory = (lambda w: np.ascontiguousarray(w.transpose(1, 2, 0))) if last and scale.ndim == 3 else lambda w: w
    rows = cut(x, how)
    y, mean, inverse = standardise(device, x, in_memory(scale), in_memory(bias), rows, 1e-3)
    dx = standardise_backward(device, dy, x, mean, inverse, in_memory(scale), rows)
    dscale, dbias = feature_sums(device, dy, x, mean, inverse, rows)
    expected = by_torch(torch, x, scale, bias, how, dy)
    assert y.strides == dx.strides == x.strides
    assert y.dtype == dx.dtype == x.dtype
    for got, wanted, digits in zip((y, dx), expected[:2], (24, 24), strict=True):
        room = (0.6 if "16" in kind else digits) * EPSILON[kind] * np.abs(wanted).max()
        np.testing.assert_allclose(got.astype("float64"), wanted, rtol=0, atol=room)
    for got, wanted in zip((dscale, dbias), expected[2:], strict=True):
        room = 100 * EPSILON[sums] * np.abs(dy.astype("float64")).sum() / wanted.size + 30 * EPSILON[sums]
        np.testing.assert_allclose(got.reshape(-1), in_memory(wanted).reshape(-1), rtol=0, atol=room)


def test_rows_that_are_far_from_0_keep_their_digits(rng):
    x = (rng.standard_normal((4, 600)) + 4096).astype("float32")
    y, _, _ = standardise(HostDevice(), x, None, None, rows_of_axes(x, (1,)), 1e-3)
    exact = x.astype("float64")
    expected = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_nan_stays_in_its_row(rng):
    x = rng.standard_normal((2, 6, 4, 4)).astype("float32")
    x[1, 3, 2, 2] = np.nan
    y, _, _ = standardise(HostDevice(), x, None, None, rows_of_groups(x, 3), 1e-3)
    expected = np.zeros(x.shape, bool)
    expected[1, 2:4] = True
    assert np.array_equal(np.isnan(y), expected)


LAYERS = {
    "LayerNorm": (xcnn.LayerNorm(), (4, 5, 6)),
    "LayerNorm of channels": (xcnn.LayerNorm(axis=1), (8, 3, 5)),
    "LayerNorm of columns": (xcnn.LayerNorm(axis=-1), (3, 4, 6)),
    "GroupNorm": (xcnn.GroupNorm(2), (6, 4, 3)),
    "InstanceNorm": (xcnn.InstanceNorm(), (3, 5, 4)),
    "InstanceNorm without scale": (xcnn.InstanceNorm(affine=False), (3, 5, 4)),
    "LayerNorm of features": (xcnn.LayerNorm(), (12,)),
}


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", LAYERS)
def test_runs_stand_for_their_layers(rng, name, precision):
    """As far from float64 as the layers are in the same types."""
    layer, shape = LAYERS[name]
    first = [xcnn.Conv2D(shape[0], 1)] if len(shape) == 3 else [xcnn.Dense(shape[0])]
    net = xcnn.Sequential(*first, layer, xcnn.Flatten(), xcnn.Dense(2))
    oracle = xcnn.backend("numpy", algorithm="gemm", fuse=False)
    exact = xcnn.Model(net, shape, backend=oracle, dtype="float64", loss="mse")
    model = xcnn.Model(net, shape, backend=RehearsedGpu(), precision=precision, loss="mse")
    x, dy = rng.standard_normal((5, *shape)).astype("float32"), rng.standard_normal((5, 2)).astype("float32")
    device = model.backend.gpu
    device.launched.clear()
    found = []
    for one, trained in ((model, model.trainer.net), (model, model.trainer.layers), (exact, exact.trainer.net)):
        y, backward = trained(one.weights, x.astype(one.dtype), xcnn.Run(one.trainer.backend, train=True, key=(0, 0)))
        dx, grads = backward(dy.astype(y.dtype))
        found.append([y, dx, *(g for _, g in sorted(tree.items(grads)))])
        if trained is model.trainer.net:
            ran = {expression.partition("<")[0] for expression in device.launched}
            wanted = {"standardise", "standardise_backward"}
            assert wanted <= ran or (name.endswith("columns") and precision != "float32")
    rounding = {"float32": 2**-20, "tf32": 2**-20, "bfloat16": 2**-7, "float16": 2**-10}[precision]
    for ours, theirs, right in zip(*found, strict=True):
        errors = [np.linalg.norm(one.astype("float64") - right) for one in (ours, theirs)]
        assert errors[0] <= 1.5 * errors[1] + 2 * rounding * (np.linalg.norm(right) + 1)


def test_what_kernels_do_not_know_is_the_layers():
    run = Standardised(RehearsedGpu(), "norm", xcnn.LayerNorm(axis=(1, 2)))
    weights = {"norm": {name: np.ones((3, 4), "float32") for name in ("scale", "bias")}}
    x = np.zeros((2, 3, 4, 5), "float32")
    assert not run.fits(weights, x)
    assert Standardised(RehearsedGpu(), "norm", xcnn.GroupNorm(3)).fits({"norm": {"scale": x[0, :, 0, 0]}}, x)
    assert not Standardised(RehearsedGpu(), "norm", xcnn.GroupNorm(3)).fits({"norm": {"scale": x[0, 0, :, 0]}}, x)
    assert not Standardised(RehearsedGpu(), "norm", xcnn.GroupNorm(3)).fits({"norm": {"scale": x[0, :, 0, 0]}}, x[:0])
