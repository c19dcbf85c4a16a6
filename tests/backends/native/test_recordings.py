"""Recorded predictions: the same bits as the layers give, whatever the samples, the net, the batch, the threads."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from itertools import pairwise

import numpy as np
import pytest

import xcnn
from xcnn.bench.cases import step_case
from xcnn.bench.drawn import drawn
from xcnn.bench.zoo import NETS
from xcnn.core import tree
from xcnn.core.process import crowd
from xcnn.errors import DataError, ShapeError
from xcnn.layers import Run

native = pytest.importorskip("xcnn_native.library")
if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)
from xcnn_host import buffers  # noqa: E402
from xcnn_host.buffers import is_sealed, sealed  # noqa: E402
from xcnn_native import replay  # noqa: E402
from xcnn_native.recording import Recorder, aside, constant, recordable  # noqa: E402
from xcnn_native.room import Piece, laid_out, memory  # noqa: E402
from xcnn_numpy.native import recorded as records  # noqa: E402
from xcnn_numpy.native.maps import KeptKernel  # noqa: E402

SHAPE = (2, 12, 11)


def some_net():
    return xcnn.Sequential(
        xcnn.Conv2D(9, 3), xcnn.BatchNorm(), xcnn.ReLU(),
        xcnn.Residual(xcnn.Conv2D(9, 3, padding=1), xcnn.GroupNorm(3), xcnn.SiLU()), xcnn.ReLU(),
        xcnn.Concatenate(xcnn.Sequential(), xcnn.Conv2D(3, 1), xcnn.Sequential(xcnn.Conv2D(4, 1), xcnn.ReLU())),
        xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dropout(0.5), xcnn.Dense(20), xcnn.GELU(), xcnn.Dense(3),
    )  # fmt: skip


def frozen(net=None, shape=SHAPE, dtype="float32", **options):
    backend = xcnn.backend("numpy", **options)
    return xcnn.Model(net or some_net(), shape, loss="mse", dtype=dtype, seed=3, backend=backend).frozen()


def samples(count, shape=SHAPE, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(dtype)


def met(model, count=None):
    """What the model's net keeps of the last shape, or of batches of so many."""
    kept = model.trainer.net.met
    return next(one for (shape, *_), one in reversed(kept.items()) if count in (None, shape[0]))


def by_layers(model, x):
    """The prediction without a recording: that of a run which wants a backward pass keeps more, and gives the same."""
    net, backend = model.trainer.net, model.trainer.backend
    with backend.active():
        y, _ = net.by_layers(model.state.weights, x, Run(backend, wants_backward=False))
    return y


def recorded(model, x):
    """The model, whose predictions of samples like these are recorded."""
    for _ in range(3):  # met, recorded, tried out
        model.predict(x, batch_size=len(x))
    assert met(model).recording is not None
    return model


def same(a, b):
    """Whether all bits are the same, those of NaN too."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def check(model, shape):
    """Of other samples than those that were recorded, alone and together, all bits are those of the layers."""
    recorded(model, samples(2, shape))
    x = samples(2, shape, seed=1)
    expected = by_layers(model, x)
    assert same(model.predict(x), np.ascontiguousarray(expected))
    alone = recorded(model, x[:1])
    assert same(np.concatenate([alone.predict(one[None]) for one in x]), np.ascontiguousarray(expected))


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("resnet18", "unet-256")])
def test_nets_that_the_bench_knows(name):
    case = step_case(name, 2)
    check(case.model(xcnn.backend("numpy", threads=2)).frozen(), case.input_shape)


@pytest.mark.parametrize("seed", range(8))
def test_nets_that_are_drawn(seed):
    case = drawn(seed)
    check(case.model(xcnn.backend("numpy", threads=2)).frozen(), case.input_shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads(dtype):
    x = samples(5, (3, 32, 32), dtype=dtype)
    net = xcnn.nets.small_resnet()
    models = [recorded(frozen(net, x.shape[1:], dtype, threads=n), x) for n in (1, 2, 3)]
    expected = by_layers(models[0], x)
    assert all(same(model.predict(x), expected) for model in models)


@pytest.mark.parametrize(
    "layer",
    [
        xcnn.ZeroPadding2D(((1, 2), (0, 3))),
        xcnn.UpSampling2D((2, 3)),
        xcnn.UpSampling2D((2, 3), "bilinear"),
        xcnn.Resize((5, 9), interpolation="bilinear"),
        xcnn.Reshape((-1, 4)),
        xcnn.Concatenate(xcnn.Tanh(), xcnn.Sequential(), xcnn.ReLU()),
        xcnn.Sequential(xcnn.Conv2D(9, 1), xcnn.ZeroPadding2D(2), xcnn.UpSampling2D(2), xcnn.Reshape((9, -1))),
        xcnn.Sequential(xcnn.Conv2D(9, 1), xcnn.Concatenate(xcnn.ReLU(), xcnn.Conv2D(2, 1)), xcnn.Flatten()),
        xcnn.Sequential(xcnn.Conv2DTranspose(5, 2, stride=3), xcnn.ReLU()),  # which leaves gaps
        xcnn.Sequential(xcnn.Conv2DTranspose(9, 2, stride=3)),
        xcnn.Sequential(xcnn.Conv2D(9, 2, bias="untied"), xcnn.Tanh()),
        xcnn.Sequential(xcnn.BatchNorm(), xcnn.Tanh()),
        xcnn.Sequential(xcnn.LayerNorm(axis=1), xcnn.Tanh()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers(layer):
    """Recorded they give what they give without fusions, on samples that lie in either order."""
    net = layer if type(layer) is xcnn.Sequential else xcnn.Sequential(layer, xcnn.LeakyReLU(0.1))
    shape = (2, 7, 6)
    model = frozen(net, shape)
    check(model, shape)
    x = samples(3, shape)
    plain = xcnn.Model(net, shape, loss="mse", backend=xcnn.backend("numpy", fuse=False))
    plain.weights = tree.map(np.asarray, model.weights)
    np.testing.assert_allclose(recorded(model, x).predict(x), plain.predict(x), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_lie_apart_while_they_are_in_use(seed):
    numbers = np.random.default_rng(seed)
    pieces = [Piece(0, int(numbers.integers(1, 5000))) for _ in range(60)]
    for piece in pieces:
        for call in numbers.integers(0, 40, 2):
            piece.use(int(call))
    size, at_work = laid_out(pieces), [[] for _ in range(41)]
    for piece in pieces:
        for call in range(piece.birth, piece.death):
            at_work[call].append(piece)
    for together in at_work:
        ordered = sorted(together, key=lambda piece: piece.at)
        assert all(a.at + a.size < b.at for a, b in pairwise(ordered))
    live = max(sum(piece.size for piece in together) for together in at_work)
    assert live <= size < sum(piece.size for piece in pieces)


def test_rooms_content_does_not_matter(monkeypatch):
    """Every cell that is read was written before, in the same prediction."""
    x = samples(3)
    for net in (some_net(), xcnn.Sequential(xcnn.Conv2DTranspose(5, 2, stride=3), xcnn.ZeroPadding2D(1), xcnn.Tanh())):
        model = recorded(frozen(net), x)
        expected = model.predict(x)

        def poisoned(size):
            made, first = memory(size)
            made.fill(0xFF)  # NaN
            return made, first

        monkeypatch.setattr(replay, "memory", poisoned)
        assert same(model.predict(x), expected)
        monkeypatch.undo()


def test_shapes_in_turns():
    """More than are kept, each with its own recording, or none."""
    model = frozen()
    x = samples(12)
    expected = by_layers(model, x)
    for _ in range(3):
        for count in (1, 12, 3, 1, 12):
            assert same(model.predict(x[:count]), expected[:count])
    assert {shape[0] for (shape, *_), one in model.trainer.net.met.items() if one.recording} == {1, 12, 3}
    for count in range(1, 13):
        for _ in range(3):
            assert same(model.predict(x[:count]), expected[:count])
    assert len(model.trainer.net.met) == records.MOST
    assert len(model.trainer.net.trusted) <= records.MOST


def test_a_last_smaller_batch():
    model, x = frozen(), samples(7)
    expected = by_layers(model, x)
    assert all(same(model.predict(x, batch_size=3), expected) for _ in range(3))


def changed_by_step(model, x):
    model.step(x, np.zeros((len(x), 3), "float32"))


def changed_by_edit(model, x):
    with model.edit("dense2/bias") as bias:
        bias += 1


def changed_by_assignment(model, x):
    model.weights = tree.map(lambda w: 0.5 * w, model.weights)


def changed_in_place(model, x):
    """By who insists: memory of one's own may be made writable again."""
    kernel = model.state.weights["conv1"]["kernel"].copy()  # which is packed
    kernel.flags.writeable = False
    model.state.weights["conv1"]["kernel"] = kernel
    recorded(model, x)
    kernel.flags.writeable = True
    kernel *= 2


def test_what_is_frozen_stays():
    for path, leaf in tree.items(frozen().state.weights):
        assert leaf.ctypes.data % 64 == 0, path
        with pytest.raises(ValueError, match="WRITEABLE"):
            leaf.flags.writeable = True


def test_memory_that_others_have_is_not_sealed():
    owned = np.arange(6.0)
    owned.flags.writeable = False
    assert is_sealed(owned)
    assert is_sealed(sealed(owned[::2]))
    assert np.array_equal(sealed(owned[::2]), owned[::2])
    assert sealed(np.zeros((0, 3), "float32")).shape == (0, 3)
    assert sealed(np.array(2.0)) == 2
    bytes_of_others = bytearray(48)
    for shared in (np.frombuffer(memoryview(bytes_of_others).toreadonly()), np.broadcast_to(owned, (2, 6)), np.ones(3)):
        assert not is_sealed(shared)


def changed_in_the_tree(model, x):
    """By who goes past the model."""
    kernel = 2 * model.state.weights["dense2"]["kernel"]
    kernel.flags.writeable = False
    model.state.weights["dense2"]["kernel"] = kernel


@pytest.mark.parametrize(
    "change", [changed_by_step, changed_by_edit, changed_by_assignment, changed_in_place, changed_in_the_tree]
)
def test_weights_that_change_are_followed(change):
    x = samples(4)
    model = recorded(frozen(), x)
    before = model.predict(x)
    change(model, x)
    expected = by_layers(model, x)
    assert not np.array_equal(expected, before)
    for _ in range(4):
        assert same(model.predict(x), expected)


def test_other_weights_that_are_frozen_are_recorded_without_a_trial(monkeypatch):
    """The calls are those of a recording that held."""
    x = samples(4)
    model = recorded(frozen(), x)
    net, backend = model.trainer.net, model.trainer.backend
    other = tree.map(lambda w: backend.frozen(2 * w), model.state.weights)
    monkeypatch.setattr(records.Recorded, "try_out", lambda *_: pytest.fail("it was tried again"))
    run = Run(backend, wants_backward=False)
    y = [net(other, x, run)[0] for _ in range(3)]
    assert met(model).recording is not None
    assert same(y[2], y[0])
    assert not same(y[2], model.predict(x))


def test_threads_that_share_a_model():
    model = frozen(threads=2)
    xs = [samples(count, seed=seed) for seed in range(3) for count in (1, 4)]
    expected = [by_layers(model, x) for x in xs]
    wrong = []

    def ask(first):
        for n in range(60):
            which = (first + n) % len(xs)
            wrong.extend([which] if not same(model.predict(xs[which]), expected[which]) else [])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert met(model, 1).recording is not None
    assert met(model, 4).recording is not None


FORK = """
import os, numpy as np, xcnn
net = xcnn.Sequential(xcnn.Conv2D(32, 3), xcnn.BatchNorm(), xcnn.Conv2D(32, 3), xcnn.Flatten(), xcnn.Dense(9))
model = xcnn.Model(net, (3, 32, 32), backend=xcnn.backend("numpy", threads=3)).frozen()
x = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype("float32")
expected = model.predict(x)
for _ in range(2):
    model.predict(x)
assert all(met.recording for met in model.trainer.net.met.values())
child = os.fork()
same = all(np.array_equal(model.predict(x), expected) for _ in range(5))
if child == 0:
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0 and same
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes can't be forked here")
def test_a_forked_child_goes_on():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "done\n", done.stderr


def test_errors_are_those_of_before():
    x = samples(4)
    model = recorded(frozen(), x)
    with pytest.raises(ShapeError, match="takes samples of shape"):
        model.predict(x[:, :1])
    x[2, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="sample 2"):
        model.predict(x)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_library_alone_asks_nothing_of_numpy(is_frozen, monkeypatch):
    """It needs no block of the backend's: what overflows does so under whatever NumPy was told, and forks wait."""
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(5), xcnn.Sigmoid(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 4, 4), loss="mse", backend="numpy")
    model = recorded(model.frozen() if is_frozen else model, samples(3, (1, 4, 4)))
    huge = np.full((3, 1, 4, 4), 3e38, "float32")
    expected = by_layers(model, huge)
    computing, run = [], replay.Replay.run
    monkeypatch.setattr(
        replay.Replay,
        "run",
        lambda self, part: computing.append(threading.get_ident() in crowd.blocks) or run(self, part),
    )
    with monkeypatch.context() as patch, np.errstate(all="raise"):
        patch.setattr(type(model.backend), "active", lambda self: pytest.fail("the block of the backend's was begun"))
        assert np.array_equal(model.predict(huge), expected)
    assert computing == [True]
    assert threading.get_ident() not in crowd.blocks
    for odd in (np.nan, np.inf, -np.inf):
        huge[2, 0, 3, 3] = odd
        with np.errstate(all="raise"), pytest.raises(DataError, match=r"X203.*sample 2"):
            model.predict(huge)
    assert len(computing) == 1


def test_no_memory_is_told(monkeypatch):
    x = samples(4)
    model = recorded(frozen(), x)
    monkeypatch.setattr(met(model).recording, "replay", lambda *_: 0)
    with pytest.raises((MemoryError, xcnn.errors.XcnnError), match="memory"):
        model.predict(x)


def test_predictions_are_the_users_own():
    """Neither shares memory with the other."""
    x = samples(4)
    model = recorded(frozen(xcnn.Sequential(xcnn.Conv2D(9, 3), xcnn.ReLU())), x)
    first, second = (model.forward(x) for _ in range(2))
    assert not np.shares_memory(first, second)
    first += 1
    assert same(model.forward(x), second)


def test_samples_in_another_order_or_type():
    """They are predicted as ever."""
    x = samples(4)
    model = recorded(frozen(), x)
    expected = model.predict(x)
    for other in (np.asfortranarray(x), x.astype("float64"), x[::-1][::-1]):
        assert same(model.predict(other), expected)
    assert same(model.predict(x[::2]), expected[::2])


def test_weights_that_may_change_are_read_anew():
    """Those of a model that is not frozen can be written in place, by whoever reaches its state."""
    net = xcnn.Sequential(xcnn.Conv2D(9, 3), xcnn.LayerNorm(axis=1), xcnn.Flatten(), xcnn.Dense(3))
    model = xcnn.Model(net, SHAPE, loss="mse", backend="numpy")
    x = samples(3)
    recorded(model, x)
    for name in ("kernel", "bias"):
        model.state.weights["dense1"][name][:] = 7
        assert same(model.predict(x), np.ascontiguousarray(by_layers(model, x)))
        assert met(model).recording is not None


class Own:
    """A layer from elsewhere, which computes with the engine alone, by an attribute that may change at any time."""

    largest = True

    def init(self, rng, input_shape):
        c, h, w = input_shape
        return {}, (c, h // 2, w // 2)

    def __call__(self, weights, x, run):
        window = {"size": (2, 2), "stride": (2, 2)}
        y = run.backend.max_pool(x, **window)[0] if self.largest else run.backend.sum_pool(x, **window)
        return y, lambda dy: (None, {})


@pytest.mark.parametrize(
    "within", [lambda layer: layer, lambda layer: xcnn.Residual(xcnn.Sequential(layer), shortcut=layer)]
)
def test_layers_from_elsewhere_are_called(within):
    layer = Own()
    model = frozen(xcnn.Sequential(xcnn.Conv2D(9, 3), within(layer), xcnn.Conv2D(2, 3)))
    x = samples(3)
    before = [model.predict(x) for _ in range(4)]
    layer.largest = False
    assert not np.array_equal(model.predict(x), before[-1])
    assert same(model.predict(x), np.ascontiguousarray(by_layers(model, x)))


@pytest.mark.parametrize("layer", [xcnn.Softmax(), xcnn.LocalResponseNorm()])
def test_what_numpy_computes_is_not_recorded(layer):
    model = frozen(xcnn.Sequential(xcnn.Conv2D(9, 3), layer, xcnn.Conv2D(2, 3)))
    x = samples(3)
    expected = model.predict(x)
    assert all(same(model.predict(x), expected) for _ in range(4))
    assert met(model).tried
    assert met(model).recording is None


class TestRecorder:
    def listening(self, compute, x=None):
        """A Recorder that heard how y was computed, and its recording."""
        x = samples(2) if x is None else x
        recorder = Recorder((x,))
        with recorder.listening():
            y = compute(x)
        return recorder, replay.made(recorder, [y], [True])

    def copied(self, x):
        y = buffers.empty(x.shape, x.dtype)
        native.call("copy", x.dtype, copies(x, y), x, y, 1)
        return y

    def test_a_copy(self):
        recorder, made = self.listening(self.copied)
        other = samples(2, seed=8)
        assert recorder.why == ""
        assert same(made(other), other)

    def test_what_numpy_gives_is_no_array_of_the_engines(self):
        recorder, made = self.listening(lambda x: x + 1)
        assert made is None
        assert "no array of the engine's" in recorder.why

    def test_what_numpy_gives_is_not_read(self):
        recorder, made = self.listening(lambda x: self.copied(x + 1))
        assert made is None
        assert "NumPy" in recorder.why

    def test_what_is_constant_is_read(self):
        one = np.ones((2, *SHAPE), "float32")
        recorder, made = self.listening(lambda x: self.copied(constant(lambda: one + 1)))
        assert recorder.why == ""
        assert np.all(made(samples(2)) == 2)

    def test_kernels_that_are_not_recordable(self):
        def compute(x):
            native.kernel("sum_of_squares", x.dtype)(x.size, native.address(x))
            return self.copied(x)

        recorder, made = self.listening(compute)
        assert made is None
        assert "sum_of_squares_f32" in recorder.why

    def test_kernels_of_another_type(self):
        def compute(x):
            self.copied(np.ones(3))
            return self.copied(x)

        recorder, made = self.listening(compute)
        assert made is None
        assert "copy_f64" in recorder.why

    def test_other_threads_are_not_heard(self):
        def compute(x):
            thread = threading.Thread(target=lambda: self.copied(np.ones((2, *SHAPE), "float32")))
            thread.start()
            thread.join()
            return self.copied(x)

        recorder, _ = self.listening(compute)
        assert len(recorder.calls) == 1

    def test_nobody_listens_after_an_error(self):
        with pytest.raises(ZeroDivisionError):
            self.listening(lambda x: 1 / 0)
        assert not native.listeners
        assert not buffers.elsewhere

    def test_pieces_are_used_again(self):
        def compute(x):
            for _ in range(20):
                x = self.copied(x)
            return x

        _, made = self.listening(compute)
        assert made.size < 3 * (samples(2).nbytes + 1024)
        other = samples(2, seed=8)
        assert same(made(other), other)

    def test_what_is_computed_aside_is_computed_by_the_replays_run(self):
        """Arrays live through it as through a call: none lies where another is that is read after this was written."""

        def does(run, a, b, given, number):
            b[...] = 1
            b += run * a + number * given

        def compute(x):
            a, b = self.copied(x), buffers.empty(x.shape, x.dtype)
            aside(does, 2, (a, b, x), 3)
            del a
            return self.copied(b)

        recorder, made = self.listening(compute)
        other = samples(2, seed=8)
        for run in (2, 5):
            replayed = made.begin((other,), run=run)
            replayed.run(0)
            np.testing.assert_array_equal(replayed.result(0), 1 + (run * other + 3 * other))
        assert recorder.why == ""

    @pytest.mark.parametrize("wrong", [lambda x: x + 1, lambda x: x[:, :1]], ids=["NumPy's", "a part of what is given"])
    def test_aside_reads_nothing_else(self, wrong):
        recorder, made = self.listening(lambda x: aside(lambda run, a: None, 1, (wrong(x),)) or self.copied(x))
        assert made is None
        assert "it computes" in recorder.why

    def test_every_recordable_kernel_is_one(self):
        for name in recordable():
            kinds, _, takes = native.SIGNATURES[name]
            assert kinds == (("u32",) if name == "keep" else native.FLOATS)
            assert len(takes) <= replay.MOST


def copies(x, y):
    from xcnn_numpy.native.copy import axes

    strides = ([stride // array.itemsize for stride in array.strides] for array in (x, y))
    return axes(y.shape, *map(tuple, strides))


def test_memory_does_not_grow_with_depth():
    x = samples(2, (16, 24, 24))

    def deep(depth):
        layers = [
            layer for _ in range(depth) for layer in (xcnn.Conv2D(16, 3, padding=1), xcnn.BatchNorm(), xcnn.GELU())
        ]
        return met(recorded(frozen(xcnn.Sequential(*layers), x.shape[1:]), x)).recording.size

    assert deep(9) == deep(3) < 3 * (x.nbytes + 1024)


def test_packed_kernels_are_kept_once_for_all_shapes():
    model = frozen(xcnn.Sequential(xcnn.Conv2D(32, 3), xcnn.ReLU(), xcnn.Conv2D(32, 3)), (32, 9, 9))
    for count in (3, 4, 5):
        recorded(model, samples(count, (32, 9, 9)))
    fusions = [fusion for *_, fusion in model.trainer.net.plan]
    for fusion in fusions:
        packed = {id(plan.kept.last[1]) for plan in fusion.known.values()}
        assert len(fusion.known) == 4  # and the few that tell how much memory a sample takes
        assert len(packed) == 1


def test_kernels_that_are_packed_otherwise_are_kept_apart():
    """Of one kernel, or of another where an earlier one lay."""
    kept, kernel = KeptKernel(None), np.zeros(3)
    one, other = (np.full(8, value) for value in (1.0, 2.0))
    assert kept.shared(kernel, one) is one
    assert kept.shared(kernel, np.copy(one)) is one
    assert kept.shared(kernel, other) is other
    assert kept.shared(kernel, np.copy(other)) is other


def test_what_is_kept_goes_with_the_model():
    x = samples(4)
    model = recorded(frozen(), x)
    kept = weakref.ref(met(model).recording)
    kernel = weakref.ref(model.state.weights["conv1"]["kernel"])
    del model
    gc.collect()
    assert kept() is None
    assert kernel() is None


def test_training_lets_go_of_what_was_kept():
    x = samples(4)
    model = recorded(frozen(), x)
    kept = weakref.ref(met(model).recording)
    changed_by_step(model, x)
    gc.collect()
    assert kept() is None


def wide_net():
    """Of whose activations an image takes 2 MiB."""
    return xcnn.Sequential(
        xcnn.Conv2D(32, 3, padding=1), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Conv2D(32, 3, padding=1), xcnn.SiLU(),
        xcnn.Conv2D(3, 1),
    )  # fmt: skip


def test_a_batch_beyond_the_caches_goes_by_parts():
    """The same bits as all samples at once, each part of as many samples as the others, or one more."""
    model = xcnn.Model(wide_net(), (3, 96, 90), backend="numpy", seed=2).frozen()
    x = np.random.default_rng(3).standard_normal((23, 3, 96, 90)).astype("float32")
    expected = by_layers(model, x)
    for _ in range(4):
        assert same(model.predict(x, batch_size=23), expected)
    net = model.trainer.net
    [most] = net.most.values()
    room = 2 * 32 * 96 * 90 * 4  # of two planes of filters
    assert records.ROOM // room - 1 <= most <= records.ROOM // room + 1
    parts = -(-23 // most)
    assert {shape[0] for shape, *_ in net.met} == {23 // parts, -(-23 // parts)}


def test_what_could_change_a_bit_stays_whole():
    """Products of NumPy's matrices are summed in an order that follows from the batch."""
    model = xcnn.Model(wide_net(), (3, 96, 90), backend=xcnn.backend("numpy", algorithm="gemm"), seed=2)
    x = np.random.default_rng(3).standard_normal((23, 3, 96, 90)).astype("float32")
    first = model.predict(x, batch_size=23)
    assert all(np.array_equal(model.predict(x, batch_size=23), first) for _ in range(3))
    assert [*model.trainer.net.most.values()] == [sys.maxsize]


def test_heavy_weights_are_read_for_many_samples():
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(40), xcnn.Dense(200_000)), (1, 4, 4), backend="numpy")
    model, x = model.frozen(), np.random.default_rng(3).standard_normal((40, 1, 4, 4)).astype("float32")
    expected = by_layers(model, x)
    for _ in range(3):
        assert same(model.predict(x, batch_size=40), expected)
    weights = sum(leaf.nbytes for leaf in tree.leaves(model.state.weights))
    assert weights > records.ROOM  # a sample takes next to nothing beside its result
    assert next(iter(model.trainer.net.most.values())) >= 40
