"""Recorded training passes: the same bits as the layers give, whatever the net, the batch, the key, the threads."""

import gc
import sys
import threading
import weakref
from dis import opname
from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn.bench.cases import step_case
from xcnn.bench.drawn import drawn
from xcnn.bench.zoo import NETS
from xcnn.core import blas, process, tree
from xcnn.layers import Run
from xcnn.layers.batch_norm import EARLY, SETTLED
from xcnn.layers.layer import Next, Share

native = pytest.importorskip("xcnn_native.library")
if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)

SHAPE = (2, 12, 11)


def some_net():
    return xcnn.Sequential(
        xcnn.Conv2D(9, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.ZeroPadding2D(1), xcnn.SpatialDropout2D(0.3),
        xcnn.Residual(xcnn.Conv2D(9, 3, padding=1), xcnn.GroupNorm(3), xcnn.SiLU(), xcnn.StochasticDepth(0.4)),
        xcnn.ReLU(),
        xcnn.Concatenate(xcnn.Sequential(), xcnn.Conv2D(3, 1), xcnn.Sequential(xcnn.Conv2D(4, 1), xcnn.Dropout(0.2))),
        xcnn.MaxPool2D(2), xcnn.UpSampling2D(2), xcnn.LayerNorm(axis=1), xcnn.Conv2DTranspose(3, 2, stride=3),
        xcnn.Flatten(), xcnn.Dense(20), xcnn.GELU(), xcnn.Dense(3),
    )  # fmt: skip


def some_graph():
    return xcnn.Graph(
        stem=xcnn.Conv2D(16, 3, padding="same"), norm=xcnn.BatchNorm(), relu=xcnn.ReLU(),
        left=(xcnn.Conv2D(16, 3, padding="same"), "relu"),
        right=(xcnn.Conv2D(16, 1), "relu"), dropped=xcnn.Dropout(0.4),
        both=(xcnn.Add(), "left", "dropped", "relu"),
        mean=(xcnn.GlobalAveragePool2D(), "both"), dense=xcnn.Dense(16), gate=xcnn.Sigmoid(),
        gated=(xcnn.Multiply(), "both", "gate"),
        all=(xcnn.Concatenate(), "gated", "stem"), flat=xcnn.Flatten(), out=xcnn.Dense(3),
        inputs="image",
    )  # fmt: skip


def model_of(net=None, recorded=True, shape=SHAPE, **options):
    how = {name: options.pop(name) for name in ("threads", "kept_memory") if name in options}
    options = {"loss": "cross_entropy", "seed": 3, **options}
    model = xcnn.Model(net or some_net(), shape, backend=xcnn.backend("numpy", **how), **options)
    vars(model.trainer.net)["own"] = recorded  # else every pass is layer by layer
    return model


def samples(count, shape=SHAPE, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(dtype)


def recordings(model):
    return [met.recording for met in model.trainer.net.met.values() if met.recording]


def same(a, b):
    """Whether two trees have the same bits."""
    return all(x.tobytes() == y.tobytes() for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True))


def values(grads):
    """The arrays of a tree of gradients."""
    return tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)


def check_steps(models, x, t, steps=6):
    """The first is recorded, the second is not: each loss and the weights in the end have the same bits."""
    for n in range(steps):
        losses = [model.step(x, t) for model in models]
        assert losses[0] == losses[1], n
    assert same(models[0].state.weights, models[1].state.weights)
    assert recordings(models[0])
    assert not recordings(models[1])


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("resnet18", "resnet18-64", "unet-256")])
def test_nets_that_the_bench_knows(name):
    case = step_case(name, 3)
    models = [case.model(xcnn.backend("numpy", threads=2)) for _ in range(2)]
    vars(models[1].trainer.net)["own"] = False
    x, t = case.data(*models[0].output_shape)
    check_steps(models, x, t, steps=4)


@pytest.mark.parametrize("seed", range(8))
def test_nets_that_are_drawn(seed):
    case = drawn(seed)
    models = [case.model(xcnn.backend("numpy", threads=2)) for _ in range(2)]
    vars(models[1].trainer.net)["own"] = False
    x, t = case.data(*models[0].output_shape)
    check_steps(models, x, t, steps=4)


@pytest.mark.parametrize("net", [some_net, some_graph])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads(net, dtype):
    x, t = samples(5, dtype=dtype), np.arange(5) % 3
    for threads in (1, 2, 3):
        check_steps([model_of(net(), dtype=dtype, threads=threads), model_of(net(), False, dtype=dtype)], x, t)


@pytest.mark.parametrize("net", [some_net, some_graph])
def test_gradients_are_those_of_plain_numpy(net):
    """Layers without fusions, by matrix products."""
    x, t = samples(5, dtype="float64"), np.arange(5) % 3
    fast, slow = (
        xcnn.Model(net(), SHAPE, dtype="float64", seed=3, backend=xcnn.backend("numpy", **how))
        for how in ({}, {"algorithm": "gemm", "fuse": False})
    )
    for _ in range(6):
        np.testing.assert_allclose(fast.step(x, t), slow.step(x, t), rtol=1e-11)
    assert recordings(fast)
    for path, weight in tree.items(fast.weights):
        np.testing.assert_allclose(weight, dict(tree.items(slow.weights))[path], rtol=1e-8, atol=1e-9, err_msg=path)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": xcnn.Adam(0.01, clip_norm=0.1)},
        {"optimizer": xcnn.SGD(0.01, momentum=0.9, nesterov=True, weight_decay=0.01)},
        {"loss": "mse"},
        {"loss": partial(xcnn.losses.cross_entropy, label_smoothing=0.1)},
    ],
    ids=["Adam", "SGD", "mse", "smoothed"],
)
def test_fit_in_epochs_with_a_last_smaller_batch(options):
    """Shuffled, resumed, with a validation in between: what follows from the batches is the same."""
    x, t = samples(23), np.arange(23) % 3
    if options.get("loss") == "mse":
        t = np.eye(3, dtype="float32")[t]
    models = [model_of(recorded=recorded, **options) for recorded in (True, False)]
    for model in models:
        for _ in range(2):
            model.fit(x, t, epochs=3, batch_size=5, validation_data=(x[:7], t[:7]), progress=False)
    assert [row["loss"] for row in models[0].history.rows] == [row["loss"] for row in models[1].history.rows]
    assert same(models[0].state.weights, models[1].state.weights)
    assert {recording.results[0].shape[0] for recording in recordings(models[0])} >= {3, 5}


def test_parts_of_a_batch():
    """Whose keys are longer by the part's first sample."""
    x, t = samples(12), np.arange(12) % 3
    models = [model_of(recorded=recorded) for recorded in (True, False)]
    for model in models:
        model.fit(x, t, epochs=5, batch_size=12, accumulate=3, progress=False)
    assert same(models[0].state.weights, models[1].state.weights)
    assert recordings(models[0])


def test_statistics_that_somebody_sets_count_as_settled():
    x, t = samples(6), np.arange(6) % 3
    models = [model_of(recorded=recorded) for recorded in (True, False)]
    check_steps(models, x, t)
    for model in models:
        with model.edit("batchnorm1/running_steps") as steps:
            steps[:] = 0
        with model.edit("batchnorm1/running_mean") as mean:
            mean += 0.5
    check_steps(models, x, t, steps=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [None, 0.0, 1.0, 7.0, 1e6, 3e9])
@pytest.mark.parametrize("fresh", [True, False])
def test_moved_statistics_are_the_layers(steps, fresh, dtype):
    """The kernel rounds as BatchNorm.moved does, cell by cell."""
    rng = np.random.default_rng(1)
    norm, c = xcnn.BatchNorm(momentum=0.93), 11
    weights = {
        "running_mean": np.zeros(c, dtype) if fresh else rng.standard_normal(c).astype(dtype),
        "running_variance": np.ones(c, dtype) if fresh else rng.random(c).astype(dtype),
    }
    if steps is not None:
        weights["running_steps"] = np.asarray([steps], dtype)
    means, variances = rng.standard_normal(c), rng.random(c)
    expected = norm.moved(np, weights, means.astype(dtype), (variances * (12 / 11)).astype(dtype))
    old = [*weights.values(), None][:3]
    new = [None if w is None else np.empty_like(w) for w in old]
    native.call("moved", np.dtype(dtype), c, 12 / 11, 1 - norm.momentum, EARLY, SETTLED, means, variances, *old, *new)
    for name, got in zip(weights, new, strict=False):
        assert got.tobytes() == expected[name].value.tobytes(), name


class TestBackward:
    """What a step does not do, and others may."""

    def passes(self, run=None):
        """A model whose training pass is recorded, its samples, and a run."""
        model, x, t = model_of(), samples(4), np.arange(4) % 3
        for _ in range(3):
            model.step(x, t)
        assert recordings(model)
        run = run or Run(model.trainer.backend, train=True, key=(3, 77), wants_dx=False)
        return model, x, run

    def test_twice(self):
        model, x, run = self.passes()
        net, weights = model.trainer.net, model.state.weights
        y, backward = net(weights, x, run)
        dy = np.ones_like(y)
        _, first = backward(dy)
        kept = tree.map(np.copy, values(first))
        _, second = backward(dy)
        assert same(kept, values(second))

    @pytest.mark.parametrize("how", ["turned", "strided", "wide"])
    def test_a_gradient_that_lies_otherwise(self, how):
        model, x, run = self.passes()
        net, weights = model.trainer.net, model.state.weights
        y, backward = net(weights, x, run)
        dy = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
        other = {"turned": np.asfortranarray(dy), "strided": np.repeat(dy, 2, 1)[:, ::2], "wide": dy.astype("float64")}[
            how
        ]
        _, expected = net.by_layers(weights, x, run)[1](dy)
        if how == "wide":
            with pytest.raises(xcnn.errors.DTypeError, match="gradient"):
                backward(other)
            return
        _, got = backward(other)
        assert same(values(got), values(expected))

    def test_gradients_stay_when_the_next_pass_has_been(self):
        model, x, run = self.passes()
        net, weights = model.trainer.net, model.state.weights
        y, backward = net(weights, x, run)
        _, grads = backward(np.ones_like(y))
        before = tree.map(np.copy, values(grads))
        kept = y.copy()
        other, through = net(weights, 2 * x, run)
        through(np.ones_like(other))
        assert same(before, values(grads))
        assert y.tobytes() == kept.tobytes()

    def test_who_wants_dx_gets_it(self):
        model, x, _ = self.passes()
        net, weights, backend = model.trainer.net, model.state.weights, model.trainer.backend
        y, backward = net(weights, x, Run(backend, train=True, key=(3, 77)))
        dx, _ = backward(np.ones_like(y))
        assert dx.shape == x.shape


def test_other_keys_are_other_draws():
    model, x, t = model_of(), samples(4), np.arange(4) % 3
    losses = [model_of_key(model, x, t, step) for step in (5, 5, 6)]
    for _ in range(3):
        model.step(x, t)
    recorded = [model_of_key(model, x, t, step) for step in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]
    assert recorded[0] == recorded[1] != recorded[2]


def model_of_key(model, x, t, step):
    """The training loss of a key."""
    run = Run(model.trainer.backend, train=True, key=(3, step), wants_dx=False)
    y, _ = model.trainer.net(model.state.weights, x, run)
    return float(model.trainer.loss(y, t)[0])


def small_net():
    return xcnn.Sequential(
        xcnn.Conv2D(6, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Dropout(0.3), xcnn.MaxPool2D(2), xcnn.Flatten(),
        xcnn.Dense(3),
    )  # fmt: skip


def failing(y, t):
    raise ZeroDivisionError


def stepped(model, count):
    return model.step(samples(count, seed=count), np.arange(count) % 3)


def fitted(model, count):
    x, t = samples(17, seed=count), np.arange(17) % 3
    epochs = iter(range(9))

    def callback(model, history):
        with model.edit("conv1/kernel") as kernel:
            kernel *= 0.5 + next(epochs)

    how = {"accumulate": 1 + count % 3, "sample_weight": np.arange(17.0), "callbacks": callback, "progress": "none"}
    return model.fit(x, t, epochs=2, batch_size=count, validation_data=(x[:5], t[:5]), **how)["loss"]


def edited(model, count):
    with model.edit("dense1/kernel") as kernel:
        kernel[: 2 * count] = 0.1 * count


def failed(model, count):
    loss, model.loss = model.loss, failing
    with pytest.raises(ZeroDivisionError):
        stepped(model, count)
    model.loss = loss


def frozen(model, count):
    groups = xcnn.optimizers.Group("conv1/*", frozen=True), xcnn.optimizers.Group("*")
    model.optimizer = xcnn.optimizers.Groups(xcnn.AdamW(0.01), groups)


def moved(model, count):
    for backend in ("strict", xcnn.backend("numpy", threads=count)):
        model.to(backend)


def diverged(model, count):
    with pytest.raises(xcnn.errors.DivergedError):
        model.step(np.full((count, *SHAPE), np.finfo("f").max, "f"), np.arange(count) % 3)


ACTIONS = [
    stepped, stepped, stepped, fitted, edited, failed, frozen, moved, diverged,
    lambda model, count: setattr(model, "optimizer", xcnn.SGD(0.01, momentum=0.9, clip_norm=0.5)),
    lambda model, count: setattr(model, "optimizer", xcnn.optimizers.EMA(xcnn.Adam(0.01), decay=0.5)),
    lambda model, count: model.predict(samples(count)).tobytes(),
    lambda model, count: model.evaluate(samples(count), np.arange(count) % 3)["loss"],
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_whatever_changes_between_steps(seed):
    """Sizes of batches, weights, loss, optimizer, what is frozen, the backend; steps that fail, and that diverge."""
    drawn, was = np.random.default_rng(seed), 0
    models = [model_of(small_net(), recorded, optimizer=xcnn.Adam(0.01)) for recorded in (True, False)]
    for n in range(30):
        action, count = ACTIONS[drawn.integers(len(ACTIONS))], int(drawn.integers(2, 5))
        for _ in range(4 if action is stepped else 1):
            found = [action(model, count) for model in models]
            assert repr(found[0]) == repr(found[1]), n
            if hasattr(models[1].trainer.net, "met"):
                vars(models[1].trainer.net)["own"] = False
                was += bool(recordings(models[0]))
        assert same(models[0].state.weights, models[1].state.weights), n
    assert was > 10
    assert not recordings(models[1])


class Interrupt:
    """A Ctrl-C that comes at one of the places of some code where Python looks whether there is one.

    Those are after calls, jumps back, and where a function begins or a generator goes on.
    """

    def __init__(self, codes, stop):
        self.codes, self.left, self.last = codes, stop, {}

    def __call__(self, frame, event, argument):
        if frame.f_code not in self.codes:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before, self.last[id(frame)] = self.last.get(id(frame), ""), opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith(("RESUME", "CALL", "JUMP_BACKWARD")):
                self.left -= 1
                if self.left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
        return self


def test_an_interrupt_anywhere_in_a_recording_leaves_the_thread_as_it_was():
    """One training after another, each interrupted a little later, where its recording begins or ends."""
    from xcnn_native import recording

    block = type(model_of(small_net()).trainer.backend.active())
    codes = {recording.Recorder.listening.__wrapped__.__code__, recording.tidied.__code__}
    codes |= {block.__enter__.__code__, block.__exit__.__code__}
    x, t, me, stops, interrupted = samples(4), np.arange(4) % 3, threading.get_ident(), 0, True
    plain = model_of(small_net(), False)
    expected = [plain.step(x, t) for _ in range(5)]
    while interrupted:
        model, before, interrupted = model_of(small_net()), sys.gettrace(), False
        losses = [model.step(x, t)]
        sys.settrace(Interrupt(codes, stops))
        try:
            losses.append(model.step(x, t))
        except KeyboardInterrupt:
            interrupted, stops = True, stops + 1
        finally:
            sys.settrace(before)
            assert not process.crowd.blocks.get(me), stops
            assert not blas.blas_threads.holders.get(me), stops
        assert not recording.listeners.get(me), stops
        assert not recording.elsewhere.get(me), stops
        losses += [model.step(x, t) for _ in range(5 - len(losses))]
        assert losses == expected, stops
    assert stops > 10


def test_threads_that_share_a_net():
    """Each has memory of its own."""
    model, t = model_of(), np.arange(4) % 3
    xs = [samples(4, seed=seed) for seed in range(4)]
    for _ in range(3):
        model.step(xs[0], t)
    net, weights = model.trainer.net, model.state.weights
    run = Run(model.trainer.backend, train=True, key=(3, 9), wants_dx=False)

    def both(call, x):
        y, backward = call(weights, x, run)
        _, grads = backward(np.ones_like(y))
        return y.tobytes(), [g.tobytes() for g in tree.leaves(values(grads))]

    expected, wrong = [both(net.by_layers, x) for x in xs], []

    def ask(first):
        for n in range(20):
            which = (first + n) % len(xs)
            wrong.extend([which] if both(net, xs[which]) != expected[which] else [])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_recording_that_does_not_hold_is_not_used(monkeypatch):
    """A kernel's argument is another than it was: the trial finds it."""
    from xcnn_native import replay

    net = xcnn.Sequential(xcnn.Conv2D(9, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(3))
    model, x, t = model_of(net), samples(4), np.arange(4) % 3
    made = replay.made

    def spoilt(recorder, *rest):
        name, arguments = recorder.calls[-1]
        recorder.calls[-1] = name, [*arguments[:1], 0, *arguments[2:]]  # no maps: the last gradient is not computed
        return made(recorder, *rest)

    monkeypatch.setattr("xcnn_numpy.native.recorded.made", spoilt)
    for _ in range(5):
        model.step(x, t)
    (met,) = model.trainer.net.met.values()
    assert met.tried
    assert met.recording is met.waiting is None


def test_little_memory_is_kept_to():
    """A backend that keeps none records no training."""
    model, x, t = model_of(kept_memory=0), samples(4), np.arange(4) % 3
    for _ in range(5):
        model.step(x, t)
    assert not recordings(model)


def test_a_model_goes_with_its_recordings():
    model, x, t = model_of(), samples(4), np.arange(4) % 3
    for _ in range(4):
        model.step(x, t)
    kept = weakref.ref(recordings(model)[0])
    del model
    gc.collect()
    assert kept() is None


def shared_net(norm):
    return xcnn.Sequential(
        xcnn.Conv2D(9, 3), *norm, xcnn.ReLU(), xcnn.SpatialDropout2D(0.3), xcnn.Flatten(), xcnn.Dropout(0.4),
        xcnn.Dense(3),
    )  # fmt: skip


def passed(net, weights, x, dy, share, step):
    """What a share of a batch gives, forward and back."""
    run = Run(xcnn.backend("numpy"), train=True, key=(3, step), wants_dx=False, share=share)
    y, backward = net(weights, x, run)
    return y.tobytes(), [g.tobytes() for g in tree.leaves(values(backward(dy)[1]))]


def test_shares_draw_by_their_own_places():
    """Two shares of one size in turns, as uneven batches give them: each is recorded, and drops its own cells."""
    nets = [model_of(shared_net([]), recorded).trainer.net for recorded in (True, False)]
    weights, x, dy = model_of(shared_net([])).state.weights, samples(4), samples(4, (3,), seed=1)
    shares = [Share(first, 12, lambda part: part, lambda part: part[None]) for first in (0, 4)]
    for step in range(5):
        for share in shares:
            recorded, by_layers = (passed(net, weights, x, dy, share, step) for net in nets)
            assert recorded == by_layers, (step, share.first)
    assert [met.recording is not None for met in nets[0].met.values()] == [True, True]


def told(shapes, factor, part):
    """What others would answer, once it is noted what they were asked."""
    shapes.append(part.shape)
    return (factor + 0.1 * len(part)) * part


def told_each(shapes, factor, part):
    """The same of what each other has."""
    shapes.append(part.shape)
    return np.stack([part, factor * part])


def test_a_batch_norm_of_a_share_asks_the_others_in_every_step():
    """Recorded, tried out, and replayed: once for each sum, and what they answer is what counts."""
    models = [model_of(shared_net([xcnn.BatchNorm()]), recorded) for recorded in (True, False)]
    weights, asked = models[0].state.weights, ([], [])
    for step in range(6):
        x, dy = samples(4, seed=step), samples(4, (3,), seed=step + 10)
        found = []
        for model, shapes in zip(models, asked, strict=True):
            share = Share(4, 12, *(partial(one, shapes, 3 + 0.1 * step) for one in (told, told_each)))
            found.append(passed(model.trainer.net, weights, x, dy, share, step))
        assert found[0] == found[1], step
    assert asked == (6 * [(3, 9), (2, 9)], 6 * [(3, 9), (2, 9)])
    assert recordings(models[0])


@pytest.mark.parametrize("again", [False, True], ids=["lies otherwise", "called again"])
def test_others_are_not_asked_again_for_what_a_forward_pass_was_told(again):
    """A gradient that no recording has: the layers compute anew, with the sums that there were."""
    nets = [model_of(shared_net([xcnn.BatchNorm()]), recorded).trainer.net for recorded in (True, False)]
    weights, x, dy = model_of(shared_net([xcnn.BatchNorm()])).state.weights, samples(4), samples(4, (3,), seed=1)
    other, found, asked = np.asfortranarray(2 * dy), [], []
    share = Share(4, 12, partial(told, asked, 3), partial(told_each, asked, 3))
    for net in nets:
        for step in range(4):
            passed(net, weights, x, dy, share, step)
        run = Run(xcnn.backend("numpy"), train=True, key=(3, 9), wants_dx=False, share=share)
        y, backward = net(weights, x, run)
        if again:
            backward(dy)
        asked.clear()
        found.append((y.tobytes(), [g.tobytes() for g in tree.leaves(values(backward(other)[1]))]))
        assert asked == [(2, 9)]
    assert found[0] == found[1]
