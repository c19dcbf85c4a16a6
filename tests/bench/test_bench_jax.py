"""The bench beside JAX: its twins of the nets and correlations do our work, and the command compares with them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from gpu_stand_in import StandIn

import xcnn
from xcnn.bench import cases, gpu, timing, zoo
from xcnn.bench.cases import MAPS, CorrelationCase, StepCase, picked
from xcnn.bench.drawn import drawn
from xcnn.core import tree
from xcnn.layers import (
    ELU,
    GELU,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    SiLU,
    Softplus,
    SpatialDropout2D,
    Tanh,
    UpSampling2D,
)
from xcnn.model.model import Model

jax = pytest.importorskip("jax", reason="JAX, the other side, is not installed")
jax_side = pytest.importorskip("xcnn.bench.jax_side")
LAYOUTS = {layout.images: layout for layout in jax_side.LAYOUTS}

UNEVEN = StepCase(
    "uneven",
    Sequential(
        Conv2D(4, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU(),
        Residual(Conv2D(4, (1, 3), padding="same", groups=2), ReLU()),
        Residual(
            Conv2D(6, 3, stride=2, padding="same"), BatchNorm(),
            shortcut=Sequential(Conv2D(6, 1, stride=2, bias=False), BatchNorm()),
        ),
        MaxPool2D(3, stride=2, padding="same"), Flatten(), Dense(5), ReLU(), Dense(3),
    ),
    (2, 11, 23), 4, "cross_entropy", xcnn.SGD(0.1, momentum=0.9),
)  # fmt: skip
"""All that is turned or padded somewhere; what is flattened has six channels of 2x3."""

NORMS = StepCase(
    "norms",
    Sequential(
        Conv2D(6, 3, padding=1), GroupNorm(3), SiLU(), DepthwiseConv2D((3, 2), depth_multiplier=2, padding=1),
        LayerNorm(axis=1), GELU(), AveragePool2D(3, stride=2, padding=1), LayerNorm(), LeakyReLU(0.2),
        AveragePool2D((2, 1)), Tanh(), GlobalAveragePool2D(), LayerNorm(), Dense(3),
    ),
    (2, 9, 12), 4, "cross_entropy", xcnn.SGD(0.01, momentum=0.9),
)  # fmt: skip
UP = StepCase(
    "up",
    Sequential(
        Conv2D(4, 3, stride=2, padding=1), ELU(), Concatenate(Sequential(), Sequential(Conv2D(2, 1), Softplus())),
        Conv2DTranspose(5, 3, stride=2, padding=1, output_padding=1), UpSampling2D(2, "bilinear"),
        GELU(approximate=True), Conv2DTranspose(4, (4, 2), stride=(2, 1), dilation=(1, 2)), UpSampling2D(2),
        Conv2D(3, 1),
    ),
    (2, 6, 8), 2, "cross_entropy", xcnn.SGD(0.1, momentum=0.9),
)  # fmt: skip
LIKE_IT = replace(UP, name="image", loss="mse")
LARGEST = StepCase(
    "largest", Sequential(Conv2D(4, 3), GlobalMaxPool2D(), Dense(3)), (2, 5, 6), 3, "cross_entropy", xcnn.SGD(0.1)
)


@pytest.fixture(autouse=True)
def compiled_soon():
    """XLA leaves out what takes it long and changes no result."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def small(name):
    """A net of the bench on small images."""
    case = picked(f"{name}:4")
    return replace(case, input_shape={"article": (1, 6, 7), "small-resnet": (3, 8, 8)}.get(name, case.input_shape))


def three_steps(case, layout, dtype):
    """Both sides' losses and weights after three steps from the same weights: (ours, theirs)."""
    model = Model(case.net, case.input_shape, loss=case.loss, optimizer=case.optimizer, backend="numpy", dtype=dtype)
    x, t = case.data(*model.output_shape, dtype=dtype)
    training = jax_side.Training(case, model.weights, x, t, layout)
    step = cases.step_call(model, x, t)
    losses = [step() for _ in range(3)], [training.step() for _ in range(3)]
    after = model.weights
    if layout.channels_last:
        after = jax_side.channels_last(case.net, after, case.input_shape)
    return (losses[0], dict(tree.items(after))), (losses[1], training.state["params"] | training.state["running"])


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        (UNEVEN, "NCHW"),
        (UNEVEN, "NHWC"),
        (NORMS, "NCHW"),
        (NORMS, "NHWC"),
        (UP, "NCHW"),
        (UP, "NHWC"),
        (LIKE_IT, "NHWC"),
        (LARGEST, "NHWC"),
        (small("article"), "NHWC"),
        (small("lenet"), "NHWC"),
        (small("small-resnet"), "NHWC"),
    ],
    ids=str,
)
def test_jax_takes_the_same_steps(case, layout):
    """In float64: three losses, and every weight after them, running means and variances too.

    Not nets with dropouts, as the masks of the two sides differ; these are below.
    """
    (our_losses, ours), (their_losses, theirs) = three_steps(case, LAYOUTS[layout], "float64")
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-12)
    assert our_losses[0] > our_losses[1] > our_losses[2]
    assert ours.keys() == theirs.keys()
    for path, weight in ours.items():
        np.testing.assert_allclose(weight, theirs[path], rtol=1e-9, atol=1e-12, err_msg=path)


def test_flattened_images_that_lie_otherwise_meet_the_same_weights():
    """Above it is the same function that turns both sides' weights."""
    image = np.arange(2 * 3 * 5.0).reshape(2, 3, 5)
    kernel = np.random.default_rng(0).standard_normal((30, 4))
    turned = jax_side.channels_last(Sequential(Flatten(), Dense(4)), {"dense1": {"kernel": kernel}}, image.shape)
    np.testing.assert_allclose(
        image.transpose(1, 2, 0).ravel() @ turned["dense1"]["kernel"], image.ravel() @ kernel, rtol=1e-12
    )


def test_steps_in_float32_stay_in_it():
    (our_losses, _), (their_losses, theirs) = three_steps(small("article"), LAYOUTS["NCHW"], "float32")
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-6)
    assert {str(w.dtype) for w in theirs.values()} == {"float32"}


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_every_net_of_the_bench_has_a_step(name):
    """As it is timed, dropout included; they are only traced, since XLA compiles ResNet-18 for long."""
    case = picked(f"{name}:2")
    model = case.model(xcnn.backend("numpy"))
    training = jax_side.Training(case, model.weights, *case.data(*model.output_shape), LAYOUTS["NHWC"])
    state, loss = jax.eval_shape(training.following, training.state, training.x, training.t)
    assert (loss.shape, str(loss.dtype)) == ((), "float32")

    def described(state):
        return jax.tree.map(lambda w: (w.shape, str(w.dtype)), state)

    assert described(state) == described(training.state)
    assert (state["velocity"] == {}) == (case.optimizer.momentum == 0)
    assert jax_side.dropouts(case.net) == {"mnist-net": 2, "vgg": 1, "alexnet": 1}.get(name, 0)


@pytest.mark.parametrize("seed", range(14))
def test_every_drawn_net_has_a_step(seed):
    case = drawn(seed)
    model = replace(case, batch=2).model(xcnn.backend("numpy"))
    training = jax_side.Training(case, model.weights, *case.data(*model.output_shape), LAYOUTS["NHWC"])
    _, loss = jax.eval_shape(training.following, training.state, training.x, training.t)
    assert loss.shape == ()


def test_dropouts_leave_out_their_share_anew_in_each_layer_and_step():
    net = Sequential(Dropout(0.25), Dropout(0.5))
    forward = jax_side.Forward(LAYOUTS["NCHW"], iter(jax.random.split(jax.random.key(1))))
    y, running = forward(net, {}, np.ones((100, 100), "float32"))
    values, counts = np.unique(y, return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / (0.75 * 0.5)], rtol=1e-6)
    assert counts[1] / 10_000 == pytest.approx(0.75 * 0.5, abs=0.02)  # four standard deviations
    assert running == {}

    y, _ = jax_side.Forward(LAYOUTS["NHWC"], iter([jax.random.key(1)]))(
        SpatialDropout2D(0.5), {}, np.ones((9, 4, 4, 50))
    )
    assert len(np.unique(y)) == 2
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape))

    case = StepCase("drops", Sequential(Flatten(), Dropout(0.5), Dense(2)), (1, 4, 4), 3, "cross_entropy", xcnn.SGD(0))
    model = case.model(xcnn.backend("numpy"))
    training = jax_side.Training(case, model.weights, *case.data(2), LAYOUTS["NCHW"])
    losses = {training.step() for _ in range(4)}  # of the same weights
    assert len(losses) == 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jax_predicts_the_same(layout):
    """Without dropouts, and by the running statistics."""
    model = UNEVEN.model(xcnn.backend("numpy"))
    x, t = UNEVEN.data(*model.output_shape)
    model.step(x, t)  # after which no statistics are 0 and 1
    theirs = jax_side.prediction(UNEVEN, tree.map(np.asarray, model.state.weights), x, LAYOUTS[layout])
    np.testing.assert_allclose(theirs(), model.predict(x), rtol=1e-4, atol=1e-5)


def test_a_layer_without_a_twin_is_named():
    forward = jax_side.Forward(LAYOUTS["NCHW"], iter(()))
    with pytest.raises(xcnn.errors.OptionError, match="no function of JAX for a Softmax"):
        forward(xcnn.Softmax(), {}, np.ones((2, 3)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_correlations_are_the_same_on_both_sides(layout):
    case = CorrelationCase(2, 4, 11, 6, 3, stride=2, groups=2, padding=1)
    ours = cases.correlation_calls(case, xcnn.backend("numpy"), "float64")
    theirs = jax_side.correlation_calls(case, LAYOUTS[layout], "float64")
    assert [*ours] == [*theirs] == [*MAPS]
    order = LAYOUTS[layout]
    for name, axes in zip(MAPS, (order.images, order.images, order.kernels), strict=True):
        back = [axes.index(axis) for axis in ("OIHW" if "O" in axes else "NCHW")]
        np.testing.assert_allclose(ours[name](), theirs[name]().transpose(back), rtol=1e-9, atol=1e-12)


def test_the_matrix_product_and_its_type():
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        a, b = (rng.standard_normal((3, 3)).astype(dtype) for _ in range(2))
        product = jax_side.matrix_product(a, b)()
        assert str(product.dtype) == dtype
        np.testing.assert_allclose(product, a @ b, rtol=1e-5)


def test_xla_makes_as_many_threads_as_it_may():
    """In a process of its own, as JAX makes them once."""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads are counted under /proc, which is Linux's")
    code = """if True:
        import os
        from xcnn.bench import jax_side
        with jax_side.limited(5):
            jax_side.jax.devices()
        def name(task):
            try:
                return open(f"/proc/self/task/{task}/comm").read()
            except (FileNotFoundError, ProcessLookupError):
                return ""  # a thread that has ended meanwhile
        names = [name(task) for task in os.listdir("/proc/self/task")]
        print(sum("XLAEigen" in name for name in names), os.environ.get("NPROC"))
    """
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["5", "None"]


# The command.


@pytest.fixture
def run(run):
    return partial(run, "--against", "jax")


def test_json_against_jax(run):
    code, out, _ = run("--net", "article:2", "--backend", "numpy", "--json")
    found = json.loads(out)
    (row,) = found["steps"]
    assert code == 0
    assert found["ceilings"].keys() == {"numpy", "jax"}
    assert found["versions"]["jax"] == jax.__version__
    assert row["ratio"] == pytest.approx(row["jax"]["median_ms"] / row["ours"]["median_ms"])
    assert row["jax"]["way"] in LAYOUTS
    assert "torch" not in row
    assert found["geometric_means"]["steps"]["ratio"] == pytest.approx(row["ratio"])


def test_table_of_correlations_against_jax(run, monkeypatch):
    monkeypatch.setattr(cases, "CORRELATIONS", (CorrelationCase(2, 2, 6, 4, 3),))
    code, out, _ = run("--only", "correlations", "--backend", "numpy")
    *_, header, first, _, _, mean = out.splitlines()
    assert code == 0
    assert header.endswith("jax / xcnn  of bests  GFLOP/s  of ceiling  jax as")
    assert "jax, ms" in header
    assert first.split()[-1] in LAYOUTS
    assert mean.startswith("geometric mean")


def test_on_a_gpu_jax_is_no_rival(run, monkeypatch):
    monkeypatch.setitem(xcnn.backends.registry._loaded, "cupy", StandIn)
    assert gpu.captures(StandIn())
    assert not gpu.captures(xcnn.backend("jax"))  # it compiles steps, but not as graphs
    code, out, err = run("--net", "article:2", "--backend", "cupy")
    assert (code, out) == (2, "")
    assert err.startswith("OptionError[X104]: --against jax compares on the processor")
    assert "hint: use --against torch" in err


def test_the_way_that_counts_is_the_fastest_when_all_have_been_called(clock):
    """The first call, which compiles, tells nothing."""
    calls = []

    def way(name, first, later):
        def call():
            clock.sleep(later if name in calls else first)
            calls.append(name)

        return call

    name, call = timing.best({"a": way("a", 9.0, 1.0), "b": way("b", 0.1, 2.0)})
    call()
    assert (name, calls[-1]) == ("a", "a")
