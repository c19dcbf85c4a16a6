"""How exact PyTorch's backend is: long sums in float32, half precision held to float64, numbers that are not finite."""

import numpy as np
import pytest
from cases import settled
from draws import draws
from memory_layouts import KEY, drawn_net
from torch_runs import RUNS

import xcnn
from xcnn.checking.parity import WHOLE, Subject, error
from xcnn.core import tree
from xcnn.layers import BatchNorm, Conv2D, GroupNorm, LayerNorm, Next, Run, Sequential
from xcnn.training.precision import PRECISIONS, mixed, widened

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from xcnn_torch import memory, pooling  # noqa: E402
from xcnn_torch.convolution import Window, correlate_kernel_adjoint, gradients  # noqa: E402
from xcnn_torch.fused import normalisation  # noqa: E402
from xcnn_torch.norms import norm_of  # noqa: E402

UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""


def backend():
    return xcnn.backend("torch")


# Sums. One term after another the error is at most n UNIT times the sum of absolute values; in sums of at most LONG
# terms, and then of those, it is that of LONG and n / LONG terms.
# Here terms are equal, and all errors to the same side.


def bound(terms):
    return (min(terms, memory.LONG) + terms / memory.LONG) * UNIT


SIDE = 1024


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("filters", "batch", "side"), [(4, 1, SIDE), (1, 1, SIDE), (3, 90, 41)])
def test_gradients_of_large_images(filters, batch, side, last):
    """A bias's is summed by halves: its error does not grow with the sum."""
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.full((batch, 2, side, side), 0.3).contiguous(memory_format=layout)
    dy = torch.full((batch, filters, side - 2, side - 2), 0.1).contiguous(memory_format=layout)
    kernel, terms = torch.ones(filters, 2, 3, 3), batch * (side - 2) ** 2
    dx, dk, db = gradients(dy, x, kernel, Window.of((1, 1), ((0, 0), (0, 0)), (1, 1), 1), (False, True, True))
    assert dx is None
    of_bias, of_kernel = terms * float(dy[0, 0, 0, 0]), terms * float(dy[0, 0, 0, 0]) * float(x[0, 0, 0, 0])
    np.testing.assert_allclose(db.double(), of_bias, rtol=64 * UNIT)
    np.testing.assert_allclose(dk.double(), of_kernel, rtol=bound(terms))


@pytest.mark.parametrize("case", range(draws(6)))
def test_kernels_gradients_in_pieces(case, monkeypatch):
    """Cut into pieces of few places: as in one."""
    rng = np.random.default_rng(case)
    stride, dilation, groups = rng.integers(1, 4, 2), rng.integers(1, 3, 2), int(rng.integers(1, 3))
    size, pads = rng.integers(1, 4, 2), rng.integers(0, 4, (2, 2))
    if case % 2:
        pads[:, 1] = pads[:, 0]
    x = torch.tensor(rng.standard_normal((3, 2 * groups, *rng.integers(9, 14, 2))))
    k_shape = 2 * groups, 2, *map(int, size)
    how = {
        "stride": tuple(map(int, stride)), "dilation": tuple(map(int, dilation)), "groups": groups,
        "padding": tuple(tuple(map(int, pair)) for pair in pads),
    }  # fmt: skip
    y = backend().correlate(x, torch.tensor(rng.standard_normal(k_shape)), **how)
    dy = torch.tensor(rng.standard_normal(y.shape))
    expected = correlate_kernel_adjoint(x, dy, k_shape, **how)
    monkeypatch.setattr("xcnn_torch.convolution.LONG", int(rng.integers(1, 60)))
    got = correlate_kernel_adjoint(x.float(), dy.float(), k_shape, **how)
    np.testing.assert_allclose(got, expected, rtol=0, atol=200 * UNIT * float(expected.abs().max()))


LARGE = {
    "channels last": (1, 2, SIDE, SIDE), "as indexed": (1, 2, SIDE, SIDE), "odd": (1, 3, 1001, 333),
    "images": (9, 16, 100, 99), "vectors": (200_003, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_batch_normalisation_of_many_cells(name):
    """A mean far from zero beside a small deviation; held to PyTorch's autograd in float64."""
    rng = np.random.default_rng(5)
    shape, deviation = LARGE[name], 0.02
    x = torch.tensor(0.7 + deviation * rng.standard_normal(shape)).float()
    dy = torch.tensor(0.1 + 0.01 * rng.standard_normal(shape)).float()
    if len(shape) == 4 and name != "as indexed":
        x, dy = (a.contiguous(memory_format=torch.channels_last) for a in (x, dy))
    net = Sequential(BatchNorm(momentum=0.9))
    weights, _ = net.init(rng, shape[1:])
    weights = settled(tree.map(lambda w: torch.tensor(w + 0.2 * rng.random(w.shape)).float(), weights))
    y, backward = backend().rewrite(net)(weights, x, Run(backend(), True, KEY))
    dx, grads = backward(dy)
    exact, mine = x.double().requires_grad_(), {n: w.double() for n, w in weights["batchnorm1"].items()}
    scale, bias = mine["scale"].requires_grad_(), mine["bias"].requires_grad_()
    running = mine["running_mean"], mine["running_variance"]
    right = torch.nn.functional.batch_norm(exact, *running, scale, bias, True, 0.1, 1e-3)
    right.backward(dy.double())
    found = grads["batchnorm1"]
    assert isinstance(found["running_mean"], Next)
    cells = x.numel() // x.shape[1]
    # each cell has an error of its own as x - mean is rounded; sums of n cells one of log2(n) roundings
    few = 64 * UNIT / deviation * 0.7
    for got, expected, limit in (
        (y, right, few * float(scale.detach().abs().max())),
        (dx, exact.grad, few * float(exact.grad.abs().max())),
        (found["bias"], bias.grad, 64 * UNIT * 0.1 * cells),
        (found["scale"], scale.grad, few * 0.1 * cells),
        (found["running_mean"].value, running[0], 64 * UNIT),
        (found["running_variance"].value, running[1], 64 * UNIT),
    ):
        np.testing.assert_allclose(got.double(), expected.detach(), rtol=0, atol=limit)


def test_what_is_long():
    """Only what is computed on the host in float32 or less, where libraries add term by term."""
    assert normalisation.is_long(torch.empty(1, 1, 257, 256))
    assert not normalisation.is_long(torch.empty(1, 2, 256, 256))
    assert not normalisation.is_long(torch.empty(1, 1, 257, 256, dtype=torch.float64))


# Half precision. The bound is what rounding explains, imitated operation by operation (checking/rounding.py), which
# follows from the types and the lengths of sums.


def results(number, precision):
    """By name: the error of the fused net, that of its layers, and what rounding explains of them.

    A bias before a norm has no part in its result: its gradient is 0, but for what rounding makes of the terms that
    cancel in it. Such an error says nothing beside 0, and is taken beside the net's largest gradient: explained is then
    a rounding of so many terms as large as that.
    """
    rng = np.random.default_rng(number)
    net, input_shape = drawn_net(number, rng)
    weights, output = net.init(rng, input_shape)
    batch, single = int(rng.integers(1, 5)), lambda a: a.astype("float32").astype("float64")
    weights = tree.map(lambda w: single(w + 0.2 * rng.random(w.shape)), weights)
    x, dy = (single(rng.standard_normal((batch, *shape))) for shape in (input_shape, output))
    policy = PRECISIONS[precision]
    subject = Subject(WHOLE, net, "float32", policy.compute, policy, weights, x, dy, KEY)
    cast = mixed(net, policy)
    by_layers = subject.on(backend(), widened(cast, policy))
    fused = subject.on(backend(), widened(backend().rewrite(cast), policy))
    exact, explained = subject.exact, subject.explained
    largest = max(np.abs(e).max() for n, e in exact.items() if n != "y")
    terms = batch * np.prod(input_shape[1:]) * UNITS[policy.compute]

    def judged(name, e):
        if name != "y" and np.abs(e).max() < 1e-9 * largest:
            return (*(np.abs(got[name] - e).max() / largest for got in (fused, by_layers)), terms)
        return error(fused[name], e), error(by_layers[name], e), explained[name]

    return {name: judged(name, e) for name, e in exact.items()}


UNITS = {"float32": UNIT, "bfloat16": 2.0**-9, "float16": 2.0**-12}
"""Half the distance from 1 to the next number of each type."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_fused_nets_are_as_near_to_float64_as_their_layers(precision):
    """What rounding explains bounds both; neither is held to the other, which is as far from the truth."""
    count = draws(3)
    for number in range(100, 100 + count):
        for name, (fused, by_layers, explained) in results(number, precision).items():
            assert fused <= explained, f"{number}, fused: {name}"
            assert by_layers <= explained, f"{number}, layer by layer: {name}"


# NaN and infinity.


SOME = [
    "conv, relu, pool", "conv of five, no bias, pool", "conv, overlapping pool", "conv, untied, relu, pool",
    "norm, relu",
    "conv of six, relu, pool", "dense, relu", "single", "residual, shortcut", "conv, sigmoid", "all",
]  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", SOME)
def test_what_is_not_finite_goes_where_the_layers_send_it(name, value):
    """In x, dy or a weight: y and all gradients are NaN, infinite and finite at the same places.

    Of infinities PyTorch tells a running mean as NaN, where their sum is infinite: there it is finite or not.
    """
    net, input_shape = RUNS[name]
    for seed in range(draws(2)):
        for place in ("x", "dy", "weight"):
            rng = np.random.default_rng(seed)
            weights, output = net.init(rng, input_shape)
            weights = tree.map(lambda w, rng=rng: w + 0.2 * rng.random(w.shape), weights)
            x, dy = (rng.standard_normal((3, *shape)) for shape in (input_shape, output))
            given = {"x": x, "dy": dy, "weight": tree.leaves(weights)[0] if weights else x}[place]
            given.reshape(-1)[rng.integers(0, given.size, 1 if place == "weight" else 3)] = value
            there = tree.map(torch.tensor, {"weights": weights, "x": x, "dy": dy})
            found = []
            for form in (backend().rewrite(net), net):
                y, backward = form(there.get("weights", {}), there["x"], Run(backend(), True, KEY))
                dx, grads = backward(there["dy"])
                found.append({"y": y, "dx": dx, **{n: getattr(g, "value", g) for n, g in tree.items(grads)}})
            for what, right in found[1].items():
                got = found[0][what]
                if "running" in what:
                    got, right = (torch.where(a.isfinite(), a, np.nan) for a in (got, right))
                np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-9, err_msg=f"{place}: {what}")


def test_relu_stops_what_is_not_finite_as_pytorchs_does():
    """Its layer, its fused run and PyTorch's autograd: NaN in x lets dy through, and nothing passes where x <= 0."""
    x = torch.tensor([[-1.0, 0.0, 2.0, np.nan, -1.0, 0.0, np.inf, -np.inf]])
    dy = torch.tensor([[np.nan, np.inf, np.nan, 3.0, -np.inf, np.nan, 5.0, 7.0]])
    there = x.clone().requires_grad_()
    there.relu().backward(dy)
    net = Sequential(xcnn.ReLU())
    for form in (net, backend().rewrite(net)):
        np.testing.assert_array_equal(form({}, x, Run(backend()))[1](dy)[0], there.grad)
    host = net({}, x.numpy(), Run(xcnn.backend("numpy")))[1](dy.numpy())[0]
    np.testing.assert_array_equal(host, there.grad)


def test_of_several_nan_the_first_gets_the_gradient():
    """As in the reference; PyTorch's own pooling takes the last."""
    x = torch.tensor([[[[1.0, np.nan, 2.0, 3.0], [np.nan, np.nan, 5.0, 4.0]]]])
    pool = pooling.MaxPool((2, 2), (2, 2), (0, 0))
    y, places = pool(x)
    assert places.flatten().tolist() == [5, 6]
    assert pooling.of_first_nan(places, y, x, (2, 2), (2, 2), (0, 0)).flatten().tolist() == [1, 6]
    identity = torch.ones(1, 1, 1, 1), None, *Window.of((1, 1), ((0, 0), (0, 0)), (1, 1), 1).arguments
    assert pooling.of_first_nan(places, y, x, (2, 2), (2, 2), (0, 0), identity).flatten().tolist() == [1, 6]


def test_a_convolution_whose_pooling_meets_nan_in_parts(monkeypatch):
    monkeypatch.setattr("xcnn_torch.fused.convolution.AT_ONCE", 700)
    for value in (np.nan, np.inf):
        test_what_is_not_finite_goes_where_the_layers_send_it("conv, relu, pool", value)
    assert isinstance(RUNS["conv, relu, pool"][0].layers["conv1"], Conv2D)


def test_the_norm_of_many_cells():
    """A million equal ones, and some numbers beside them; the closed form is the root of their sum of squares."""
    cells = [torch.full((1_000_003,), 0.1), torch.tensor([3.0, 4.0]), torch.full((1 << 17, 3), -0.3)]
    exact = (1_000_003 * 0.1**2 + 25 + (3 << 17) * 0.3**2) ** 0.5
    assert norm_of(cells).item() == pytest.approx(exact, rel=4096 * UNIT)  # lines of so many


# Norms of samples.


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("norm", [GroupNorm(2), GroupNorm(1), LayerNorm(), LayerNorm(axis=1)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 3.0, 300.0])
def test_norms_of_samples_far_from_zero(norm, mean, last):
    """In float32 nothing is lost but the digits that x itself does not have: those of mean / deviation."""
    rng = np.random.default_rng(4)
    drawn = torch.tensor(rng.standard_normal((3, 8, 9, 7)) + mean).float()
    x = drawn.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    net = Sequential(norm=norm)
    weights, _ = net.init(rng, tuple(x.shape[1:]))
    weights = tree.map(lambda w: torch.tensor(w + 0.2 * rng.random(w.shape)).float(), weights)
    dy = torch.tensor(rng.standard_normal(x.shape)).float()
    results = {}
    for kind, run in (("float32", backend().rewrite(net)), ("float64", net)):
        of_type = getattr(torch, kind)
        wide = tree.map(lambda w, to=of_type: w.to(to), weights)
        y, backward = run(wide, x.to(of_type), Run(backend(), True, KEY))
        dx, grads = backward(dy.to(of_type))
        results[kind] = {"y": y, "dx": dx, **grads}
    most = 8 * UNIT * (8 + mean) * 4
    for (path, got), expected in zip(tree.items(results["float32"]), tree.leaves(results["float64"]), strict=True):
        scale = max(1.0, float(expected.abs().max()))
        np.testing.assert_allclose(got.double(), expected, rtol=0, atol=most * scale, err_msg=path)
