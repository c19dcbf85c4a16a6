"""Steps on PyTorch's CPU as straight-line code: the same to the last bit as layer by layer, or not taken at all."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS

import xcnn
from xcnn.core import tree
from xcnn.errors import DivergedError, XcnnError
from xcnn.layers import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GroupNorm,
    LayerNorm,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)
from xcnn.nets import recipes as nets

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from xcnn_torch import TorchBackend, memory, recorded  # noqa: E402
from xcnn_torch.fused import convolution  # noqa: E402
from xcnn_torch.recording import Recording, at_once  # noqa: E402

IMAGE = (2, 8, 9)


def net(*more):
    return Sequential(
        Conv2D(4, 3), BatchNorm(), ReLU(), MaxPool2D(2), Dropout(0.3), *more, Flatten(), Dense(8), ReLU(), Dense(3)
    )  # fmt: skip


NETS = {
    "all": net(),
    "untied": Sequential(Conv2D(3, 3, bias="untied"), Sigmoid(), Flatten(), Dense(3)),
    "residual": Sequential(
        Residual(Conv2D(4, 3, stride=2, padding=1), BatchNorm(), Dropout(0.2), shortcut=Conv2D(4, 1, stride=2)),
        GlobalAveragePool2D(), Dense(3),
    ),
    "norms": Sequential(Conv2D(4, 3), LayerNorm(), ReLU(), GroupNorm(2), AveragePool2D(2), Flatten(), Dense(3)),
}  # fmt: skip


def models(a_net=None, fuse=True, **options):
    """Two equal models; the second trains layer by layer."""
    how = {"dtype": "float64", "optimizer": xcnn.SGD(0.05, momentum=0.9), "seed": 3, **options}
    both = [TorchBackend(compiles=compiles, fuse=fuse) for compiles in (True, False)]
    return [xcnn.Model(a_net or net(), IMAGE, backend=backend, **how) for backend in both]


def data(samples=12, dtype="float64"):
    rng = np.random.default_rng(7)
    return rng.standard_normal((samples, *IMAGE)).astype(dtype), rng.integers(0, 3, samples)


def assert_same(one, other):
    assert (one.state.step, one.state.right, one.state.optimizer_state["step"]) == (
        other.state.step,
        other.state.right,
        other.state.optimizer_state["step"],
    )
    for trees in ("weights", "optimizer_state"):
        for (path, a), b in zip(
            tree.items(getattr(one.state, trees)), tree.leaves(getattr(other.state, trees)), strict=True
        ):
            if path != "step":
                assert (a.dtype, a.shape) == (b.dtype, b.shape), path
                assert torch.equal(a, b), path


def both_fit(both, x, labels, **options):
    how = {"epochs": 3, "batch_size": 5, "progress": False, **options}
    losses = [[row["loss"] for row in model.fit(x, labels, **how)] for model in both]
    assert losses[0] == losses[1]
    assert_same(*both)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "by layers"])
@pytest.mark.parametrize("name", NETS)
def test_epochs_are_those_of_single_layers(name, fuse):
    """Keys of dropout, the order, a last smaller batch, running means: three epochs of 12 in batches of 5."""
    both = models(NETS[name], fuse)
    both_fit(both, *data())
    assert both[0].compiled_step.reason == ""
    assert len(both[0].compiled_step.programs) == 2  # for 5 samples, and for the last 2


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimizers_and_schedules(name, dtype):
    both = models(optimizer=OPTIMIZERS[name], dtype=dtype)
    both_fit(both, *data(dtype=dtype))
    assert len(both[0].compiled_step.programs) == 2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_and_its_loss_scale(precision):
    both = models(precision=precision, dtype="float32", optimizer=xcnn.Adam(0.01, clip_norm=0.5))
    both_fit(both, *data(dtype="float32"))
    assert len(both[0].compiled_step.programs) == 2


def test_convolutions_in_parts_and_memory_that_is_used_again(monkeypatch):
    monkeypatch.setattr(convolution, "AT_ONCE", 5000)
    monkeypatch.setattr(memory, "LARGE", 1)
    both = models(NETS["residual"], dtype="float32")
    both_fit(both, *data(dtype="float32"))
    assert "used_again(" in str(both[0].compiled_step.programs[0])
    assert len(both[0].compiled_step.programs) == 2


@pytest.mark.parametrize("recipe", ["lenet", "mnist-net"])
def test_recipes(recipe):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 8)
    made = nets.RECIPES[recipe].net(10)
    both = [xcnn.Model(made, (1, 28, 28), backend=TorchBackend(compiles=c), seed=1) for c in (True, False)]
    for _ in range(5):
        assert both[0].step(x, labels) == both[1].step(x, labels)
        assert_same(*both)
    assert len(both[0].compiled_step.programs) == 1


def test_the_code_says_what_the_step_does():
    model, _ = models(Sequential(Flatten(), Dense(3)), optimizer=xcnn.SGD(0.1))
    x, labels = data(5)
    for _ in range(4):
        model.step(x, labels)
    (program,) = model.compiled_step.programs
    text = str(program)
    assert text.count("aten_addmm_default(") == 1
    assert text.count("aten_mm_default(") == 1  # dX of the first layer is not asked for
    assert text.splitlines()[-1].startswith("    return ({'dense1': {'kernel': v")


def test_weights_from_elsewhere_and_other_seeds_are_seen():
    both = models()
    x, labels = data()
    for n in range(12):
        if n == 5:  # views of one array, in another order
            for model in both:
                model.weights = tree.map(lambda w: w.flip(0).contiguous().flip(0), model.weights)
        if n == 8:  # in place, by somebody who holds them
            for model in both:
                for leaf in tree.leaves(model.state.weights):
                    leaf.mul_(0.5)
        if n == 10:
            for model in both:
                model.trainer = replace(model.trainer, seed=4)
        for model in both:
            model.step(x[:5], labels[:5])
        assert_same(*both)
    assert both[0].compiled_step.programs


def test_code_runs_for_arrays_that_lie_as_those_that_it_was_written_from():
    model, _ = models()
    x, labels = data(5)
    step = model.compiled_step
    for _ in range(4):
        model.step(x, labels)
    (kind,) = [kind for layout in step.layouts.values() for kind in layout.kinds.values() if kind.run]
    runs, run = [], kind.run
    kind.run = lambda *given: runs.append(1) or run(*given)
    model.step(x, labels)
    assert (len(runs), len(step.layouts)) == (1, 2)  # as they were drawn, and as views of one array
    model.weights = {**model.weights, "dense2": tree.map(torch.clone, model.weights["dense2"])}
    model.step(x, labels)
    assert (len(runs), len(step.layouts)) == (1, 3)
    model.step(x, labels)
    assert len(runs) == 2
    model.state.weights["dense2"]["bias"].requires_grad_()
    model.step(x, labels)
    assert len(runs) == 2  # the layers see to PyTorch's autograd


@pytest.mark.parametrize("large", [2**22, 1])
def test_a_gradient_that_pytorchs_autograd_looks_at_goes_through_the_runs(large, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", large)
    both = [
        models(Sequential(Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(6), ReLU(), Dense(3)), fuse)[0]
        for fuse in (True, False)
    ]
    x, labels = data(5)
    for model in both:
        model.state.weights["dense2"]["bias"].requires_grad_()
    np.testing.assert_allclose(*[[model.step(x, labels) for _ in range(3)] for model in both], rtol=1e-12)


MODES = {
    "autocast": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "device": partial(torch.device, "meta"),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_pytorch_change_nothing(mode):
    """On both sides of the moment when the code is complete; the other model is never within."""
    both = models(dtype="float32")
    x, labels = data(5, "float32")
    how = MODES[mode]
    for inside in (True, True, False, False, False, True, False, True, True, True):
        for model in both:
            with how() if inside and model is both[0] else nullcontext():
                model.step(x, labels)
        assert_same(*both)
    assert both[0].compiled_step.reason == ""
    assert both[0].compiled_step.programs
    with how():
        inside = both[0].predict(x), both[0].evaluate(x, labels)
    np.testing.assert_array_equal(inside[0], both[1].predict(x))
    assert inside[1] == both[1].evaluate(x, labels)


def test_a_weight_that_stands_twice_in_a_net():
    """Arrays that are the same once and not at other times lead to different code."""
    shared = torch.randn(2, 2, 1, 1, dtype=torch.float64)
    both = models(Sequential(Conv2D(2, 1, bias=False), Conv2D(2, 1, bias=False), Flatten(), Dense(3)))
    x, labels = data(5)
    for model in both:
        step, given = model.compiled_step, model.state
        weights = {**given.weights, "conv1": {"kernel": shared}, "conv2": {"kernel": shared}}
        outcomes = []
        for _ in range(4):
            after, state, outcome = step(
                (3, 1), weights, given.optimizer_state, *map(model.backend.asarray, (x, labels))
            )
            outcomes.append(outcome.loss)
        assert len(set(map(float, outcomes))) == 1
        for n in range(4):  # two arrays that lie as the one did
            apart = {**weights, "conv2": {"kernel": shared.clone() * n}}
            after, state, outcome = step((3, 1), apart, given.optimizer_state, *map(model.backend.asarray, (x, labels)))
        model.state = replace(given, weights=after, optimizer_state=state)
    assert_same(*both)


def test_labels_outside_and_wrong_images_are_told_as_by_the_layers():
    both = models()
    x, labels = data(5)
    for _ in range(4):
        for model in both:
            model.step(x, labels)
    assert both[0].compiled_step.programs
    wrong = labels.copy()
    wrong[2] = 3
    told = []
    for model in both:
        before = model.state
        with pytest.raises(XcnnError) as error:
            model.step(x, wrong)
        assert model.state is before
        told.append(str(error.value))
    assert told[0] == told[1]
    step = both[0].compiled_step
    there = both[0].backend.asarray
    with pytest.raises(XcnnError, match=r"X101.*conv1"):
        step((3, 9), before.weights, before.optimizer_state, there(x[:, :1]), there(labels))
    with pytest.raises(DivergedError, match="loss became nan"):
        both[0].trainer.after_step(both[0].state, x, wrong)  # whose labels nobody looked at
    for model in both:
        model.step(x, labels)
    assert_same(*both)


def test_a_step_that_diverges_keeps_the_weights():
    both = models(optimizer=xcnn.SGD(xcnn.schedules.Step(1e-3, every=4, factor=1e300)))
    x, labels = data(5)
    told = []
    for model in both:
        for _ in range(4):
            model.step(x, labels)
        with pytest.raises(DivergedError) as error:
            model.fit(x, labels, epochs=4, batch_size=5, progress=False)
        told.append(str(error.value))
    assert told[0] == told[1]
    assert_same(*both)
    assert both[0].compiled_step.programs


# What can not be written down.


@dataclass(frozen=True)
class Own(xcnn.Layer):
    """Y = F(X), and dX = dY."""

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        return self.of(x, run), lambda dy: (dy, {})


class ByValue(Own):
    def of(self, x, run):
        return x * 2 if x.max() > 1 else x * 3


class ByNumpy(Own):
    def of(self, x, run):
        return run.backend.asarray(np.tanh(run.backend.to_numpy(x)))


class ByList(Own):
    def of(self, x, run):
        return x * max(x.flatten().tolist())


class ByDraw(Own):
    def of(self, x, run):
        return x + run.backend.asarray(DRAWS.standard_normal(x.shape))


class ByNumber(Own):
    def of(self, x, run):
        return x * float(DRAWS.standard_normal())


class ByShape(Own):
    def of(self, x, run):
        return x * len(x.flatten().nonzero())


class ByAutograd(Own):
    def of(self, x, run):
        with torch.enable_grad():
            y = x.detach().requires_grad_().square().sum()
        return x * y.detach()


class ByChange(Own):
    def of(self, x, run):
        HELD.add_(1)
        return x * HELD


DRAWS = np.random.default_rng(0)
HELD = torch.zeros(1, dtype=torch.float64)
REASONS = {
    ByValue: "aten._local_scalar_dense.default makes a number",
    ByNumpy: "numbers leave PyTorch by numpy()",
    ByList: "numbers leave PyTorch by tolist()",
    ByDraw: "two steps did different operations",
    ByNumber: "two steps did different operations",
    ByShape: "aten.nonzero.default makes a number or a shape",
    ByAutograd: "PyTorch's autograd is used",
    ByChange: "aten.add_.Tensor changes a tensor that was there before",
}


for kind in REASONS:
    xcnn.pure(kind)  # as an author might, who is wrong about it


@pytest.mark.parametrize("kind", REASONS)
def test_layers_that_can_not_be_written_down_run_as_they_are(kind, caplog):
    global DRAWS
    both, (x, labels) = models(net(kind())), data()
    after = []
    for model in both:
        DRAWS = np.random.default_rng(0)
        HELD.zero_()
        with caplog.at_level("INFO", "xcnn"):
            model.fit(x, labels, epochs=3, batch_size=5, progress=False)
        after.append(model)
    assert_same(*after)
    assert both[0].compiled_step.reason.startswith(REASONS[kind])
    assert caplog.text.count(both[0].compiled_step.reason) == 1


class Bare(xcnn.optimizers.Optimizer):
    """No dataclass."""

    learning_rate, clip_norm, moments = 0.1, None, ()

    def change(self, rate, step, w, g):
        return (w - rate * g,)


@dataclass(frozen=True)
class Hexed(xcnn.SGD):
    """Its rate has to be a float."""

    def change(self, rate, step, w, g, *moments):
        return super().change(float.fromhex(rate.hex()), step, w, g, *moments)


@pytest.mark.parametrize(
    ("optimizer", "reason"), [(Bare(), "Bare is no dataclass."), (Hexed(0.1), "Hexed is not marked as pure")]
)
def test_optimizers_that_can_not_be_written_down_are_asked_as_they_are(optimizer, reason):
    both = models(optimizer=optimizer)
    both_fit(both, *data())
    assert both[0].compiled_step.reason.startswith(reason)


def test_adam_by_layers_counts_in_float64():
    """Where PyTorch's kernels do not update, its powers of an array may differ from Python's in their last bit."""
    both = models(fuse=False, optimizer=xcnn.Adam(0.01))
    x, labels = data()
    for model in both:
        model.fit(x, labels, epochs=3, batch_size=5, progress=False)
    assert both[0].compiled_step.programs
    for a, b in zip(*(tree.leaves(model.weights) for model in both), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_constants_are_kept_and_tensors_made_of_numbers_are_made_anew():
    table = torch.linspace(-1, 1, 4, dtype=torch.float64)

    @xcnn.pure
    class Tables(Own):
        def of(self, x, run):
            made = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
            made.mul_(x.mean())  # in place on what is made in each step
            brought = run.backend.asarray(np.arange(4.0))
            return x * (made + table + brought)[:, None, None]

    both = models(net(Tables()))
    both_fit(both, *data())
    assert len(both[0].compiled_step.programs) == 2


def test_layouts_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(recorded, "MOST_LAYOUTS", 3)
    both = models(Sequential(Flatten(), Dense(3)))
    x, labels = data(5)
    step = both[0].compiled_step
    for n in range(8):
        for model in both:
            model.weights = tree.map(lambda w, n=n: torch.cat([w.flatten(), w.new_zeros(n)])[: w.numel()].view(w.shape),
                                     model.weights)  # fmt: skip
            model.step(x, labels)
        assert len(step.layouts) <= 3
    assert_same(*both)


# The recording itself.


def replayed(function, *given):
    """The function recorded with these arguments, as code, and what it gave."""
    with Recording(list(given)) as recording:
        result = function(*given)
    program = recording.program(result)
    return recording, program, result


def test_what_is_not_needed_is_left_out_and_variables_are_let_go():
    def work(x):
        (x * 5).sum()
        y = x + 1
        z = y * 2
        return {"z": z, "n": 3}

    recording, program, result = replayed(work, torch.ones(2))
    assert recording.reason == ""
    assert "mul_Tensor(v1, 5)" not in str(program)
    assert "del v" in str(program)
    again = program.compiled()(torch.full((2,), 4.0))
    assert again["n"] == 3
    assert again["z"].tolist() == [10.0, 10.0]
    assert result["z"].tolist() == [4.0, 4.0]


def test_operations_in_place_and_into_views_are_kept():
    def work(x):
        y = torch.zeros(3)
        y[1:].add_(x[1:])
        torch.mul(x, 2, out=y[:1].expand(1)) if len(x) == 1 else None
        return y

    _, program, _ = replayed(work, torch.ones(3))
    assert program.compiled()(torch.tensor([1.0, 2.0, 3.0])).tolist() == [0.0, 2.0, 3.0]


def test_functions_that_are_one_operation():
    calls = []

    @at_once
    def scaled(x, key, by):
        calls.append(by)
        return torch.from_numpy(x.numpy() * by) + int(key[1])

    recording, program, _ = replayed(lambda x, n: scaled(x, (5, n), by=2.0) + 1, torch.ones(2), torch.tensor(3))
    assert recording.reason == ""
    assert "scaled(v1, (5, v2), by=2.0)" in str(program)
    assert program.compiled()(torch.zeros(2), torch.tensor(7)).tolist() == [8.0, 8.0]
    assert calls == [2.0, 2.0]


def test_programs_are_the_same_only_with_equal_constants():
    def by(factor):
        return replayed(lambda x: x * torch.from_numpy(factor), torch.ones(2))[1]

    one = by(np.array([1.0, 2.0]))
    assert one.repeats(by(np.array([1.0, 2.0])))
    assert not one.repeats(by(np.array([1.0, 3.0])))
    assert not one.repeats(by(np.array([[1.0, 2.0]])))
    assert not one.repeats(replayed(lambda x: x * 2, torch.ones(2))[1])


def test_an_argument_that_is_no_literal_is_refused():
    generator = torch.Generator().manual_seed(1)
    recording, *_ = replayed(lambda x: x + torch.rand(2, generator=generator), torch.ones(2))
    assert recording.reason == "an operation has an argument of type Generator."


def test_threads_do_not_record_each_other():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, Recording([]) as recording:
        pool.submit(partial(torch.ones, 3)).result()
        torch.ones(2)
    assert [str(line.operation) for line in recording.lines] == ["aten.ones.default"]
