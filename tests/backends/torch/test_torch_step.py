"""Training steps captured as graphs, rehearsed on the CPU: a replay runs the recorded function on the same memory.

All but CUDA's own capture is as on a GPU: memory that stays, keys and rates as arrays, the account of a span. Whether a
graph can hold what is recorded is asked in test_torch_cuda.py.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import DivergedError, DTypeError
from xcnn.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from xcnn.training import spans
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from xcnn_torch import TorchBackend, capture  # noqa: E402
from xcnn_torch.capture import CapturedStep  # noqa: E402


@dataclass
class Recorded:
    """A "graph": the work itself."""

    work: object
    replays: int = 0

    def replay(self):
        self.replays += 1
        self.work()


@dataclass
class Rehearsal:
    """Records work as CUDA does: it is done before, and nobody minds what it writes then."""

    free: int = 2**30
    made: list = field(default_factory=list)
    put_again: list = field(default_factory=list)
    fails: str = ""

    def capture(self, work):
        work()
        if self.fails:
            raise RuntimeError(self.fails)
        self.made.append(Recorded(work))
        return self.made[-1]

    def free_memory(self):
        return self.free

    def put(self, x):
        """In memory of its own, as on a device."""
        self.put_again.append(x.nbytes)
        return x.clone()


def net():
    return Sequential(
        Conv2D(4, 3), BatchNorm(), ReLU(), MaxPool2D(2), Dropout(0.3), Flatten(), Dense(8), ReLU(), Dense(3)
    )  # fmt: skip


def models(graphs=None, **options):
    """Two equal models; the steps of the first are captured."""
    how = {"dtype": "float64", "optimizer": SGD(0.05, momentum=0.9), **options}
    both = [xcnn.Model(net(), (2, 8, 9), backend=TorchBackend(compiles=c), seed=3, **how) for c in (True, False)]
    captured = CapturedStep(both[0].trainer.backend, both[0].compiled_step.step, graphs or Rehearsal())
    both[0].trainer = replace(both[0].trainer, step=captured)
    return both


def data(rng, samples=22, dtype="float64"):
    return rng.standard_normal((samples, 2, 8, 9)).astype(dtype), rng.integers(0, 3, samples)


def assert_same(one, other, rounding=1e-11):
    assert [path for path, _ in tree.items(one.state.optimizer_state)] == [
        path for path, _ in tree.items(other.state.optimizer_state)
    ]
    for name in ("step", "epoch", "batch", "right", "seen"):
        assert getattr(one.state, name) == getattr(other.state, name), name
    assert one.state.optimizer_state["step"] == other.state.optimizer_state["step"]
    assert isinstance(one.state.optimizer_state["step"], int)
    for trees in ("weights", "optimizer_state"):
        for (path, a), b in zip(
            tree.items(getattr(one.state, trees)), tree.leaves(getattr(other.state, trees)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding, err_msg=path)


OPTIMIZERS = {
    "sgd": SGD(0.05, weight_decay=0.1, clip_norm=0.5),
    "schedule": SGD(xcnn.schedules.WarmUp(4, xcnn.schedules.Cosine(0.1, 6)), momentum=0.9, nesterov=True),
    "adam": Adam(0.01),
    "adamw": AdamW(0.01, clip_norm=1.0),
    "rmsprop": RMSprop(0.01, momentum=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_epochs_are_those_of_single_steps(name, rng):
    """Keys, rates, dropout, the order, a last smaller batch, running means: over three epochs of 22 in batches of 5."""
    captured, single = models(optimizer=OPTIMIZERS[name])
    x, labels = data(rng)
    histories = [model.fit(x, labels, epochs=3, batch_size=5, progress=False) for model in (captured, single)]
    assert captured.compiled_step.reason == ""
    assert len(captured.compiled_step.graphs.made) == 2  # of 5 samples, and of the last 2
    assert sum(graph.replays for graph in captured.compiled_step.graphs.made) == 15
    assert_same(captured, single)
    for one, other in zip(*(history.rows for history in histories), strict=True):
        for column in ("loss", "accuracy", "learning_rate"):
            assert one[column] == pytest.approx(other[column], rel=1e-11)


MEASURED = {
    "metrics": ({"metrics": ["f1", "top2", "confusion"]}, {}),
    "weights": ({"metrics": ["f1"]}, {"class_weight": [1, 0.5, 2], "sample_weight": np.linspace(0, 2, 22)}),
    "ignored": ({"loss": partial(xcnn.losses.cross_entropy, ignore_index=1), "metrics": ["f1"]}, {}),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_and_weighed_within_spans(name, rng, monkeypatch):
    """Metrics and weights, step by step as without spans, also where a span may keep the outputs of two steps alone."""
    options, how = MEASURED[name]
    captured, single = models(**options)
    x, labels = data(rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "KEPT_BYTES", 2 * 5 * 3 * 8)
        histories = [
            model.fit(x, labels, epochs=3, batch_size=5, progress=False, **how) for model in (captured, single)
        ]
    assert captured.compiled_step.reason == ""
    graphs = captured.compiled_step.graphs.made
    assert sum(graph.replays for graph in graphs) == 15
    assert_same(captured, single)
    for row, other in zip(*(history.rows for history in histories), strict=True):
        for column in ("loss", "accuracy", *(metric.column for metric in captured.metrics)):
            np.testing.assert_allclose(row[column], other[column], rtol=1e-11, err_msg=column)


def test_spans_and_single_steps_can_be_mixed(rng):
    captured, single = models()
    x, labels = data(rng)
    for model in (captured, single):
        model.step(x[:5], labels[:5])
        model.fit(x, labels, epochs=1, batch_size=5, progress=False)
        assert model.step(x[5:8], labels[5:8]) > 0
        model.weights = tree.map(lambda w: 0.9 * w.numpy(), model.weights)
        model.fit(x, labels, epochs=1, batch_size=4, shuffle=False, progress=False)
    assert captured.compiled_step.reason == ""
    assert_same(captured, single)


def test_weights_that_were_given_do_not_change_and_changes_of_them_are_seen(rng):
    captured, single = models()
    x, labels = data(rng)
    held, copies = [], []
    for n in range(4):
        for model in (captured, single):
            model.step(x[n : n + 4], labels[n : n + 4])
        held += tree.leaves(captured.weights) + tree.leaves(captured.state.optimizer_state["velocity"])
        copies += [leaf.clone() for leaf in held[len(copies) :]]
    for leaf, copy in zip(held, copies, strict=True):
        assert torch.equal(leaf, copy)
    captured.weights["dense2"]["bias"].add_(1.0)  # a change that PyTorch's users may make: it is seen
    single.weights["dense2"]["bias"].add_(1.0)
    for model in (captured, single):
        model.step(x[:4], labels[:4])
    assert_same(captured, single)


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_span_stops_before_the_step_that_diverges(bad, rng):
    """The weights from before it are kept, in spans and by single steps alike."""
    captured, single = models()
    x, labels = data(rng, 20)
    for model in (captured, single):
        model.fit(x, labels, epochs=1, batch_size=5, shuffle=False, progress=False)
    captured.compiled_step.pace = 8
    worse = x.copy()
    worse[5 * bad + 2] = 1.7e308
    for model in (captured, single):
        with pytest.raises(DivergedError, match=f"X501.*epoch 2, batch {bad + 1}"):
            model.fit(worse, labels, epochs=1, batch_size=5, shuffle=False, progress=False)
        assert model.state.batch == bad
    assert_same(captured, single)
    for model in (captured, single):
        model.fit(x, labels, epochs=1, batch_size=5, shuffle=False, progress=False)
    assert_same(captured, single)


@pytest.mark.parametrize("optimizer", [SGD(xcnn.schedules.Step(0.05, 3)), Adam(0.01)], ids=["sgd", "adam"])
def test_float16_skips_steps_and_halves_its_scale(optimizer, rng):
    """Steps whose scaled gradients overflow count as batches and not as updates, within a span too."""
    both = models(dtype="float32", precision="float16", optimizer=optimizer)
    x, labels = data(rng, 20, "float32")
    x *= 40
    for model in both:
        model.state = replace(
            model.state,
            optimizer_state={
                **model.state.optimizer_state,
                "loss_scale": torch.tensor(2.0**24),
                "good_steps": torch.tensor(0),
            },
        )
        model.fit(x, labels, epochs=3, batch_size=4, progress=False)
    captured, single = both
    assert captured.compiled_step.reason == ""
    assert captured.state.step == 15
    assert 0 < captured.state.optimizer_state["step"] < 15
    assert float(captured.state.optimizer_state["loss_scale"]) < 2.0**24
    assert captured.state.optimizer_state["step"] == single.state.optimizer_state["step"]
    assert_same(captured, single, 2e-3)


@pytest.mark.parametrize("words", ["operation not permitted when stream is capturing", ""])
def test_what_can_not_be_captured_runs_by_itself_and_says_why(words, rng, caplog):
    graphs = Rehearsal(fails=words)
    captured, single = models(graphs)
    if not words:

        @xcnn.pure
        class Narrow(SGD):
            def change(self, rate, step, w, g, *moments):
                return tuple(a.float() for a in super().change(rate, step, w, g, *moments))

        captured.optimizer = Narrow(0.1)
        captured.trainer = replace(
            captured.trainer, step=CapturedStep(captured.trainer.backend, captured.compiled_step.step, graphs)
        )
    x, labels = data(rng)
    with caplog.at_level("INFO", "xcnn"):
        if words:
            for model in (captured, single):
                model.fit(x, labels, epochs=2, batch_size=5, progress=False)
            assert_same(captured, single)
        else:
            with pytest.raises(DTypeError, match=r"X103.*would make"):
                captured.fit(x, labels, epochs=1, batch_size=5, progress=False)
    reason = captured.compiled_step.reason
    assert (words or "would make weights/conv1/kernel torch.float32, which is torch.float64") in reason
    assert caplog.text.count(reason) == 1


@pytest.mark.parametrize("marked", [False, True])
def test_a_loss_that_changes_between_epochs(marked, rng):
    """What is not known to be pure is not captured; what is marked is captured anew when its attribute is another."""

    class Scaled:
        factor = 1.0

        def __call__(self, y, t):
            value, dy = xcnn.losses.cross_entropy(y, t)
            return value * self.factor, dy * self.factor

    loss = (xcnn.pure(Scaled) if marked else Scaled)()
    captured, single = models(loss=loss)
    x, labels = data(rng)
    for model in (captured, single):
        loss.factor = 1.0

        def change(model, history):
            loss.factor = 0.25

        model.fit(x, labels, epochs=2, batch_size=11, callbacks=[change], progress=False)
    assert_same(captured, single)
    assert len(captured.compiled_step.graphs.made) == (2 if marked else 0)
    assert captured.compiled_step.reason.startswith("" if marked else "Scaled is not marked as pure")


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_what_a_loss_raises_once_while_it_is_captured_is_raised(error, rng):
    calls = []

    @xcnn.pure
    def loss(y, t):
        calls.append(1)
        if len(calls) == 1:
            raise error("once")
        return xcnn.losses.cross_entropy(y, t)

    captured, _ = models(loss=loss)
    x, labels = data(rng)
    with pytest.raises(error, match="once"):
        captured.fit(x, labels, batch_size=11, progress=False)
    captured.fit(x, labels, batch_size=11, progress=False)
    assert captured.state.step == 2
    assert captured.compiled_step.reason == ""


def test_graphs_can_be_turned_off(rng):
    backend = TorchBackend(compiles=False)
    step = CapturedStep(backend, None, Rehearsal())
    assert step.reason == "the backend was made with compiles=False."
    assert step.span(0, None, None, 5) is None
    step.step = lambda *arguments: arguments
    assert step(1, 2, 3, 4, 5) == (1, 2, 3, 4, 5)


def test_data_that_is_too_large_stays_on_the_host(rng):
    graphs = Rehearsal(free=1000)
    captured, single = models(graphs)
    x, labels = data(rng)
    for model in (captured, single):
        model.fit(x, labels, epochs=2, batch_size=5, progress=False)
    assert captured.compiled_step.data is None
    assert sum(graph.replays for graph in graphs.made) == 10
    assert_same(captured, single)


def test_data_that_is_changed_between_epochs_is_seen(rng):
    both = models()
    x, labels = data(rng)
    for model in both:
        mine = x.copy()

        def turn(model, history, mine=mine):
            mine[:] = mine[::-1].copy()

        model.fit(mine, labels, epochs=3, batch_size=6, callbacks=[turn], progress=False)
    assert_same(*both)


def test_data_is_brought_to_the_device_once(rng, monkeypatch):
    """In each fit, and once more when it was changed, then through pinned memory; each epoch brings its order."""
    captured, _ = models()
    x, labels = data(rng)
    brought, asarray = [], TorchBackend.asarray

    def counted(self, array, dtype=None):
        if isinstance(array, np.ndarray):
            brought.append(array.nbytes)
        return asarray(self, array, dtype)

    def turn(model, history):
        if len(history) == 3:
            x[:] = x[::-1].copy()

    captured.fit(x, labels, epochs=1, batch_size=5, progress=False)
    monkeypatch.setattr(TorchBackend, "asarray", counted)
    captured.fit(x, labels, epochs=4, batch_size=5, callbacks=[turn], progress=False)
    order = len(x) * 8
    again = captured.compiled_step.graphs.put_again
    assert sorted(brought + again) == sorted([order] * 4 + 2 * [x.nbytes, labels.nbytes])
    assert len(again) >= 3 + 2


def test_an_interrupted_span_is_forgotten(rng):
    captured, single = models()
    x, labels = data(rng)
    for model in (captured, single):
        model.fit(x, labels, epochs=1, batch_size=5, shuffle=False, progress=False)
    step = captured.compiled_step
    step.pace, before, graph = 4, captured.state, step.graphs.made[0]
    replay, seen = graph.replay, []

    def interrupted():
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        replay()

    graph.replay = interrupted
    history = captured.fit(x, labels, epochs=1, batch_size=5, shuffle=False, progress=False)
    assert history.stopped == "interrupted"
    assert captured.state.weights is before.weights
    graph.replay = replay
    for model in (captured, single):
        model.fit(x, labels, epochs=1, batch_size=5, shuffle=False, progress=False)
    assert_same(captured, single)


def test_a_step_that_is_interrupted_is_forgotten(rng):
    captured, single = models()
    x, labels = data(rng)
    for model in (captured, single):
        model.step(x[:5], labels[:5])
    (graph,) = captured.compiled_step.graphs.made
    replay = graph.replay

    def interrupted():
        replay()
        raise KeyboardInterrupt

    graph.replay = interrupted
    with pytest.raises(KeyboardInterrupt):
        captured.step(x[5:10], labels[5:10])
    graph.replay = replay
    for model in (captured, single):
        model.step(x[10:15], labels[10:15])
    assert_same(captured, single)


def test_the_pace_of_spans_follows_the_time_they_take(rng):
    step = CapturedStep(TorchBackend(compiles=False), None, Rehearsal())
    for _ in range(12):
        step.keep_pace(0.01)
    assert step.pace == capture.MOST_STEPS
    step.keep_pace(0.15)
    assert step.pace == capture.MOST_STEPS
    for _ in range(12):
        step.keep_pace(1.0)
    assert step.pace == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
def test_on_a_gpu(rng):
    """What the rehearsal can not show: CUDA's own capture."""
    x, labels = data(rng)
    both = [xcnn.Model(net(), (2, 8, 9), backend=name, dtype="float64", seed=3) for name in ("torch:cuda", "torch")]
    for model in both:
        model.fit(x, labels, epochs=2, batch_size=5, progress=False)
    assert both[0].compiled_step.reason == ""
    for a, b in zip(*(tree.leaves(model.weights) for model in both), strict=True):
        np.testing.assert_allclose(a.cpu(), b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_of_few_weights_is_pytorchs(options, decay):
    """Over steps by the layers and recorded ones."""
    net, rate = xcnn.Sequential(xcnn.Dense(3)), xcnn.schedules.Step(0.3, 2)
    model = xcnn.Model(net, (5,), optimizer=xcnn.SGD(rate, weight_decay=decay, **options), backend="torch")
    twin = torch.nn.Linear(5, 3)
    with torch.no_grad():
        twin.weight.copy_(model.state.weights["dense1"]["kernel"].T)
        twin.bias.copy_(model.state.weights["dense1"]["bias"])
    theirs = torch.optim.SGD(twin.parameters(), 0.3, weight_decay=decay, **options)
    x, t = np.random.default_rng(0).normal(size=(6, 5)).astype("float32"), np.arange(6) % 3
    for n in range(6):
        theirs.param_groups[0]["lr"] = rate(n)
        theirs.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(t))
        loss.backward()
        theirs.step()
        assert model.step(x, t) == pytest.approx(loss.item(), rel=1e-5)
        mine = model.state.weights["dense1"]
        torch.testing.assert_close(mine["kernel"].T, twin.weight.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine["bias"], twin.bias.detach(), rtol=1e-5, atol=1e-6)
    assert model.trainer.step.programs
