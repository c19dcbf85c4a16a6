"""PyTorch's backend: its runs of layers held to the layers that they replace, its seams to the definitions."""

import pickle
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS
from torch_runs import IMAGE, RUNS

import xcnn
from xcnn.core import tree
from xcnn.errors import BackendUnavailable, OptionError, XcnnError
from xcnn.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    Next,
    ReLU,
    Run,
    Sequential,
    Sigmoid,
    Tanh,
)
from xcnn.nets import recipes as nets
from xcnn.training.losses import count_correct, cross_entropy
from xcnn.training.optimizers import Adam
from xcnn.training.precision import PRECISIONS, mixed
from xcnn.training.schedules import Given

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from xcnn_strided.fusion import FusedSequential  # noqa: E402
from xcnn_torch import memory, precision  # noqa: E402
from xcnn_torch.fused import convolution  # noqa: E402

EVERY = (BatchNorm, Conv2D, Dense, Dropout, Flatten, GlobalAveragePool2D, MaxPool2D, ReLU, Sigmoid, Tanh)


def backend(**options):
    return xcnn.backend("torch", **options)


def draw(net, input_shape, batch, dtype="float64"):
    """Weights without zeros and ones, a batch, and a gradient of the output, as tensors."""
    rng = np.random.default_rng(3)
    weights, output = net.init(rng, input_shape)
    there = partial(backend().asarray, dtype=dtype)
    weights = tree.map(lambda w: there(w + 0.2 * rng.random(w.shape)), weights)
    return weights, there(rng.standard_normal((batch, *input_shape))), there(rng.standard_normal((batch, *output)))


def passes(net, weights, x, dy, run):
    y, backward = net(weights, x, run)
    dx, grads = backward(dy)
    return {"y": y, **({} if dx is None else {"dx": dx}), **grads}


def check(got, expected, rounding=1e-12):
    assert [path for path, _ in tree.items(got)] == [path for path, _ in tree.items(expected)]
    for (path, a), b in zip(tree.items(got), tree.leaves(expected), strict=True):
        assert isinstance(a, Next) == isinstance(b, Next), path
        a, b = getattr(a, "value", a), getattr(b, "value", b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        most = float(b.abs().max()) if b.numel() else 0.0
        np.testing.assert_allclose(a.double(), b.double(), rtol=0, atol=rounding * max(most, 1.0), err_msg=path)


@pytest.fixture(params=["at once", "in parts"])
def parts(request, monkeypatch):
    """Convolutions on the CPU take all images at once, or two of small output, or one, at a time."""
    if request.param == "in parts":
        monkeypatch.setattr(convolution, "AT_ONCE", 5000)


@pytest.fixture
def never_called(monkeypatch):
    """No layer may be called by itself from now on."""

    def called(self, *_):
        raise AssertionError(f"{type(self).__name__} was called")

    return lambda: [monkeypatch.setattr(kind, "__call__", called) for kind in EVERY]


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("wants_dx", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_runs_are_the_layers(name, train, wants_dx, never_called):
    net, input_shape = RUNS[name]
    arrays, run = draw(net, input_shape, 5), Run(backend(), train, (5, 2), wants_dx=wants_dx)
    expected = passes(net, *arrays, run)
    fused = backend().rewrite(net)
    never_called()
    got = passes(fused, *arrays, run)
    if not wants_dx:  # then it may be there all the same
        got.pop("dx", None), expected.pop("dx", None)
    check(got, expected)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("name", RUNS)
def test_runs_in_float32_have_their_channels_last(name):
    net, input_shape = RUNS[name]
    arrays, run = draw(net, input_shape, 5, "float32"), Run(backend(), True, (5, 2))
    check(passes(backend().rewrite(net), *arrays, run), passes(net, *arrays, run), 2e-5)
    conv = Sequential(Conv2D(3, 3), ReLU())
    y, _ = backend().rewrite(conv)(*draw(conv, IMAGE, 5, "float32")[:2], run)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["conv, relu, pool", "dense, relu", "norm, relu", "dropout", "single"])
def test_runs_behind_casts(name, precision, never_called):
    """Types of all results as the layers', values as far as rounding in another order lets them be equal."""
    net, input_shape = RUNS[name]
    net = mixed(net, PRECISIONS[precision])
    arrays, run = draw(net, input_shape, 4, "float32"), Run(backend(), True, (5, 2))
    expected, fused = passes(net, *arrays, run), backend().rewrite(net)
    never_called()
    check(passes(fused, *arrays, run), expected, 0.06 if precision == "bfloat16" else 0.01)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_a_batch_of_zero(name, train):
    net, input_shape = RUNS[name]
    arrays, run = draw(net, input_shape, 0), Run(backend(), train, (5, 2))
    check(passes(backend().rewrite(net), *arrays, run), passes(net, *arrays, run))


@pytest.mark.usefixtures("parts")
def test_nothing_that_somebody_holds_is_written_and_backward_may_run_twice():
    for net, input_shape in RUNS.values():
        weights, x, dy = draw(net, input_shape, 5)
        held = [*tree.leaves(weights), x, dy]
        y, backward = backend().rewrite(net)(weights, x, Run(backend(), True, (5, 2)))
        held += [y, *(getattr(g, "value", g) for g in tree.leaves(backward(dy)[1]))]
        before = [a.clone() for a in held]
        first, second = backward(dy), backward(2 * dy)
        double = tree.map(lambda g: g if isinstance(g, Next) else 2 * g, first[1])
        check({"dx": second[0], **second[1]}, {"dx": 2 * first[0], **double})
        for a, b in zip(held, before, strict=True):
            assert torch.equal(a, b)


LAYOUTS = {
    "every second": lambda a: a.repeat_interleave(2, -1)[..., ::2],
    "turned": lambda a: a.movedim(0, -1).contiguous().movedim(-1, 0),
    "one number": lambda a: a.flatten()[0].expand(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["conv, relu, pool", "all", "single", "residual, shortcut", "dropout"])
def test_layouts_make_no_difference(name, layout):
    net, input_shape = RUNS[name]
    weights, x, dy = draw(net, input_shape, 4)
    x, dy = LAYOUTS[layout](x), LAYOUTS[layout](dy)
    weights = weights if layout == "one number" else tree.map(LAYOUTS[layout], weights)
    run = Run(backend(), True, (5, 2))
    check(passes(backend().rewrite(net), weights, x, dy, run), passes(net, weights, x, dy, run))


def test_ties_zeros_and_nan_as_in_the_layers():
    """Small whole numbers, so that cells are equal and sums exact; then what is not finite, in one image of four."""
    net = Sequential(Conv2D(3, 2), ReLU(), MaxPool2D(2))
    rng, there = np.random.default_rng(1), backend().asarray
    weights = {"conv1": {"kernel": rng.integers(-1, 2, (3, 2, 2, 2)) + 0.0, "bias": np.array([-1.0, 0.0, 1.0])}}
    weights = tree.map(there, weights)
    x, dy = there(rng.integers(-1, 2, (4, *IMAGE)) + 0.0), there(rng.standard_normal((4, 3, 5, 4)))
    run, fused = Run(backend(), True), backend().rewrite(net)
    check(passes(fused, weights, x, dy, run), passes(net, weights, x, dy, run), 1e-14)
    x[1, 0, 3, 3], x[1, 1, 7, 5] = np.nan, np.inf
    mine, theirs = (n(weights, x, run)[0] for n in (fused, net))
    assert theirs.isnan().any()
    np.testing.assert_array_equal(mine, theirs)


def told(call):
    """The result, or the error's class and words."""
    try:
        return call()
    except XcnnError as error:
        return type(error), str(error)


WRONG = {
    "channels": lambda x: x.repeat(1, 2, 1, 1),
    "rank": lambda x: x[:, 0],
    "one row": lambda x: x[:, :, :1],
    "another size": lambda x: x[..., :4],
    "type": lambda x: x.float(),
    "bytes": lambda x: x.byte(),
    "library": lambda x: x.numpy(),
    "device": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_inputs_are_told_by_the_layers(wrong):
    net, input_shape = RUNS["all"]
    weights, x, dy = draw(net, input_shape, 3)
    mine, theirs = (
        told(lambda net=net: passes(net, weights, WRONG[wrong](x), dy, Run(backend(), True)))
        for net in (backend().rewrite(net), net)
    )
    assert isinstance(theirs[0], type)
    assert mine == theirs


@pytest.mark.parametrize("name", ["conv, relu, pool", "dense, relu", "norm, relu", "dropout", "single", "all"])
def test_a_gradient_of_another_shape_is_told_as_by_the_layers(name):
    net, input_shape = RUNS[name]
    weights, x, dy = draw(net, input_shape, 3, "float32")
    run, fused = Run(backend(), True, (5, 2)), backend().rewrite(net)
    error = told(lambda: passes(fused, weights, x, dy[:2], run))
    assert "X101" in error[1]
    assert error[1].splitlines()[1:] == told(lambda: passes(net, weights, x, dy[:2], run))[1].splitlines()[1:]


def test_autograd_of_a_user_goes_through_the_layers():
    """A tensor that wants gradients is given to the layers, whose operations PyTorch records."""
    net = Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(2))
    weights, x, dy = draw(net, IMAGE, 3)
    weights = tree.map(lambda w: w.requires_grad_(), weights)
    y, _ = backend().rewrite(net)(weights, x, Run(backend()))
    y.backward(dy)
    fixed = tree.map(torch.Tensor.detach, weights)
    grads = passes(net, fixed, x, dy, Run(backend()))
    for path, w in tree.items(weights):
        expected = dict(tree.items(grads))[path]
        np.testing.assert_allclose(w.grad, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("recipe", ["lenet", "mnist-net", "small-resnet"])
def test_training_is_the_same_as_by_the_layers(recipe):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 1, 28, 28)), rng.integers(0, 10, 12)
    models = [
        xcnn.Model(nets.RECIPES[recipe].net(10), (1, 28, 28), backend=backend(fuse=fuse), dtype="float64", seed=1)
        for fuse in (True, False)
    ]
    assert isinstance(models[0].trainer.net, FusedSequential)
    losses = [[model.step(x[n : n + 4], labels[n : n + 4]) for n in (0, 4, 8)] for model in models]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    for a, b in zip(*(tree.leaves(model.weights) for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)  # Adam divides by what is nearly zero


def test_a_step_is_that_of_pytorchs_own_module_and_autograd():
    """LeNet by torch.nn and torch.optim in float64, three steps: losses and weights."""
    from xcnn.bench.torch_side import tensors, twin

    net, rng = nets.lenet(), np.random.default_rng(0)
    model = xcnn.Model(net, (1, 28, 28), backend="torch", dtype="float64", optimizer=xcnn.SGD(0.1, momentum=0.9))
    module = twin(net, tree.map(model.backend.to_numpy, model.weights))
    sgd = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        x, labels = rng.standard_normal((6, 1, 28, 28)), rng.integers(0, 10, 6)
        sgd.zero_grad()
        value = torch.nn.functional.cross_entropy(module(torch.tensor(x)), torch.tensor(labels))
        value.backward()
        sgd.step()
        assert model.step(x, labels) == pytest.approx(value.item(), rel=1e-12)
    for path, theirs in tensors(module, tree.map(model.backend.to_numpy, model.weights)):
        np.testing.assert_allclose(dict(tree.items(model.weights))[path], theirs.detach(), rtol=0, atol=1e-12)


def test_gradients_of_x_alone_are_recorded_too():
    net = Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2))
    weights, x, dy = draw(net, IMAGE, 3)
    y, _ = backend().rewrite(net)(weights, x.requires_grad_(), Run(backend()))
    y.backward(dy)
    expected = passes(net, weights, x.detach(), dy, Run(backend()))["dx"]
    np.testing.assert_allclose(x.grad, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [((0, 0), (1, 0)), ((1, 0), (0, 0)), "same"])
def test_a_pooling_that_pytorch_can_not_place_is_the_layers(padding):
    net = Sequential(Conv2D(3, 2), ReLU(), MaxPool2D(2, padding=padding), MaxPool2D(2, padding=padding))
    arrays, run = draw(net, IMAGE, 3), Run(backend(), True)
    check(passes(backend().rewrite(net), *arrays, run), passes(net, *arrays, run))


# The loss and the optimizer's step.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 10), (1, 2), (3, 300)], ids=str)
def test_cross_entropy_is_its_definition(shape, dtype, rng):
    y, t = backend().asarray(3 * rng.standard_normal(shape), dtype), torch.tensor(rng.integers(0, shape[1], shape[0]))
    t[0] = y[0].argmax()
    value, dy, right = backend().loss_and_gradient(cross_entropy, 0.0, y, t)
    expected, slope = cross_entropy(y.double(), t)
    few = 8 * torch.finfo(y.dtype).eps
    assert (value.dtype, value.shape, dy.dtype) == (y.dtype, (), y.dtype)
    np.testing.assert_allclose(value.double(), expected, rtol=few)
    np.testing.assert_allclose(dy.double(), slope, rtol=0, atol=few * float(slope.abs().max()))
    assert right == count_correct(y, t, 0.0) > 0
    scaled = backend().loss_and_gradient(cross_entropy, None, y, t, torch.tensor(1024.0))
    assert torch.equal(scaled[1], 1024 * dy)
    assert scaled[2] is None


@pytest.mark.parametrize("label", [-1, 10, -100, 2**40])
def test_a_label_outside_the_classes_makes_the_loss_nan(label, rng):
    y, t = torch.tensor(rng.standard_normal((4, 10))), torch.tensor([1, label, 3, 9])
    value, dy, _ = backend().loss_and_gradient(cross_entropy, 0.0, y, t)
    assert value.isnan()
    assert dy[1].isnan().all()
    assert not dy[[0, 2, 3]].isnan().any()


def test_other_losses_and_targets_are_as_they_are_written(rng):
    y, t = torch.tensor(rng.standard_normal((4, 10))), torch.tensor([1, 2, 3, 9])
    smooth = partial(cross_entropy, label_smoothing=0.2)
    one_hot = torch.eye(10, dtype=torch.float64)[t]
    for loss, targets in ((smooth, t), (cross_entropy, one_hot), (cross_entropy, t.int())):
        got, expected = backend().loss_and_gradient(loss, 0.0, y, targets), loss(y, targets)
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])
    nothing = backend().loss_and_gradient(cross_entropy, 0.0, y[:0], t[:0])
    assert nothing[0] == 0


def test_a_loss_that_computes_in_another_type_is_told(rng):
    """PyTorch's products take no two types; so it is said where it begins."""

    def wide(y, t):
        value, dy = cross_entropy(y, t)
        return value, dy.double()

    model = xcnn.Model(Sequential(Dense(3)), (4,), loss=wide, backend="torch")
    with pytest.raises(OptionError, match=r"X104(?s:.*)gradient by the predictions(?s:.*)\(2, 3\) of torch.float64"):
        model.step(rng.random((2, 4), dtype="float32"), np.eye(3, dtype="float32")[:2])


SHAPES = {
    "conv": {"kernel": (3, 2, 5, 5), "bias": (3,)},
    "inner": {"scale": (), "none": (0, 4)},
    "dense": {"k": (30, 7)},
}


def leaves_like(rng, dtype="float64", shapes=SHAPES):
    return {
        name: leaves_like(rng, dtype, shape)
        if isinstance(shape, dict)
        else backend().asarray(rng.standard_normal(shape), dtype)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_update_is_the_rule(name, clip_norm, last, rng, monkeypatch):
    options = {f.name: getattr(OPTIMIZERS[name], f.name) for f in fields(OPTIMIZERS[name])}
    optimizer = type(OPTIMIZERS[name])(**{**options, "clip_norm": clip_norm})
    weights = leaves_like(rng)
    weights["norm"] = {"running": torch.zeros(4, dtype=torch.float64)}
    state = expected_state = optimizer.init(weights)
    expected = weights
    monkeypatch.setattr(xcnn.backends.Backend, "update", None)
    for n in range(3):
        grads = leaves_like(rng)
        if last:
            grads["conv"]["kernel"] = grads["conv"]["kernel"].to(memory_format=torch.channels_last)
        grads["norm"] = {"running": Next(torch.full((4,), 1.0 + n, dtype=torch.float64))}
        held = [leaf.clone() for leaf in tree.leaves(weights)]
        before = weights
        expected, expected_state = optimizer.update(grads, expected_state, expected)
        weights, state, norm, weight_norm = backend().update(optimizer, grads, state, weights)
        for a, b in zip(tree.leaves(before), held, strict=True):
            assert torch.equal(a, b)
        assert state["step"] == n + 1
        check({**weights, **state, "step": torch.ones(())}, {**expected, **expected_state, "step": torch.ones(())})
        cells = [g.flatten() for g in tree.leaves(grads) if not isinstance(g, Next)]
        assert float(norm) == pytest.approx(np.linalg.norm(torch.cat(cells)))
        assert float(weight_norm) == pytest.approx(
            np.linalg.norm(torch.cat([w.flatten() for w in tree.leaves(weights)]))
        )


def test_gradients_and_weights_may_lie_in_memory_in_any_way(rng):
    optimizer = Adam(0.01)
    weights, grads = leaves_like(rng), leaves_like(rng)
    grads["dense"]["k"] = grads["dense"]["k"].t().contiguous().t()
    grads["conv"]["bias"] = grads["conv"]["bias"][:1].expand(3)
    weights["conv"]["kernel"] = weights["conv"]["kernel"].movedim(0, -1).contiguous().movedim(-1, 0)
    state = optimizer.init(weights)
    expected, _ = optimizer.update(grads, state, weights)
    check(backend().update(optimizer, grads, state, weights)[0], expected)


def test_what_is_not_finite_shows_in_the_norms(rng):
    weights, grads = leaves_like(rng), leaves_like(rng)
    grads["dense"]["k"][3, 3] = np.nan
    new, _, norm, weight_norm = backend().update(xcnn.SGD(0.1), grads, {"step": 0}, weights)
    assert norm.isnan()
    assert weight_norm.isnan()
    assert new["dense"]["k"].isnan().sum() == 1


def test_other_optimizers_and_types_are_updated_as_they_are_written(rng):
    class Mine(xcnn.SGD):
        pass

    weights, grads = leaves_like(rng), leaves_like(rng)
    for optimizer in (Mine(0.1), xcnn.SGD(0.1)):
        if type(optimizer) is xcnn.SGD:
            weights["dense"]["k"], grads["dense"]["k"] = weights["dense"]["k"].float(), grads["dense"]["k"].float()
        expected, _ = optimizer.update(grads, {"step": 0}, weights)
        check(backend().update(optimizer, grads, {"step": 0}, weights)[0], expected, 1e-12)


def test_a_rate_and_a_step_may_be_arrays_without_axes(rng):
    for optimizer in OPTIMIZERS.values():
        weights, grads = leaves_like(rng), leaves_like(rng)
        state = optimizer.init(weights)
        counted = {**state, "step": torch.tensor(0.0, dtype=torch.float64)}
        given = optimizer.with_rate(Given(torch.tensor(0.1, dtype=torch.float64)))
        got = backend().update(given, grads, counted, weights)
        check(got[0], backend().update(optimizer.with_rate(0.1), grads, state, weights)[0])


def test_weights_and_memory_that_are_kept_never_change():
    """Neither the model's weights, nor outputs and gradients whose memory came from elsewhere, by later steps."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((64, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 64)
    model = xcnn.Model(nets.mnist_net(), (1, 28, 28), backend="torch")
    held, copies = [], []
    for _ in range(5):
        held += [*tree.leaves(model.weights), *tree.leaves(model.state.optimizer_state["first"]), model.forward(x)]
        copies += [a.clone() for a in held[len(copies) :]]
        model.step(x, labels)
    for a, b in zip(held, copies, strict=True):
        assert torch.equal(a, b)


# Randomness, memory, devices, precision.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 5), (700, 200)], ids=str)
def test_the_mask_is_that_of_the_random_bits(shape, dtype):
    mask = backend().kept((3, 1, 4), shape, 0.3, dtype)
    bits = xcnn.backend("numpy").random_bits((3, 1, 4), shape)
    expected = torch.tensor(bits >= int(0.3 * 2**32)).to(dtype) / 0.7
    assert mask.dtype == dtype
    np.testing.assert_allclose(mask.double(), expected.double(), rtol=1e-2 if dtype == torch.bfloat16 else 1e-7)
    assert torch.equal(mask == 0, expected == 0)


def test_a_key_may_hold_tensors():
    key = 7, torch.tensor(2**33 + 5), 3
    expected = xcnn.backend("numpy").random_bits((7, 2**33 + 5, 3), (4, 5))
    np.testing.assert_array_equal(backend().random_bits(key, (4, 5)), expected)
    kept = backend().kept(key, (4, 5), 0.5, torch.float32)
    np.testing.assert_array_equal(kept == 2, expected >= 2**31)


def test_memory_is_used_again_but_not_while_it_is_held():
    like = torch.empty(0)
    first = memory.empty(like, (64, 3, 80, 80), last=True)
    assert first.is_contiguous(memory_format=torch.channels_last)
    first.fill_(1)
    view, place = first[1:, :, ::2], first.data_ptr()
    del first
    other = memory.empty(like, (64, 3, 80, 80)).fill_(2)
    assert other.data_ptr() != place
    assert (view == 1).all()
    del view
    assert memory.empty(like, (64, 3, 80, 80)).data_ptr() == place


def test_a_backend_and_a_model_can_be_pickled_and_compared():
    assert pickle.loads(pickle.dumps(backend())) == backend() == xcnn.backend("torch:cpu")
    assert backend().spec == "torch"
    model = xcnn.Model(nets.lenet(), (1, 28, 28), backend="torch")
    x = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype("float32")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))


@pytest.mark.parametrize("device", ["cuda:99", "meta", "nonsense", "cpu:1", "", "mps:7"])
def test_a_device_that_can_not_be_used_is_told(device):
    with pytest.raises(BackendUnavailable, match=r"X302.*PyTorch .* can't use '" + device):
        xcnn.backend("torch", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this PyTorch sees a GPU")
def test_cuda_says_why_not():
    with pytest.raises(BackendUnavailable, match=r"X302.*\"torch:cuda:0\" was asked for; .*(CUDA|NVIDIA)"):
        xcnn.backend("torch:cuda:0")


def test_precisions_that_a_device_lacks_are_refused():
    with pytest.raises(OptionError, match=r"X104.*in tf32; it has float32, bfloat16, float16, float64\."):
        backend().with_precision(PRECISIONS["tf32"])
    with pytest.raises(OptionError, match=r"X104.*no TF32 on cpu"):
        backend(tf32=True)
    assert backend().with_precision(PRECISIONS["float64"]) == backend()


@pytest.fixture
def process_switches():
    """The process's switches, put back after the test."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not precision.NAMED, reason="this PyTorch's switches have no names")
@pytest.mark.usefixtures("process_switches")
def test_float32_is_exact_in_a_block_whatever_the_process_says():
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    for device in ("cpu", "cuda"):
        for chosen in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(chosen)
            host = torch.backends.mkldnn.matmul
            before = products.fp32_precision, convolutions.fp32_precision, host.fp32_precision
            with precision.float32_as(device, tf32=False):
                if device == "cpu":
                    assert host.fp32_precision in ("none", "ieee")
                else:
                    assert products.fp32_precision == convolutions.fp32_precision == "ieee"
            assert (products.fp32_precision, convolutions.fp32_precision, host.fp32_precision) == before
            assert torch.get_float32_matmul_precision() == chosen
    with pytest.raises(KeyError), precision.float32_as("cuda", tf32=True):
        raise KeyError
    with precision.float32_as("cuda", tf32=True):
        assert products.fp32_precision == convolutions.fp32_precision == "tf32"
    assert not torch.backends.cuda.matmul.allow_tf32 or torch.get_float32_matmul_precision() != "highest"


def test_a_block_leaves_autograd_alone():
    with backend().active():
        x = torch.ones(3, requires_grad=True)
        (x * x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_explanations_name_the_library_and_count_columns():
    told = xcnn.explain_algorithm(Conv2D(8, 3, padding=((0, 1), (2, 0))), (4, 3, 16, 16), "torch")
    assert told.algorithm in ("oneDNN", "Slow2d", "NNPACK")
    assert "padded beforehand" in told.reason
    padded, kernels, outputs = 4 * 3 * 17 * 18, 8 * 3 * 9, 4 * 8 * 15 * 16
    if told.algorithm == "oneDNN":
        assert told.workspace_bytes == 4 * (padded + 4 * 3 * 16 * 16 + kernels + outputs)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "by layers"])
def test_defaults_of_the_process_change_no_bit_of_a_model(fuse):
    """A default device and a default type, while it is built, trained and asked."""

    def outputs():
        net = xcnn.Sequential(
            xcnn.Conv2D(3, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Dropout(0.3), xcnn.AveragePool2D(2),
            xcnn.UpSampling2D(2), xcnn.Flatten(), xcnn.GELU(), xcnn.LayerNorm(), xcnn.Dense(2),
        )  # fmt: skip
        model = xcnn.Model(net, (1, 6, 6), backend=xcnn.backend("torch", fuse=fuse), optimizer=xcnn.Adam(clip_norm=1))
        model.fit(x, labels, epochs=2, batch_size=4, progress="none", validation_data=(x, labels))
        return model.predict(x)

    x, labels = np.random.default_rng(0).standard_normal((10, 1, 6, 6)).astype("float32"), np.arange(10) % 2
    plain = outputs()
    try:
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", dtype=torch.float16):
            inside = outputs()
            assert torch.is_autocast_enabled("cpu")
        assert str(torch.ones(1).device) == "meta"
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(inside, plain)
