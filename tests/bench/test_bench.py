"""The bench: its statistics and counts, PyTorch's twins of the nets, what the command prints, its errors.

The bench beside JAX is in test_bench_jax.py.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from cases import settled
from gpu_stand_in import StandIn
from threadpoolctl import threadpool_info

import xcnn
from xcnn import bench
from xcnn.bench import cases, comparison, gpu, rivals, timing
from xcnn.bench.cases import CORRELATIONS, GPU_STEPS, MAPS, RESNET18, STEPS, CorrelationCase, Ledger, picked
from xcnn.bench.comparison import Result
from xcnn.bench.gpu import GpuResult
from xcnn.bench.timing import Times
from xcnn.core import tree
from xcnn.layers import Dropout, Sequential
from xcnn.model.model import Model
from xcnn.model.summary import count

OLDEST = ("article", "lenet", "mnist-net", "small-resnet", "resnet18")
ALL_STEPS = dict.fromkeys((*STEPS, *GPU_STEPS))
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the other side, is not installed")


# Statistics.


def test_quantiles_of_known_times():
    times = Times(tuple(n / 1000 for n in range(101)))
    assert times.median == pytest.approx(0.05)
    assert times.best == 0
    assert times.to_dict() == pytest.approx({"median_ms": 50, "p10_ms": 10, "p90_ms": 90, "best_ms": 0, "calls": 101})


def test_ratio_rate_and_share_of_the_ceiling():
    result = Result(Times((0.1, 0.2, 9.0)), Times((0.3, 0.4, 0.5)), "NCHW", flop=6 * 10**9)
    assert result.ratio == pytest.approx(2)
    assert result.ratio_of_bests == pytest.approx(3)
    values = result.to_dict(ceiling=60)
    assert values["gflops"] == pytest.approx(30)
    assert values["of_ceiling"] == pytest.approx(0.5)
    assert values["torch"]["way"] == "NCHW"
    assert Result(Times((0.1,)), None, "", 1).ratio is None


def test_geometric_mean():
    assert timing.geometric_mean([0.5, 2]) == pytest.approx(1)
    assert timing.geometric_mean([1, 10, 100]) == pytest.approx(10)


def test_sides_take_turns_and_what_settles_them_does_not_count(quick, clock):
    """Each side is slow in the first call of a turn; no such call may be among the times."""
    calls = []

    def side(name):
        def call():
            if not calls or calls[-1] != name:
                clock.sleep(0.05)
            calls.append(name)
            clock.sleep({"a": 0.001, "b": 0.004}[name])

        return call

    a, b = timing.alternate([side("a"), side("b")], 0.1)
    assert a.seconds == pytest.approx([0.001] * len(a.seconds))
    assert b.seconds == pytest.approx([0.004] * len(b.seconds))
    assert len(a.seconds) >= timing.ROUNDS * timing.CALLS
    assert "".join(calls).count("ab") >= timing.ROUNDS  # in turns


# Counts.


def by_definition(case):
    """Multiplications of a correlation: with ones for all numbers, each product adds 1 to the output."""
    x = np.ones((case.batch, case.channels, case.size, case.size))
    y = xcnn.backend("numpy", algorithm="gemm").correlate(
        x, np.ones(case.k_shape), stride=(case.stride, case.stride), groups=case.groups
    )
    assert y.shape == case.y_shape
    return y.sum()


@pytest.mark.parametrize("case", CORRELATIONS, ids=str)
def test_operations_of_a_correlation(case):
    one = replace(case, batch=1)
    assert one.flop == 2 * by_definition(one)
    assert case.flop == case.batch * one.flop


def test_operations_of_a_step_in_closed_form():
    first, second = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25
    dense = 400 * 120 + 120 * 84 + 84 * 10
    case = picked("lenet:5")
    assert case.flop == 2 * 5 * (2 * first + 3 * second + 3 * dense)


@needs_torch
@pytest.mark.parametrize("choice", [*ALL_STEPS, "unet:1", "autoencoder:1", "dilated:1"])
def test_operations_of_a_step_as_pytorch_counts_them(choice):
    from torch.utils.flop_counter import FlopCounterMode

    from xcnn.bench import torch_side

    case = replace(picked(choice), batch=1)
    if case.name not in OLDEST:
        case = replace(case, input_shape=(3, 32, 32))
    model = case.model(xcnn.backend("numpy"))
    step = torch_side.step_call(
        torch_side.twin(case.net, model.weights), case.loss, case.optimizer, *case.data(*model.output_shape),
        "NCHW", "plain",
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        step()
    assert case.flop == counter.get_total_flops()


@needs_torch
@pytest.mark.parametrize("choice", ["mobilenet:1", "resnext:1"])
def test_operations_of_groups_as_pytorch_counts_them_forward(choice):
    """Going back PyTorch counts the kernel's gradient of a group once for each of the others too."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from xcnn.bench import torch_side

    case = replace(picked(choice), batch=1, input_shape=(3, 32, 32))
    model = case.model(xcnn.backend("numpy"))
    x, _ = case.data(*model.output_shape)
    with FlopCounterMode(display=False) as counter:
        torch_side.twin(case.net, model.weights)(torch.tensor(x))
    products = Ledger(case.net, case.input_shape).products
    assert 2 * sum(products) == counter.get_total_flops()
    assert case.flop == 2 * (3 * sum(products) - products[0])


# PyTorch's twins.


def without_dropout(case):
    """The case with dropout's rates at zero: the masks of the two sides differ."""
    layers = {n: replace(layer, rate=0.0) if isinstance(layer, Dropout) else layer for n, layer in case.net.named}
    return replace(case, net=Sequential(**layers))


def two_steps(case, layout, walk, dtype="float64"):
    """Both sides' losses and weights after two steps from the same weights: (ours, theirs)."""
    from xcnn.bench import torch_side

    model = Model(case.net, case.input_shape, loss=case.loss, optimizer=case.optimizer, backend="numpy", dtype=dtype)
    assert model.output_shape in {(2,), (10,), (1000,)}
    model.weights = settled(model.weights)  # PyTorch's statistics move by 1 - momentum from the start
    x, t = case.data(*model.output_shape, dtype=dtype)
    twin = torch_side.twin(case.net, model.weights)
    theirs = torch_side.step_call(twin, case.loss, case.optimizer, x, t, layout, walk)
    ours = cases.step_call(model, x, t)
    losses = [ours(), ours()], [theirs(), theirs()]
    after = {path: tensor.numpy() for path, tensor in torch_side.tensors(twin, model.weights)}
    return (losses[0], dict(tree.items(model.weights))), (losses[1], after)


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    assert ours[1].keys() == theirs[1].keys()
    for path, weight in ours[1].items():
        np.testing.assert_allclose(weight, theirs[1][path], rtol=1e-9, atol=1e-12, err_msg=path)


@needs_torch
@pytest.mark.parametrize("name", OLDEST)
def test_twins_take_the_same_steps(name):
    """In float64: the losses, and every weight after a second step, running means and variances too."""
    case = without_dropout(picked(f"{name}:4"))
    if name == "small-resnet":
        case = replace(case, input_shape=(3, 33, 33))  # "same" pads both sides alike here, as PyTorch's layers do
    if name == "resnet18":
        case = replace(case, input_shape=(3, 24, 24))
    ours, theirs = two_steps(case, "channels_last", "fused")
    assert_same(ours, theirs)
    assert ours[0][0] != ours[0][1]


@needs_torch
@pytest.mark.parametrize("layout", ["NCHW", "channels_last"])
@pytest.mark.parametrize("walk", ["plain", "foreach", "fused"])
def test_pytorchs_ways_are_all_the_same_step(layout, walk):
    assert_same(*two_steps(picked("lenet:3"), layout, walk))


@needs_torch
@pytest.mark.parametrize("choice", ALL_STEPS)
def test_twins_have_as_many_parameters_and_drop_as_much(choice):
    from xcnn.bench import torch_side
    from xcnn.bench.torch_side import torch

    case = picked(choice)
    weights, _ = case.net.init(xcnn.core.random.generator(0), case.input_shape)
    twin = torch_side.twin(case.net, weights)
    state = {name: tensor for name, tensor in twin.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert sum(tensor.numel() for tensor in state.values()) == count(weights)
    rates = [module.p for module in twin.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [layer.rate for layer in case.net if isinstance(layer, Dropout)]
    assert twin.training


@needs_torch
def test_a_layer_without_a_twin_is_named():
    from xcnn.bench import torch_side

    with pytest.raises(xcnn.errors.OptionError, match="PyTorch module for a Softmax"):
        torch_side.twin(xcnn.Softmax(), {})


@needs_torch
@pytest.mark.parametrize("layout", ["NCHW", "channels_last"])
@pytest.mark.parametrize(
    "case",
    [
        CorrelationCase(2, 3, 9, 4, 3),
        CorrelationCase(2, 4, 10, 6, 3, stride=2, groups=2),
        CorrelationCase(3, 4, 6, 4, 1),
        CorrelationCase(2, 3, 11, 4, 5, stride=2, padding=2),
    ],
    ids=str,
)
def test_correlations_are_the_same_on_both_sides(case, layout):
    from xcnn.bench import torch_side

    ours = cases.correlation_calls(case, xcnn.backend("numpy"))
    theirs = torch_side.correlation_calls(case, layout)
    assert [*ours] == [*theirs] == [*MAPS]
    for name, shape in zip(MAPS, (case.y_shape, case.x_shape, case.k_shape), strict=True):
        expected = theirs[name]().numpy()
        assert expected.shape == shape
        np.testing.assert_allclose(ours[name](), expected, rtol=1e-4, atol=1e-5)


# The command.


def test_table_on_stdout_and_progress_on_stderr(run):
    code, out, err = run("--net", "article:2", "--backend", "numpy")
    assert code == 0
    assert err.splitlines() == ["timing a matrix product", "timing article:2"]
    *_, header, row = out.splitlines()
    assert header.split() == ["net:batch", "xcnn,", "ms", "GFLOP/s", "of", "ceiling"]
    assert row.startswith("article:2 ")
    assert len(row) == len(header)
    assert run("--net", "article:2", "--quiet")[2] == ""


def test_json_of_ours_alone(run):
    code, out, _ = run("--net", "article:2", "--net", "article:1", "--backend", "numpy", "--threads", "1", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == "xcnn.bench.1"
    assert found["threads"] == 1
    assert {library["threads"] for library in found["blas"] if library["name"] == "openblas"} <= {1}
    assert [(row["net"], row["batch"]) for row in found["steps"]] == [("article", 2), ("article", 1)]
    for row in found["steps"]:
        assert row["torch"] is row["ratio"] is None
        assert 0 < row["ours"]["p10_ms"] <= row["ours"]["median_ms"] <= row["ours"]["p90_ms"]
        assert row["gflops"] == pytest.approx(row["gflop"] / row["ours"]["median_ms"] * 1e3)
        assert row["of_ceiling"] == pytest.approx(row["gflops"] / found["ceilings"]["numpy"])
    assert "correlations" not in found
    assert found["geometric_means"] == {}


@needs_torch
def test_json_against_pytorch(run):
    code, out, _ = run("--net", "article:2", "--net", "article:3", "--against", "torch", "--backend", "numpy", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["ceilings"].keys() == {"numpy", "torch"}
    assert found["versions"].keys() >= {"python", "numpy", "torch"}
    for row in found["steps"]:
        assert row["ratio"] == pytest.approx(row["torch"]["median_ms"] / row["ours"]["median_ms"])
        layout, walk, _ = row["torch"]["way"].replace(",", "").split()
        assert layout in {"NCHW", "channels_last"}
        assert walk in {"plain", "foreach", "fused"}
        assert row["parameters"] == 5 * 9 + 5 * 26 * 26 * 101 + 100 + 2 * 101
    first, second = found["steps"]
    for name, mean in found["geometric_means"]["steps"].items():
        assert mean == pytest.approx((first[name] * second[name]) ** 0.5)


@needs_torch
def test_table_against_pytorch(run):
    code, out, _ = run("--net", "article:2", "--against", "torch", "--backend", "numpy")
    *_, header, row, mean = out.splitlines()
    assert code == 0
    assert header.endswith("torch / xcnn  of bests  GFLOP/s  of ceiling  torch as")
    ends = [header.index(title) + len(title) for title in ("torch / xcnn", "of bests")]
    assert [row[:end].split()[-1] for end in ends] == [mean[:end].split()[-1] for end in ends]  # the mean of one


def test_correlations_on_the_reference(run, monkeypatch):
    """Any backend will do; the strict one has no threads of its own."""
    pytest.importorskip("array_api_strict", reason="the strict backend is what runs here")
    monkeypatch.setattr(cases, "CORRELATIONS", (CorrelationCase(2, 2, 6, 4, 3, groups=2),))
    code, out, _ = run("--only", "correlations", "--backend", "strict", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["map"] for row in found["correlations"]] == [*MAPS]
    assert found["correlations"][0].items() >= {"batch": 2, "channels": 2, "size": 6, "filters": 4, "groups": 2}.items()
    assert "steps" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--net", "squeezenet:8"), "there is no net 'squeezenet'"),
        (("--net", "lenet"), "a net is given as NAME:BATCH; got 'lenet'"),
        (("--net", "lenet:many"), "a net is given as NAME:BATCH; got 'lenet:many'"),
        (("--net", "lenet:0"), "batch must be a whole number of at least 1; got 0"),
        (("--net", "lenet:-4"), "a net is given as NAME:BATCH; got 'lenet:-4'"),
        (("--only", "nets"), "--only takes steps or correlations; got 'nets'"),
        (("--precision", "half"), "--precision takes float32, tf32, bfloat16, float16, float64; got 'half'"),
        (("--against", "mlx"), "--against takes torch or jax; got 'mlx'"),
        (("--only", "correlations", "--net", "lenet:4"), "--net asks for steps, --only correlations for none"),
        (("--only", "correlations", "--nets", "zoo"), "--nets asks for steps, --only correlations for none"),
        (("--nets", "random"), "--nets takes zoo or drawn; got 'random'"),
        (("--nets", "zoo", "--net", "lenet:4"), "--net names nets, and --nets too"),
        (("--predict", "--only", "steps"), "--predict asks for predictions, --only steps for none"),
        (("--predict", "--precision", "float64"), "--predict compares in float32; got 'float64'"),
        (("--predict", "--against", "jax"), "--predict --against takes torch, onnxruntime, openvino; got 'jax'"),
        (("--backend", "numpy", "--algorithm", "magic"), "has no algorithm 'magic'"),
    ],
)
def test_errors(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("OptionError[X104]: ")
    assert message in err


@pytest.mark.parametrize(
    ("library", "called", "hint"),
    [("torch", "PyTorch", "pip install torch"), ("jax", "JAX", 'pip install "xcnn[jax]"')],
)
def test_without_the_other_library_the_package_is_named(run, monkeypatch, library, called, hint):
    monkeypatch.setitem(sys.modules, library, None)
    for module in (f"{library}_side", f"{library}_net"):
        monkeypatch.delitem(sys.modules, f"xcnn.bench.{module}", raising=False)
        monkeypatch.delattr(bench, module, raising=False)
    code, out, err = run("--net", "article:1", "--against", library)
    assert (code, out) == (3, "")
    assert err.splitlines() == [
        f"MissingDependency[X601]: the bench against {called} needs {library}.",
        f"  hint: {hint}",
    ]


def test_the_rivals_are_known_by_name():
    with pytest.raises(xcnn.errors.OptionError, match="--against takes torch or jax; got 'mlx'"):
        rivals.rival("mlx")


@needs_torch
def test_on_the_processor_the_other_side_computes_in_whole_types(run):
    code, _, err = run("--net", "article:1", "--against", "torch", "--backend", "numpy", "--precision", "bfloat16")
    assert code == 2
    assert "--against compares in float32 and float64 on the processor; got 'bfloat16'" in err


# On a GPU: NumPy stands in its place, PyTorch computes on the processor.


@pytest.fixture
def on_stand_in(monkeypatch):
    """The name cupy means a backend that is timed as a GPU is, on small data sets."""
    monkeypatch.setitem(xcnn.backends.registry._loaded, "cupy", StandIn)
    monkeypatch.setattr(gpu, "DATA_BYTES", 0)
    monkeypatch.setattr(gpu, "REPEATS", 2)


def times(*milliseconds):
    return Times(tuple(ms / 1000 for ms in milliseconds))


def test_ratios_to_pytorchs_ways_apart():
    ours = {"captured": times(1, 1, 1), "eager": times(5, 5, 5)}
    theirs = {"eager NCHW": times(8, 8), "eager channels_last, benchmark": times(6, 6), "graphed NCHW": times(2, 2)}
    result = GpuResult(
        ours["captured"], theirs["graphed NCHW"], "graphed NCHW", 10**9, "captured", ours, theirs, {}, "", {"xcnn": 1}
    )
    assert (result.ratio, result.ratio_to("eager"), result.ratio_to("graphed")) == pytest.approx((2, 6, 2))
    assert result.ratio_to("compiled") is None
    values = result.to_dict(ceiling=4000)
    assert values["of_ceiling"] == pytest.approx(0.25)
    assert values["ours"]["way"] == "captured"
    assert values["torch"]["way"] == "graphed NCHW"
    assert values["ways"]["torch"]["eager NCHW"]["median_ms"] == pytest.approx(8)
    assert values["ways"]["xcnn"]["eager"]["median_ms"] == pytest.approx(5)
    assert values["memory_bytes"] == {"xcnn": 1}


def test_the_fastest_way_of_each_side_counts_and_a_calls_time_is_divided_by_its_pieces(quick, clock):
    def side(seconds, pieces):
        return gpu.Side(lambda: clock.sleep(seconds), pieces)

    ours = {"captured": side(0.02, 10), "eager": side(0.01, 1)}
    theirs = {"eager NCHW": side(0.01, 2), "graphed NCHW": side(0.02, 5)}
    result = gpu.compare(ours, theirs, {}, flop=1, seconds=0)
    assert (result.our_way, result.way) == ("captured", "graphed NCHW")
    assert (result.ours.best, result.theirs.best) == (pytest.approx(0.002), pytest.approx(0.004))
    alone = gpu.compare(ours, {}, {}, flop=1, seconds=0)
    assert (alone.theirs, alone.way, alone.ratio) == (None, "", None)


def test_a_way_of_pytorchs_that_fails_is_told_and_left_out():
    def fails():
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    sides, failed = gpu.tried(
        {"eager": lambda: gpu.Side(list, 1), "graphed": fails, "late": lambda: gpu.Side(fails, 1)}
    )
    why = "RuntimeError: operation not permitted when stream is capturing"
    assert [*sides] == ["eager"]
    assert failed == {"graphed": why, "late": why}


def test_data_sets_have_whole_batches_and_steps_one_by_one_a_part_of_them(monkeypatch):
    case = picked("lenet:8")
    model = case.model(StandIn())
    monkeypatch.setattr(gpu, "DATA_BYTES", 40 * 8 * 28 * 28 * 4 + 5)
    x, t = gpu.data_set(case, model)
    assert (x.shape, t.shape, x.dtype) == ((320, 1, 28, 28), (320,), np.dtype("float32"))
    assert len(gpu.first(case, x, t)[0]) == gpu.EAGER_STEPS * 8
    monkeypatch.setattr(gpu, "DATA_BYTES", 2**40)
    monkeypatch.setattr(gpu, "MOST_STEPS", 6)
    assert len(gpu.data_set(case, model)[0]) == 48
    monkeypatch.setattr(gpu, "DATA_BYTES", 0)
    assert len(gpu.data_set(case, model)[0]) == gpu.FEWEST_STEPS * 8


@needs_torch
def test_json_of_steps_on_a_gpu(run, on_stand_in):
    code, out, _ = run("--net", "lenet:4", "--backend", "cupy", "--against", "torch", "--precision", "tf32", "--json")
    found = json.loads(out)
    (row,) = found["steps"]
    assert (code, found["precision"]) == (0, "tf32")
    assert row["ways"]["xcnn"].keys() == {"captured", "captured, tuned", "eager"}
    assert row["ways"]["torch"].keys() == {"eager NCHW", "eager channels_last, benchmark"}
    assert row["ratio_to_eager"] == row["ratio"] == pytest.approx(row["torch"]["median_ms"] / row["ours"]["median_ms"])
    assert (row["ratio_to_graphed"], row["memory_bytes"], row["failed"]) == (None, None, {})
    assert row["not_captured"] == StandIn.reason
    assert found["ceilings"].keys() == {"numpy", "torch"}
    assert found["geometric_means"]["steps"].keys() == {"ratio", "ratio_of_bests", "ratio_to_eager"}


@needs_torch
def test_table_of_steps_on_a_gpu(run, on_stand_in):
    code, out, _ = run("--net", "lenet:4", "--backend", "cupy", "--against", "torch")
    *_, header, row, note, mean = out.splitlines()
    assert code == 0
    titles = "torch / xcnn", "of bests", "eager", "graphed", "GFLOP/s", "of ceiling", "xcnn, MiB", "torch, MiB"
    ends = [header.index(f" {title}") + 1 + len(title) for title in titles]
    assert ends == sorted(ends)
    assert header.endswith("xcnn as, torch as")
    assert row[ends[1] : ends[2]].strip() == mean[ends[1] : ends[2]].strip() != ""
    assert row[ends[2] : ends[3]].strip() == mean[ends[2] : ends[3]].strip() == ""  # no graphs on a processor
    assert row[ends[-1] :].split()[0] in {"captured,", "eager,"}
    assert note == f"    xcnn's steps are not captured: {StandIn.reason}"


@needs_torch
def test_correlations_on_a_gpu(run, on_stand_in, monkeypatch):
    monkeypatch.setattr(cases, "RESNET18", (CorrelationCase(2, 3, 8, 4, 3, stride=2, padding=1),))
    code, out, _ = run("--only", "correlations", "--backend", "cupy", "--against", "torch", "--json")
    rows = json.loads(out)["correlations"]
    assert code == 0
    assert [row["map"] for row in rows] == [*MAPS]
    for row in rows:
        assert row["ways"]["torch"].keys() == {"NCHW", "channels_last"}
        assert row["ways"]["xcnn"].keys() == {"NCHW", "NCHW, tuned"}
        assert row["ours"]["way"] in row["ways"]["xcnn"]
        assert row["padding"] == 1


def test_the_usual_nets_on_a_gpu(run, on_stand_in, monkeypatch):
    monkeypatch.setattr(cases, "GPU_STEPS", ("lenet:2",))
    code, out, _ = run("--only", "steps", "--backend", "cupy", "--json")
    (row,) = json.loads(out)["steps"]
    assert (code, row["net"], row["torch"], row["ratio"]) == (0, "lenet", None, None)


def test_our_correlations_are_the_same_in_both_orders_of_memory():
    case, backend = CorrelationCase(2, 3, 8, 4, 3, stride=2, padding=1), StandIn()
    x, k, dy = case.data()
    last = gpu.laid_out(backend, x, "float32", "channels_last")
    assert last.strides == (4 * 3 * 64, 4, 4 * 3 * 8, 4 * 3)
    np.testing.assert_array_equal(last, x)
    expected = [compute() for compute in cases.maps(case, backend, x, k, dy).values()]
    others = [gpu.laid_out(backend, a, "float32", "channels_last") for a in (x, k, dy)]
    for compute, want in zip(cases.maps(case, backend, *others).values(), expected, strict=True):
        np.testing.assert_allclose(compute(), want, rtol=1e-5, atol=1e-6)


def test_resnet18_has_the_published_size_and_the_table_has_its_convolutions():
    net = picked("resnet18:1").net
    drawn, output_shape = net.init(xcnn.core.random.generator(0), (3, 224, 224))
    weights = tree.map(lambda w: w.astype("float32"), drawn)
    statistics = sum(w.size for path, w in tree.items(weights) if path.endswith(("running_mean", "running_variance")))
    assert count(weights) - statistics == 11_689_512  # torchvision's resnet18
    assert output_shape == (1000,)
    seen = set()

    def look(path, layer, y, backward):
        if isinstance(layer, xcnn.Conv2D):
            h = layer.window((224, 224))
            seen.add((y.shape[1], y.shape[2], layer.kernel_size, h["stride"], h["padding"]))
        return backward

    backend = xcnn.backend("numpy")
    x = np.zeros((1, 3, 224, 224), "float32")
    net(weights, x, xcnn.layers.layer.Run(backend, hook=xcnn.layers.layer.Hook(look)))
    assert seen == {(c.filters, c.y_shape[2], c.kernel, c.how["stride"], c.how["padding"]) for c in RESNET18}


def trained(case, precision, way, dtype="float32"):
    """A case's twin on a data set of six batches, in the order of the samples, and our model of the same weights."""
    from xcnn.bench import torch_gpu

    model = case.model(StandIn(), "float64" if dtype == "float64" else None)
    x, t = case.data(*model.output_shape, batches=6, dtype=dtype)
    training = torch_gpu.Training(case, model.weights, x, t, "cpu", precision, way)
    training.shuffled = lambda: torch_gpu.torch.arange(len(x))
    return training, model, (x, t)


@needs_torch
@pytest.mark.parametrize("layout", gpu.LAYOUTS)
@pytest.mark.parametrize("name", ["article", "lenet"])
def test_an_epoch_of_both_sides_ends_with_the_same_weights(name, layout):
    from xcnn.bench import torch_gpu, torch_side
    from xcnn.data.source import Arrays
    from xcnn.training.loop import Way, epoch

    training, model, (x, t) = trained(picked(f"{name}:3"), "float64", torch_gpu.Way(layout), "float64")
    assert training.steps == 6
    training.epoch()
    for state in epoch(model.trainer, model.state, Arrays(x, t), Way(3, shuffle=False), None):
        model.state = state
    after = dict(torch_side.tensors(training.twin, model.weights))
    for path, weight in tree.items(model.weights):
        np.testing.assert_allclose(weight, after[path].numpy(), rtol=1e-9, atol=1e-12, err_msg=path)


@needs_torch
def test_pytorchs_epochs_are_shuffled():
    from xcnn.bench import torch_gpu

    training, *_ = trained(picked("article:3"), "float32", torch_gpu.Way("NCHW"))
    del training.shuffled
    training.epoch()
    assert sorted(training.rows.view(-1).tolist()) == list(range(18)) != training.rows.view(-1).tolist()


@needs_torch
@pytest.mark.parametrize(
    ("precision", "error"), [("float32", 1e-5), ("tf32", 1e-5), ("bfloat16", 0.1), ("float16", 0.1)]
)
def test_pytorchs_steps_in_each_precision(precision, error):
    """By autocast: the weights stay float32, and go where those of float32 go; the loss scale is undone."""
    from xcnn.bench import torch_gpu, torch_side
    from xcnn.bench.torch_side import torch

    single, model, _ = trained(picked("lenet:4"), "float32", torch_gpu.Way("NCHW"))
    other, *_ = trained(picked("lenet:4"), precision, torch_gpu.Way("channels_last"))
    kinds = []
    other.twin.conv1.register_forward_hook(lambda module, inputs, y: kinds.append(y.dtype))
    before = {path: torch.tensor(weight) for path, weight in tree.items(model.weights)}
    losses = single.epoch(), other.epoch()
    assert losses[1] == pytest.approx(losses[0], rel=error)
    halves = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    assert set(kinds) == {halves.get(precision, torch.float32)}
    assert other.scaler.is_enabled() == (precision == "float16")
    after = (dict(torch_side.tensors(side.twin, model.weights)) for side in (single, other))
    for (path, expected), got in zip(next(after).items(), next(after).values(), strict=True):
        assert got.dtype == torch.float32
        assert torch.linalg.norm(got - expected) <= error * torch.linalg.norm(expected - before[path]), path


@needs_torch
def test_pytorchs_switches_are_set_within_the_block(monkeypatch):
    from xcnn.bench import torch_gpu
    from xcnn.bench.torch_side import torch

    def now():
        backends = torch.backends
        return backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision, backends.cudnn.benchmark

    before = now()
    for tf32, name in ((False, "ieee"), (True, "tf32")):
        with torch_gpu.switches(tf32, benchmark=tf32):
            assert now() == (name, name, tf32)
        assert now() == before


@needs_torch
def test_switches_of_older_pytorch(monkeypatch):
    from xcnn.bench import torch_gpu

    cudnn, matmul = SimpleNamespace(benchmark=False, allow_tf32=True), SimpleNamespace(allow_tf32=False)
    backends = SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=matmul))
    monkeypatch.setattr(torch_gpu, "torch", SimpleNamespace(backends=backends))
    with torch_gpu.switches(tf32=True, benchmark=True):
        assert (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32) == (True, True, True)
    assert (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32) == (False, True, False)
    with torch_gpu.switches(tf32=False, benchmark=False):
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)


@needs_torch
def test_graphed_steps_end_with_the_weights_of_eager_ones():
    from xcnn.bench import torch_gpu, torch_side
    from xcnn.bench.torch_side import torch

    assert [way for way in torch_gpu.ways("cpu") if way.graphed] == []
    assert [str(way) for way in torch_gpu.ways("cuda:0") if way.graphed] == [
        "graphed NCHW, benchmark",
        "graphed channels_last, benchmark",
    ]
    if not torch.cuda.is_available():
        pytest.skip("PyTorch's CUDA graphs need a GPU that it sees")
    case = picked("lenet:4")
    model = case.model(StandIn())
    x, t = case.data(10, batches=6)
    after = []
    for graphed in (False, True):
        training = torch_gpu.Training(
            case, model.weights, x, t, "cuda:0", "float32", torch_gpu.Way("NCHW", graphed=graphed)
        )
        state = {name: value.clone() for name, value in torch_side.twin(case.net, model.weights).state_dict().items()}
        training.twin.load_state_dict(state)  # the runs before a capture are steps too
        for group in training.sgd.state.values():
            group["momentum_buffer"].zero_()
        training.shuffled = lambda: torch.arange(len(x), device="cuda:0")
        training.epoch()
        after.append(training.twin.state_dict())
    for name, value in after[0].items():
        torch.testing.assert_close(value, after[1][name])


def test_a_pytorch_without_cuda_is_refused_where_the_backend_has_it():
    torch_gpu = pytest.importorskip("xcnn.bench.torch_gpu", exc_type=ImportError)
    torch_gpu.check_device("cpu")
    if torch_gpu.torch.cuda.is_available():
        pytest.skip("this PyTorch sees a GPU")
    with pytest.raises(xcnn.errors.MissingDependency, match="sees none"):
        torch_gpu.check_device("cuda:0")


def test_device_memory_is_what_the_device_has_less_while_a_side_lives(monkeypatch):
    """CuPy's stand-in counts bytes; its pool keeps what was freed until it is told to give it back."""
    held = {"pool": 300, "live": 0}
    runtime = SimpleNamespace(memGetInfo=lambda: (10_000 - held["pool"] - held["live"], 10_000))
    pool = SimpleNamespace(free_all_blocks=lambda: held.update(pool=0))
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), get_default_memory_pool=lambda: pool)
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def make():
        held["live"] = 1000
        return gpu.Side(lambda: held.update(pool=held["pool"] + 50), 1)

    assert gpu.taken_by(StandIn(), make) == 1000 + 2 * 50
    assert gpu.torch_device(StandIn()) == "cpu"
    assert gpu.torch_device(SimpleNamespace(library="cupy", device="1")) == "cuda:1"
    assert gpu.torch_device(SimpleNamespace(library="cupy", device=None)) == "cuda:0"


@pytest.mark.parametrize(("device", "captured"), [(None, False), ("cuda:1", True), ("mps", False)])
def test_pytorchs_backend_captures_on_cuda_alone(device, captured):
    @dataclass(frozen=True, repr=False)
    class Tensors(xcnn.Backend):
        compiles: bool = True
        library: ClassVar[str] = "torch"

    assert gpu.captures(Tensors(device)) == captured
    assert gpu.torch_device(Tensors(device)) == (device or "cpu")
    assert gpu.captures(StandIn())
    assert not gpu.captures(xcnn.backend("numpy"))


def test_precisions_that_a_backend_does_not_have(run):
    for choice in (("--net", "lenet:2"), ("--only", "correlations")):
        code, _, err = run(*choice, "--backend", "numpy", "--precision", "bfloat16")
        assert code == 2
        assert 'backend "numpy" does not compute in bfloat16' in err


@needs_torch
def test_float64_on_the_processor(run, monkeypatch):
    monkeypatch.setattr(cases, "CORRELATIONS", (CorrelationCase(2, 2, 6, 4, 3),))
    monkeypatch.setattr(cases, "STEPS", ("article:2",))
    code, out, _ = run("--backend", "numpy", "--precision", "float64", "--against", "torch", "--json")
    found = json.loads(out)
    assert (code, found["precision"]) == (0, "float64")
    assert len(found["steps"]) == 1
    assert len(found["correlations"]) == 3


# Threads and imports.


@needs_torch
def test_threads_of_both_sides_are_limited_within_the_block():
    import torch

    before = torch.get_num_threads()
    with comparison.limited(1, "torch"):
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    assert torch.get_num_threads() == before


def test_a_backend_with_threads_of_its_own_is_told():
    @dataclass(frozen=True, repr=False)
    class Threaded(xcnn.Backend):
        threads: int | None = None

    assert comparison.bench_backend(Threaded(), None, 3).threads == 3
    assert not hasattr(comparison.bench_backend("strict", None, 3), "threads")
    assert 1 <= comparison.available_threads() <= 4096


def test_neither_the_package_nor_the_command_line_loads_the_bench_or_its_rivals():
    code = "import sys, xcnn, xcnn.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "xcnn.cli.bench" in loaded
    assert not {"torch", "jax", "xcnn.bench", "xcnn.bench.cases"} & {*loaded}
